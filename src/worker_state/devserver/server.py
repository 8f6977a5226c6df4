"""The running server as its owner holds it: where it is, what it knows, and every fault it can be asked for.

All methods but `until` are plain functions that take effect at once; every fault ends by a call or by a count.
Nothing is sent or received here.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from worker_state.devserver.cable import Cable
from worker_state.devserver.connection import Connection
from worker_state.devserver.effects import Effect, Send
from worker_state.devserver.rooms import Rooms
from worker_state.devserver.web import Response

if TYPE_CHECKING:
    from worker_state.devserver.gate import Gate

FRAMES_KEPT = 10_000


@dataclass(frozen=True)
class Refusal:
    """What is answered instead of the 101."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in self.headers.items()]


@dataclass(eq=False)
class DevServer:
    host: str
    ws_port: int
    http_port: int
    rooms: Rooms
    clock: Callable[[], float] = field(repr=False)
    gate: Gate | None = None
    #: The frames received last, oldest first, each with the peer id of its connection or else its own.
    frames: deque[tuple[str | None, dict[str, Any]]] = field(
        default_factory=lambda: deque(maxlen=FRAMES_KEPT), repr=False
    )
    #: The WebSocket connections that the server believes to be alive.
    connections: set[Connection] = field(default_factory=set, repr=False)
    #: All TCP connections, those of HTTP and those not yet upgraded too.
    cables: set[Cable] = field(default_factory=set, repr=False)
    #: How many registers are being held right now.
    held_registers: int = 0
    _handling: bool = field(default=True, repr=False)
    _answering: bool = field(default=True, repr=False)
    _refusals: deque[Refusal] = field(default_factory=deque, repr=False)
    _failures: dict[str, deque[Response]] = field(default_factory=dict, repr=False)
    _hung: dict[str, trio.Event] = field(default_factory=dict, repr=False)
    _registers_to_hold: int = field(default=0, repr=False)
    _registers_released: trio.Event = field(default_factory=trio.Event, repr=False)
    _changes: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot, repr=False)

    @property
    def ws_url(self) -> str:
        return f"ws://{self._authority}:{self.ws_port}"

    @property
    def http_url(self) -> str:
        return f"http://{self._authority}:{self.http_port}"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns as soon as the condition, which may look at anything of this server, is true."""
        while not condition():
            await self._changes.park()

    # Faults of TCP connections.

    def cut(self, peer_id: str | None = None) -> None:
        """Resets the connections of one peer, or everything; the server notices at once."""
        for connection in self._connections_of(peer_id):
            self._end(connection)
        if peer_id is None:
            for cable in self.cables:
                cable.reset()
                cable.thaw()

    def freeze(self, peer_id: str) -> None:
        """The server neither reads nor writes nor notices anything on this peer's connections. Ends with `thaw`, as if
        nothing had been, or with `notice`."""
        for connection in self._connections_of(peer_id):
            connection.cable.freeze()

    def half_open(self, peer_id: str) -> None:
        """The peer loses its connections, and the server does not know until `notice`."""
        for connection in self._connections_of(peer_id):
            connection.cable.freeze()
            connection.cable.reset()

    def thaw(self, peer_id: str | None = None) -> None:
        for connection in self._connections_of(peer_id):
            connection.cable.thaw()

    def notice(self, peer_id: str | None = None) -> None:
        """The server finds out that the frozen and half-open connections of one peer, or all, are dead."""
        for connection in self._connections_of(peer_id):
            if connection.cable.frozen:
                self._end(connection)

    def disconnect_all(self, code: int, reason: str = "") -> None:
        """Closes every WebSocket politely."""
        for connection in self.connections:
            connection.close(code, reason)

    def restart(self) -> None:
        """Cuts everything and forgets all registrations. Users and rooms stay."""
        self.cut()
        self.rooms.forget_peers()
        self.note_change()

    # Faults of the WebSocket server.

    def refuse_upgrades(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"", times: int = 1
    ) -> None:
        """The next `times` upgrades get this instead of a 101."""
        self._refusals.extend([Refusal(status, headers or {}, body)] * times)

    def accept_upgrades(self) -> None:
        """Takes back what `refuse_upgrades` has still to refuse."""
        self._refusals.clear()

    def mute(self, *, handling: bool = False) -> None:
        """Frames are accepted and never answered. With `handling` they take effect all the same. Ends with `unmute`;
        nothing is made up for."""
        self._handling, self._answering = handling, False

    def unmute(self) -> None:
        self._handling = self._answering = True

    def hold_registers(self, times: int = 1) -> None:
        """The next `times` registers are not handled before `release_registers`, even if their socket dies first."""
        self._registers_to_hold = times

    def release_registers(self) -> None:
        self._registers_to_hold = 0
        self._registers_released.set()
        self._registers_released = trio.Event()

    # Faults of HTTP.

    def fail_http(
        self,
        path: str,
        status: int,
        body: Any = None,
        content_type: str = "application/json",
        times: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `times` requests for this path get this answer, and take no effect. Text and bytes are sent as they
        are, anything else as JSON."""
        content = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        response = Response(status, content, content_type, tuple((headers or {}).items()))
        self._failures.setdefault(path, deque()).extend([response] * times)

    def hang_http(self, path: str) -> None:
        """Requests for this path are accepted, and not handled before `release_http`."""
        self._hung.setdefault(path, trio.Event())

    def release_http(self, path: str | None = None) -> None:
        """Requests for this path, or all, are handled again, those that hang first."""
        for name in [path] if path is not None else list(self._hung):
            self._hung.pop(name, trio.Event()).set()

    # For the parts of the server that do the work.

    @property
    def handling(self) -> bool:
        return self._handling

    def perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            connection = effect.connection
            if not isinstance(connection, Connection):
                continue  # registered by somebody who talks to the same `Rooms` without a socket
            if not isinstance(effect, Send):
                connection.close(effect.code, effect.reason)
            elif self._answering:
                connection.send(json.dumps(effect.message))

    def ping_all(self) -> None:
        for connection in self.connections:
            self.perform([Send(connection, {"type": "ping"})])

    def lose(self, connection: Connection) -> None:
        """The server knows that this connection is over."""
        self.connections.discard(connection)
        self.perform(self.rooms.gone(connection, self.clock()))
        self.note_change()

    def note_frame(self, connection: Connection, message: dict[str, Any]) -> None:
        peer_id = self.rooms.peer_of(connection) or message.get("peer_id") or message.get("from_peer_id")
        self.frames.append((peer_id, message))
        self.note_change()

    def note_change(self) -> None:
        self._changes.unpark_all()

    def next_refusal(self, cable: Cable) -> Refusal | None:
        if self._refusals:
            return self._refusals.popleft()
        return self.gate.refusal(cable) if self.gate is not None else None

    def next_failure(self, path: str) -> Response | None:
        failures = self._failures.get(path)
        return failures.popleft() if failures else None

    async def request_may_proceed(self, path: str) -> None:
        if path in self._hung:
            await self._hung[path].wait()

    async def register_may_proceed(self, connection: Connection) -> None:
        if self.gate is not None:
            await self.gate.admit(connection.cable)
        # A Close frame that came in the same breath has to be seen before the answer is sent.
        await trio.lowlevel.checkpoint()
        if self._registers_to_hold:
            self._registers_to_hold -= 1
            self.held_registers += 1
            self.note_change()
            try:
                await self._registers_released.wait()
            finally:
                self.held_registers -= 1

    def _connections_of(self, peer_id: str | None) -> Iterator[Connection]:
        for connection in list(self.connections):
            if peer_id is None or self.rooms.peer_of(connection) == peer_id:
                yield connection

    def _end(self, connection: Connection) -> None:
        connection.cable.reset()
        connection.cable.thaw()
        self.lose(connection)
