"""WebSocket sessions of the development server, from the accepted TCP stream to the last byte.

`rules` decides what a frame does, `faults` what goes wrong on purpose; `server` contains what escapes from here.
"""

import math
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from worker_state.devserver.model import Close
from worker_state.integrations.http_server import DRAIN_SECONDS, FOREIGN, Response, drain, is_foreign
from worker_state.logs import Logger, event
from worker_state.protocol.frame_pieces import FramePieces

if TYPE_CHECKING:
    from worker_state.devserver.faults import DevServer

HANDSHAKE_SECONDS = 10.0
MAX_MESSAGE = 2**20  # the real server's limit; more is answered with 1009
SEND_SECONDS = 36.0  # for a client to read what it is sent: the real server's keepalive drops it then
CLOSE_SECONDS = 2.0  # for the Close frame to be answered; the TCP connection is then closed with or without it
OUTBOX_BYTES = 16 * 2**20
"""Of unread frames, after which a client is dropped. The answer to a `register` among ten thousand peers is 5 MiB."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # for SO_LINGER

log: Logger = Logger("worker_state.devserver")


class FaultyStream(trio.abc.HalfCloseableStream):
    """An accepted TCP connection that can be frozen, thawed and reset."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.ended: trio.Event = trio.Event()  # nothing more will be received
        self.pieces: FramePieces | None = None  # of a WebSocket
        self._stream = stream
        self._thawed = trio.Event()
        self._thawed.set()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def freeze(self) -> None:
        """From now on this side neither reads nor writes, nor notices anything. The kernel goes on accepting."""
        if not self.frozen:  # somebody may be waiting for that thaw
            self._thawed = trio.Event()

    def thaw(self) -> None:
        self._thawed.set()

    def reset(self) -> None:
        """End the connection with a RST, now. A frozen side does not notice until it is thawed."""
        if self._stream.socket.fileno() >= 0:
            self._stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        self._stream.socket.close()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.pieces is None:
            return await self._receive_some(max_bytes)
        if piece := self.pieces.take():
            await trio.lowlevel.checkpoint()  # a flood of one client must not hold up the others (faults.md, G12)
            await self._thawed.wait()
            return piece
        self.pieces.add(await self._receive_some(max_bytes))
        return self.pieces.take()

    async def _receive_some(self, max_bytes: int | None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._thawed.wait()
            self.ended.set()
            raise
        await self._thawed.wait()
        if not data:
            self.ended.set()
        return data

    async def fail_when_left(self) -> None:
        """Raise `trio.BrokenResourceError` when the other side has ended the connection and sent nothing more."""
        with suppress(OSError):
            if await self._stream.socket.recv(1, trio.socket.MSG_PEEK):
                await trio.sleep_forever()
        raise trio.BrokenResourceError("the other side does not wait")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._thawed.wait()
        with trio.move_on_after(SEND_SECONDS) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            self.reset()  # half a frame may be on the wire
            raise trio.BrokenResourceError("the other side does not read")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Connection:
    """One accepted WebSocket with its outbox. The rules know it only as something hashable."""

    def __init__(self, websocket: WebSocketConnection, stream: FaultyStream) -> None:
        self.websocket = websocket
        self.stream = stream
        self.closing: bool = False
        self._written = trio.Event()
        self._unsent_bytes = 0  # bounded, rather than messages: those are from 20 bytes to some MiB long
        self._outbox, self._pending = trio.open_memory_channel[str | Close](math.inf)

    @property
    def closed_politely(self) -> bool:
        """The client has sent a Close frame, or we have."""
        return self.websocket.closed is not None and self.websocket.closed.code != 1006

    def send(self, text: str) -> None:
        """Put a frame into the outbox. Cannot block; on a dead connection it does nothing."""
        if self._unsent_bytes <= OUTBOX_BYTES:
            self._unsent_bytes += len(text)
            self._put(text)
        elif not self.stream.frozen:
            self.stream.reset()

    def close(self, code: int, reason: str = "") -> None:
        """Close politely, after what has been sent so far."""
        self.closing = True
        self._put(Close(self, code, reason))

    def _put(self, item: str | Close) -> None:
        with suppress(trio.BrokenResourceError):  # the writer is gone, and so is the connection
            self._outbox.send_nowait(item)

    async def write(self) -> None:
        """Send what is in the outbox, in order, until there is a Close in it or the connection is dead."""
        with self._pending, suppress(ConnectionClosed):
            async for item in self._pending:
                if isinstance(item, Close):
                    with trio.move_on_after(CLOSE_SECONDS):
                        await self.websocket.aclose(item.code, item.reason or None)
                    break
                await self.websocket.send_message(item)
                self._unsent_bytes -= len(item)
        self._written.set()

    async def finish(self) -> None:
        """Let the last bytes out: the queued Close, or the one that trio-websocket sent by itself."""
        if self.closing:
            await self._written.wait()
        elif self.websocket.closed is not None and self.websocket.closed.code == 1009:
            await drain(self.stream)


async def serve_socket(server: "DevServer", stream: FaultyStream, *, local: bool) -> None:
    """One connection to its end. `local`: only this machine reaches the server, so no other site's page gets in."""
    stream.pieces = FramePieces()
    async with trio.open_nursery() as nursery:
        websocket = await _handshake(server, nursery, stream, local=local)
        if websocket is not None:
            connection = Connection(websocket, stream)
            server.connections.add(connection)
            nursery.start_soon(connection.write)
            try:
                await _take_frames(server, connection)
            finally:
                server.lose(connection)
            await connection.finish()
        nursery.cancel_scope.cancel()


async def _handshake(
    server: "DevServer", nursery: trio.Nursery, stream: FaultyStream, *, local: bool
) -> WebSocketConnection | None:
    async def cancel_at_end() -> None:
        await stream.ended.wait()
        scope.cancel()

    with trio.move_on_after(HANDSHAKE_SECONDS) as scope:
        # trio-websocket would wait until the deadline for a client that goes before its request is complete.
        nursery.start_soon(cancel_at_end)
        request = await wrap_server_stream(nursery, stream, max_message_size=MAX_MESSAGE)
        # trio-websocket hands on every header but `Host`.
        host, origin = request._event.host, dict(request.headers).get(b"origin")
        if local and is_foreign(host, None if origin is None else origin.decode("latin-1")):
            refusal: Response | None = Response.json(403, {"detail": FOREIGN})
        else:
            refusal = server.next_refusal(stream)
        if refusal is None:
            return await request.accept()
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in refusal.headers.items()]
        await request.reject(refusal.status, extra_headers=headers, body=refusal.body)
        with trio.move_on_after(DRAIN_SECONDS):
            await stream.send_eof()
            await stream.ended.wait()  # trio-websocket goes on reading
    return None


async def _take_frames(server: "DevServer", connection: Connection) -> None:
    """Handle one frame at a time, until the connection is over."""
    while not connection.closing:
        try:
            text = await connection.websocket.get_message()
        except ConnectionClosed:
            return
        if connection.stream.pieces is not None:
            connection.stream.pieces.message_read()
        if connection not in server.connections:
            return  # it was cut, and what it had sent before counts no more
        is_register = server.record_frame(connection, text)
        if is_register:
            await server.register_may_proceed(connection)
        if server.handling:
            try:
                effects = server.rooms.receive(connection, text, server.clock())
            except Exception as failure:  # noqa: BLE001 - the real server closes with 1000 after any internal error
                log.error("internal error: %s", type(failure).__name__, extra=event("server_error"))
                effects = [Close(connection, 1000, "")]
            server.perform(effects)
        if is_register and connection.closed_politely:
            server.rooms.unanswered(connection)
        server.notify()
