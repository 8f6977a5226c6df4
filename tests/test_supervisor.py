"""The supervisor: every event has its route, those of older links are dropped, and publishing is linear."""

from random import Random
from typing import get_args

import pytest
import trio

from tests.support.fake import FakeServer
from tests.support.messages import COMMANDS, EVENTS
from worker_state import Config
from worker_state.protocol import events as m
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Closed
from worker_state.protocol.status import Busy
from worker_state.supervisor import ACTORS, API_CALLS, FRAME_ROUTES, ROUTES, SIGNALS, Supervisor
from worker_state.world import World


def supervisor() -> Supervisor:
    """One that runs nothing: what it delivers stays in the inboxes."""
    server = FakeServer()
    return Supervisor(Config("ws://fake", "http://fake"), World(server.dial, server, Random(1), nonce=str))


async def send(kind: str, text: str) -> bool:
    raise NotImplementedError


def opened(epoch: int) -> m.LinkOpened:
    return m.LinkOpened(m.Link(epoch, 60.0, send))


def test_every_event_has_a_route() -> None:
    """Every command and event stands in the table of routes, and every frame in that of frames."""
    assert set(ROUTES) | {m.FrameReceived} == {*COMMANDS, *EVENTS}
    assert set(FRAME_ROUTES) == set(get_args(frames.Frame))


def test_routes_lead_somewhere() -> None:
    """Every route leads to one of the four actors, to the HTTP calls, or to the worker's signals."""
    receivers = {name for names in (*ROUTES.values(), *FRAME_ROUTES.values()) for name in names}
    assert receivers == {*ACTORS, API_CALLS, SIGNALS}


OLDER: list[m.Event] = [
    m.LinkLost(1, Closed(), None),
    m.DropLink(1, "why"),
    m.SendFrame(1, {"type": "register"}),
    m.FrameReceived(1, frames.NotInRoom("NOT_IN_ROOM"), True),
    m.RegistrationLost(1, "why"),
    m.WorkerRegistered(1, 0, "me", "room", None, 0, settled=True, at=0.0),
    m.PresenceProved(1, 1.0),
    m.SignalSent(1, 1.0),
]


@pytest.mark.parametrize("event", OLDER, ids=lambda event: type(event).__name__)
async def test_an_event_of_an_older_link(event: m.Event) -> None:
    """What is about an earlier link reaches no actor, no signals and no snapshot."""
    one = supervisor()
    one.publish(opened(2))
    before, unread = one.state.value, one.backlog()
    one.publish(event)
    assert (one.state.value, one.backlog()) == (before, unread)
    assert one.signals.statistics().current_buffer_used == 0


async def test_an_event_of_a_link_that_is_being_dropped() -> None:
    """Nothing of a link means anything once it is to be dropped, but that it is lost."""
    one = supervisor()
    one.publish(opened(1))
    frame = m.FrameReceived(1, frames.NotInRoom("NOT_IN_ROOM"))
    assert not one.is_stale(frame)
    drop = m.DropLink(1, "why")
    one.publish(drop)
    assert one.is_stale(frame)
    assert not one.is_stale(drop)
    assert not one.is_stale(m.LinkLost(1, Closed(), None))


async def test_publishing_is_linear() -> None:
    """An event that is published while another one is delivered comes behind it, everywhere."""
    one = supervisor()

    def change_again() -> None:
        one.publish(m.ChangeStatus(1, Busy("job-1")))
        assert one.state.value.revision == 0

    one.on_registered = change_again
    one.publish(opened(1))
    one.publish(m.WorkerRegistered(1, 0, "me", "room", None, 0, settled=True, at=0.0))
    assert one.state.value.revision == 1
    assert one.state.value.registered


async def test_a_foreign_thread_is_refused() -> None:
    """An event from another thread is refused in words, and delivered nowhere."""
    one = supervisor()
    with pytest.raises(RuntimeError, match="from_thread"):
        await trio.to_thread.run_sync(one.publish, m.Reregister())
    assert sum(one.backlog().values()) == 0
