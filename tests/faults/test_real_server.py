"""Part G of the catalogue, on the real server: each test is named after its line, and failed before it was mended."""

import trio

from tests.support.worlds import World, scenario

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
