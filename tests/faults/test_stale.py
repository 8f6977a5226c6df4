"""What is over, or is about something else, misleads nobody: a silence of before, another link, another room.

Within a worker nothing about a link comes after the opening of the next one, so an actor alone is told it here.
"""

import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fake import FakeServer
from tests.support.right import name_of, started
from tests.support.worlds import FakeWorld, World, scenario
from worker_state import Config, SignInFailed, Timing
from worker_state.actors import connection, registration, status
from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.core.pace import Pace
from worker_state.core.status import Busy
from worker_state.core.verdict import Closed
from worker_state.errands import Errands

CONFIG = Config("ws://fake", "http://fake", api_key="slp_x")
LOST_BEFORE = m.LinkLost(1, Closed(), None)


@asynccontextmanager
async def alone(actor: Callable[..., Awaitable[None]], **parts: Any) -> AsyncIterator[tuple[m.Tell, list[m.Note]]]:
    """One actor without the others: how it is told something, and what it says."""
    said = list[m.Note]()
    inbox, receive = trio.open_memory_channel[m.Note](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(actor, receive, tell=said.append, **parts))
        try:
            yield inbox.send_nowait, said
        finally:  # it is shielded: a test that fails must not hang
            inbox.send_nowait(m.BeginLeave())
            inbox.send_nowait(m.CloseLink(0.5))


def second_link(sent: list[wire.Message]) -> m.Link:
    """Takes every frame of ours."""

    def post(message: wire.Message) -> bool:
        sent.append(message)
        return True

    async def send(kind: str, text: str) -> bool:
        raise NotImplementedError

    return m.Link(2, 60.0, post, send)


@scenario(only="fake")  # minutes
async def test_a_link_that_was_silent_before(world: World) -> None:
    """Answers that are missing again after a proof cost a registration again, and not the link."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    for _ in range(2):
        world.server.answer_instead = lambda socket, frame: None if frame["type"] == "register" else {"type": "ping"}
        await world.until(lambda: not manager.state.registered)
        world.server.answer_instead = lambda socket, frame: None
        await manager.synced()
    assert (manager.state.evictions, manager.state.epoch) == (2, 1)


async def test_an_order_to_drop_the_link_before(autojump_clock: MockClock) -> None:
    """The order to drop a link that is gone already does not end its successor."""
    server, pace = FakeServer(), Pace(Random(1))
    async with alone(connection.run, dial=server.dial, pace=pace, timing=Timing()) as (tell, said):
        tell(m.OpenLinks())
        for _ in range(2):
            await trio.sleep(60)
            tell(m.DropLink(1, "it is of no use"))
        await trio.sleep(60)
        assert [type(note) for note in said] == [m.LinkOpened, m.LinkLost, m.LinkOpened]


@scenario
async def test_an_acceptance_in_another_room(world: World) -> None:
    """A `registered_auth` that names another room is not the answer that is waited for."""
    manager = await started(world)
    room = manager.state.room_id
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers == 1)
    elsewhere = {"type": "registered_auth", "peer_id": name_of(manager), "room_id": "another", "token": None}
    await world.deliver(manager, json.dumps(elsewhere))
    await world.until(lambda: manager.state.frames_ignored or not manager.state.registration_asked)
    world.server.release_registers()
    await manager.synced()
    assert manager.state.room_id == room


@scenario(only="fake")  # an answer has to wait
async def test_the_answer_about_the_status_before(world: World) -> None:
    """A change while an update is unanswered is told as soon as the answer is there."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    world.server.freeze(name_of(manager))
    for change in (manager.set_available, manager.set_maintenance):
        change()
        await trio.sleep(1)
    world.server.thaw()
    with trio.fail_after(1):
        await manager.synced()
    assert world.shown(manager)[0] == "maintenance"
    assert not world.logged(logging.WARNING, "record")


async def test_a_registration_when_the_link_before_is_lost(autojump_clock: MockClock) -> None:
    """The loss of an earlier link does not make the answer on the present one worth nothing."""
    sent: list[wire.Message] = []
    async with trio.open_nursery() as nursery:
        parts = {
            "errands": Errands(FakeServer(), nursery, lambda note: None, waits=False),
            "nonce": str,
            "awake": trio.current_time,
        }
        async with alone(registration.run, config=CONFIG, random=Random(1), **parts) as (tell, said):
            tell(m.LinkOpened(second_link(sent)))
            await trio.sleep(1)
            tell(LOST_BEFORE)
            tell(m.FrameReceived(2, wire.RegistrationAccepted(sent[0]["peer_id"], "room", None, 0)))
            await trio.sleep(1)
            assert isinstance(said[-1], m.WorkerRegistered)


async def test_an_update_when_the_link_before_is_lost(autojump_clock: MockClock) -> None:
    """The loss of an earlier link keeps no change of the status from the present one."""
    sent: list[wire.Message] = []
    parts = {"nonce": lambda: "1", "awake": trio.current_time}
    async with alone(status.run, config=CONFIG, random=Random(1), **parts) as (tell, _):
        tell(m.LinkOpened(second_link(sent)))
        tell(m.WorkerRegistered(2, 0, "me", "room", None, 0, settled=True, at=0.0))
        tell(LOST_BEFORE)
        tell(m.ChangeStatus(1, Busy("job-1")))
        await trio.sleep(1)
        assert "update_metadata" in [frame["type"] for frame in sent]


@scenario
async def test_a_sign_in_that_was_refused(world: World) -> None:
    """A refused sign-in leaves no user behind, and so the exit does not wait for one."""
    world.fail_http("/anonymous-signin", 500, b"no")
    with pytest.raises(SignInFailed):
        await world.start()
    assert not world.logged(logging.ERROR, "not everything could be deleted")
