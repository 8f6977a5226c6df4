"""The WebSocket behind two small protocols, `Dial` and `Socket`: the ONLY file that touches wsproto.

wsproto is the protocol without any I/O; the I/O is a trio stream of our own, in the task of whoever calls. No task runs
in here and nothing is buffered but the frame that is coming in, so that there is nothing that could hang, leak or raise
behind the caller's back (FAULTS, part T). Whatever the network does comes out as a value (`DialFailure`, `Closed`),
never as an exception. No decision about retrying is made here, and nothing of the messages' content is known.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import trio
from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from worker_state import streams
from worker_state.core.pace import Deadlines
from worker_state.core.verdict import Cause, Closed, DialFailure, Sign
from worker_state.core.words import shown

MAX_MESSAGE = 8 * 2**20
"""Bytes. `registered_auth` lists every peer at 463 bytes each and passes 1 MiB at 2,265 of them (FAULTS F22)."""
PATH_SAFE = "/%?:@!$&'()*+,;=~-._"
"""What may stand unquoted in a path or a query."""
BUSY = frozenset({429, 502, 503, 504})
"""What a server says, or a proxy before it, that has too much to do or is just starting."""
LAST_WORD = 0.5
"""Seconds for our answer to a Close frame: whoever does not take it has said that he is gone."""
OPEN = (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)
"""In these a Close frame of ours has not been sent yet."""


class Socket(Protocol):
    """One open WebSocket connection: one task at a time may send, and one may receive.

    A frame whose sending was cancelled may be half on the wire: everything after it returns `Closed` (FAULTS T10).
    """

    connected_at: float
    """When TCP was connected, in seconds of trio's clock."""

    async def send(self, text: str) -> Closed | None:
        """Send one text frame."""

    async def ping(self) -> Closed | None:
        """Send a ping; the pong comes by `receive`."""

    async def pong(self, payload: bytes) -> Closed | None:
        """Send the answer to a ping."""

    async def close(self) -> Closed | None:
        """Send a Close frame; the end of the connection comes by `receive`."""

    async def receive(self) -> str | bytes | Sign | Closed:
        """The next of what comes in, or how the connection ended. May be cancelled: nothing is lost by that."""

    async def abort(self) -> None:
        """End the connection at once, without a Close frame. Whoever has dialled owes this, however it ended."""


async def receive_message(socket: Socket) -> str | bytes | Closed:
    """The next message, or how the connection ended; pings are answered. For who sends nothing at the same time."""
    while True:
        received = await socket.receive()
        if not isinstance(received, Sign):
            return received
        if received.ping is not None:
            await socket.pong(received.ping)


async def close(socket: Socket, within: float) -> bool:
    """Send a Close frame, and wait for the server's. False when that does not come within so many seconds: then the
    server may not know that the connection is over."""
    with trio.move_on_after(within):
        received: str | bytes | Closed | None = await socket.close()
        while not isinstance(received, Closed):
            received = await receive_message(socket)
        return received.by_server
    return False


class Dial(Protocol):
    """Opens a connection, or says why there is none. Cancelled, it leaves none behind."""

    async def __call__(self, deadlines: Deadlines) -> Socket | DialFailure: ...


class WebSocketDial:
    """`Dial` over TCP and TLS, on a stream of our own, which can always be aborted."""

    __slots__ = (
        "_host",
        "_host_header",
        "_open_stream",
        "_port",
        "_resource",
        "_secure",
        "_ssl_context",
        "_unacknowledged",
        "_unacknowledged_within",
    )

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

    async def __call__(self, deadlines: Deadlines) -> Socket | DialFailure:
        stream = await self._connect(deadlines.connect)
        if isinstance(stream, DialFailure):
            return stream
        made: Socket | DialFailure | None = None
        try:
            made = await self._shake_hands(stream, deadlines)
        finally:
            if made is None or isinstance(made, DialFailure):
                await streams.abort(stream)
        return made

    async def _shake_hands(self, stream: trio.abc.Stream, deadlines: Deadlines) -> Socket | DialFailure:
        connected_at = trio.current_time()
        watching = streams.Watching(stream, deadlines.acknowledge, self._unacknowledged)
        secured = await self._secure_stream(watching, deadlines.register)
        if isinstance(secured, DialFailure):
            return secured
        made: Connection | DialFailure = DialFailure(Cause.UNANSWERED, f"nothing in {deadlines.register:g} s")
        with trio.move_on_at(connected_at + deadlines.register):
            made = await self._upgrade(secured)
        if not isinstance(made, DialFailure):
            # Its first answer has come: nothing has to be watched any more.
            return _WebSocket(stream, stream if secured is watching else secured, made, connected_at)
        return DialFailure(Cause.UNACKNOWLEDGED) if watching.lost else made

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

    async def _upgrade(self, stream: trio.abc.Stream) -> Connection | DialFailure:
        """Ask for the upgrade. Of a refusal only the head is read: what follows can be endless (FAULTS T3)."""
        handshake = H11Handshake(ConnectionType.CLIENT)
        asked = handshake.send(events.Request(host=self._host_header, target=self._resource))
        some = False
        try:
            await stream.send_all(asked)
            while data := await stream.receive_some():
                some = True
                handshake.receive_data(bytes(data))
                for event in handshake.events():
                    if isinstance(event, events.RejectConnection):
                        return _rejection(event)
                    if handshake.connection is not None:
                        return handshake.connection
        except trio.BrokenResourceError:
            pass
        except (RemoteProtocolError, UnicodeError):  # the latter for headers that should be ASCII
            some = True
        if some:
            return DialFailure(Cause.GARBAGE, "the answer is no WebSocket handshake")
        return DialFailure(Cause.CLOSED, "before the handshake was done")


def _rejection(event: events.RejectConnection) -> DialFailure:
    hint = dict(event.headers).get(b"retry-after", b"").decode("ascii", "replace") or None
    cause = Cause.SHED if event.status_code in BUSY else Cause.REJECTED
    return DialFailure(cause, f"HTTP {event.status_code}", status=event.status_code, retry_after=hint)


_NOTHING: Iterator[events.Event] = iter(())


class _WebSocket:
    """`Socket` of wsproto's connection over a stream."""

    __slots__ = ("_below", "_connection", "_events", "_over", "_parts", "_size", "_stream", "_writing", "connected_at")

    def __init__(
        self, below: trio.abc.Stream, stream: trio.abc.Stream, connection: Connection, connected_at: float
    ) -> None:
        self.connected_at = connected_at
        self._below = below
        """The TCP connection; the stream is this one, or TLS over it."""
        self._stream = stream
        self._connection = connection
        self._events: Iterator[events.Event] = (
            connection.events()
        )  # frames may have come in the same segment as the 101
        self._parts: list[Any] = []
        """Of the message that is coming in."""
        self._size = 0
        self._writing = False
        """Something is on its way out, all of it or, when that was cancelled, half of it."""
        self._over: Closed | None = None

    async def send(self, text: str) -> Closed | None:
        return await self._say(events.TextMessage(text))

    async def ping(self) -> Closed | None:
        return await self._say(events.Ping())

    async def pong(self, payload: bytes) -> Closed | None:
        return await self._say(events.Pong(payload))

    async def close(self) -> Closed | None:
        return await self._say(events.CloseConnection(CloseReason.NORMAL_CLOSURE))

    async def _say(self, event: events.Event) -> Closed | None:
        if self._over is None and self._connection.state is ConnectionState.OPEN and not self._writing:
            await self._write(event)
            return self._over
        return self._over or Closed(1006, "nothing can be sent any more")

    async def _write(self, event: events.Event) -> None:
        self._writing = True
        try:
            await self._stream.send_all(self._connection.send(event))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._over = self._over or Closed(1006, "without a Close frame")
        self._writing = False

    async def receive(self) -> str | bytes | Sign | Closed:
        while self._over is None:
            event = next(self._events, None)
            if event is None:
                await self._read()
            elif isinstance(event, events.Ping):
                return Sign(ping=bytes(event.payload))
            elif isinstance(event, events.Pong):
                return Sign()
            elif isinstance(event, events.CloseConnection):
                await self._end(event)
            elif isinstance(event, events.Message):  # or a part of one, as the network has cut it
                self._parts.append(event.data)
                self._size += len(event.data)
                if self._size > MAX_MESSAGE:
                    await self._end(events.CloseConnection(CloseReason.MESSAGE_TOO_BIG, "message too big"))
                elif event.message_finished:
                    parts, self._parts, self._size = self._parts, [], 0
                    return "".join(parts) if isinstance(event, events.TextMessage) else b"".join(parts)
        return self._over

    async def _read(self) -> None:
        self._events = _NOTHING  # an idle connection keeps nothing of the last frames
        try:
            data = await self._stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if data:
            self._connection.receive_data(bytes(data))
            self._events = self._connection.events()
        else:
            self._over = self._over or Closed(1006, "without a Close frame")

    async def _end(self, event: events.CloseConnection) -> None:
        """A Close frame has come, or a reason for one: answered if that can be done at once."""
        self._over = Closed(int(event.code), shown(event.reason or ""))  # first: the answer may be cancelled
        if self._connection.state in OPEN and not self._writing:
            with trio.move_on_after(LAST_WORD):
                await self._write(event.response())

    async def abort(self) -> None:
        await streams.abort(self._below)
