"""Admission as slow as that of a real server after its restart, with every slot accounted for.

Slot k comes at the opening plus k / capacity, on an absolute schedule, and admits one client. A slot that finds nobody
is lost, and so is one that is spent on a client that has gone: that is how a backlog of the dead starves the living.
"""

import math
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import trio

from worker_state.devserver import Admission
from worker_state.devserver.sockets import FaultyStream
from worker_state.integrations.http_server import Response

STOPPED = 1.0
"""Seconds. A slot noticed later than this was missed because the process stood still: it is not made up for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast clients are admitted, and what becomes of those that have to wait."""

    capacity: float  # admissions a second
    backlog: int = 4096
    """Of `listen`: how many connections the kernel keeps until they are accepted; it may know a lower bound itself."""
    at: Literal["accept", "register"] = "accept"
    """What waits for a slot: the accept; or, when all are accepted and upgraded at once, the answer to `register`."""
    room: int | None = None
    """At "register": so many may wait for their answer; a client beyond that gets a 503 in place of the 101."""
    retry_after: float | Literal["ticket"] | None = None
    """What the 503 says: nothing, the same number of seconds to every client, or to each the time of its own slot."""

    def __post_init__(self) -> None:
        if not 0 < self.capacity < math.inf:
            raise ValueError(f"the capacity must be positive, not {self.capacity}")
        if self.backlog < 1:
            raise ValueError(f"the backlog must be at least 1, not {self.backlog}")
        if self.room is not None and (self.at != "register" or self.room < 1):
            raise ValueError("only registers can wait in a room, and then it holds one at least")


@dataclass(slots=True)
class Slots:
    """What the slots were spent on, once that is known."""

    used: int = 0  # a registration was answered
    dead: int = 0  # the client had gone
    idle: int = 0  # no client was there
    missed: int = 0  # the process was stopped


@dataclass
class SlottedAdmission(Admission):
    """Admits one client at each slot. The schedule begins when the port is open; `run` has to run beside the server."""

    limits: Limits
    slots: Slots = field(default_factory=Slots)
    granted: int = 0  # slots that have come, whether or not it is known yet what they were spent on
    refused: int = 0  # 503s
    latest: float = 0.0  # seconds by which the latest slot came too late
    _opened: float = 0.0
    _next: int = 0
    _promised: int = 0
    _inside: set[FaultyStream] = field(default_factory=set, repr=False)  # accepted and not registered yet
    _waiting: deque[tuple[FaultyStream, trio.Event]] = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        self.backlog = self.limits.backlog

    def opened(self, listener: trio.SocketListener) -> trio.abc.Listener[trio.SocketStream]:
        self._opened = trio.current_time()
        if self.limits.at == "register":
            return listener
        return SlottedListener(socket.socket(fileno=listener.socket.detach()), self)

    def change(self, limits: Limits) -> None:
        """Go on with another capacity, on a schedule that begins now. Where it stands, and the backlog, stay."""
        if limits.at != self.limits.at:
            raise ValueError("where clients wait cannot be changed")
        self.limits = limits
        self._opened, self._next = trio.current_time(), 0

    async def next_slot(self) -> None:
        """Return when the next slot has come."""
        due = self._opened + self._next / self.limits.capacity
        await trio.sleep_until(due)
        late = trio.current_time() - due
        if late > STOPPED:
            missed = math.floor(late * self.limits.capacity)
            self._next += missed
            self.slots.missed += missed
        else:
            self.latest = max(self.latest, late)
        self._next += 1
        self.granted += 1

    async def run(self) -> None:
        """Answer one `register` that waits at each slot."""
        while self.limits.at == "register":
            await self.next_slot()
            if self._waiting:
                stream, turn = self._waiting.popleft()
                self._count(stream)
                turn.set()
            else:
                self.slots.idle += 1

    async def serve(self, serve_one: Callable[[FaultyStream], Awaitable[None]], stream: FaultyStream) -> None:
        """Notices when the connection ends before it was registered."""
        at_accept = self.limits.at == "accept"
        if at_accept:
            self._inside.add(stream)
        try:
            await serve_one(stream)
        finally:
            self.slots.dead += at_accept and stream in self._inside
            self._inside.discard(stream)

    def refusal(self, stream: FaultyStream) -> Response | None:
        if self.limits.room is None:
            return None
        if len(self._inside) < self.limits.room:
            self._inside.add(stream)
            return None
        self.refused += 1
        hint = self._hint()
        return Response(503, b"", headers={} if hint is None else {"Retry-After": str(math.ceil(hint))})

    async def admit(self, stream: FaultyStream) -> None:
        if self.limits.at == "register":
            self._waiting.append((stream, turn := trio.Event()))
            await turn.wait()
        elif stream in self._inside:
            self._count(stream)

    def _count(self, stream: FaultyStream) -> None:
        self._inside.discard(stream)
        if stream.ended.is_set():
            self.slots.dead += 1
        else:
            self.slots.used += 1

    def _hint(self) -> float | None:
        if self.limits.retry_after != "ticket":
            return self.limits.retry_after
        self._promised = max(self._promised, self._next + len(self._inside)) + 1
        return self._opened + self._promised / self.limits.capacity - trio.current_time()


class SlottedListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts at slots only; clients that come in between wait in the kernel's backlog."""

    def __init__(self, listening: socket.socket, admission: SlottedAdmission) -> None:
        self.socket = listening
        self._admission = admission

    async def accept(self) -> trio.SocketStream:
        """The connection that waited longest when a slot came."""
        while True:
            await self._admission.next_slot()
            try:
                accepted, _ = self.socket.accept()
            except BlockingIOError:
                self._admission.slots.idle += 1
            else:
                return trio.SocketStream(trio.socket.from_stdlib_socket(accepted))

    async def aclose(self) -> None:
        """Clients that still wait are reset."""
        self.socket.close()
        await trio.lowlevel.checkpoint()
