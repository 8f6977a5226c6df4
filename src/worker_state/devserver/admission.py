"""Admission control: when WebSocket clients get in. A server that is slow, or sheds load, subclasses `Admission`."""

import math
from collections.abc import Awaitable, Callable

import trio

from worker_state.devserver.sockets import FaultyStream
from worker_state.integrations.http_server import Response


class Admission:
    """Everybody gets in at once. One object serves one start of the server."""

    backlog: int | None = None  # of `listen`; None: as long as the system allows

    def opened(self, listener: trio.SocketListener) -> trio.abc.Listener[trio.SocketStream]:
        """The port is open; returns what to accept connections from."""
        return listener

    async def serve(self, serve_one: Callable[[FaultyStream], Awaitable[None]], stream: FaultyStream) -> None:
        """Serve one accepted connection to its end."""
        await serve_one(stream)

    def refusal(self, stream: FaultyStream) -> Response | None:
        """What this connection gets in place of the 101; None when it is upgraded."""

    async def admit(self, stream: FaultyStream) -> None:
        """Return when the `register` that has come from there may be handled."""


class RateLimit(Admission):
    """At most `capacity` registers a second, in order, as at a server that is busy after its restart."""

    def __init__(self, capacity: float) -> None:
        if not 0 < capacity < math.inf:
            raise ValueError(f"the capacity must be positive, not {capacity}")
        self._interval = 1 / capacity
        self._next = -math.inf

    async def admit(self, stream: FaultyStream) -> None:
        at = max(self._next, trio.current_time())
        self._next = at + self._interval
        await trio.sleep_until(at)
