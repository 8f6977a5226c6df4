"""What is over, or is about something else, misleads nobody: a silence of before, another link, another room.

What is about an earlier link is the supervisor's to drop: `tests/test_supervisor.py`.
"""

import json
import logging

import pytest
import trio

from tests.support.right import name_of, started
from tests.support.worlds import FakeWorld, World, scenario
from worker_state import SignInFailed


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


@scenario
async def test_a_sign_in_that_was_refused(world: World) -> None:
    """A refused sign-in leaves no user behind, and so the exit does not wait for one."""
    world.fail_http("/anonymous-signin", 500, b"no")
    with pytest.raises(SignInFailed):
        await world.start()
    assert not world.logged(logging.ERROR, "not everything could be deleted")
