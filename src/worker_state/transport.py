"""The WebSocket behind two small protocols, `Dial` and `Socket`: the ONLY file that touches trio-websocket.

The library can hang, leak or raise from odd places (FAULTS, part T); what it does wrong is dealt with here and nowhere
else. Whatever the network does comes out as a value (`DialFailure`, `Closed`), never as an exception. No decision about
retrying is made here, and nothing of the protocol's content is known.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol
from urllib.parse import quote, urlsplit

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from worker_state import streams
from worker_state.core.pace import Deadlines
from worker_state.core.verdict import Cause, Closed, DialFailure
from worker_state.core.words import shown
from worker_state.handshake import Head

MAX_MESSAGE = 8 * 2**20
"""Bytes. `registered_auth` lists every peer at 463 bytes each and passes 1 MiB at 2,265 of them (FAULTS F22)."""
PATH_SAFE = "/%?:@!$&'()*+,;=~-._"
"""What may stand unquoted in a path or a query."""
UNREAD = 64
"""Frames that may wait in the library: with its default of 1 an unread frame blocks the pongs (FAULTS T8, T28)."""


class Socket(Protocol):
    """One open WebSocket connection."""

    connected_at: float
    """When TCP was connected, in seconds of trio's clock."""

    async def send(self, text: str) -> Closed | None:
        """Send one text frame. Never cancel this and go on: half a frame may be on the wire (FAULTS T10)."""

    async def receive(self) -> str | bytes | Closed:
        """The next frame, or how the connection ended. May be cancelled: nothing is lost by that."""

    async def ping(self) -> None:
        """Return at the pong. May never return when the connection is dead: the caller sets the deadline."""

    async def close(self) -> None:
        """The closing handshake. May never return: the caller sets the deadline."""


class Dial(Protocol):
    """Opens a connection for as long as the context lasts, and aborts it at the end; or yields why there is none."""

    def __call__(
        self, nursery: trio.Nursery, deadlines: Deadlines
    ) -> AbstractAsyncContextManager[Socket | DialFailure]:
        """`nursery`: where tasks that serve the socket run; whoever opens it ends them with the context."""


class WebSocketDial:
    """`Dial` over TCP and TLS: a stream of our own, which can always be aborted, under trio-websocket's protocol."""

    def __init__(
        self,
        url: str,
        *,
        unacknowledged_within: float = 15.0,
        open_stream: Callable[[str, int, float], Awaitable[trio.abc.Stream]] = streams.open_tcp_stream,
        unacknowledged: Callable[[trio.abc.Stream], int] = streams.unacknowledged,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "wss"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._resource = quote(parts.path or "/", safe=PATH_SAFE) + (
            f"?{quote(parts.query, safe=PATH_SAFE)}" if parts.query else ""
        )
        name = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = name if self._port == (443 if self._secure else 80) else f"{name}:{self._port}"
        self._unacknowledged_within = unacknowledged_within
        self._open_stream = open_stream
        self._unacknowledged = unacknowledged
        self._ssl_context = ssl_context

    @asynccontextmanager
    async def __call__(self, nursery: trio.Nursery, deadlines: Deadlines) -> AsyncIterator[Socket | DialFailure]:
        stream = await self._connect(deadlines.connect)
        if isinstance(stream, DialFailure):
            yield stream
            return
        connected_at = trio.current_time()
        watching = streams.Watching(stream, deadlines.acknowledge, self._unacknowledged)
        try:
            secured = await self._secure_stream(watching, deadlines.register)
            if not isinstance(secured, DialFailure):
                yield await self._upgrade(secured, watching, nursery, connected_at, deadlines.register)
            else:
                yield secured
        finally:
            await streams.abort(stream)

    async def _connect(self, within: float) -> trio.abc.Stream | DialFailure:
        try:
            stream = await self._open_stream(self._host, self._port, within)
        except TimeoutError:
            return DialFailure(Cause.NO_ANSWER, f"in {within:g} s")
        except (OSError, UnicodeError) as exc:  # the latter for a name that no resolver can be asked for
            return streams.why_not_connected(exc)
        streams.give_up_after(stream, self._unacknowledged_within)
        return stream

    async def _secure_stream(self, stream: streams.Watching, within: float) -> trio.abc.Stream | DialFailure:
        if not self._secure:
            return stream
        with trio.move_on_after(within):
            try:
                return await streams.secure(stream, self._host, self._ssl_context)
            except trio.BrokenResourceError as exc:
                return DialFailure(Cause.UNACKNOWLEDGED) if stream.lost else DialFailure(Cause.TLS, shown(str(exc)))
        return DialFailure(Cause.UNANSWERED, f"no TLS in {within:g} s")

    async def _upgrade(
        self,
        stream: trio.abc.Stream,
        watching: streams.Watching,
        nursery: trio.Nursery,
        connected_at: float,
        within: float,
    ) -> Socket | DialFailure:
        head = Head(stream)
        reader = _Reader(nursery)
        with trio.move_on_at(connected_at + within) as scope:
            reader.on_end = scope.cancel
            connection = await wrap_client_stream(
                reader,  # type: ignore[arg-type]
                head,  # type: ignore[arg-type]
                self._host_header,
                self._resource,
                max_message_size=MAX_MESSAGE,
                message_queue_size=UNREAD,
            )
            head.done()
            return _WebSocket(connection, reader, connected_at)
        rejection = head.rejection()
        if rejection is not None:
            return rejection
        if watching.lost:
            return DialFailure(Cause.UNACKNOWLEDGED)
        if not reader.ended:
            return DialFailure(Cause.UNANSWERED, f"nothing in {within:g} s")
        if head.received:
            return DialFailure(Cause.GARBAGE, "the answer is no WebSocket handshake")
        return DialFailure(Cause.CLOSED, "before the handshake was done")


class _Reader:
    """What trio-websocket takes for a nursery: runs its reader in ours, keeps its errors in, says when it has ended.

    Without this a peer that closes before the 101 hangs the dial for ever, and a `LocalProtocolError` of the reader
    takes the surrounding nursery down (FAULTS T1, T2, T9).
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.ended = False
        self.error: Exception | None = None
        self.on_end: Callable[[], None] = lambda: None

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._contain, task)

    async def _contain(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except Exception as exc:  # noqa: BLE001 - whatever the library's reader raises costs this one link
            self.error = exc
        self.ended = True
        self.on_end()


class _WebSocket:
    """`Socket` on a trio-websocket connection whose handshake is done."""

    def __init__(self, connection: WebSocketConnection, reader: _Reader, connected_at: float) -> None:
        self._connection = connection
        self._reader = reader
        self.connected_at = connected_at

    async def send(self, text: str) -> Closed | None:
        try:
            await self._connection.send_message(text)
        except (ConnectionClosed, LocalProtocolError):
            return self._why_closed()
        return None

    async def receive(self) -> str | bytes | Closed:
        try:
            return await self._connection.get_message()
        except ConnectionClosed:
            return self._why_closed()

    async def ping(self) -> None:
        with suppress(ConnectionClosed, LocalProtocolError):
            await self._connection.ping()

    async def close(self) -> None:
        with suppress(ConnectionClosed, LocalProtocolError):
            await self._connection.aclose()

    def _why_closed(self) -> Closed:
        reason = self._connection.closed
        if reason is not None and reason.code != 1006:
            return Closed(reason.code, shown(reason.reason or ""))
        if self._reader.error is not None:
            return Closed(1006, type(self._reader.error).__name__)
        return Closed(1006, "without a Close frame")
