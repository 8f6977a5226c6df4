"""Part G of the catalogue, on the real server: each test is named after its line, and failed before it was mended."""

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
