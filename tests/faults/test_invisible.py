"""Part A of the fault catalogue: the socket is fine, and yet the worker would be invisible or wrong.

Over real sockets trio's clock runs ten times as fast where a test has to wait for an echo, the first of which come
2 and 5 s after a registration.
"""

import logging

import pytest
import trio

from tests.support.right import BOUND, assert_right, back, name_of, started, stays
from tests.support.worlds import Client, FakeWorld, Frame, RealWorld, World, scenario
from worker_state import Manager, SessionString, Timing
from worker_state.advertised import TAGS


def hour(hours: float) -> float:
    return hours * 3600.0


async def evict_by_half_open(world: World, manager: Manager, seconds: float) -> None:
    world.server.half_open(name_of(manager))
    await back(world, manager)
    await trio.sleep(seconds)
    world.server.notice()
    assert world.record(manager) == {}


@pytest.mark.parametrize("seconds", [25.0, 36.0, 47.0])
def test_f01_late_death_of_the_old_connection(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """A half-open old connection that dies on the server after the new registration costs that for seconds only."""

    @scenario
    async def dies(world: World) -> None:
        manager = await started(world)
        await evict_by_half_open(world, manager, seconds)
        await assert_right(world, manager)
        assert manager.state.evictions == 1

    dies("fake", caplog)  # on real sockets the same takes half a minute; test_f02 is the same path there


@scenario(faster=10)
async def test_f02_late_end_of_the_old_connection(world: World) -> None:
    """An old connection whose end is merely late by 5 s costs the new registration for seconds only."""
    manager = await started(world)
    await evict_by_half_open(world, manager, 5.0)
    await assert_right(world, manager)
    assert world.logged(logging.WARNING, "forgotten")


@pytest.mark.parametrize("ghosts", [False, True])
def test_f03_register_of_an_abandoned_socket(ghosts: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A `register` of a given-up socket that the server handles late binds the entry to the dead: the echo sees it."""

    @scenario(faster=10)
    async def binds(world: World) -> None:
        manager = await started(world, timing=Timing(register=3.0))
        world.server.hold_registers(1)
        world.cut()
        await world.until(lambda: world.server.held_registers == 1)
        await back(world, manager, epoch=3)
        if isinstance(world, FakeWorld):
            world.server.release_registers(ghosts=ghosts)
        else:
            world.server.release_registers()
        with trio.fail_after(10):
            await world.until(lambda: manager.state.evictions == 1)
        await assert_right(world, manager)

    binds("fake", caplog)
    if not ghosts:  # a ghost over real sockets takes a Close frame: test_f31
        binds("real", caplog)


async def evict_with_a_refused_register(world: World, manager: Manager) -> None:
    async with world.connect() as stranger:
        await stranger.send({"type": "register", "peer_id": name_of(manager)})
        await stranger.receive("error")
    await world.until(lambda: world.record(manager) == {})


@scenario(faster=10)
async def test_f04_refused_register_of_a_stranger(world: World) -> None:
    """A stranger's refused `register` under our peer id, and its end, evicts the worker for seconds only."""
    manager = await started(world)
    await evict_with_a_refused_register(world, manager)
    await assert_right(world, manager)
    assert manager.state.evictions == 1


@scenario(only="fake")  # an hour
async def test_f04_evicted_again_and_again(world: World) -> None:
    """Somebody who evicts us every 20 s for an hour gets ever slower registrations, one alarm, and is outlived."""
    manager = await started(world)
    end = trio.current_time() + hour(1)
    while trio.current_time() < end:
        if world.record(manager):
            await evict_with_a_refused_register(world, manager)
        await trio.sleep(20)

    assert len([frame for frame in world.frames("register") if frame.get("role") == "worker"]) < 80
    assert len(world.logged(logging.ERROR, "forgotten 4 times within an hour")) == 1
    await assert_right(world, manager, within=130)  # the longest pause between two registrations is 2 minutes
    assert manager.state.evictions >= 4


@scenario(faster=10)
async def test_f05_deleted_by_a_stranger(world: World) -> None:
    """Deleted by a stranger, and the room with it, the worker makes a new room and says under which session string."""
    manager = await started(world)
    before = manager.session_string
    assert before is not None
    world.rooms.delete_peer({"peer_id": name_of(manager)}, world.now())
    assert not world.rooms.rooms

    await world.until(lambda: manager.session_string not in (None, before))
    await assert_right(world, manager)
    assert world.logged(logging.WARNING, "room not found", "new one")
    assert manager.session_string is not None
    assert SessionString.parse(manager.session_string).peer_id == SessionString.parse(before).peer_id


@scenario(only="fake")  # minutes
async def test_f05_deleted_by_a_stranger_in_a_given_room(world: World) -> None:
    """When a room that was given to the worker is deleted, it says so once, retries slowly, and outlives that."""
    host = await world.start()
    room = world.rooms.rooms[host.state.room_id or ""]
    manager = await started(world, room_id=room.room_id, room_token=room.token)
    await world.stop(host)
    world.rooms.delete_peer({"peer_id": name_of(manager)}, world.now())
    await trio.sleep(hour(0.5))

    assert len(world.logged(logging.ERROR, "registration refused: room not found")) == 1
    assert len(world.sent("register")) < 2 + 1 + 90
    world.rooms._registry.rows[room.room_id] = room
    await assert_right(world, manager, within=45)  # it asks every 20 to 40 s
    assert manager.state.room_id == room.room_id


@scenario(faster=10)
async def test_f06_somebody_else_registers_as_us(world: World) -> None:
    """When a member of the room registers as us, the echo goes to him, and the worker takes its place back."""
    manager = await started(world, timing=Timing(answer=5.0))
    async with world.client(manager) as impostor:
        await register_as(world, impostor, manager)
        assert world.record(manager)["tags"] == ["fake"]
        await assert_right(world, manager)
        assert manager.state.evictions == 1


async def register_as(world: World, impostor: Client, manager: Manager) -> None:
    room = world.rooms.rooms[manager.state.room_id or ""]
    signed_in = world.rooms.sign_in(world.now()).body
    assert isinstance(signed_in, dict)
    await impostor.send(
        {
            "type": "register",
            "peer_id": name_of(manager),
            "room_id": room.room_id,
            "token": room.token,
            "id_token": signed_in["id_token"],
            "role": "client",
            "metadata": {"tags": ["fake"], "properties": {}},
        }
    )
    await impostor.receive("registered_auth")


@scenario(only="fake")  # an hour
async def test_f06_an_obstinate_impostor(world: World) -> None:
    """Against an impostor who registers every 10 s for an hour the worker's rate is bounded, and its alarm is one."""
    manager = await started(world)
    async with world.client(manager) as impostor:
        end = trio.current_time() + hour(1)
        while trio.current_time() < end:
            await register_as(world, impostor, manager)
            await trio.sleep(10)

    assert len([frame for frame in world.frames("register") if frame["role"] == "worker"]) < 80
    assert len(world.logged(logging.ERROR, "somebody else may be using this worker's identity")) == 1
    await assert_right(world, manager, within=130)  # the longest pause between two registrations is 2 minutes


async def forge(world: World, manager: Manager, metadata: Frame) -> None:
    async with world.client(manager) as stranger:
        await stranger.send({"type": "update_metadata", "peer_id": name_of(manager), "metadata": metadata})
        await stranger.receive("metadata_updated", "error")


@pytest.mark.parametrize("after", [1.0, 7.0, 30.0, 200.0])
def test_f07_forged_record(after: float, caplog: pytest.LogCaptureFixture) -> None:
    """A record that somebody else has changed is found by a look, said, and repaired."""

    @scenario(only="fake")  # the looks are half a minute apart
    async def forged(world: World) -> None:
        manager = await started(world)
        await trio.sleep(after)
        await forge(world, manager, {"tags": list(TAGS), "properties": {"status": "available", "gpu_memory_mb": 1}})
        await assert_right(world, manager, BOUND)
        await world.until(lambda: world.record(manager)["properties"]["gpu_memory_mb"] == 24576)
        assert world.logged(logging.WARNING, "somebody has changed this worker's record", "gpu_memory_mb")

    forged("fake", caplog)


@scenario
async def test_f08_every_update_has_the_tags(world: World) -> None:
    """No update of ours erases the tags, for every one carries them."""
    manager = await started(world)
    for change in (manager.set_available, manager.set_maintenance, manager.set_available):
        change()
        await manager.synced()
        assert set(world.record(manager)["tags"]) == set(TAGS)
    await assert_right(world, manager)
    assert all(set(frame["metadata"]["tags"]) == set(TAGS) for frame in world.sent("update_metadata"))


@scenario(only="fake")  # the looks are half a minute apart
async def test_f08_tags_erased_by_a_stranger(world: World) -> None:
    """Tags that a stranger's update has erased are there again after the next look; our looks never erase any."""
    manager = await started(world)
    await trio.sleep(90)
    await forge(world, manager, {"properties": {}})
    assert "tags" not in world.record(manager)
    await assert_right(world, manager, BOUND)
    await stays(lambda: set(world.record(manager)["tags"]) == set(TAGS), 120)


@scenario
async def test_f09_nothing_old_stays_in_the_record(world: World) -> None:
    """Both job ids are cleared by explicit nulls, in updates as in registrations."""
    manager = await world.start()
    manager.set_reserved("job-1")
    await manager.synced()
    manager.set_busy("job-1")
    await manager.synced()
    assert world.shown(manager) == ("busy", "job-1", None)
    manager.set_available()
    await manager.synced()
    assert world.shown(manager) == ("available", None, None)
    for frame in world.sent("update_metadata") + world.frames("register")[:1]:
        assert {"status", "current_job_id", "pending_job_id"} <= set(frame["metadata"]["properties"])
    await assert_right(world, manager)


@scenario(only="fake")  # hours
async def test_f10_room_runs_out(world: World) -> None:
    """Before its room expires an idle worker moves to a new one, and whoever watches gets the new session string."""
    manager = await world.start()
    await manager.synced()
    seen: set[str | None] = set()

    async def watch() -> None:
        async for state in manager.states:
            seen.add(state.session_string)

    world.nursery.start_soon(watch)
    for _ in range(5):
        await trio.sleep(hour(1) - 40)
        await assert_right(world, manager)
    assert len(seen - {None}) == 3


@scenario(only="fake")  # hours
async def test_f10_room_runs_out_while_busy(world: World) -> None:
    """A busy worker keeps even an expired room until it is idle, and then moves at once."""
    manager = await world.start()
    before = manager.session_string
    await trio.sleep(hour(1.7))
    manager.set_busy("job-1")
    await trio.sleep(hour(1))
    assert manager.session_string == before
    manager.set_available()
    await assert_right(world, manager)
    assert manager.session_string != before


@scenario(faster=10, room_life=4.0)
async def test_f10_room_ran_out_early(world: World) -> None:
    """A room that has expired sooner than expected is found out at the next registration, and replaced."""
    manager = await world.start()
    before = manager.session_string
    await trio.sleep(7.0)
    if isinstance(world, RealWorld):
        clock = world.server.clock
        world.server.clock = lambda: clock() + 7.0  # its clock is not ours, and not as fast
    world.cut()
    await world.until(lambda: manager.session_string != before)
    await assert_right(world, manager)
    assert world.logged(logging.WARNING, "room expired", "new one")


@scenario
async def test_f11_room_deleted_while_others_reconnect(world: World) -> None:
    """When the last connected peer takes the room along, its creator makes a new one, and a guest says why not."""
    creator = await started(world)
    room = world.rooms.rooms[creator.state.room_id or ""]
    guest = await started(world, room_id=room.room_id, room_token=room.token)
    before = creator.session_string
    async with world.client(creator) as last:
        world.refuse()
        for manager in (creator, guest):
            world.server.cut(name_of(manager))
        await world.until(lambda: set(world.rooms.peers(room.room_id)) == {last.peer_id})
        world.rooms.delete_peer({"peer_id": last.peer_id}, world.now())
        assert not world.rooms.rooms
    world.come_back()

    await world.until(lambda: creator.session_string != before)
    await assert_right(world, creator)
    await world.until(lambda: world.logged(logging.ERROR, "registration refused: room not found"))
    await world.until(lambda: guest.state.trouble == "room not found")
    assert guest.status == "busy"


@scenario
async def test_f12_server_restarts(world: World) -> None:
    """After a restart of the server the first frame is a `register`, and no update comes before its answer."""
    manager = await started(world)
    before = len(world.frames("register", "update_metadata", "peer_message"))
    world.server.hold_registers(1)
    world.server.restart()
    await world.until(lambda: world.server.held_registers == 1)
    manager.set_busy("job-2")
    await trio.sleep(0.2)

    assert [frame["type"] for frame in world.frames("register", "update_metadata", "peer_message")[before:]] == [
        "register"
    ]
    world.server.release_registers()
    await manager.synced()
    await assert_right(world, manager)


@scenario(only="fake")  # minutes; over real sockets test_f13_dead_backend
async def test_f13_proxy_in_front_of_a_dead_backend(world: World) -> None:
    """A proxy that answers pings for a dead backend does not keep the worker on that link: the echo decides."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    await trio.sleep(100)
    world.server.deafen(name_of(manager))
    await assert_right(world, manager, within=150)  # 30 to the next echo, 2 x 12 without one, 60 for the `register`
    assert manager.state.epoch == 2
    assert world.logged(logging.WARNING, "connection lost: register not answered")


@scenario(faster=10)
async def test_f13_dead_backend(world: World) -> None:
    """A server that answers nothing but pings is left, again and again, until it answers."""
    manager = await started(world, timing=Timing(answer=2.0, register=2.0))
    if isinstance(world, FakeWorld):
        world.server.answers_pings = True
    world.mute()
    await world.until(lambda: manager.state.epoch >= 3)
    world.unmute()
    await assert_right(world, manager, within=90)  # what was asked before is never answered


@scenario
async def test_f14_one_owner_of_the_status(world: World) -> None:
    """A worker that was reset while reserved registers with what is true then, whatever was under way."""
    manager = await world.start()
    manager.set_reserved("job-1")
    await manager.synced()
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers == 1)
    manager.set_available()
    world.server.release_registers()
    await manager.synced()
    await assert_right(world, manager)
    world.cut()
    await back(world, manager)
    assert world.shown(manager) == ("available", None, None)


@scenario
async def test_f15_client_never_comes(world: World) -> None:
    """A reservation whose client has vanished ends by itself after its limit, and the log says so."""
    manager = await world.start(reservation_limit=0.3)
    manager.set_reserved("job-1")
    since = manager.state.status_since
    assert 0 <= trio.current_time() - since < 0.3
    await manager.synced()
    await world.until(lambda: manager.status == "available")
    assert manager.state.status_since - since >= 0.3
    await assert_right(world, manager)
    assert world.logged(logging.WARNING, "reserved for 0.3 s")


@scenario(only="fake")  # exact times
async def test_f15_only_the_reservation_itself_ends(world: World) -> None:
    """A new reservation has the whole limit again, a job that has begun has none, and without a limit none ends."""
    manager = await world.start(reservation_limit=30.0)
    without = await world.start()
    without.set_reserved("job-0")
    manager.set_reserved("job-1")
    await trio.sleep(29)
    manager.set_reserved("job-2")
    await stays(lambda: manager.job_id == "job-2", 29)
    await trio.sleep(2)
    assert manager.status == "available"
    manager.set_reserved("job-3")
    await trio.sleep(29)
    manager.set_busy("job-3")
    await stays(lambda: manager.status == "busy", 100)
    assert without.status == "reserved"
    assert trio.current_time() - without.state.status_since > 100
