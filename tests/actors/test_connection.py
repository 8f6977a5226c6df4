"""The connection actor alone: what it tells policy, log and actors of each dial and link."""

import logging
import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from worker_state.actors.connection import ConnectionActor
from worker_state.config import Config
from worker_state.logs import About
from worker_state.protocol import events as m
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.reconnect import Deadlines
from worker_state.redact import Secrets

CONFIG = Config("ws://fake", "http://fake", wait_for_server=True)
PAUSE = 2.0
Call = tuple[Any, ...]


class Told:
    """In place of the policy: what it is told, in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def dialling(self, now: float) -> Deadlines:
        return Deadlines(connect=1.0, acknowledge=1.0, upgrade=1.0, register=60.0)

    def failed(self, now: float, cause: Cause, hint: float | None) -> float:
        self.calls.append(("failed", now, cause, hint))
        return PAUSE

    def lost(self, now: float, cause: Cause, code: int, hint: float | None) -> float:
        self.calls.append(("lost", now, cause, code, hint))
        return PAUSE

    def moved(self, now: float) -> float:
        self.calls.append(("moved", now))
        return PAUSE

    def answered(self, now: float) -> None:
        self.calls.append(("answered", now))


class Ends:
    """A socket that ends like this a second after it was opened."""

    heard_at = 0.0
    in_message = False

    def __init__(self, closed: Closed) -> None:
        self.closed = closed

    async def receive(self) -> Closed:
        await trio.sleep(1.0)  # a registration is answered meanwhile
        return self.closed

    async def abort(self) -> None:
        pass

    async def _never(self, *_: object) -> None:
        await trio.sleep_forever()

    send = ping = close = _never


async def lived(
    *outcomes: DialFailure | Closed, registered: bool = False
) -> tuple[list[tuple[Any, ...]], list[m.Event]]:
    """What the policy was told, and what was published, while the dials came to this."""
    policy, published, left = Told(), list[m.Event](), list(outcomes)
    inbox, receive = trio.open_memory_channel[m.Event](math.inf)

    async def dial(deadlines: Deadlines, nursery: trio.Nursery, kept_answered: object = None) -> Ends | DialFailure:
        if not left:
            inbox.send_nowait(m.StartLeaving())
            inbox.send_nowait(m.CloseLink(0.5))
            await trio.sleep_forever()
        outcome = left.pop(0)
        return outcome if isinstance(outcome, DialFailure) else Ends(outcome)

    def publish(event: m.Event) -> None:
        published.append(event)
        if isinstance(event, m.LinkOpened) and registered:
            at, epoch = trio.current_time(), event.link.epoch
            inbox.send_nowait(m.WorkerRegistered(epoch, 0, "peer", "room", None, peers=0, settled=True, at=at))

    actor = ConnectionActor(dial, policy, CONFIG, Secrets(), publish=publish, is_stale=lambda event: False)  # type: ignore[arg-type]
    inbox.send_nowait(m.StartDialing())
    with trio.fail_after(100):
        await actor.run(receive)
    return policy.calls, published


async def test_a_dial_that_fails(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The policy hears when, why and what the server asks for; the log says which dial it was."""
    caplog.set_level(logging.DEBUG, logger="worker_state")
    refused, busy = DialFailure(Cause.REFUSED), DialFailure(Cause.SHED, "503", status=503, retry_after="7")
    calls, published = await lived(refused, busy)
    assert calls == [("failed", 0.0, Cause.REFUSED, None), ("failed", PAUSE, Cause.SHED, 7.0)]
    assert published == [m.DialFailed(refused, PAUSE), m.DialFailed(busy, PAUSE)]
    epochs = [About.of(record).fields["epoch"] for record in caplog.records]
    assert epochs == [1, 2]


async def test_a_link_that_ends(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The policy hears when, why, with what code and what the server asks for; the log says which link it was."""
    caplog.set_level(logging.DEBUG, logger="worker_state")
    goes, silent = Closed(1012, "retry after 9"), Closed(cause=Cause.SILENT)
    calls, published = await lived(goes, silent)
    assert calls == [("lost", 1.0, Cause.CLOSED, 1012, 9.0), ("lost", 2.0 + PAUSE, Cause.SILENT, 1006, None)]
    assert [event for event in published if isinstance(event, m.LinkLost)] == [
        m.LinkLost(1, goes, PAUSE),
        m.LinkLost(2, silent, PAUSE),
    ]
    assert [About.of(record).fields["epoch"] for record in caplog.records] == [1, 2]


async def test_a_move(autojump_clock: MockClock) -> None:
    """A link that was left for a new room is no failure of the server."""
    calls, _ = await lived(Closed(cause=Cause.MOVED))
    assert calls == [("moved", 1.0)]


@pytest.mark.parametrize("registered", [False, True])
async def test_an_answer_that_is_too_big(autojump_clock: MockClock, registered: bool) -> None:
    """Before a registration it will be as big on the next link, so that one waits (F22). After one it is a message."""
    big = Closed(1009, "message too big")
    calls, _ = await lived(big, big, registered=registered)
    lost = [call for call in calls if call[0] == "lost"]
    assert [call[-1] for call in lost] == ([None, None] if registered else [60.0, 60.0])
    assert [call for call in calls if call[0] == "answered"] == (
        [("answered", 0.0), ("answered", 1.0 + PAUSE)] if registered else []
    )
