"""What happens at the wrong moment: two things at once, or one of them while the clock stands still.

Each was seen to fail before it was mended.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fake import FakeSocket
from tests.support.right import assert_right, back, name_of, started, stays
from tests.support.worlds import FakeWorld, World, scenario
from worker_state import Manager, WorkerStatus
from worker_state.protocol.lease import ROOM_LIFE
from worker_state.protocol.probe import TICK

Frame = dict[str, Any]
MINUTE = 60.0
HOUR = 3600.0


def socket_of(world: World, manager: Manager) -> FakeSocket:
    peer = world.rooms.peer(name_of(manager))
    assert peer is not None
    assert isinstance(peer.connection, FakeSocket)
    return peer.connection


@scenario(only="fake")  # a clock that stands still
async def test_a_room_grows_old_while_the_machine_is_suspended(world: World) -> None:
    """A room of our own is replaced in time although the machine slept through a part of its life with the link up."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    await trio.sleep(50 * MINUTE)
    world.suspend(65 * MINUTE)
    await trio.sleep(TICK + 1)
    await assert_right(world, manager)
    await trio.sleep(6 * MINUTE)
    await assert_right(world, manager, within=1)


@scenario(only="fake", room_life=24 * HOUR)  # a clock that stands still
async def test_an_id_token_grows_old_while_the_machine_is_suspended(world: World) -> None:
    """An ID token is renewed in time although the machine slept through most of its life."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    await trio.sleep(10 * MINUTE)
    world.suspend(48 * MINUTE)
    await trio.sleep(3 * MINUTE)
    world.cut()
    await back(world, manager)
    assert not world.logged(logging.ERROR, "refused")


@scenario(only="fake")  # hours
async def test_a_reservation_while_the_next_room_is_created(world: World) -> None:
    """A client that is promised the worker while its next room is on the way keeps the link until it is served."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    room = manager.state.room_id
    world.server.latency = 5.0
    await trio.sleep(107 * MINUTE)
    await world.until(lambda: [path for path, *_ in world.server.requests].count("/create-room") == 2)
    manager.set_reserved("job-1")
    world.server.latency = 0.0
    await stays(lambda: manager.state.registered and manager.state.room_id == room, 5 * MINUTE)
    manager.set_available()
    await world.until(lambda: manager.state.room_id != room)
    await assert_right(world, manager)
    assert [path for path, *_ in world.server.requests].count("/create-room") == 2
    assert manager.state.epoch == 2


@scenario(only="fake")  # an hour
async def test_a_room_is_lost_while_the_id_token_cannot_be_renewed(world: World) -> None:
    """A failed renewal does not block the use of a token that still works: a new room is created with it."""
    manager = await started(world)
    await trio.sleep(40 * MINUTE)
    for _ in range(50):
        world.fail_http("/anonymous-signin", 500, b"busy")
    await trio.sleep(13 * MINUTE)
    assert world.logged(logging.ERROR, "sign-in failed")
    world.rooms.delete_peer({"peer_id": name_of(manager)}, world.now())
    await assert_right(world, manager)


@scenario(only="fake")  # a minute
async def test_a_reservation_that_ends_by_itself_while_draining(world: World) -> None:
    """A draining worker whose reservation runs out is in maintenance, and not free again."""
    manager = await world.start(reservation_limit=60.0)
    manager.set_reserved("job-1")
    await trio.sleep(10)
    with trio.fail_after(60):
        await manager.draining()
    assert manager.status is WorkerStatus.MAINTENANCE
    await assert_right(world, manager)


@scenario
async def test_busy_inside_busy(world: World) -> None:
    """A worker with several jobs is busy until the last of them ends, in whatever order, or until it says otherwise."""
    manager = await world.start()
    with manager.busy("job-1"):
        with manager.busy("job-2"):
            assert manager.job_id == "job-2"
        assert (manager.status, manager.job_id) == (WorkerStatus.BUSY, "job-1")
        await manager.synced()
        assert world.shown(manager) == ("busy", "job-1", None)
    assert manager.status is WorkerStatus.AVAILABLE
    first, second = manager.busy("job-1"), manager.busy("job-2")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert manager.job_id == "job-2"
    second.__exit__(None, None, None)
    assert manager.status is WorkerStatus.AVAILABLE
    with manager.busy("job-1"):
        with manager.busy("job-1"):
            pass
        assert manager.job_id == "job-1"
        manager.set_maintenance()
        with manager.busy("job-3"):
            pass
        inside = manager.state
    assert (inside.status, manager.state.status) == (WorkerStatus.MAINTENANCE, WorkerStatus.MAINTENANCE)


@scenario
async def test_the_target_of_another_part_is_gone(world: World) -> None:
    """PEER_NOT_FOUND about somebody else is for the other parts, and does not count as an eviction."""
    manager = await world.start()
    await manager.synced()
    for _ in range(5):
        to_nobody = {"from_peer_id": manager.state.peer_id, "target_peer_id": "nobody", "offer": {"sdp": "x"}}
        await manager.send_signal({"type": "mesh_connect", **to_nobody})
        assert (await manager.signals.receive())["code"] == "PEER_NOT_FOUND"
    await manager.synced()
    assert manager.state.evictions == 0
    assert len(world.sent("register")) == 1


@scenario(only="fake")  # needs a server that says so
async def test_updates_that_are_answered_with_peer_not_found(world: World) -> None:
    """PEER_NOT_FOUND while an update is under way is looked into at once: the echo decides."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    await trio.sleep(60)
    world.rooms.forget_peers()

    def unknown(socket: FakeSocket, frame: Frame) -> Frame | None:
        known = frame["type"] != "update_metadata" or world.rooms.peer(frame["peer_id"])
        return None if known else {"type": "error", "code": "PEER_NOT_FOUND", "message": "no such peer"}

    world.server.answer_instead = unknown
    manager.set_available()
    await assert_right(world, manager, within=1)


@scenario(only="fake")  # the answer has to wait
async def test_a_foreign_error_before_the_acceptance(world: World) -> None:
    """An error of somebody else's with a `reason`, right before the acceptance, does not make it worth nothing."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers == 1)
    await world.deliver(manager, json.dumps({"type": "error", "reason": "worker_busy"}))
    world.server.release_registers()
    with trio.fail_after(1):
        await manager.synced()
    await stays(lambda: manager.state.registered, 60)
    assert len(world.sent("register")) == 2


@scenario(only="fake")  # minutes
async def test_a_pause_of_the_server_costs_no_registration(world: World) -> None:
    """Two answers that are lost in the same 12 s are one lost answer: the next one decides."""
    assert isinstance(world, FakeWorld)
    world.server.answers_pings = True
    manager = await started(world)
    await trio.sleep(80)
    for _ in range(10):
        looks = len(world.sent("update_metadata"))
        world.server.silent = True
        await world.until(lambda looks=looks: len(world.sent("update_metadata")) > looks)  # type: ignore[misc]
        await trio.sleep(11.5)
        world.server.silent = False
        await trio.sleep(50)
    assert len(world.sent("register")) == 1
    await assert_right(world, manager, within=1)


@scenario(only="fake")  # answers come late
async def test_late_answers_disprove_nothing(world: World) -> None:
    """When every answer is late by more than an answer may be, none of them is taken for somebody's forgery."""
    assert isinstance(world, FakeWorld)
    world.server.answers_pings = True
    manager = await started(world)
    await trio.sleep(70)
    socket = socket_of(world, manager)
    held: list[str] = []
    deliver: Callable[[str], None] = socket.deliver
    changed: Any = socket
    changed.deliver = held.append
    manager.set_busy("job-2")
    await trio.sleep(12.5)  # the update was given up, and sent again
    assert [json.loads(text)["type"] for text in held].count("metadata_updated") == 2
    while "metadata_updated" not in held[0]:
        deliver(held.pop(0))
    deliver(held.pop(0))
    await trio.sleep(1)
    manager.set_busy("job-3")
    await trio.sleep(1)
    changed.deliver = deliver
    for text in held:
        deliver(text)
        await trio.sleep(0.1)
    await trio.sleep(20)
    assert not world.logged(logging.WARNING, "this worker's record")
    assert len(world.sent("register")) == 1
    await assert_right(world, manager, within=1)


@pytest.mark.parametrize("seconds", [100.0, 700.0])
def test_stopped_while_registering(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """A process that stood still while its `register` was answered takes the answer, and blames nobody."""

    @scenario(only="fake")  # a clock that jumps
    async def stopped(world: World) -> None:
        assert isinstance(world, FakeWorld)
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        manager = await started(world)
        world.server.hold_registers(1)
        manager.reregister()
        await world.until(lambda: world.server.held_registers == 1)
        clock.jump(seconds)
        await trio.sleep(0.001)
        world.server.release_registers()
        with trio.fail_after(TICK):
            await manager.synced()
        assert manager.state.epoch == 1

    stopped("fake", caplog)


@scenario(only="fake", token_life=600.0, room_life=ROOM_LIFE)  # two hours
async def test_a_refusal_of_what_was_renewed_does_not_make_the_move_impolite(world: World) -> None:
    """The refusal of a token whose successor has come is an answer, too: the room is left with a closing handshake."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    await trio.sleep(470)
    world.server.hold_registers()
    world.cut()
    await world.until(lambda: world.server.held_registers == 1)
    await trio.sleep(45)
    world.rooms.stale_keys()
    world.server.release_registers()
    world.rooms.stale_keys(False)
    await back(world, manager)
    await trio.sleep(107 * MINUTE)
    await world.until(lambda: manager.state.epoch == 3)
    assert len(world.server.closes) == 1


@scenario(only="fake")  # two hours
async def test_f30_the_old_socket_ends_late(world: World) -> None:
    """A move whose old socket ends on the server only after the new registration is right again soon."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    old, room = socket_of(world, manager), manager.state.room_id
    await trio.sleep(107 * MINUTE)
    world.server.latency = 2.0
    await world.until(lambda: [path for path, *_ in world.server.requests].count("/create-room") == 2)
    old.frozen = []
    await world.until(lambda: manager.state.room_id != room)
    await manager.synced()
    await trio.sleep(20)
    world.server.thaw()
    assert world.record(manager) == {}
    await assert_right(world, manager)
    assert manager.state.evictions == 1
