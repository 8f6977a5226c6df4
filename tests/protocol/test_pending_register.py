"""The last `register`: until when its answer is waited for, and what says that the server has swallowed it."""

import math

import pytest

from worker_state.protocol import frames
from worker_state.protocol.echo import REGISTER_PREFIX
from worker_state.protocol.pending_register import PendingRegister
from worker_state.protocol.record import build_record, look
from worker_state.protocol.status import Available

RECORD = build_record(["tag"], {}, Available())


def sent(now: float = 10.0, epoch: int = 1, answer_by: float = 70.0) -> PendingRegister:
    pending = PendingRegister()
    pending.sent(now, epoch, 3, RECORD, answer_by, "n")
    return pending


def test_nothing_was_sent() -> None:
    """Before the first `register` nothing is due or doubtful, nothing is unanswered, and no link has carried one."""
    pending = PendingRegister()
    assert (pending.due, pending.unanswered, pending.doubtful) == (math.inf, 0, False)
    assert pending.epoch < 1  # links are counted from 1
    assert not pending.overtaken_by(None)


def test_echoes_behind_it() -> None:
    """Echoes follow after 5 s and then after pauses that double, for a busy server, until the answer is overdue."""
    pending = sent(answer_by=100.0)
    times = []
    while pending.due < 100.0:
        times.append(pending.due)
        pending.probe("me", pending.due)
    assert times == [15.0, 25.0, 45.0, 85.0]
    assert pending.due == 100.0


def test_each_register_begins_anew() -> None:
    """The echoes behind the next `register` are as quick as those behind the first."""
    pending = sent()
    pending.probe("me", 15.0)
    pending.sent(100.0, 1, 4, RECORD, 160.0, "n")
    assert pending.due == 105.0
    assert not pending.overtaken_by(None)


@pytest.mark.parametrize("echoes", [1, 2])
def test_what_overtakes_it(echoes: int) -> None:
    """The echo behind it, or NOT_IN_ROOM in its place, answers what was sent later; another's echo does not."""
    pending = sent()
    assert not pending.overtaken_by(REGISTER_PREFIX + "n")
    for _ in range(echoes):
        pending.probe("me", 15.0)
    assert pending.overtaken_by(REGISTER_PREFIX + "n")
    assert pending.overtaken_by(None)
    assert not pending.overtaken_by("n")


def test_what_is_sent_behind_it() -> None:
    """Behind the first of a link a look and an echo take turns; behind a later one it is always an echo, since an
    answer to an update might answer an older one (G05)."""
    pending = sent()
    asked, echo = frames.update_metadata("me", look(RECORD)), frames.echo("me", REGISTER_PREFIX + "n")
    assert [pending.probe("me", 15.0) for _ in range(4)] == [asked, echo, asked, echo]
    assert (pending.looks, pending.record) == (2, RECORD)
    pending.over()
    assert pending.looks == 0
    pending.sent(50.0, 1, 4, RECORD, 160.0, "n")
    assert [pending.probe("me", 55.0) for _ in range(2)] == [echo, echo]
    assert pending.looks == 0


def test_swallowed_twice_on_one_link() -> None:
    """A link that swallows a second `register` is of no use; the next link begins anew."""
    pending = PendingRegister()
    said = []
    for epoch in (1, 1, 2, 2):
        pending.sent(0.0, epoch, 0, RECORD, 60.0, "n")
        said.append(pending.swallowed())
        assert pending.due == math.inf
    assert said == [False, True, False, True]


def test_more_time() -> None:
    """An answer that nobody could read gets more time, never less, and only while it is waited for."""
    pending = sent(answer_by=12.0)
    pending.grant(11.0)
    assert pending.due == 12.0
    pending.grant(14.0)
    assert pending.due == 14.0
    pending.over()
    pending.grant(30.0)
    assert pending.due == math.inf


def test_an_answer_too_many() -> None:
    """Each answer settles one `register`; one too many does not settle the next, and a new link owes nothing."""
    pending = PendingRegister()
    pending.answered()
    pending.sent(0.0, 1, 0, RECORD, 60.0, "n")
    assert pending.unanswered == 1
    pending.sent(1.0, 1, 0, RECORD, 60.0, "n")
    pending.answered()
    assert pending.unanswered == 1
    pending.link_opened()
    assert pending.unanswered == 0


def test_a_doubtful_end() -> None:
    """Whether an error may have been about another frame is remembered until the next `register`."""
    pending = sent()
    assert not pending.doubtful
    pending.over(doubtful=True)
    assert pending.doubtful
    pending.sent(20.0, 1, 0, RECORD, 80.0, "n")
    assert not pending.doubtful
