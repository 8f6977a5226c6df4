"""What the development server can do wrong on purpose: to a TCP connection, an upgrade, a frame, or an HTTP call."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import trio

from worker_state import foreign_json
from worker_state.devserver.admission import Admission
from worker_state.devserver.model import Effect, Send
from worker_state.devserver.rules import Rooms
from worker_state.devserver.shared_faults import FaultyServer
from worker_state.devserver.sockets import Connection, FaultyStream
from worker_state.integrations.http_server import Response

FRAMES_KEPT, CHARACTERS_KEPT = 10_000, 2**24  # of what clients have sent


class DevServer(FaultyServer[Response]):
    """A running server: its addresses, its state and its faults. Each begins at once, and ends by a call or a count."""

    def __init__(
        self, address: str, ports: tuple[int, int], rooms: Rooms, clock: Callable[[], float], admission: Admission
    ) -> None:
        super().__init__(rooms, clock)
        authority = f"[{address}]" if ":" in address else address
        self.host: str = address
        self.ws_port: int = ports[0]
        self.http_port: int = ports[1]
        self.ws_url: str = f"ws://{authority}:{self.ws_port}"
        self.http_url: str = f"http://{authority}:{self.http_port}"
        self.frames: deque[tuple[str | None, dict[str, Any]]] = deque()
        """The frames received last, oldest first, each with the peer id of its connection or else its own."""
        self._sizes: deque[int] = deque()  # of these frames, in characters
        self._characters = 0
        self.connections: set[Connection] = set()  # the WebSockets that the server believes to be alive
        self.streams: set[FaultyStream] = set()  # all TCP connections, those of HTTP and those not yet upgraded too
        self.handling: bool = True
        self._answering = True
        self.accepting: dict[trio.SocketListener, trio.CancelScope] = {}  # around the tasks that accept connections
        self._admission = admission
        self._refusals: deque[Response] = deque()
        self._registers_released = trio.Event()

    def lose(self, connection: Connection) -> None:
        """The server knows that this connection is over."""
        self.connections.discard(connection)
        self.rooms.gone(connection)
        self.notify()

    def perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            connection = effect.connection
            if not isinstance(connection, Connection):
                continue  # registered at the same `Rooms` without a socket
            if not isinstance(effect, Send):
                connection.close(effect.code, effect.reason)
            elif self._answering:
                connection.send(json.dumps(effect.message))

    def record_frame(self, connection: Connection, text: str | bytes) -> bool:
        """Keep the frame for `frames`; the rules parse it for themselves. Is it a `register`?"""
        parsed: object = None
        with suppress(ValueError):
            parsed = foreign_json.read(text)
        message = parsed if isinstance(parsed, dict) else {}
        peer_id = self.rooms.peer_of(connection) or message.get("peer_id") or message.get("from_peer_id")
        self.frames.append((peer_id, message))
        self._sizes.append(len(text))
        self._characters += len(text)
        while len(self.frames) > FRAMES_KEPT or self._characters > CHARACTERS_KEPT:
            self.frames.popleft()
            self._characters -= self._sizes.popleft()
        self.notify()
        return bool(message.get("type") == "register")

    # Faults of TCP connections.

    def cut(self, peer_id: str | None = None) -> None:
        """Reset the connections of one peer, or everything; the server notices at once."""
        for connection in self._connections_of(peer_id):
            self._end(connection)
        for stream in self.streams if peer_id is None else ():
            stream.reset()
            stream.thaw()

    def freeze(self, peer_id: str) -> None:
        """The server stands still on this peer's connections, until `thaw`, as if nothing had been, or `notice`."""
        for connection in self._connections_of(peer_id):
            connection.stream.freeze()

    def half_open(self, peer_id: str) -> None:
        """The peer loses its connections, and the server does not know until `notice`."""
        for connection in self._connections_of(peer_id):
            connection.stream.freeze()
            connection.stream.reset()

    def thaw(self, peer_id: str | None = None) -> None:
        for connection in self._connections_of(peer_id):
            connection.stream.thaw()

    def notice(self, peer_id: str | None = None) -> None:
        """The server finds out that the frozen and half-open connections of one peer, or all, are dead."""
        for connection in self._connections_of(peer_id):
            if connection.stream.frozen:
                self._end(connection)

    def disconnect_all(self, code: int, reason: str = "") -> None:
        """Close every WebSocket politely."""
        for connection in self.connections:
            connection.close(code, reason)

    def go_away(self) -> None:
        """As `restart`, and its ports refuse connections. After `come_back` they are open again in a moment."""
        super().go_away()
        for listener, scope in self.accepting.items():
            scope.cancel()
            listener.socket.close()
        self.accepting.clear()

    def _connections_of(self, peer_id: str | None) -> Iterator[Connection]:
        for connection in list(self.connections):
            if peer_id is None or self.rooms.peer_of(connection) == peer_id:
                yield connection

    def _end(self, connection: Connection) -> None:
        connection.stream.reset()
        connection.stream.thaw()
        self.lose(connection)

    # Faults of the WebSocket server.

    def refuse_upgrades(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"", times: int = 1
    ) -> None:
        """The next `times` upgrades get this instead of a 101."""
        self._refusals.extend([Response(status, body, headers=headers or {})] * times)

    def accept_upgrades(self) -> None:
        """Take back what `refuse_upgrades` has still to refuse."""
        self._refusals.clear()

    def next_refusal(self, stream: FaultyStream) -> Response | None:
        """What this connection gets instead of a 101."""
        if self._refusals:
            return self._refusals.popleft()
        return self._admission.refusal(stream) if self.up else Response(503, b"")

    def mute(self, *, handling: bool = False) -> None:
        """Frames are accepted and never answered; with `handling` they take effect all the same. Ends with `unmute`."""
        self.handling, self._answering = handling, False

    def unmute(self) -> None:
        self.handling = self._answering = True

    def release_registers(self) -> None:
        self._registers_to_hold = 0
        self._registers_released.set()
        self._registers_released = trio.Event()

    async def register_may_proceed(self, connection: Connection) -> None:
        """Return when the `register` that has come may be handled."""
        await self._admission.admit(connection.stream)
        await trio.lowlevel.checkpoint()  # a Close frame that came together with it is seen before the answer is sent
        if self._is_to_be_held():
            self.notify()
            try:
                await self._registers_released.wait()
            finally:
                self.held_registers -= 1

    # Faults of HTTP.

    def _answer(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]) -> Response:
        return Response(status, body, content_type, headers)
