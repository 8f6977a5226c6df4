"""The WebSocket behind a small protocol, `Socket`: the ONLY file that touches trio-websocket.

The library hangs, leaks and raises in odd places (T1 to T28). `_Stream` below it and `_Reader` beside it are the
remedies; each names its traps. What the network does comes out as a value (`DialFailure`, `Closed`), never as an
exception. Nothing here decides about retries or knows what a message means.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from worker_state.net import tcp
from worker_state.protocol.error_policy import Cause, Closed, DialFailure, in_words
from worker_state.protocol.frame_pieces import FramePieces, TooManyFragments
from worker_state.redact import shown

MAX_MESSAGE = 8 * 2**20  # bytes: `registered_auth` lists every peer and passes 1 MiB at 2,265 of them (faults.md, F22)
UNREAD = 64  # messages that may wait in the library: with its default of 1 an unread one blocks the pongs (T8, T28)
UNREAD_BYTES = MAX_MESSAGE  # of these together; then nothing more is read
BUSY = frozenset({429, 502, 503, 504})  # from a server, or a proxy before it, that has too much to do or is starting
CLOSE_WITHIN = 0.5  # seconds for a Close frame to go out
LONGEST_HEAD = 2**14  # bytes of an HTTP answer without an end of its head
MOST_INTERIM = 10  # answers 100, 102 and 103 before the one that counts (faults.md, G31)
NOT_DONE = DialFailure(Cause.CLOSED, "before the handshake was done")
CLOSE = b"\x88\x82\0\0\0\0"  # the head of a Close frame, masked by zeros; a code of two bytes follows
NORMAL = (1000).to_bytes(2)

_HEAD_END = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.1 10[023][ \r\n]")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)[ \r\n]")
_RETRY_AFTER = re.compile(rb"^retry-after:[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class Socket(Protocol):
    """One open WebSocket connection: one task at a time may send, one may ping, and one may receive.

    The server's pings are answered. A frame whose sending was cancelled may be half on the wire: everything after it
    returns `Closed` (faults.md, T10).
    """

    @property
    def heard_at(self) -> float:
        """When the last bytes came, in seconds of trio's clock."""

    @property
    def in_message(self) -> bool:
        """Whether a part of a message has come, and not all of it."""

    async def send(self, text: str) -> Closed | None:
        """Send one text frame."""

    async def ping(self) -> Closed | None:
        """Send a ping, and return at its pong or at the end of the connection. The caller sets the deadline."""

    async def close(self) -> Closed | None:
        """Send a Close frame; the end of the connection comes by `receive`."""

    async def receive(self) -> str | bytes | Closed:
        """The next message, or how the connection ended. May be cancelled: nothing is lost by that."""

    async def abort(self) -> None:
        """End the connection at once, without a Close frame, and its task. The caller that dialled has to do this."""


async def close(socket: Socket, within: float) -> bool:
    """Send a Close frame, and wait for the server's. False when that does not come within so many seconds: then the
    server may not know that the connection is over."""
    with trio.move_on_after(within):
        received: str | bytes | Closed | None = await socket.close()
        while not isinstance(received, Closed):
            received = await socket.receive()
        return received.by_server
    return False


class _Reader:
    """trio-websocket takes it for a nursery: runs the reader in the caller's, keeps errors in, and can be stopped."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.error: Exception | None = None
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._started = False
        self._ended = trio.Event()
        self._waiting = trio.CancelScope()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._started = True
        self._nursery.start_soon(self._run, task)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await task()
        except Exception as error:  # noqa: BLE001 - T2: whatever the reader raises costs this one connection
            self.error = error
        finally:
            self._ended.set()
            self._waiting.cancel()

    def while_running(self) -> trio.CancelScope:
        """A scope that ends with the reader: the library wakes neither a dial (T1) nor a ping (T6)."""
        self._waiting = trio.CancelScope()
        return self._waiting

    async def stop(self) -> None:
        self._scope.cancel()
        if self._started and not self._ended.is_set():
            with trio.CancelScope(shield=True):
                await self._ended.wait()


class _Stream:
    """trio-websocket takes it for a stream: reads the head of the HTTP answer itself, and watches what goes out."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.heard_at = trio.current_time()
        self.failure = NOT_DONE  # why there is no connection
        self.cut = False  # half a frame is out
        self.closing = False  # a Close frame is out
        self.why = "without a Close frame"  # how the connection has ended, if it has
        self.pieces = FramePieces()
        self._message_read = trio.Event()
        self._stream = stream
        self._upgraded = False
        self._sending = trio.StrictFIFOLock()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.closing and self.cut:  # the library would wait for more bytes before it says so
            raise trio.BrokenResourceError("our Close frame is not taken")
        while self.pieces.unread > UNREAD_BYTES:
            await self._message_read.wait()
        if piece := self._piece():
            await trio.lowlevel.checkpoint()  # G12: before each, or a flood of tiny frames would hold the loop
            return piece
        data = await (self._stream.receive_some(max_bytes) if self._upgraded else self._head())
        self.heard_at = trio.current_time()
        self.pieces.add(data)
        return self._piece()

    def message_read(self) -> None:
        """A message was taken out of the library."""
        self.pieces.message_read()
        self._message_read.set()
        self._message_read = trio.Event()

    def _piece(self) -> bytes:
        try:
            return self.pieces.take()
        except TooManyFragments as error:
            self.why = str(error)
            raise trio.BrokenResourceError(self.why) from error

    async def _head(self) -> bytes:
        """The head of a 101 and what came behind it. Of a refusal nothing else is read: it can be endless (T3)."""
        received, end = await self._whole_head(b"")
        for _ in range(MOST_INTERIM):
            if not _INTERIM.match(received):
                break
            self.failure = NOT_DONE
            received, end = await self._whole_head(received[end:])
        status = _STATUS.match(received)
        self._upgraded = status is not None and status[1] == b"101"
        if not self._upgraded:
            if status is not None:
                self.failure = _rejection(int(status[1]), received[:end])
            raise trio.BrokenResourceError("no 101")
        return received

    async def _whole_head(self, received: bytes) -> tuple[bytes, int]:
        """What came, and where the head in it ends."""
        while (end := _HEAD_END.search(received)) is None:
            if len(received) > LONGEST_HEAD:
                raise trio.BrokenResourceError("no end of the head")
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError as error:
                if tcp.gave_up(error):
                    self.failure = DialFailure(Cause.UNACKNOWLEDGED)
                raise
            if not data:
                raise trio.BrokenResourceError("the end")
            received += data
            self.failure = DialFailure(Cause.GARBAGE, "the answer is no WebSocket handshake")
            if received[0] <= ord(" "):
                raise trio.BrokenResourceError("no HTTP")
        return received, end.end()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:  # `WebSocket.close` comes here past the library's own lock
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            if self.cut:
                raise trio.BrokenResourceError("half a frame is out")  # T10
            if not self.closing:  # else a pong, or the library's answer to a Close frame that has crossed ours
                await self._send_whole(data)
        finally:
            self._sending.release()

    async def _send_whole(self, data: bytes | bytearray | memoryview) -> None:
        is_close, whole = data[0] == CLOSE[0], False
        try:
            with trio.move_on_after(CLOSE_WITHIN) if is_close else nullcontext():
                await self._stream.send_all(data)
                whole = True
        finally:
            self.closing, self.cut = is_close, not whole
        if not whole:
            raise trio.BrokenResourceError("our Close frame is not taken")

    async def aclose(self) -> None:
        """Nothing: the library closes in its own ways (T9), the caller aborts."""


def _rejection(status: int, head: bytes) -> DialFailure:
    hint = _RETRY_AFTER.search(head)
    retry_after = hint[1].decode("ascii", "replace") if hint else ""
    cause = Cause.SHED if status in BUSY else Cause.REJECTED
    return DialFailure(cause, f"HTTP {status}", status=status, retry_after=retry_after or None)


class WebSocket:
    """`Socket` on a trio-websocket connection."""

    def __init__(self, below: trio.abc.Stream, nursery: trio.Nursery) -> None:
        self.connected_at: float = trio.current_time()  # when TCP was connected
        self.below = below
        self._reader = _Reader(nursery)
        self._stream: _Stream
        self._connection: WebSocketConnection

    async def upgrade(self, stream: trio.abc.Stream, host: str, resource: str) -> DialFailure | None:
        """The handshake, over TCP or TLS. None when the connection is open; call nothing else before."""
        self._stream = _Stream(stream)
        try:
            with self._reader.while_running():
                self._connection = await wrap_client_stream(
                    self._reader,  # type: ignore[arg-type]
                    self._stream,  # type: ignore[arg-type]
                    host,
                    resource,
                    message_queue_size=UNREAD,
                    max_message_size=MAX_MESSAGE,
                )
                return None
        except Exception as error:  # noqa: BLE001 - whatever the library raises, it is a failed dial
            return DialFailure(Cause.CLOSED, in_words(error))
        return self._stream.failure

    @property
    def heard_at(self) -> float:
        return self._stream.heard_at

    @property
    def in_message(self) -> bool:
        return self._stream.pieces.in_message

    @property
    def unread(self) -> int:
        """Bytes of the messages that have come and are not received."""
        return self._stream.pieces.unread

    async def send(self, text: str) -> Closed | None:
        return await self._try(partial(self._connection.send_message, text))

    async def ping(self) -> Closed | None:
        with self._reader.while_running():
            return await self._try(self._connection.ping)
        return self._end()

    async def close(self) -> Closed | None:
        # T9: in its own `aclose` the library drops what comes, and a ping ends its reader.
        return await self._try(partial(self._stream.send_all, CLOSE + NORMAL))

    async def _try(self, action: Callable[[], Awaitable[None]]) -> Closed | None:
        if self._stream.closing or self._stream.cut:
            return self._end("nothing can be sent any more")
        try:
            await action()
        except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            return self._end()
        except Exception as error:  # noqa: BLE001 - whatever the library raises costs this one link
            return self._end(in_words(error))
        return None

    async def receive(self) -> str | bytes | Closed:
        try:
            message: str | bytes = await self._connection.get_message()
        except ConnectionClosed:
            end = self._end()
        except Exception as error:  # noqa: BLE001 - as above
            return self._end(in_words(error))
        else:
            self._stream.message_read()
            return message
        if end.by_server:  # or the server has broken the protocol, which the library does not report to it
            await self._try(partial(self._stream.send_all, CLOSE + end.code.to_bytes(2)))
        return end

    def _end(self, why: str | None = None) -> Closed:
        reason = self._connection.closed
        if reason is not None and reason.code != 1006:
            return Closed(int(reason.code), shown(reason.reason or ""))
        return Closed(1006, type(self._reader.error).__name__ if self._reader.error else why or self._stream.why)

    async def abort(self) -> None:
        await tcp.abort(self.below)
        await self._reader.stop()
