"""What holds beside the catalogue's lines: stopped clocks, a shared identity, obstinate servers and strangers."""

import json
import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fake import FakeSocket
from tests.support.right import BOUND, assert_right, name_of, stays
from tests.support.worlds import FakeWorld, World, scenario
from worker_state import Manager, WorkerStatus
from worker_state.protocol.probe import TICK

HOUR = 3600.0


@pytest.mark.parametrize("seconds", [10.0, 600.0, 3 * HOUR, 3 * 24 * HOUR])
def test_suspended(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that was suspended, and forgotten meanwhile, notices that at once on waking, and is right in seconds."""

    @scenario(only="fake")  # a clock that stands still
    async def suspended(world: World) -> None:
        assert isinstance(world, FakeWorld)
        manager = await world.start()
        await manager.synced()
        for moment in range(5):
            await trio.sleep(100 + 7 * moment)
            world.suspend(seconds)
            world.rooms.forget_peers()
            await assert_right(world, manager, within=TICK + 5.0)
        assert len(world.logged(logging.INFO, "stood still")) == 5

    suspended("fake", caplog)


@scenario(only="fake")  # a clock that stands still
async def test_suspended_with_a_link_that_died(world: World) -> None:
    """A link that has died during the suspend is found out by the answers or the pong that are missing."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await trio.sleep(100)
    world.server.freeze(name_of(manager))
    world.suspend(600)
    await assert_right(world, manager, BOUND)
    assert manager.state.epoch == 2


@scenario(only="fake")  # a clock that stands still
async def test_suspended_while_a_room_is_missing(world: World) -> None:
    """A worker that wakes with no room and an ID token that is over renews both."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    for _ in range(2):
        world.fail_http("/create-room", 503, b"busy")
    world.rooms.delete_peer({"peer_id": name_of(manager)}, world.now())
    await world.until(lambda: not world.server.http_answers["/create-room"])
    world.suspend(2 * HOUR)
    await assert_right(world, manager, within=120)  # the pause after a third failed request is 20 to 40 s


@pytest.mark.parametrize("seconds", [3.0, 30.0, 300.0])
def test_stopped(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """A process that stood still blames nobody: deadlines that ran out meanwhile cost no link and no registration."""

    @scenario(only="fake")  # a clock that jumps
    async def stopped(world: World) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        manager = await world.start()
        await manager.synced()
        for moment in range(20):
            await trio.sleep(4.7 + moment)
            manager.set_busy(f"job-{moment}")
            await trio.lowlevel.checkpoint()
            clock.jump(seconds)
            await assert_right(world, manager, within=TICK)
        assert manager.state.epoch == 1
        assert manager.state.evictions == 0

    stopped("fake", caplog)


async def twins(world: World) -> tuple[Manager, Manager]:
    """Two workers with one identity, as a cloned machine makes them, in the room of a third."""
    host = await world.start()
    room = world.rooms.rooms[host.state.room_id or ""]
    identity = json.dumps(world.rooms.sign_in(world.now()).body).encode()
    both = []
    for _ in range(2):
        world.fail_http("/anonymous-signin", 200, identity, "application/json")
        both.append(await world.start(room_id=room.room_id, room_token=room.token))
    assert name_of(both[0]) == name_of(both[1])
    return both[0], both[1]


@scenario(only="fake")  # an hour
async def test_two_workers_with_one_identity(world: World) -> None:
    """Two workers with one identity say so, slow down, take turns at being found, and keep their own status."""
    first, second = await twins(world)
    first.set_busy("job-1")
    second.set_reserved("job-2")
    before = len(world.sent("register"))
    proved: list[set[Manager]] = []
    for _ in range(12):
        began = trio.current_time()
        await trio.sleep(HOUR / 12)
        proved.append({each for each in (first, second) if (each.state.proved_at or 0) > began})

    assert len(world.sent("register")) - before < 2 * 50
    assert world.logged(logging.ERROR, "somebody else may be using this worker's identity")
    assert all(turn == {first, second} for turn in proved)
    assert (first.status, first.job_id) == (WorkerStatus.BUSY, "job-1")
    assert (second.status, second.job_id) == (WorkerStatus.RESERVED, "job-2")


@scenario(only="fake")  # minutes
async def test_one_of_two_with_one_identity_stays(world: World) -> None:
    """When one of two workers with one identity goes, the other is found again, for good."""
    first, second = await twins(world)
    await trio.sleep(10 * 60)
    await world.stop(first)
    await assert_right(world, second, within=160)  # 30 s to an echo, and the longest pause is 2 minutes
    evictions = second.state.evictions
    await stays(lambda: second.state.registered and second.state.evictions == evictions, 600)


@scenario(only="fake")  # minutes
async def test_server_without_messages_to_oneself(world: World) -> None:
    """If the server refuses messages to oneself, its answers to full updates pass for proof, and that is said once."""
    assert isinstance(world, FakeWorld)

    def refuse(socket: FakeSocket, frame: dict[str, Any]) -> dict[str, Any] | None:
        if frame["type"] == "peer_message" and frame["from_peer_id"] == frame["to_peer_id"]:
            return {"type": "error", "code": "INVALID_TARGET", "message": "a peer cannot message itself"}
        return None

    world.server.answer_instead = refuse
    manager = await world.start()
    manager.set_busy("job-1")
    with trio.fail_after(60):
        await manager.synced()
    assert manager.state.epoch == 1
    echoes = len(world.sent("peer_message"))
    assert echoes <= 3
    await stays(lambda: manager.state.registered, HOUR, every=60)
    assert trio.current_time() - (manager.state.proved_at or 0) < 60
    assert len(world.logged(logging.WARNING, "refuses messages to oneself")) == 1
    assert len(world.sent("register")) == 1
    assert len(world.sent("peer_message")) <= echoes + HOUR / 100  # one in two minutes is tried
    world.rooms.forget_peers()
    await assert_right(world, manager)


@scenario(only="fake")  # an hour
async def test_record_rewritten_again_and_again(world: World) -> None:
    """A record that somebody rewrites every second for an hour is repaired at a bounded rate, and that is said once."""
    manager = await world.start()
    manager.set_busy("job-1")
    await manager.synced()
    ours = 0
    async with world.client(manager) as stranger:
        for number in range(3600):
            forged = {"tags": ["fake"], "properties": {"status": "available", "hostname": f"{number}"}}
            await stranger.send({"type": "update_metadata", "peer_id": name_of(manager), "metadata": forged})
            await stranger.receive("metadata_updated")
            await trio.sleep(1)
        ours = len(world.frames("update_metadata")) - 3600
    assert 30 < ours < 400
    assert len(world.logged(logging.WARNING, "this worker's record")) == 1
    assert len(world.sent("register")) == 1
    await assert_right(world, manager, within=45)  # 30 s to a look, and the longest pause before a repair is 10 s


@scenario(only="fake")  # an hour
async def test_server_that_does_not_keep_what_it_is_told(world: World) -> None:
    """A server that stores something else than it is told is not written to in a loop, and that is said once."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    rules = world.rooms

    def distort(socket: FakeSocket, frame: dict[str, Any]) -> dict[str, Any] | None:
        if frame["type"] != "update_metadata":
            return None
        metadata = {**frame["metadata"], "properties": {**rules.peer(name_of(manager)).metadata["properties"]}}  # type: ignore[union-attr]
        metadata["properties"]["gpu_model"] = "?"
        return {"type": "metadata_updated", "peer_id": name_of(manager), "metadata": metadata}

    world.server.answer_instead = distort
    await trio.sleep(HOUR)
    assert len(world.sent("update_metadata")) < 400
    assert len(world.logged(logging.WARNING, "this worker's record")) == 1
    assert len(world.sent("register")) == 1


def test_nonces_are_unlike(caplog: pytest.LogCaptureFixture) -> None:
    """No two echoes carry the same nonce, so an old one proves nothing."""

    @scenario(only="fake")  # minutes
    async def runs(world: World) -> None:
        await world.start()
        await trio.sleep(600)
        nonces = [json.dumps(frame["payload"]) for frame in world.sent("peer_message")]
        assert len(nonces) > 20
        assert len(set(nonces)) == len(nonces)

    runs("fake", caplog)
