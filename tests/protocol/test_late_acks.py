"""Late answers are known by what they show."""

from worker_state.protocol import frames
from worker_state.protocol.probe import MOST_LATE, LateAcks
from worker_state.protocol.record import build_record
from worker_state.protocol.status import Busy


def record(job_id: str) -> frames.Message:
    return build_record(["tag"], {}, Busy(job_id))


def test_nothing_is_late() -> None:
    """With nothing late every answer is the one that is waited for."""
    late = LateAcks()
    assert not late.settles(record("1"), fits=True)
    assert not late.settles(record("1"), fits=False)


def test_a_late_answer() -> None:
    """An answer that shows what an update said that was given up is late, once, and so are those before it."""
    late = LateAcks()
    late.add(record("1"))
    late.add(record("2"))
    assert not late.settles(record("3"), fits=False)
    assert late.settles(record("2"), fits=False)
    assert not late.settles(record("1"), fits=False)


def test_late_answers_in_a_row() -> None:
    """Each of the updates that were given up has a late answer of its own."""
    late = LateAcks()
    for number in "123":
        late.add(record(number))
    assert [late.settles(record(number), fits=False) for number in "123"] == [True, True, True]


def test_an_answer_that_fits_both() -> None:
    """Of two updates that said the same, one answer settles the first: the other's is still to come."""
    late = LateAcks()
    late.add(record("0"))
    late.add(record("1"))
    assert not late.settles(record("1"), fits=True)
    assert not late.settles(record("0"), fits=False)
    assert late.settles(record("1"), fits=False)


def test_an_answer_to_something_newer() -> None:
    """The server answers in order: an answer to what came later means that none is late any more."""
    late = LateAcks()
    late.add(record("1"))
    assert not late.settles(record("2"), fits=True)
    assert not late.settles(record("1"), fits=False)


def test_a_server_that_never_answers() -> None:
    """A server that answers no update does not fill the memory."""
    late = LateAcks()
    for number in range(100):
        late.add(record(f"{number}"))
    assert not late.settles(record(f"{99 - MOST_LATE}"), fits=False)
    assert late.settles(record(f"{100 - MOST_LATE}"), fits=False)
