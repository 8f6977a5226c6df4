"""Who plays in these tests: somebody with an identity who talks to the rules alone, and clients on real sockets.

The clients hold their own TCP stream, so that they can misbehave.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, TypeAlias

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from worker_state.devserver import DevServer, Rooms, serve
from worker_state.devserver.identities import Generation
from worker_state.devserver.model import Effect, Send

Json: TypeAlias = dict[str, Any]

PATIENCE = 30  # far longer than anything here takes; a hang is a failure, not a wait


@dataclass
class Someone:
    """An identity with a room, speaking through any number of sockets."""

    rooms: Rooms
    now: float
    peer_id: str
    id_token: str = ""
    room_id: str = ""
    token: str = ""

    def say(self, socket: str, frame: Any) -> list[Effect]:
        return self.rooms.receive(socket, json.dumps(frame), self.now)

    def ask(self, socket: str, **frame: Any) -> dict[str, Any]:
        """The one answer, which goes to the socket that asked."""
        (effect,) = self.say(socket, frame)
        assert isinstance(effect, Send)
        assert effect.connection == socket
        return effect.message

    def register(self, socket: str, **more: Any) -> dict[str, Any]:
        frame = {
            "type": "register",
            "peer_id": self.peer_id,
            "room_id": self.room_id,
            "token": self.token,
            "id_token": self.id_token,
            "role": "worker",
            "metadata": {
                "tags": ["sleap-rtc", "training-worker"],
                "properties": {"status": "available", "gpu_memory_mb": 24576},
            },
        }
        return self.ask(socket, **(frame | more))

    def update(self, socket: str, **metadata: Any) -> dict[str, Any]:
        return self.ask(socket, type="update_metadata", peer_id=self.peer_id, metadata=metadata)

    def message(self, to: str, payload: Any = "hello") -> dict[str, Any]:
        return {"type": "peer_message", "from_peer_id": self.peer_id, "to_peer_id": to, "payload": payload}

    def find(self, socket: str, **filters: Any) -> list[str]:
        answer = self.ask(socket, type="discover_peers", from_peer_id=self.peer_id, filters=filters)
        assert answer["count"] == len(answer["peers"])
        return [peer["peer_id"] for peer in answer["peers"]]


@dataclass
class World:
    rooms: Rooms
    now: float = 1_800_000_000.0

    def someone(self, *, beside: Someone | None = None) -> Someone:
        """A new identity, with a new room or the one of somebody else."""
        identity = self.sign_in()
        id_token = identity["id_token"]
        if beside is not None:
            room_id, token = beside.room_id, beside.token
        else:
            room: Any = self.rooms.create_room("Bearer " + id_token, self.now).body
            room_id, token = room["room_id"], room["token"]
        return Someone(self.rooms, self.now, identity["username"], id_token, room_id, token)

    def stranger(self, peer_id: str) -> Someone:
        """Nobody has signed him in, and he claims to be this peer."""
        return Someone(self.rooms, self.now, peer_id)

    def sign_in(self) -> Any:
        return self.rooms.sign_in(self.now).body

    def delete(self, body: Any) -> str:
        reply: Any = self.rooms.delete_peer(body, self.now)
        assert reply.status == 200
        status: str = reply.body["status"]
        return status

    def gone(self, socket: str) -> None:
        self.rooms.gone(socket)


@pytest.fixture
def generation() -> Generation:
    """Parametrize a test with it to get the other one."""
    return "v2"


@pytest.fixture
def world(generation: Generation) -> World:
    return World(Rooms(random=Random(1), generation=generation))


@pytest.fixture
def worker(world: World) -> Someone:
    worker = world.someone()
    assert worker.register("worker")["type"] == "registered_auth"
    return worker


@pytest.fixture
def client(world: World, worker: Someone) -> Someone:
    client = world.someone(beside=worker)
    client.register("client", role="client", metadata={"tags": ["sleap-rtc", "training-client"], "properties": {}})
    return client


def redacted(opcode: int, payload: bytes) -> bytes:
    """A client's frame as bytes, under a mask of zeros: for those who want to decide what is sent together."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


@dataclass
class Client:
    stream: trio.SocketStream
    websocket: WebSocketConnection

    async def send(self, frame: Json | str | bytes) -> None:
        await self.websocket.send_message(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def send_and_close(self, frame: Json) -> None:
        """Both in one segment."""
        await self.stream.send_all(redacted(1, json.dumps(frame).encode()) + redacted(8, (1000).to_bytes(2, "big")))

    async def receive(self) -> Json:
        with trio.fail_after(PATIENCE):
            message: Json = json.loads(await self.websocket.get_message())
            return message

    async def ask(self, frame: Json | str | bytes) -> Json:
        await self.send(frame)
        return await self.receive()

    async def closed(self) -> tuple[int, str]:
        """Waits for the end, which must come before any other frame."""
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed) as caught:
            await self.websocket.get_message()
        reason = caught.value.reason
        assert reason is not None
        return reason.code, reason.reason or ""

    async def close(self) -> None:
        with trio.fail_after(PATIENCE):
            await self.websocket.aclose()

    def reset(self) -> None:
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.stream.socket.close()


@dataclass
class Member:
    """A client with an identity and a room."""

    client: Client
    peer_id: str
    id_token: str
    room_id: str
    token: str

    def register_frame(self, **more: Any) -> Json:
        return {
            "type": "register",
            "peer_id": self.peer_id,
            "room_id": self.room_id,
            "token": self.token,
            "id_token": self.id_token,
            "role": "worker",
            "metadata": {"tags": ["sleap-rtc"], "properties": {"status": "available"}},
        } | more

    async def register(self) -> None:
        assert (await self.client.ask(self.register_frame()))["type"] == "registered_auth"

    def echo_frame(self, to: str | None = None, payload: str = "nonce") -> Json:
        return {
            "type": "peer_message",
            "from_peer_id": self.peer_id,
            "to_peer_id": to or self.peer_id,
            "payload": {"nonce": payload},
        }

    async def echoes(self) -> bool:
        """Is it listed, through this very socket?"""
        return await self.client.ask(self.echo_frame()) == self.echo_frame()


Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]
Connect: TypeAlias = Callable[[], Awaitable[trio.SocketStream]]
Dial: TypeAlias = Callable[[], Awaitable[Client]]
Join: TypeAlias = Callable[..., Awaitable[Member]]


@pytest.fixture
async def server(nursery: trio.Nursery, generation: Generation) -> DevServer:
    started: DevServer = await nursery.start(partial(serve, generation=generation))
    return started


@pytest.fixture
async def until(server: DevServer) -> Until:
    """Waits until something is true of the server; a test that waits in vain fails."""

    async def until(condition: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            await server.until(condition)

    return until


@pytest.fixture
async def connect(server: DevServer) -> AsyncIterator[Connect]:
    """Opens a bare TCP connection to the WebSocket port."""
    streams: list[trio.SocketStream] = []

    async def connect() -> trio.SocketStream:
        stream = await trio.open_tcp_stream(server.host, server.ws_port)
        streams.append(stream)
        return stream

    yield connect
    for stream in streams:
        stream.socket.close()


@pytest.fixture
async def dial(nursery: trio.Nursery, connect: Connect) -> Dial:
    """Opens a WebSocket."""

    async def dial() -> Client:
        stream = await connect()
        with trio.fail_after(PATIENCE):
            return Client(stream, await wrap_client_stream(nursery, stream, "localhost", "/"))

    return dial


@pytest.fixture
async def join(server: DevServer, dial: Dial) -> Join:
    """A new identity with a socket of its own, in a new room or that of `beside`; not registered yet."""

    async def join(*, beside: Member | None = None) -> Member:
        identity: Any = server.rooms.sign_in(server.clock()).body
        room: Any = server.rooms.create_room(identity["id_token"], server.clock()).body
        if beside is not None:
            room = {"room_id": beside.room_id, "token": beside.token}
        return Member(await dial(), identity["username"], identity["id_token"], room["room_id"], room["token"])

    return join
