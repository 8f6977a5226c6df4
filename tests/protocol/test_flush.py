"""The flush: what says that the last signals of a leaving worker have arrived, and what does not."""

import pytest

from worker_state.protocol import frames
from worker_state.protocol.flush import SignalFlush
from worker_state.protocol.record import build_record, look
from worker_state.protocol.status import Available

RECORD = build_record(("tag",), {}, Available())
STORED = frames.MetadataUpdated("me", RECORD)


def test_nothing_was_sent() -> None:
    """Without a signal nothing is to be flushed; nor when an echo that was sent behind it has come back."""
    flush = SignalFlush()
    assert not flush.needed
    flush.sent(10.0)
    assert flush.needed
    flush.echoed(10.0)
    assert flush.needed
    flush.echoed(11.0)
    assert not flush.needed


def test_only_our_echo_ends_it() -> None:
    """Neither an update's answer nor an older echo says that the last signals have arrived; our own echo does."""
    flush = SignalFlush()
    assert flush.begin("me", "nonce", None, 0) == frames.echo("me", "nonce")
    assert not flush.ended_by(STORED)
    assert not flush.ended_by(frames.Echo("me", "older"))
    assert not flush.ended_by(frames.Ping())
    assert flush.ended_by(frames.Echo("me", "nonce"))


def test_looks_are_answered_in_their_order() -> None:
    """Where echoes are refused, the answers to updates that are under way come before that of our look."""
    flush = SignalFlush()
    assert flush.begin("me", "nonce", RECORD, 1) == frames.update_metadata("me", look(RECORD))
    assert not flush.ended_by(STORED)
    assert flush.ended_by(STORED)


@pytest.mark.parametrize("record", [None, RECORD])
def test_no_answer_can_come(record: frames.Message | None) -> None:
    """It is over when the server does not know us."""
    flush = SignalFlush()
    flush.begin("me", "nonce", record, 0)
    assert flush.ended_by(frames.NotInRoom("NOT_IN_ROOM"))
