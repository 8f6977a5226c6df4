"""Part G of the catalogue, on the real server: each test is named after its line, and failed before it was mended."""

import json
import logging
import socket
from typing import Any

import pytest
import trio

from tests.support.fake import FakeSocket
from tests.support.right import name_of
from tests.support.worlds import FakeWorld, World, given_room, scenario
from worker_state import (
    Config,
    Manager,
    RegistrationRefused,
    ServerUnreachable,
    SignInFailed,
    StartupFailed,
    Timing,
    open_state_manager,
)
from worker_state.devserver.identities import ApiKey
from worker_state.logs import About
from worker_state.protocol.http_api import HttpFailure

HOUR = 3600.0
UNHURRIED = Timing(exit=10.0, close=5.0)
"""For what has to be done to its end, on a machine however busy."""


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
    assert not world.logged(logging.ERROR, "registration refused")
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


@pytest.mark.parametrize("generation", ["v2", "v3"])
def test_g01_twenty_workers_in_a_given_room(generation: str, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty workers in one given room are stopped and started again: 20 of 20 come back, and leave no identity."""

    @scenario(generation=generation)
    async def stop_and_start(world: World) -> None:
        room = given_room(world.rooms, world.now())
        for _ in range(2):
            managers = [await world.start(**room, timing=UNHURRIED) for _ in range(20)]
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
        await world.stop(await world.start(api_key="slp_lab", timing=UNHURRIED))
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
    await world.stop(await world.start(**given_room(world.rooms, world.now()), delete_given_room=True))
    assert not world.rooms.rooms
    assert not world.rooms.users


@scenario
async def test_g01_the_server_does_not_know_that_the_link_is_gone(world: World) -> None:
    """While the server may still list the worker, its identity is left: the deletion would take the room along."""
    room = given_room(world.rooms, world.now())
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
    room = given_room(world.rooms, world.now())
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
    room = given_room(world.rooms, world.now())
    manager = await world.start(**room, timing=UNHURRIED)
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


@scenario(only="fake", token_life=600.0)  # minutes
async def test_g01_a_link_that_cannot_be_closed(world: World) -> None:
    """Whatever the link does, the identities that are listed nowhere go; that of the peer id is left."""
    room = given_room(world.rooms, world.now())
    manager = await world.start(**room)
    await trio.sleep(550)
    assert len(world.rooms.users) == 2
    world.server.freeze(manager.state.peer_id or "")
    await manager.send_signal({"type": "offer"})
    await world.stop(manager)
    assert room["room_id"] in world.rooms.rooms
    assert list(world.rooms.users) == [manager.state.peer_id]


@scenario(token_life=60.0, faster=40)
async def test_g09_superseded_identities(world: World) -> None:
    """A worker whose ID token is renewed again and again owes the server two identities at most, none at the end."""
    manager = await world.start()
    peer_id = manager.state.peer_id
    for times in range(1, 4):
        await world.until(lambda times=times: len(world.logged(logging.INFO, "token was renewed")) == times)  # type: ignore[misc]
        await world.until(lambda: len(world.rooms.users) == 2)
        assert peer_id in world.rooms.users
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


@scenario(faster=10)
async def test_g05_a_server_that_swallows_frames(world: World) -> None:
    """A server that takes every frame for 6 s and answers none has the worker registered again within 20 s."""
    manager = await world.start()
    await manager.synced()
    world.mute()
    manager.reregister()
    manager.set_busy("job-1")
    await world.until(lambda: len(world.sent("register")) == 2)
    await trio.sleep(6)
    world.unmute()
    world.rooms.forget_peers()
    with trio.fail_after(14):
        await manager.synced()
    assert world.shown(manager) == ("busy", "job-1", None)
    assert manager.state.epoch == 1


def swallow(world: FakeWorld, times: int) -> None:
    """The server takes the next `times` registers and never answers them, and answers all else."""
    left = times

    def answer(socket: FakeSocket, frame: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal left
        if frame["type"] != "register" or not left:
            return None
        left -= 1
        return {}

    world.server.answer_instead = answer


async def lived(world: World) -> Manager:
    """A worker whose link has lived for a minute."""
    manager = await world.start()
    await manager.synced()
    await trio.sleep(60)
    return manager


@scenario(only="fake")  # needs a server that swallows that one frame
async def test_g05_the_first_register_is_swallowed(world: World) -> None:
    """The first `register` of a link, which a busy server may take minutes to answer, is noticed as swallowed, too."""
    assert isinstance(world, FakeWorld)
    manager = await lived(world)
    swallow(world, 1)
    world.server.restart()
    await world.until(lambda: not manager.state.connected)
    with trio.fail_after(20):
        await manager.synced()
    assert world.logged(logging.WARNING, "swallowed a register")


@scenario(only="fake")  # the same
async def test_g05_the_first_register_is_swallowed_while_somebody_has_the_peer_id(world: World) -> None:
    """The echo goes to our own dead connection, or to a stranger: the answer to a look says it as soon."""
    assert isinstance(world, FakeWorld)
    manager = await lived(world)
    swallow(world, 1)
    world.server.half_open(name_of(manager))
    await world.until(lambda: manager.state.epoch == 2)
    with trio.fail_after(8):
        await manager.synced()
    assert world.record(manager)


async def with_a_held_register(world: FakeWorld) -> Manager:
    """A worker that has come back to a server which is busy with its `register`."""
    manager = await lived(world)
    world.server.hold_registers(1)
    world.server.disconnect_all(1012)
    await world.until(lambda: world.server.held_registers)
    return manager


@scenario(only="fake")  # the same
async def test_g05_a_look_that_is_answered_behind_its_register(world: World) -> None:
    """The answer to a look that comes behind the acceptance is known by its content: nothing is repaired or ignored."""
    assert isinstance(world, FakeWorld)
    manager = await with_a_held_register(world)
    looked = len(world.sent("update_metadata"))
    await world.until(lambda: len(world.sent("update_metadata")) > looked)
    manager.set_busy("job-1")
    world.server.release_registers()
    await manager.synced()
    await trio.sleep(10)
    assert world.shown(manager) == ("busy", "job-1", None)
    assert manager.state.frames_ignored == 0
    assert not world.logged(logging.WARNING, "record")


@scenario(only="fake")  # the same
async def test_g05_two_registers_are_swallowed(world: World) -> None:
    """A link that swallows a second `register` is given up for another."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    swallow(world, 2)
    manager.reregister()
    with trio.fail_after(20):
        await world.until(lambda: manager.state.epoch == 2 and manager.state.registered)


@scenario(only="fake")  # minutes
async def test_g05_a_busy_server_keeps_the_patience(world: World) -> None:
    """A server that is busy with the `register`, and answers nothing behind it, is waited for, and hardly pressed."""
    assert isinstance(world, FakeWorld)
    manager = await with_a_held_register(world)
    frames = len(world.frames())
    await trio.sleep(200)
    assert manager.state.epoch == 2
    assert len(world.frames()) - frames <= 6
    world.server.release_registers()
    await manager.synced()
    assert len(world.sent("register")) == 2
    assert not manager.state.frames_ignored


@pytest.mark.parametrize("way", ["anonymous", "given room", "api key"])
@pytest.mark.parametrize("kind", ["nobody listens", "front closes"])
def test_g06_a_start_without_a_server(way: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A start that cannot reach the server fails at once in words with the cause, however the worker comes in."""

    @scenario(generation="v3", api_keys={"slp_lab": ApiKey("0badcafe")})
    async def starts(world: World) -> None:
        room = given_room(world.rooms, world.now())
        changes = {"anonymous": {}, "given room": room, "api key": {"api_key": "slp_lab"}}[way]
        world.refuse()
        with trio.fail_after(5), pytest.raises(StartupFailed, match=r"no connection to wss?://.*: "):
            await world.start(**changes)
        assert not world.rooms.users

    starts("fake" if kind == "nobody listens" else "real", caplog)


@pytest.mark.parametrize("way", ["anonymous", "api key"])
async def test_g06_nobody_listens(way: str, nursery: trio.Nursery) -> None:
    """On real sockets the error names what the operating system has said: connection refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = Config(
        f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}", api_key="slp_lab" if way == "api key" else None
    )
    kind = ServerUnreachable if way == "api key" else SignInFailed
    with trio.fail_after(5), pytest.raises(kind, match="connection refused"):
        async with open_state_manager(config):
            raise AssertionError("it has started")


@pytest.mark.parametrize("way", ["anonymous", "given room", "api key"])
def test_g06_a_start_that_waits(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """With `wait_for_server` the start waits, and the worker is there within seconds of the server's return."""

    @scenario(only="fake", generation="v3", api_keys={"slp_lab": ApiKey("0badcafe")})  # minutes
    async def waits(world: World) -> None:
        assert isinstance(world, FakeWorld)
        room = given_room(world.rooms, world.now())
        changes = {"anonymous": {}, "given room": room, "api key": {"api_key": "slp_lab"}}[way]
        world.refuse()
        for _ in range(5):
            world.server.http_answers.setdefault("/anonymous-signin", []).append(HttpFailure("connection refused"))

        async def come_back() -> None:
            await trio.sleep(60)
            world.come_back()

        world.nursery.start_soon(come_back)
        with trio.fail_after(60 + 25):
            manager = await world.start(**changes, wait_for_server=True)
        await manager.synced()

    waits("fake", caplog)


@scenario
async def test_g06_a_refusal_is_no_reason_to_wait(world: World) -> None:
    """A server that is there and refuses the worker fails the start also with `wait_for_server`."""
    with trio.fail_after(5), pytest.raises(RegistrationRefused, match="room not found"):
        await world.start(room_id="nowhere", room_token="x", wait_for_server=True)


@scenario
async def test_g07_a_status_that_could_not_be_sent(world: World) -> None:
    """A status whose update is lost with its link is one line at level ERROR, with the event and the status."""
    manager = await world.start()
    await manager.synced()
    world.mute()
    manager.set_busy("job-1")
    await world.until(lambda: "busy" in str(world.sent("update_metadata")))
    world.unmute()
    world.cut()
    await world.until(lambda: not manager.state.registered)
    await manager.synced()
    (line,) = [record for record in world.log.records if record.levelno == logging.ERROR]
    assert line.getMessage().startswith("status busy cannot be sent")
    assert About.of(line) == About("status_postponed", {"status": "busy"})
    assert world.shown(manager) == ("busy", "job-1", None)


@scenario
async def test_g07_a_registration_that_could_not_be_sent(world: World) -> None:
    """A `register` that is lost with its link is one line at level ERROR, with the event and the status."""
    manager = await world.start()
    await manager.synced()
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers)
    world.cut()
    await world.until(lambda: not manager.state.connected)
    world.server.release_registers()
    await manager.synced()
    (line,) = [record for record in world.log.records if record.levelno == logging.ERROR]
    assert About.of(line) == About("send_failed", {"epoch": 1, "frame": "register", "status": "available"})


@scenario(only="fake")  # seconds between the tries
async def test_g06_a_proxy_whose_backend_is_away(world: World) -> None:
    """With `wait_for_server` what answers in the server's place is waited out, too; else it fails the start."""
    world.fail_http("/anonymous-signin", 404, b"no such page")
    with pytest.raises(SignInFailed, match="HTTP 404"):
        await world.start()
    world.fail_http("/anonymous-signin", 404, b"no such page")
    world.fail_http("/create-room", 403, b"no")
    manager = await world.start(wait_for_server=True)
    await manager.synced()
