"""Leaving, at whatever moment and whatever the server does: in bounded time, and all is removed that can be."""

import logging
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.support.fake import FakeServer, FakeSocket
from tests.support.right import started
from tests.support.worlds import FakeWorld, World, given_room, scenario
from worker_state import Config, Manager, Timing
from worker_state.manager import run_in_world
from worker_state.world import World as Outside

TIMING = Timing(exit=2.0, close=0.5)
Fault = Callable[[FakeServer], None]


def down(server: FakeServer) -> None:
    server.up = False
    server.cut()


def hang(server: FakeServer) -> None:
    server.http_hangs |= {"/anonymous-signin", "/create-room", "/delete-peer"}


def fail_to_delete(server: FakeServer) -> None:
    server.http_hangs.add("/delete-peer")


def mute(server: FakeServer) -> None:
    server.silent = True


def jam(server: FakeServer) -> None:
    server.stuck = True


def stop_answering_dials(server: FakeServer) -> None:
    server.dials_hang = True
    server.cut()


def hold(server: FakeServer) -> None:
    server.hold_registers(10)


def go_on(server: FakeServer) -> None:
    pass


FAULTS: tuple[Fault, ...] = (go_on, down, hang, fail_to_delete, mute, jam, stop_answering_dials, hold)
MOMENTS = [number / 20 for number in range(1, 27)]
"""Seconds: sign-in, room, dial and registration take half of one, then comes a lost link, and the way back."""


@pytest.mark.parametrize("begins", [0.0, 0.6], ids=["from the start", "later"])
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__.replace("_", " ") for fault in FAULTS])
def test_cancelled_at_every_moment(fault: Fault, begins: float) -> None:
    """Cancelled at any await, the worker is gone within its two bounds, without a task or a removable identity left."""

    async def try_all() -> None:
        for moment in MOMENTS:
            await leave(fault, begins, moment, steps=0 if begins else 2)

    trio.run(try_all, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("begins", [0.0, 0.6], ids=["from the start", "later"])
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__.replace("_", " ") for fault in FAULTS])
def test_g01_a_given_room_outlives_every_exit(fault: Fault, begins: float) -> None:
    """Cancelled at any await, the worker is gone within its two bounds, and the room that it was given stays."""

    async def try_all() -> None:
        for moment in MOMENTS:
            await leave(fault, begins, moment, steps=0 if begins else 2, given=True)

    trio.run(try_all, clock=MockClock(autojump_threshold=0))


def test_cancelled_in_its_first_steps() -> None:
    """Cancelled before it has done anything, the worker leaves nothing behind either."""

    async def try_all() -> None:
        for steps in range(20):
            await leave(go_on, 0.0, 0.0, steps)

    trio.run(try_all, clock=MockClock(autojump_threshold=0))


async def leave(fault: Fault, begins: float, moment: float, steps: int, *, given: bool = False) -> None:
    """One life, cancelled so many seconds and scheduler steps after its beginning, in its own room or a given one."""
    server, zero = FakeServer(), trio.current_time()
    config = Config("ws://localhost", "http://localhost", timing=TIMING, wait_for_server=True)
    if given:
        config = replace(config, **given_room(server.rooms, server.now()))
    tasks = trio.lowlevel.current_statistics().tasks_living
    server.latency = 0.1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live, server, config, fault, begins)
        await trio.sleep_until(zero + moment)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
        cancelled_at = trio.current_time()
    took = trio.current_time() - cancelled_at
    assert took <= TIMING.exit + TIMING.close + 0.01, (moment, steps)
    assert trio.lowlevel.current_statistics().tasks_living == tasks, (moment, steps)
    assert not server.sockets
    server.stuck = server.silent = False
    server.release_registers()
    assert len(server.rooms._registry) == 0, (moment, steps)
    if given:
        assert list(server.rooms.rooms) == [config.room_id], (moment, steps)
    elif "/delete-peer" not in server.http_hangs:
        assert not server.rooms.users, (moment, steps)


async def live(server: FakeServer, config: Config, fault: Fault, begins: float) -> None:
    random = Random(3)
    outside = Outside(server.dial, server, random, nonce=lambda: f"{random.getrandbits(64)}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(happen, server, fault, begins)
        manager: Manager = await nursery.start(run_in_world, config, outside)
        manager.set_busy("job-1")
        await trio.sleep(0.2)
        server.cut()
        manager.set_available()
        await manager.synced()
        manager.reregister()
        await trio.sleep_forever()


async def happen(server: FakeServer, fault: Fault, begins: float) -> None:
    await trio.sleep(begins)
    fault(server)


@scenario
async def test_cancelled_while_starting(world: World) -> None:
    """Cancelled at any point of its start, the worker leaves no user and no listing behind."""
    if isinstance(world, FakeWorld):
        world.server.latency = 0.004
    for milliseconds in (0, 1, 2, 4, 8, 12, 16, 24, 32):
        with trio.CancelScope() as scope:
            world.nursery.start_soon(cancel_after_sign_in, world, milliseconds / 1000, scope)
            await world.run(world.config(timing=TIMING), trio.TASK_STATUS_IGNORED)
        await world.until(lambda: not world.rooms.users)
        await world.until(lambda: len(world.rooms._registry) == 0)


@pytest.mark.parametrize("given", [False, True])
async def test_g39_a_sign_in_that_is_cut_short(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, given: bool
) -> None:
    """A sign-in that is not answered until the exit is over may leave an identity, and the log says so."""
    server = FakeServer()
    server.http_hangs.add("/anonymous-signin")
    config = Config("ws://localhost", "http://localhost", timing=TIMING)
    if given:
        config = replace(config, **given_room(server.rooms, server.now()))
    with trio.move_on_after(1):
        await run_in_world(config, Outside(server.dial, server, Random(3), nonce=lambda: "1"))
    assert "identities may be left on the server: one whose name is not known" in caplog.text


async def cancel_after_sign_in(world: World, seconds: float, scope: trio.CancelScope) -> None:
    await world.until(lambda: world.rooms.users)
    await trio.sleep(seconds)
    scope.cancel()


@scenario
async def test_a_log_handler_that_raises(world: World) -> None:
    """A program whose log filter raises while the worker leaves loses that line, and nothing else."""

    def raising(record: logging.LogRecord) -> bool:
        raise RuntimeError(record.getMessage())

    logger = logging.getLogger("worker_state.actors.cleanup")
    scope = trio.CancelScope()

    async def leave_when_registered() -> None:
        await world.until(lambda: len(world.rooms._registry) == 1)
        scope.cancel()

    world.nursery.start_soon(leave_when_registered)
    logger.addFilter(raising)
    try:
        with trio.fail_after(30), scope:
            await world.run(world.config(timing=TIMING), trio.TASK_STATUS_IGNORED)
    finally:
        logger.removeFilter(raising)
    assert not world.rooms.users
    await world.until(lambda: len(world.rooms._registry) == 0)


@scenario(only="fake")  # needs a server that is slow with frames and quick with deletions
async def test_the_last_signal_arrives(world: World) -> None:
    """What the worker tells a client right before it leaves is delivered, though a deletion would overtake it."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    async with world.client(manager) as client:
        slow_down(world, 0.3)
        await manager.send_signal(
            {
                "type": "peer_message",
                "from_peer_id": manager.state.peer_id,
                "to_peer_id": client.peer_id,
                "payload": {"type": "done"},
            }
        )
        before = trio.current_time()
        await world.stop(manager)
        assert trio.current_time() - before < 0.7
        with trio.fail_after(1):
            assert (await client.receive("peer_message"))["payload"] == {"type": "done"}
        assert set(world.rooms.users) == {client.peer_id}


@scenario(only="fake")  # for the same reason
async def test_the_last_signal_behind_an_update(world: World) -> None:
    """The answer to a status update that was sent before the last signal does not say that the signal has arrived."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    me = manager.state.peer_id
    async with world.client(manager) as client:
        slow_down(world, 0.3)
        manager.set_maintenance()
        await trio.sleep(0.2)
        ids = {"from_peer_id": me, "to_peer_id": client.peer_id}
        await manager.send_signal({"type": "peer_message", **ids, "payload": {"type": "done"}})
        await world.stop(manager)
        with trio.fail_after(1):
            assert (await client.receive("peer_message"))["payload"] == {"type": "done"}
        assert set(world.rooms.users) == {client.peer_id}


def slow_down(world: FakeWorld, seconds: float) -> None:
    """Frames lie so long with the server before it looks at them, one after another."""
    receive, frames = world.server.receive, list[tuple[FakeSocket, str]]()

    async def look() -> None:
        await trio.sleep(seconds)
        receive(*frames.pop(0))

    def put(socket: FakeSocket, text: str) -> None:
        frames.append((socket, text))
        world.nursery.start_soon(look)

    world.server.receive = put  # type: ignore[method-assign]


@scenario
async def test_a_last_signal_that_nobody_hears(world: World) -> None:
    """A server that has stopped answering keeps the worker for half of what the exit may take, and no longer."""
    manager = await started(world, timing=TIMING)
    me = manager.state.peer_id
    world.mute()
    await manager.send_signal({"type": "peer_message", "from_peer_id": me, "to_peer_id": me, "payload": {}})
    began = trio.current_time()
    await world.stop(manager)
    if isinstance(world, FakeWorld):
        assert trio.current_time() - began == pytest.approx(TIMING.exit / 2, abs=0.1)
    assert not world.rooms.users


@pytest.mark.parametrize("moment", [0.5, 1.5, 4.2, 24.0])
def test_a_last_signal_that_nobody_hears_at_any_moment(moment: float, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does it keep the worker longer when a proof or a look at the clock is due while it waits."""

    @scenario(only="fake")
    async def leaves(world: World) -> None:
        manager = await started(world, timing=TIMING)
        await trio.sleep(moment)
        world.mute()
        await manager.send_signal({"type": "offer"})
        with trio.fail_after(TIMING.exit):
            await world.stop(manager)
        assert not world.rooms.users

    leaves("fake", caplog)
