"""The runner: what an actor that decides is called with, and when."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from worker_state.actors.runner import PureActor, run_actor
from worker_state.protocol import events as m
from worker_state.protocol import frames


class Recorder(PureActor):
    """Notes each call, and publishes a dropped signal each time that it is woken."""

    def __init__(self, wake_at: float) -> None:
        super().__init__()
        self._wake_at = wake_at
        self.calls: list[tuple[m.Event | None, float]] = []
        self.late: list[float] = []

    def _look_at_the_clock(self, now: float) -> None:
        self.late.append(self._overslept(now))

    def _apply(self, event: m.Event, now: float) -> None:
        self.calls.append((event, now))

    def _start_what_is_due(self, now: float) -> float:
        self.calls.append((None, now))
        self._publish(m.SignalDropped())
        return math.inf


@asynccontextmanager
async def running(actor: Recorder) -> AsyncIterator[tuple[trio.MemorySendChannel[m.Event], list[m.Event]]]:
    published: list[m.Event] = []
    send, inbox = trio.open_memory_channel[m.Event](math.inf)
    stale = m.Reregister()
    async with trio.open_nursery() as nursery:
        run = partial(run_actor, actor, inbox, publish=published.append, is_stale=lambda event: event is stale)
        nursery.start_soon(run)
        with send:
            send.send_nowait(stale)
            yield send, published


async def test_events_come_before_the_deadline(autojump_clock: MockClock) -> None:
    """All events that have come are handled before the actor is woken; stale ones are not handled at all."""
    actor = Recorder(math.inf)
    async with running(actor) as (send, published):
        send.send_nowait(m.StartDraining())
        send.send_nowait(m.StartLeaving())
        await wait_all_tasks_blocked()
        assert [event for event, _ in actor.calls] == [m.StartDraining(), m.StartLeaving(), None]
        assert published == [m.SignalDropped()]


class Buggy(Recorder):
    """Chokes on whatever it is given, after it has published something."""

    def _apply(self, event: m.Event, now: float) -> None:
        self._publish(m.SignalDropped())
        raise LookupError("chokes")


def test_g11_a_frame_costs_itself_at_worst() -> None:
    """What handling a frame raises costs that frame: it is ignored, with the error for the log."""
    dropped, ignored = Buggy(math.inf).handle(m.FrameReceived(1, frames.Ping()), 0.0)
    assert dropped == m.SignalDropped()
    assert ignored == m.FrameIgnored("Ping could not be handled: LookupError")
    assert isinstance(ignored, m.FrameIgnored)
    assert isinstance(ignored.error, LookupError)


@pytest.mark.parametrize("event", [m.StartDraining(), m.Reregister(), m.StartLeaving()])
def test_a_bug_of_ours_leaves(event: m.Event) -> None:
    """What handling anything else raises came from no outside: it leaves."""
    with pytest.raises(LookupError, match="chokes"):
        Buggy(math.inf).handle(event, 0.0)


async def test_the_deadline(autojump_clock: MockClock) -> None:
    """The actor is woken at its deadline, when no event comes before."""
    actor = Recorder(trio.current_time() + 5)
    async with running(actor):
        await trio.sleep(10)
        assert actor.calls == [(None, 5.0)]


async def test_a_cancel_does_not_reach_it(autojump_clock: MockClock) -> None:
    """A cancelled actor goes on until its inbox is closed."""
    actor = Recorder(math.inf)
    with trio.CancelScope() as scope:
        async with running(actor) as (send, _):
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            send.send_nowait(m.StartLeaving())
    assert [event for event, _ in actor.calls] == [m.StartLeaving()]


def test_for_how_long_nothing_was_called() -> None:
    """An actor sees how late it is called; behind an event nothing was due, so nothing is late."""
    actor = Recorder(10.0)
    for now in (9.0, 10.0, 13.5):
        actor.handle(m.StartDraining(), now)
        actor._wake_at = 10.0
    actor.handle(m.StartDraining(), 20.0)
    actor.handle(m.StartDraining(), 25.0)
    assert actor.late == [0.0, 0.0, 3.5, 10.0, 0.0]


def test_a_new_actor_is_woken_at_once() -> None:
    """What an actor has to do at its beginning is due before any event."""

    class Idle(Recorder):
        def __init__(self) -> None:
            PureActor.__init__(self)

    assert Idle().next_deadline() == -math.inf
