"""Part B of the fault catalogue: registration, HTTP, exit.

Over real sockets trio's clock runs ten times as fast where a test has to wait for seconds.
"""

import json
import logging
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import trio

from tests.support.fake import FakeSocket
from tests.support.right import assert_right, back, name_of, started, stays
from tests.support.worlds import FakeWorld, RealWorld, World, scenario
from worker_state import Config, ConfigError, Disconnected, Manager, RegistrationRefused, Timing
from worker_state.devserver.model import Peer
from worker_state.protocol.error_policy import Closed
from worker_state.protocol.http_api import HttpAnswer
from worker_state.protocol.lease import STALE
from worker_state.protocol.reconnect import ReconnectParameters

MINUTE = 60.0
HOUR = 3600.0


def tokens(world: World) -> list[str]:
    """The ID tokens that workers have registered with, in order."""
    return [frame["id_token"] for frame in world.frames("register") if frame.get("role") == "worker"]


def calls(world: World, path: str) -> list[float]:
    """When workers have asked for this path."""
    assert isinstance(world, FakeWorld)
    return [at for each, _, at in world.server.requests if each == path]


@scenario(only="fake", token_life=600.0)  # minutes
async def test_f16_a_renewal_that_is_asked_to_wait(world: World) -> None:
    """A renewal that is answered with 503 and `Retry-After` is tried again when the server wanted it, not before."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    before = len(calls(world, "/anonymous-signin"))
    world.server.http_answers["/anonymous-signin"] = [HttpAnswer(503, "text/plain", b"busy", retry_after="45")]
    await world.until(lambda: len(calls(world, "/anonymous-signin")) == before + 2)
    asked, again = calls(world, "/anonymous-signin")[-2:]
    assert 45 <= again - asked <= 45 + 3
    await assert_right(world, manager)


@scenario(only="fake", room_life=24 * HOUR)  # hours
async def test_f16_id_token_runs_out(world: World) -> None:
    """The ID token is renewed at four fifths of its life, so that a registration after hours succeeds at once."""
    manager = await started(world)
    await trio.sleep(3 * HOUR + 5 * MINUTE)
    world.cut()
    await back(world, manager)
    assert 3 <= len(calls(world, "/anonymous-signin")) - 1 <= 4
    assert not world.logged(logging.ERROR, "refused")
    assert len(set(tokens(world))) == 2
    await assert_right(world, manager)


@scenario(only="fake", token_life=600.0)  # minutes
async def test_f16_shorter_life(world: World) -> None:
    """A token that lives for ten minutes only is renewed in time too."""
    manager = await started(world)
    await trio.sleep(11 * MINUTE)
    world.cut()
    await back(world, manager)
    assert not world.logged(logging.ERROR, "refused")


@scenario(token_life=0.5)
async def test_f16_id_token_refused(world: World) -> None:
    """An ID token that is refused is replaced at once, and the worker keeps its peer id."""
    manager = await started(world)
    before = manager.session_string
    await trio.sleep(0.6)
    world.cut()
    await world.until(lambda: len(world.rooms.users) == 2)
    await manager.synced()
    assert manager.session_string == before
    assert world.logged(logging.ERROR, "registration refused: the ID token is refused")
    await assert_right(world, manager)


@scenario(only="fake", token_life=600.0)  # minutes
async def test_f16_refused_after_renewal(world: World) -> None:
    """The refusal of a token whose successor has come meanwhile costs one more register, and no sign-in."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    await trio.sleep(470)
    world.server.hold_registers()
    world.cut()
    await world.until(lambda: world.server.held_registers == 1)
    await trio.sleep(45)
    assert len(calls(world, "/anonymous-signin")) == 2
    world.server.sockets[-1].deliver(json.dumps({"error": "Invalid token"}))
    await back(world, manager)
    await trio.sleep(60)
    assert len(calls(world, "/anonymous-signin")) == 2


@scenario(only="fake")  # an hour
async def test_f16_failed_renewal(world: World) -> None:
    """While the renewal of the ID token fails, the one that still works goes on being used."""
    manager = await started(world)
    await trio.sleep(40 * MINUTE)
    for _ in range(50):
        world.fail_http("/anonymous-signin", 500, b"busy")
    await trio.sleep(18 * MINUTE)
    assert world.logged(logging.ERROR, "sign-in failed")
    world.cut()
    await back(world, manager)
    await assert_right(world, manager)
    assert len(set(tokens(world))) == 1


@scenario
async def test_f17_wrong_room_token(world: World) -> None:
    """A typed "Invalid token" is about the room: a given one fails the start without a second sign-in."""
    host = await world.start()
    users = len(world.rooms.users)
    with pytest.raises(RegistrationRefused, match="wrong room token"):
        await world.start(room_id=host.state.room_id, room_token="another")
    assert len(world.rooms.users) == users
    assert len(set(tokens(world))) == 2


@scenario
async def test_f17_room_token_changed(world: World) -> None:
    """A typed "Invalid token" for a room of our own is answered with a new room, under the same identity."""
    manager = await started(world)
    room = world.rooms.rooms[manager.state.room_id or ""]
    world.rooms._registry.rows[room.room_id] = replace(room, token="another")
    world.cut()
    await world.until(lambda: manager.state.room_id != room.room_id)
    await assert_right(world, manager)
    assert len(set(tokens(world))) == 1


@scenario(token_life=0.5)
async def test_f18_every_username_is_cleaned_up(world: World) -> None:
    """The old peer id goes on under new ID tokens, and in the end every user that a sign-in has made is deleted."""
    manager = await started(world)
    peer_id = name_of(manager)
    for count in (2, 3):
        await trio.sleep(0.6)
        manager.reregister()
        await world.until(lambda count=count: len(set(tokens(world))) == count)  # type: ignore[misc]
        await manager.synced()
    assert len(set(tokens(world))) == 3
    assert name_of(manager) == peer_id
    await world.stop(manager)
    assert not world.rooms.users


SHAPES = {
    "a reason": {"type": "error", "reason": "the flux capacitor"},
    "an error alone": {"error": "the flux capacitor"},
    "an error alone, with a code": {"error": "the flux capacitor", "code": 7},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_f19_unknown_refusal(shape: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """A refusal of any shape with words that nobody knows means trying again, and is said once."""

    @scenario(faster=10)
    async def refused(world: World) -> None:
        manager = await started(world)
        for times in (1, 2):
            world.server.hold_registers(1)
            manager.reregister()
            await world.until(lambda: world.server.held_registers == 1)
            await world.deliver(manager, json.dumps(shape))
            await world.until(lambda times=times: manager.state.trouble == "the flux capacitor" or times == 2)  # type: ignore[misc]
            if times == 1:
                world.server.release_registers()
                with trio.fail_after(20):
                    await manager.synced()
        world.server.release_registers()
        await assert_right(world, manager)
        assert manager.state.epoch == 1
        assert 1 <= len(world.logged(logging.ERROR, "flux capacitor")) <= 2

    refused("fake", caplog)
    refused("real", caplog)


@scenario(faster=10)
async def test_f19_answer_of_an_unknown_shape(world: World) -> None:
    """When a `register` is answered by nothing that anybody knows, the missing answer is noticed: all begins anew."""
    manager = await started(world, timing=Timing(register=3.0))
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers == 1)
    await world.deliver(manager, '{"type": "error", "code": "OUT_OF_LUCK", "message": "no"}')
    await world.deliver(manager, '{"detail": "no"}')
    await back(world, manager)
    await assert_right(world, manager)


@pytest.mark.parametrize("registered", [False, True])
def test_f20_store_fails(registered: bool, caplog: pytest.LogCaptureFixture) -> None:
    """After "DynamoDB error", whether it has registered us or not, the worker registers on the same socket, paused."""

    @scenario(faster=10)
    async def fails(world: World) -> None:
        manager = await started(world)
        world.rooms.fail_store(2, registered=registered)
        began = trio.current_time()
        world.cut()
        await world.until(lambda: len(tokens(world)) == 4)
        assert trio.current_time() - began >= 2.5 + 5.0
        await assert_right(world, manager)
        assert manager.state.epoch == 2
        assert len(world.logged(logging.ERROR, "registration refused: DynamoDB error")) == 1

    fails("fake", caplog)
    fails("real", caplog)


@scenario(only="fake")  # an hour and more
async def test_f21_stale_keys(world: World) -> None:
    """While every fresh token is refused, sign-ins stop after two and go on every five minutes; then all is well."""
    manager = await started(world)
    world.rooms.stale_keys()
    world.cut()
    await trio.sleep(2 * MINUTE)
    assert len(calls(world, "/anonymous-signin")) == 1 + 2
    await trio.sleep(58 * MINUTE)
    assert len(calls(world, "/anonymous-signin")) <= 1 + 2 + 12
    assert len(tokens(world)) <= 1 + 3 + 180
    assert len(world.logged(logging.ERROR, "the ID token is refused")) == 1
    world.rooms.stale_keys(False)
    await assert_right(world, manager, within=45)  # it asks every 20 to 40 s


def crowd(world: World, manager: Manager, peers: int) -> None:
    """So many others in the worker's room, each with as long a record as a real one's."""
    record = {"tags": ["crowd"], "properties": {"hostname": "x" * 330}}
    for number in range(peers):
        peer = Peer(object(), "client", record, connected_at=0.0)
        world.rooms._registry.enlist(f"{number:036}", manager.state.room_id or "", peer)


@scenario
async def test_f22_crowded_room(world: World) -> None:
    """In a room with 2,300 others, whose list is longer than the library's default limit, the worker registers."""
    manager = await started(world)
    crowd(world, manager, 2300)
    manager.reregister()
    await manager.synced()
    assert manager.state.peers == 2300
    assert manager.state.epoch == 1
    await assert_right(world, manager)


@scenario(only="fake")  # minutes
async def test_f22_answer_beyond_every_limit(world: World) -> None:
    """A registration answer that is too big every time is not asked for in a fast loop."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    server, rules = world.server, world.server.answer_instead

    def too_big(socket: FakeSocket, frame: dict[str, Any]) -> None:
        if frame["type"] == "register" and frame.get("role") == "worker":
            socket.end(Closed(1009, "too big"))

    server.answer_instead = too_big
    world.cut()
    dials = len(server.dials)
    await trio.sleep(10 * MINUTE)
    assert len(server.dials) - dials <= 25
    server.answer_instead = rules
    await assert_right(world, manager, ReconnectParameters().busy_most + 5)


@pytest.mark.parametrize("begins", [0.0, 3.0, 100.0, 110.0])
def test_f23_paused_server(begins: float, caplog: pytest.LogCaptureFixture) -> None:
    """A server that stands still for 24 s loses no link, whenever that begins."""

    @scenario(only="fake")  # half a minute
    async def paused(world: World) -> None:
        assert isinstance(world, FakeWorld)
        manager = await started(world)
        await trio.sleep(begins)
        world.server.freeze(name_of(manager))
        manager.set_available()
        await trio.sleep(24)
        world.server.thaw()
        await assert_right(world, manager)
        await stays(lambda: manager.state.epoch == 1, 120)

    paused("fake", caplog)


@scenario(only="fake")  # minutes
async def test_f23_server_stands_still(world: World) -> None:
    """A server that stands still for minutes, with its port open, is found again within a minute of its return."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    world.server.freeze(name_of(manager))
    world.server.dials_hang = True
    await trio.sleep(5 * MINUTE)
    assert not manager.state.connected
    world.server.dials_hang = False
    world.server.thaw()
    # A dial that began in the dark may hang for a minute, and the pause after it is another.
    await assert_right(world, manager, 60 + ReconnectParameters().busy_most)


@scenario
async def test_f24_other_frames_before_the_answer(world: World) -> None:
    """What comes between `register` and its answer is handed on, and does not pass for the answer."""
    manager = await started(world)
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers == 1)
    others = [
        {"type": "admin_conflict", "room_id": manager.state.room_id, "current_admin": "x"},
        {"type": "peer_message", "from_peer_id": "x", "to_peer_id": "y", "payload": {"a": 1}},
        {"type": "error", "code": "PEER_NOT_IN_ROOM", "message": "Target peer x not in same room"},
    ]
    for frame in others:
        await world.deliver(manager, json.dumps(frame))
    assert [await manager.signals.receive() for _ in others] == others
    assert manager.state.registration_asked
    world.server.release_registers()
    await manager.synced()
    assert manager.state.epoch == 1
    await assert_right(world, manager)


ANSWERS = {
    "plain text": (500, b"Internal Server Error", "text/plain"),
    "a list": (
        422,
        b'{"detail": [{"type": "missing", "loc": ["header"]}]}',
        "application/json",
    ),
    "a captive portal": (200, b"<html>log in first</html>", "text/html"),
    "another object": (200, b'{"hello": "world"}', "application/json"),
    "no object": (200, b"[1]", "application/json"),
    "nothing": (200, b"", "application/json"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_f25_strange_answers(answer: tuple[int, bytes, str], caplog: pytest.LogCaptureFixture) -> None:
    """Strange answers to a renewal are failures that are tried again, and one to a deletion does not fail the exit."""

    @scenario(token_life=0.5, faster=10)
    async def strange(world: World) -> None:
        manager = await started(world)
        room = world.rooms.rooms[manager.state.room_id or ""]
        await trio.sleep(7.0 if isinstance(world, RealWorld) else 1.0)
        del world.rooms._registry.rows[room.room_id]
        world.fail_http("/anonymous-signin", *answer)
        world.cut()
        await assert_right(world, manager)
        assert world.logged(logging.ERROR, "sign-in failed")
        for _ in range(6):  # the renewal has made a second identity, and either is tried three times
            world.fail_http("/delete-peer", *answer)
        await world.stop(manager)
        assert len(world.logged(logging.ERROR, "could not be deleted")) == 2

    strange("fake", caplog)
    if answer in (ANSWERS["plain text"], ANSWERS["a captive portal"]):  # the others differ in the body only
        strange("real", caplog)


@scenario(only="fake")  # more than an hour
async def test_f26_sign_ins_are_few(world: World) -> None:
    """While sign-ins hang, one is under way at a time, ever more seldom, and the registration is none the worse."""
    manager = await started(world)
    await trio.sleep(40 * MINUTE)
    world.hang_http("/anonymous-signin")
    await trio.sleep(30 * MINUTE)
    asked = calls(world, "/anonymous-signin")[1:]
    assert 2 <= len(asked) <= 9
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert min(gaps) > 30
    await assert_right(world, manager)


@pytest.mark.parametrize(
    "changes",
    [
        {"capabilities": None},
        {"capabilities": {"gpu_memory_mb": "24576"}},
        {"capabilities": {"gpu_memory_mb": None}},
        {"capabilities": {"gpu_memory_mb": True}},
        {"capabilities": {"gpu_memory_mb": float("nan")}},
        {"capabilities": {"supported_models": "base"}},
        {"tags": None},
        {"tags": ()},
        {"tags": "sleap-rtc"},
        {"tags": ("sleap-rtc", None)},
    ],
)
def test_f27_what_kills_searches(changes: dict[str, Any]) -> None:
    """What would kill other clients' searches is refused where it is given."""
    with pytest.raises(ConfigError, match=r"capabilities|tags"):
        Config("ws://localhost", "http://localhost", **changes)


@scenario(only="fake")  # the looks are half a minute apart
async def test_f27_record_that_kills_searches(world: World) -> None:
    """A record that a stranger has made deadly for searches is repaired."""
    manager = await started(world)
    await trio.sleep(90)
    async with world.client(manager) as client:
        update = {"tags": [], "properties": {"gpu_memory_mb": "plenty"}}
        await client.send({"type": "update_metadata", "peer_id": name_of(manager), "metadata": update})
        await client.receive("metadata_updated")
    with pytest.raises(Disconnected):
        async with world.client(manager) as client:
            await client.find(gpu_memory_mb={"$gte": 1})
    await trio.sleep(40)
    async with world.client(manager) as client:
        assert len(await client.find(gpu_memory_mb={"$gte": 1})) == 1


@scenario
async def test_f28_closed_with_1000(world: World) -> None:
    """A server that closes with 1000 after an error of its own is dialled again."""
    manager = await started(world)
    world.server.disconnect_all(1000)
    await back(world, manager)
    await assert_right(world, manager)


@scenario
async def test_f29_pings_in_json(world: World) -> None:
    """A `ping` of the server is not answered, and no error frame of any kind costs the link."""
    manager = await started(world)
    await trio.sleep(0.1)
    before = len(world.frames("update_metadata", "register", "pong", "ping"))
    for frame in (
        {"type": "ping"},
        {"type": "error", "code": "UNKNOWN_MESSAGE_TYPE", "message": "Unknown message type: None"},
        {"type": "error", "message": "boo"},
        {"type": "error"},
        {"error": {"code": 1}},
    ):
        await world.deliver(manager, json.dumps(frame))
    await trio.sleep(0.3)
    assert len(world.frames("update_metadata", "register", "pong", "ping")) == before
    await assert_right(world, manager)
    assert manager.state.epoch == 1


@scenario(only="fake")  # hours
async def test_f30_new_room_new_socket(world: World) -> None:
    """A move to a new room takes a new socket behind a goodbye on the old one, in whose room nothing stays listed."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    old = manager.state.room_id or ""
    await trio.sleep(1.85 * HOUR)
    assert manager.state.room_id != old
    await assert_right(world, manager)
    assert manager.state.epoch == 2
    assert len(world.server.closes) == 1
    assert not world.rooms.peers(old)


@scenario
async def test_f31_no_close_frame_behind_a_register(world: World) -> None:
    """A worker that leaves while its `register` is unanswered sends no Close frame, and leaves no ghost."""
    manager = await started(world)
    connections = list(world.server.connections) if isinstance(world, RealWorld) else []
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers == 1)

    await world.stop(manager)
    if isinstance(world, FakeWorld):
        assert world.server.closes == []
        world.server.release_registers()
    else:
        (connection,) = connections
        await world.until(lambda: connection.websocket.closed is not None)
        assert not connection.closed_politely
        world.server.release_registers()
        await world.until(lambda: not world.server.streams)  # type: ignore[union-attr]
    assert not world.rooms.users
    assert len(world.rooms._registry) == 0


@scenario(only="fake")  # needs a server that says so
async def test_f31_an_error_that_may_answer_another_frame(world: World) -> None:
    """An error of an unknown kind may have been another part's: the `register` counts as unanswered, and no Close frame
    follows it (simulation, seed 900738)."""
    assert isinstance(world, FakeWorld)
    manager = await started(world)
    world.server.answer_instead = lambda socket, frame: (
        {"type": "error", "reason": "Peer is offline"} if frame["type"] == "register" else None
    )
    manager.reregister()
    await world.until(lambda: not manager.state.registered)
    await world.stop(manager)
    assert world.server.closes == []


@scenario
async def test_f31_close_frame_otherwise(world: World) -> None:
    """A worker whose registration is answered leaves with a Close frame."""
    await world.stop(await started(world))
    if isinstance(world, FakeWorld):
        assert len(world.server.closes) == 1
    assert len(world.rooms._registry) == 0


@scenario
async def test_f32_no_resurrection(world: World) -> None:
    """Once leaving has begun nothing registers any more, whatever was asked for just before and during it."""
    manager = await started(world, timing=Timing(exit=0.5))
    world.hang_http("/delete-peer")
    registers = [0]

    async def ask() -> None:
        await trio.sleep(0.1)
        world.rooms.delete_peer({"peer_id": name_of(manager)}, world.now())
        registers[0] = len(tokens(world))
        for _ in range(10):
            manager.reregister()
            await trio.sleep(0.01)

    world.nursery.start_soon(ask)
    manager.reregister()
    await world.stop(manager)
    await trio.sleep(0.2)
    assert len(tokens(world)) == registers[0]
    assert len(world.rooms._registry) == 0


@scenario(only="fake")  # a socket that takes nothing
async def test_f32_register_in_the_queue(world: World) -> None:
    """A `register` that still waits behind another frame when leaving begins is not sent any more."""
    assert isinstance(world, FakeWorld)
    manager = await started(world, timing=Timing(exit=4.0))
    await trio.sleep(3.0)
    registers = len(tokens(world))
    world.hang_http("/delete-peer")
    world.server.stuck = True
    manager.set_available()
    await trio.sleep(0.1)
    manager.reregister()
    await trio.sleep(0.1)

    async def loosen() -> None:
        await trio.sleep(0.5)
        world.server.stuck = False

    world.nursery.start_soon(loosen)
    await world.stop(manager)
    assert world.shown(manager)[0] == "-"
    assert world.sent("update_metadata")[-1]["metadata"]["properties"]["status"] == "available"
    assert len(tokens(world)) == registers


@scenario
async def test_f33_delete_then_close(world: World) -> None:
    """At the exit the deletion comes before the end of the socket, so that the room goes too."""
    manager = await started(world)
    peer_id, listed = name_of(manager), []
    delete = world.rooms.delete_peer

    def seen(body: Any, now: float) -> Any:
        listed.append(world.rooms.peer(peer_id) is not None)
        return delete(body, now)

    world.rooms.delete_peer = seen  # type: ignore[method-assign]
    await world.stop(manager)
    assert listed == [True]
    assert not world.rooms.rooms
    assert not world.rooms.users


@scenario
async def test_f34_deletion_that_only_says_so(world: World) -> None:
    """A 200 with other words is no proof of a deletion: the server's words are logged, and the exit goes on."""
    manager = await started(world)
    world.fail_http("/delete-peer", 200, b'{"status": "it did not work out"}', "application/json")
    await world.stop(manager)
    assert [line for line in world.log.messages if "it did not work out" in line]
    assert len(world.rooms.users) == 1


CODES = (1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000, 4999)


@pytest.mark.parametrize("code", CODES)
def test_f35_close_codes(code: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever code the server closes with, the worker comes back."""

    @scenario(faster=10)
    async def closed(world: World) -> None:
        manager = await started(world)
        if code == 1006 and isinstance(world, RealWorld):
            world.cut()
        else:
            world.server.disconnect_all(code, "" if code == 1005 else "because")
        await back(world, manager)
        await assert_right(world, manager)
        assert world.logged(logging.WARNING, "connection lost")

    closed("fake", caplog)
    if code in (1000, 1001, 1006, 1009, 1011):  # those seen; trio-websocket lets a server send few others
        closed("real", caplog)


PATHS = ("/anonymous-signin", "/create-room", "/delete-peer")


@scenario
async def test_f36_http_port_is_dead(world: World) -> None:
    """While the HTTP port hangs, a lost connection is replaced with the credentials that are there."""
    manager = await started(world, timing=Timing(exit=0.2))
    for path in PATHS:
        world.hang_http(path)
    for epoch in (2, 3):
        world.cut()
        await back(world, manager, epoch)
        await assert_right(world, manager)


@scenario(only="fake")  # an hour
async def test_f36_websocket_port_is_dead(world: World) -> None:
    """While the WebSocket port is dead the ID token is renewed, so that the return needs no more than a register."""
    manager = await started(world)
    await trio.sleep(40 * MINUTE)
    world.go_down()
    await trio.sleep(25 * MINUTE)
    world.come_back()
    await assert_right(world, manager, ReconnectParameters().busy_most + 5)
    assert not world.logged(logging.ERROR, "refused")
    assert len(set(tokens(world))) == 2


@scenario
async def test_f37_nobody_reads_the_signals(world: World) -> None:
    """A worker that never reads its signals loses the newest of them, and neither its link nor its status."""
    manager = await started(world)
    async with world.client(manager) as client:
        for number in range(1000):
            await client.message(name_of(manager), {"number": number})
        await world.until(lambda: manager.state.signals_dropped == 1000 - 256)
        manager.set_available()
        await manager.synced()
    assert manager.signals.statistics().current_buffer_used == 256
    assert manager.state.epoch == 1
    assert len(world.logged(logging.WARNING, "nobody reads the signals")) < 20
    await assert_right(world, manager)


@scenario(only="fake", room_life=-10 * HOUR)  # an hour and more
async def test_f38_room_born_expired(world: World) -> None:
    """On a server whose rooms are born expired few are created, the log says why, and once it is mended all is well."""
    managers: list[Manager] = []

    async def start() -> None:
        managers.append(await world.start())

    world.nursery.start_soon(start)
    await trio.sleep(HOUR)
    assert not managers
    assert len(calls(world, "/create-room")) <= 1 + 2 + 12
    assert len(calls(world, "/anonymous-signin")) <= 2
    assert len(tokens(world)) <= 3 + 180
    assert world.logged(logging.ERROR, "registration refused: room expired")
    world.rooms._room_life = 2 * HOUR
    await trio.sleep(STALE + 2 * MINUTE)
    await assert_right(world, managers[0])
