"""Late answers are known by what they show."""

from worker_state.protocol import frames
from worker_state.protocol.late_acks import MOST, LateAcks
from worker_state.protocol.status import Busy


def record(job_id: str) -> frames.Message:
    return frames.metadata(["tag"], {}, Busy(job_id))


def test_nothing_is_owed() -> None:
    """With nothing owed every answer is the one that is waited for."""
    owed = LateAcks()
    assert not owed.settles(record("1"), fits=True)
    assert not owed.settles(record("1"), fits=False)


def test_a_late_answer() -> None:
    """An answer that shows what an update said that was given up is late, once, and so are those before it."""
    owed = LateAcks()
    owed.add(record("1"))
    owed.add(record("2"))
    assert repr(owed) == "<LateAcks 2>"
    assert not owed.settles(record("3"), fits=False)
    assert owed.settles(record("2"), fits=False)
    assert not owed.settles(record("1"), fits=False)


def test_an_answer_that_fits_both() -> None:
    """Of two updates that said the same, one answer settles the first: the other's is still to come."""
    owed = LateAcks()
    owed.add(record("0"))
    owed.add(record("1"))
    assert not owed.settles(record("1"), fits=True)
    assert not owed.settles(record("0"), fits=False)
    assert owed.settles(record("1"), fits=False)


def test_an_answer_to_something_newer() -> None:
    """The server answers in order: an answer to what came later means that none is owed any more."""
    owed = LateAcks()
    owed.add(record("1"))
    assert not owed.settles(record("2"), fits=True)
    assert not owed.settles(record("1"), fits=False)


def test_a_server_that_never_answers() -> None:
    """A server that answers no update does not fill the memory."""
    owed = LateAcks()
    for number in range(100):
        owed.add(record(f"{number}"))
    assert repr(owed) == f"<LateAcks {MOST}>"
