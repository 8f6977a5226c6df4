"""What the two ways have in common: the server of a test, with its faults at hand."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from worker_state.background import open_background
from worker_state.config import Config
from worker_state.devserver.rules import Rooms
from worker_state.errors import Disconnected
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Closed, DialFailure
from worker_state.protocol.frames import Message
from worker_state.testing.client import TAG, Client

if TYPE_CHECKING:
    from worker_state.devserver.faults import DevServer
    from worker_state.testing.memory import MemoryServer


class Kit(ABC):
    """A server for one test, and what can go wrong with it. A fault begins at once, and lasts until it is taken back.

    What is here works in both ways. More faults, of one connection or one frame, are methods of `server`.
    """

    server: "MemoryServer | DevServer"
    """The server itself, with the finest faults."""
    websocket_url: str
    """Its address, for a worker that reads its own configuration."""
    http_url: str
    """The same of its HTTP side."""

    # what your worker needs

    def config(self, **changes: Any) -> Config:
        """A configuration that names this server; `changes` are any other fields of `Config`."""
        return Config(self.websocket_url, self.http_url, **changes)

    def given_room(self) -> dict[str, Any]:
        """A room that somebody else has created, for `config(**kit.given_room())`: its `room_id` and `room_token`."""
        return given_room(self.rooms, self.now())

    # what you see

    @property
    def rooms(self) -> Rooms:
        """The server's memory, and its rules."""
        return self.server.rooms

    def now(self) -> float:
        """The server's wall clock, in seconds since 1970."""
        return self.server.now()

    @abstractmethod
    def frames(self, *types: str) -> list[Message]:
        """The frames that have come to the server so far, oldest first; only those of these types, if you name any."""

    def entry(self, peer_id: str | None) -> Message:
        """What the server has stored for a peer, its `tags` and `properties`; empty when it has forgotten it."""
        peer = self.rooms.peer(peer_id or "")
        return {} if peer is None else dict(peer.metadata)

    async def until(self, condition: Callable[[], object]) -> None:
        """Return as soon as the condition is true. It is looked at whenever something happens on the server."""
        await self.server.until(condition)

    @asynccontextmanager
    async def client(self, room_id: str | None = None) -> AsyncIterator[Client]:
        """A client in this room, or in the only one that is occupied. Its connection suffers the faults, too.

        Raises `RuntimeError` if it cannot be said which room that is, `Disconnected` if the server lets nobody in.
        """
        room_id = self._only_room() if room_id is None else room_id
        async with self.connect() as client:
            await self._register(client, room_id)
            yield client

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        """Somebody with a connection and nothing else. Raises `Disconnected` if the server takes none."""
        async with open_background(self._hold) as held:
            socket: Socket = held

            async def send(text: str) -> None:
                if (closed := await socket.send(text)) is not None:
                    raise _over(closed)

            async def receive() -> str | bytes:
                received = await socket.receive()
                if isinstance(received, Closed):
                    raise _over(received)
                return received

            yield Client("", send, receive)

    async def _hold(self, *, task_status: trio.TaskStatus[Socket]) -> None:
        """Hold a connection until cancelled."""
        async with trio.open_nursery() as nursery:
            socket = await self._dial(nursery)
            if not isinstance(socket, DialFailure):
                task_status.started(socket)
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._hang_up(socket)
        raise Disconnected(f"a client cannot connect: {socket}")

    @abstractmethod
    async def _dial(self, nursery: trio.Nursery) -> Socket | DialFailure: ...

    async def _hang_up(self, socket: Socket) -> None:
        await socket.abort()

    def _only_room(self) -> str:
        match self.rooms.occupied():
            case [room_id]:
                return room_id
            case []:
                raise RuntimeError("no worker is registered: wait for it, or name the room that the client is to enter")
            case rooms:
                raise RuntimeError(f"{len(rooms)} rooms are occupied: name the one that the client is to enter")

    async def _register(self, client: Client, room_id: str) -> None:
        room = self.rooms.rooms.get(room_id)
        if room is None:
            raise RuntimeError(f"the server has no room {room_id!r} (any more)")
        signed_in: Any = self.rooms.sign_in(self.now()).body  # not by HTTP, which may be failing on purpose
        client.peer_id = str(signed_in["username"])
        credentials = {"token": room.token, "id_token": signed_in["id_token"]}
        if room.token is None:
            keys = [key for key, each in self.rooms.api_keys.items() if each.room_id == room_id]
            good = [key for key in keys if self.rooms.api_keys[key].refusal(self.now()) is None]
            credentials = {"api_key": (good or keys)[0]}
        register = {"type": "register", "peer_id": client.peer_id, "room_id": room_id, "role": "client"}
        record = {"tags": [TAG, "training-client"], "properties": {}}
        await client.send({**register, **credentials, "metadata": record})
        while (answer := await client.receive()).get("type") != "registered_auth":
            why = answer.get("reason") if answer.get("type") == "error" else answer.get("error")
            if why is not None:
                raise Disconnected(f"the server does not let the client in: {why}")

    # what goes wrong

    def cut(self, peer_id: str | None = None) -> None:
        """The connections of one peer, or all, are reset; new ones are taken. Raises `RuntimeError` if that peer is not
        registered."""
        if peer_id is not None and self.rooms.peer(peer_id) is None:
            raise nobody(peer_id)
        self.server.cut(peer_id)

    def go_away(self) -> None:
        """The server is gone: connections are reset and refused, HTTP included. It forgets all registrations; users
        and rooms stay. Ends with `come_back`."""
        self.server.go_away()

    def refuse(self) -> None:
        """No WebSocket can be opened. Those that are open stay, HTTP calls are answered. Ends with `come_back`."""
        self.server.refuse()

    def come_back(self) -> None:
        """Ends `go_away` and `refuse`."""
        self.server.come_back()

    def restart(self) -> None:
        """Connections are reset and registrations forgotten; new connections are taken at once."""
        self.server.restart()

    def forget_peers(self) -> None:
        """The server forgets all registrations, clients' too, and says nothing: the connections stay."""
        self.rooms.forget_peers()
        self.server.notify()

    def mute(self) -> None:
        """Frames are taken, and neither handled nor answered; pings are answered. Ends with `unmute`."""
        self.server.mute()

    def unmute(self) -> None:
        """Ends `mute`. What came meanwhile stays unanswered."""
        self.server.unmute()

    def fail_http(
        self,
        path: str,
        status: int,
        body: Any = None,
        content_type: str = "application/json",
        times: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `times` calls of this path get this answer and take no effect. `body` is sent as JSON, unless it is
        text or bytes. The paths are `/anonymous-signin`, `/create-room` and `/delete-peer`, else `ValueError`."""
        _check_path(path)
        self.server.fail_http(path, status, body, content_type, times, headers)

    def hang_http(self, path: str) -> None:
        """Calls of this path are not answered. Ends with `release_http`."""
        _check_path(path)
        self.server.hang_http(path)

    def release_http(self, path: str | None = None) -> None:
        """Calls of this path, or all, are answered again; those that hang and are still waited for, first."""
        if path is not None:
            _check_path(path)
        self.server.release_http(path)

    @abstractmethod
    async def deliver(self, peer_id: str | None, text: str | bytes) -> None:
        """The server sends this text frame, whatever is in it, to a peer; bytes make a binary one. Raises
        `RuntimeError` if the peer has no connection."""


PATHS = ("/anonymous-signin", "/create-room", "/delete-peer")


def _check_path(path: str) -> None:
    if path not in PATHS:
        raise ValueError(f"no worker calls {path!r}: the paths are {', '.join(PATHS)}")


def _over(closed: Closed) -> Disconnected:
    return Disconnected(f"the client's connection is over: {closed}")


def nobody(peer_id: str | None) -> RuntimeError:
    """The error of a peer without a connection."""
    return RuntimeError(f"the peer {peer_id!r} has no connection to this server")


def given_room(rooms: Rooms, now: float) -> dict[str, Any]:
    """Somebody creates a room, gives it to workers, and is gone."""
    signed_in: Any = rooms.sign_in(now).body
    room: Any = rooms.create_room(f"Bearer {signed_in['id_token']}", now).body
    rooms.delete_peer({"peer_id": signed_in["username"]}, now)
    return {"room_id": room["room_id"], "room_token": room["token"]}
