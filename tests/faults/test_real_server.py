"""Part G of the catalogue, on the real server: each test is named after its line, and failed before it was mended."""

import json
import logging
from typing import Any

import pytest
import trio

from tests.support.worlds import World, scenario
from worker_state import Manager, Timing
from worker_state.devserver.identities import ApiKey

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


def given_room(world: World) -> dict[str, Any]:
    """Somebody creates a room, and gives it to workers: their `room_id` and `room_token`."""
    signed_in: Any = world.rooms.sign_in(world.now()).body
    room: Any = world.rooms.create_room(f"Bearer {signed_in['id_token']}", world.now()).body
    world.rooms.delete_peer({"peer_id": signed_in["username"]}, world.now())
    return {"room_id": room["room_id"], "room_token": room["token"]}


@pytest.mark.parametrize("generation", ["v2", "v3"])
def test_g01_twenty_workers_in_a_given_room(generation: str, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty workers in one given room are stopped and started again: 20 of 20 come back, and leave no identity."""

    @scenario(generation=generation)
    async def stop_and_start(world: World) -> None:
        room = given_room(world)
        for _ in range(2):
            managers = [await world.start(**room) for _ in range(20)]
            async with trio.open_nursery() as nursery:
                for manager in managers:
                    nursery.start_soon(world.stop, manager)
            assert room["room_id"] in world.rooms.rooms
            assert not world.rooms.users

    stop_and_start("fake", caplog)
    stop_and_start("real", caplog)


@scenario(generation="v3", api_keys={"slp_lab": ApiKey("0badcafe")})
async def test_g01_the_room_of_an_api_key(world: World) -> None:
    """A worker with an API key leaves the key's room standing, and one with the same key is let in after it."""
    for _ in range(2):
        await world.stop(await world.start(api_key="slp_lab"))
    assert "0badcafe" in world.rooms.rooms


@scenario
async def test_g01_a_room_of_our_own_goes(world: World) -> None:
    """A worker that has created its room deletes it with itself."""
    await world.stop(await world.start())
    assert not world.rooms.rooms
    assert not world.rooms.users


@scenario
async def test_g01_a_given_room_is_deleted_when_asked_for(world: World) -> None:
    """`delete_given_room=True` deletes a given room, as the worker's own."""
    await world.stop(await world.start(**given_room(world), delete_given_room=True))
    assert not world.rooms.rooms
    assert not world.rooms.users


@scenario
async def test_g01_the_server_does_not_know_that_the_link_is_gone(world: World) -> None:
    """While the server may still list the worker, its identity is left: the deletion would take the room along."""
    room = given_room(world)
    manager = await world.start(**room)
    await manager.synced()
    world.server.half_open(manager.state.peer_id or "")
    world.refuse()
    await world.until(lambda: not manager.state.connected)
    await world.stop(manager)
    assert room["room_id"] in world.rooms.rooms
    assert list(world.rooms.users) == [manager.state.peer_id]
    assert world.logged(logging.ERROR, "1 of its identities may be left", "somebody else's room")


@scenario(only="fake")  # a minute
async def test_g01_the_server_knows_by_now_that_the_link_is_gone(world: World) -> None:
    """A minute after its link was lost the worker's identity is deleted, and the room stays."""
    room = given_room(world)
    manager = await world.start(**room)
    await manager.synced()
    world.go_down()
    await trio.sleep(61)
    await world.stop(manager)
    assert room["room_id"] in world.rooms.rooms
    assert not world.rooms.users


@scenario
async def test_g01_leaving_a_given_room_while_a_register_is_unanswered(world: World) -> None:
    """The answer to a `register` is waited for, so that the socket can be closed before the deletion (F31)."""
    room = given_room(world)
    manager = await world.start(**room)
    await manager.synced()
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.stop, manager)
        await trio.sleep(0.1)
        world.server.release_registers()
    assert room["room_id"] in world.rooms.rooms
    assert not world.rooms.users


@scenario(token_life=60.0, faster=20)
async def test_g09_superseded_identities(world: World) -> None:
    """A worker whose ID token is renewed again and again owes the server two identities at most, and none at the end."""
    manager = await world.start()
    peer_id, most = manager.state.peer_id, 0
    while len(world.logged(logging.INFO, "the ID token was renewed")) < 5:
        await trio.sleep(1)
        most = max(most, len(world.rooms.users))
        assert peer_id in world.rooms.users
    assert most == 2
    manager.reregister()
    await manager.synced()
    assert manager.state.peer_id == peer_id
    await world.stop(manager)
    assert not world.rooms.users


@scenario(only="fake", token_life=600.0)  # hours
async def test_g09_a_deletion_that_fails(world: World) -> None:
    """A superseded identity that could not be deleted is tried again with the next one, and at the exit."""
    manager = await world.start()
    for _ in range(3):
        world.fail_http("/delete-peer", 500, b"no")
    await trio.sleep(1100)
    assert len(world.rooms.users) == 3
    await trio.sleep(500)
    assert len(world.rooms.users) == 2
    await world.stop(manager)
    assert not world.rooms.users


@scenario
async def test_g08_what_a_deletion_has_shown(world: World) -> None:
    """After a deletion the log says what the server has answered, and no more: its 200 proves nothing (F34)."""
    manager = await world.start()
    world.fail_http("/delete-peer", 200, b'{"status": "as you like"}', "application/json")
    await world.stop(manager)
    assert world.logged(logging.INFO, "asked to delete an identity, the server answers: as you like")
    assert not world.logged(logging.INFO, "identity deleted")


@scenario
async def test_g39_what_could_not_be_deleted(world: World) -> None:
    """What is left on the server is one line at level ERROR at the exit."""
    manager = await world.start(timing=Timing(exit=1.5))
    for _ in range(3):
        world.fail_http("/delete-peer", 500, b"no")
    await world.stop(manager)
    assert len(world.logged(logging.ERROR, "1 of its identities may be left on the server")) == 1
