"""Part G of the catalogue, on the real server: each test is named after its line, and failed before it was mended."""

import json
import logging

import pytest
import trio

from tests.support.worlds import World, scenario
from worker_state import Manager

HOUR = 3600.0


@scenario(only="fake", generation="v3")  # three hours
async def test_g02_a_client_gets_in_at_every_minute(world: World) -> None:
    """For three hours on v3.0 a new client enters the worker's room and finds it there, whenever it comes."""
    manager = await world.start()
    first = manager.state.room_id
    for _ in range(180):
        await trio.sleep(60)
        async with world.client(manager) as client:
            assert [each["peer_id"] for each in await client.find(status="available")] == [manager.state.peer_id]
    assert manager.state.room_id != first


@scenario(generation="v3")
async def test_g02_rooms_of_the_development_server(world: World) -> None:
    """A room that a worker creates lives for 2 hours on v3.0, as on the real server."""
    manager = await world.start()
    expires_at = world.rooms.rooms[manager.state.room_id or ""].expires_at
    assert expires_at is not None
    assert 1.9 * HOUR < expires_at - world.now() <= 2 * HOUR


async def forge(world: World, manager: Manager) -> None:
    """A stranger writes into the worker's record."""
    async with world.client(manager) as client:
        forged = {"status": "maintenance", "current_job_id": "forged", "gpu_memory_mb": 1}
        frame = {"type": "update_metadata", "peer_id": manager.state.peer_id, "metadata": {"properties": forged}}
        await client.send(frame)
        await client.receive("metadata_updated")


@pytest.mark.parametrize("again", [False, True], ids=["first registration", "reregister"])
@pytest.mark.parametrize("after", [0.1, 2.5, 6.0, 12.0, 23.0, 38.5, 60.6, 300.0])
def test_g03_a_forged_record(after: float, again: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What a stranger writes is back within 30 s, however soon after a registration it comes."""

    @scenario(only="fake")  # minutes
    async def forged(world: World) -> None:
        manager = await world.start()
        await manager.synced()
        if again:
            await trio.sleep(100)
            manager.reregister()
            await manager.synced()
        await trio.sleep(after)
        true = world.record(manager)
        await forge(world, manager)
        with trio.fail_after(30):
            while world.record(manager)["properties"] != true["properties"] or set(true["tags"]) > set(
                world.record(manager)["tags"]
            ):
                await trio.sleep(0.05)
        await manager.synced()

    forged("fake", caplog)


@scenario(only="real", faster=10)
async def test_g03_a_forged_record_over_sockets(world: World) -> None:
    """The same on real sockets, right after the registration."""
    manager = await world.start()
    await manager.synced()
    await forge(world, manager)
    with trio.fail_after(30):
        while world.shown(manager) != ("available", None, None):
            await trio.sleep(0.5)


REFUSED_WITH_A_CODE = {"type": "error", "code": "PEER_NOT_FOUND", "reason": "peer_not_found"}


@scenario
async def test_g04_an_error_with_a_code(world: World) -> None:
    """While a `register` is unanswered, an error with a code refuses nothing, and reaches the worker's other parts."""
    manager = await world.start()
    await manager.synced()
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers)
    await world.deliver(manager, json.dumps(REFUSED_WITH_A_CODE))
    assert await manager.signals.receive() == REFUSED_WITH_A_CODE
    world.server.release_registers()
    await manager.synced()
    assert len(world.sent("register")) == 2
    assert not world.logged(logging.WARNING, "refuse")
    assert not manager.state.frames_ignored


@scenario
async def test_g04_an_error_of_an_unknown_kind(world: World) -> None:
    """An error without a code that no `register` is known to get may be both: it is obeyed, and handed on."""
    manager = await world.start()
    await manager.synced()
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers)
    await world.deliver(manager, json.dumps({"type": "error", "reason": "quota"}))
    assert await manager.signals.receive() == {"type": "error", "reason": "quota"}
    world.server.release_registers()
    await manager.synced()
    await world.deliver(manager, json.dumps({"error": "quota"}))
    assert await manager.signals.receive() == {"error": "quota"}


@scenario
async def test_g04_not_in_room(world: World) -> None:
    """NOT_IN_ROOM may answer a frame of another part: that is told, and the worker registers again."""
    manager = await world.start()
    await manager.synced()
    world.rooms.forget_peers()
    await manager.send_signal({"type": "discover_peers", "from_peer_id": manager.state.peer_id})
    assert (await manager.signals.receive())["code"] == "NOT_IN_ROOM"


@scenario
async def test_g04_not_in_room_for_an_update_of_ours(world: World) -> None:
    """NOT_IN_ROOM for an update of ours, where no other part has spoken, is no signal."""
    manager = await world.start()
    await manager.synced()
    world.rooms.forget_peers()
    manager.set_maintenance()
    await world.until(lambda: len(world.sent("register")) == 2)
    await manager.synced()
    with pytest.raises(trio.WouldBlock):
        manager.signals.receive_nowait()
