"""Sign-in, room, registration and the session string: how a worker becomes discoverable, and why it may not."""

import json
import logging
from typing import Any

import pytest
import trio

from tests.support.worlds import CAPABILITIES, World, scenario
from worker_state import RegistrationRefused, RoomCreationFailed, SessionString, SignInFailed, StartupFailed
from worker_state.advertised import TAGS
from worker_state.devserver import ApiKey

REREGISTERED = "Worker re-registered with signaling server"


@scenario
async def test_start(world: World) -> None:
    """A worker signs in, creates a room, registers with everything it has, and is found by a client."""
    manager = await world.start()

    (register,) = world.sent("register")
    assert register["role"] == "worker"
    assert register["peer_id"] == manager.state.peer_id
    assert set(register["metadata"]["tags"]) == set(TAGS)
    wanted = {**CAPABILITIES, "status": "available", "current_job_id": None, "pending_job_id": None}
    assert register["metadata"]["properties"] == wanted
    async with world.client(manager) as client:
        (peer,) = await client.find(status="available", gpu_memory_mb={"$gte": 8192})
    assert peer["peer_id"] == manager.state.peer_id


@scenario
async def test_session_string(world: World) -> None:
    """On acceptance one log line shows the session string, and it names the room, its token and the worker."""
    manager = await world.start()

    assert manager.session_string is not None
    session = SessionString.parse(manager.session_string)
    assert session.peer_id == manager.state.peer_id
    assert world.rooms.rooms[session.room_id].token == session.token
    assert len(world.logged(logging.INFO, manager.session_string)) == 1


@scenario
async def test_session_string_withheld(world: World) -> None:
    """On demand no log line shows the session string."""
    manager = await world.start(show_session_string=False)

    assert manager.session_string is not None
    assert not [line for line in world.log.messages if manager.session_string in line]
    assert world.logged(logging.INFO, "worker registered")


@scenario
async def test_sign_in_fails(world: World) -> None:
    """Without an identity the start fails before it returns, with an error in the log."""
    world.fail_http("/anonymous-signin", 500, b'{"detail": "Anonymous sign-in failed: quota"}', "application/json")

    with pytest.raises(SignInFailed) as caught:
        await world.start()

    assert isinstance(caught.value, StartupFailed)
    assert caught.value.status == 500
    assert caught.value.reason.startswith("HTTP 500")
    assert world.logged(logging.ERROR, "sign-in failed", "HTTP 500", "quota")
    assert not world.sent("register")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>log in to the network</html>", "text/html"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b'{"username": 7, "id_token": []}', "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 60_000, "application/json"),
    ],
)
def test_sign_in_answers_something_else(body: bytes, content_type: str, caplog: pytest.LogCaptureFixture) -> None:
    """A sign-in answer of another shape is a failure like any other."""

    @scenario
    async def signs_in(world: World) -> None:
        world.fail_http("/anonymous-signin", 200, body, content_type)
        with pytest.raises(SignInFailed):
            await world.start()

    signs_in("fake", caplog)
    signs_in("real", caplog)


@scenario
async def test_room_creation_fails(world: World) -> None:
    """Without a room the start fails, with status and text in the log, and the identity is deleted again."""
    world.fail_http("/create-room", 503, b"table is being moved")

    with pytest.raises(RoomCreationFailed, match="503") as caught:
        await world.start()

    assert isinstance(caught.value, StartupFailed)
    assert world.logged(logging.ERROR, "503", "table is being moved")
    assert not world.rooms.users
    assert not world.sent("register")


@scenario
async def test_room_creation_repeats_the_token(world: World) -> None:
    """A server that repeats the ID token in its refusal does not get it into the log."""
    manager = await world.start()
    token = world.sent("register")[0]["id_token"]
    await world.stop(manager)

    assert token not in world.log.text
    assert world.rooms.users == {}


@scenario
async def test_given_room(world: World) -> None:
    """A worker that is given a room creates none and registers in that."""
    first = await world.start()
    assert first.session_string is not None
    session = SessionString.parse(first.session_string)

    second = await world.start(room_id=session.room_id, room_token=session.token)

    assert len(world.rooms.rooms) == 1
    assert second.state.room_id == session.room_id
    assert set(world.rooms.peers(session.room_id)) == {first.state.peer_id, second.state.peer_id}


@scenario
async def test_given_room_does_not_exist(world: World) -> None:
    """A room that does not exist fails the start with its reason, and the identity is deleted again."""
    with pytest.raises(RegistrationRefused, match="room not found"):
        await world.start(room_id="nowhere", room_token="token1")

    assert not world.rooms.users


@scenario
async def test_given_room_with_the_wrong_token(world: World) -> None:
    """A wrong room token fails the start, and the token is in no log."""
    first = await world.start()

    with pytest.raises(RegistrationRefused, match="wrong room token"):
        await world.start(room_id=first.state.room_id, room_token="not-the-token")

    assert "not-the-token" not in world.log.text


@scenario
async def test_reregister(world: World) -> None:
    """Asked to, the worker sends a full `register` with the true status, the stored room and token, and logs it."""
    manager = await world.start()
    first = world.sent("register")[0]
    manager.set_busy("job-1")
    await manager.synced()

    manager.reregister()
    await manager.synced()

    again = world.sent("register")[1]
    assert world.log.messages.count(REREGISTERED) == 1
    assert {key: again[key] for key in ("room_id", "token", "id_token", "role", "peer_id")} == {
        key: first[key] for key in ("room_id", "token", "id_token", "role", "peer_id")
    }
    properties = again["metadata"]["properties"]
    assert properties == {**CAPABILITIES, "status": "busy", "current_job_id": "job-1", "pending_job_id": None}
    assert set(again["metadata"]["tags"]) == set(TAGS)


@scenario
async def test_reregister_without_a_link(world: World) -> None:
    """Asked to register again while there is no link, the worker logs an error and does it on the next one."""
    manager = await world.start()
    world.go_down()
    await world.until(lambda: not manager.state.connected)

    manager.reregister()
    await world.until(lambda: world.logged(logging.ERROR, "register again"))
    assert world.log.messages.count(REREGISTERED) == 0
    world.come_back()
    await manager.synced()

    assert world.log.messages.count(REREGISTERED) == 1
    assert len(world.sent("register")) == 2


@scenario
async def test_reregister_twice_at_once(world: World) -> None:
    """Asked twice before the first answer, the worker ends up registered, and not more often than asked."""
    manager = await world.start()
    await manager.synced()

    manager.reregister()
    manager.reregister()
    await manager.synced()
    await trio.sleep(0.1)

    assert 2 <= len(world.sent("register")) <= 3
    assert manager.state.synced


@scenario
async def test_a_status_change_while_registering(world: World) -> None:
    """A change between `register` and its answer is told after it."""
    manager = await world.start()
    await manager.synced()

    manager.reregister()
    await world.until(lambda: len(world.sent("register")) == 2)
    manager.set_busy("job-9")
    await manager.synced()

    assert world.shown(manager) == ("busy", "job-9", None)


@scenario
async def test_echo(world: World) -> None:
    """After each registration an echo proves that the worker is discoverable; it never reaches the signals."""
    manager = await world.start()
    await manager.synced()

    assert manager.state.discoverable_since is not None
    (echo,) = world.sent("peer_message")
    assert echo["from_peer_id"] == echo["to_peer_id"] == manager.state.peer_id
    with pytest.raises(trio.WouldBlock):
        manager.signals.receive_nowait()


@scenario
async def test_synced_waits_for_the_echo(world: World) -> None:
    """A registration that was accepted is not synced before the echo is back."""
    manager = await world.start()
    await manager.synced()
    world.mute()

    manager.set_busy("job-1")
    with trio.move_on_after(0.2) as scope:
        await manager.synced()

    assert scope.cancelled_caught
    assert not manager.state.synced


@scenario
async def test_forgotten(world: World) -> None:
    """A worker that the server has forgotten registers again as soon as an answer shows it."""
    manager = await world.start()
    await manager.synced()
    world.rooms.forget_peers()

    manager.set_busy("job-1")
    await world.until(lambda: world.shown(manager) == ("busy", "job-1", None))
    await manager.synced()

    assert world.logged(logging.WARNING, "forgotten")
    assert world.log.messages.count(REREGISTERED) == 1


@scenario(generation="v3", api_keys={"slp_lab": ApiKey("0badcafe")})
async def test_what_the_answer_says_of_the_world(world: World) -> None:
    """The ICE servers and the peers of the registration's answer stand in the snapshot, and in no `repr`."""
    first = await world.start(api_key="slp_lab")
    assert not first.state.peer_list
    second = await world.start(api_key="slp_lab")
    assert (second.state.peer_list, second.state.peers) == ((first.state.peer_id,), 1)
    assert not second.state.ice_servers
    answer: dict[str, Any] = {
        "type": "registered_auth",
        "room_id": "0badcafe",
        "token": None,
        "peer_id": second.state.peer_id,
    }
    answer |= {"peer_list": [], "ice_servers": [{"urls": "turn:t.example.org", "credential": "s3cret"}]}
    world.server.hold_registers(1)
    second.reregister()
    await world.until(lambda: world.server.held_registers == 1)
    await world.deliver(second, json.dumps(answer))
    await world.until(lambda: second.state.ice_servers)
    assert list(second.state.ice_servers) == answer["ice_servers"]
    assert "s3cret" not in repr(second.state)


@scenario(only="fake")  # minutes of proofs
async def test_two_workers_with_one_peer_id(world: World) -> None:
    """Who has chosen a peer id that another worker has reads so in the log, once, and in the line of its eviction."""
    room = world.kit.given_room()
    for _ in range(2):
        await world.start(peer_id="worker-1", **room)
    await world.until(lambda: world.logged(logging.WARNING, "and another worker uses this peer id: registering again"))
    lines = world.logged(
        logging.ERROR, "another worker uses this worker's peer id, worker-1, and each evicts the other"
    )
    assert 1 <= len(lines) <= 2


@scenario(only="fake")
async def test_a_restarted_worker_with_its_peer_id(world: World) -> None:
    """A worker that has followed itself under its chosen peer id is no other worker."""
    room = world.kit.given_room()
    for _ in range(3):
        manager = await world.start(peer_id="worker-1", **room)
        await manager.synced()
        await world.stop(manager)
    manager = await world.start(peer_id="worker-1", **room)
    await trio.sleep(300)
    assert manager.state.evictions == 0
    assert not world.logged(logging.ERROR)
