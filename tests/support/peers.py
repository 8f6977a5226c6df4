"""Peers on real loopback sockets that do exactly what a test says, byte by byte, however rude that is."""

import base64
import hashlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import trio

NET = 30.0
"""Seconds. Far longer than anything here takes: a hang is a failure, not a wait."""
SOON = 4.0
"""Seconds. What "at once" means on a busy machine; the traps that it tells from hang for ten seconds or for ever."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Peer:
    """The server's end of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._unread = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def head(self) -> bytes:
        """The head of an HTTP request, up to the empty line."""
        while b"\r\n\r\n" not in self._unread:
            await self._more()
        head, self._unread = self._unread.split(b"\r\n\r\n", 1)
        return head

    async def take(self, count: int) -> bytes:
        while len(self._unread) < count:
            await self._more()
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    async def upgrade(self, behind: bytes = b"") -> bytes:
        """Take the request and answer it with the 101, more bytes in the same segment; gives the request's head."""
        head = await self.head()
        await self.send(switching(head) + behind)
        return head

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the client's, unmasked: its opcode and what is in it."""
        first, second = await self.take(2)
        assert second & 0x80, "a client has to mask its frames"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.take(8))
        mask = await self.take(4)
        payload = await self.take(length)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    async def end(self) -> str:
        """Read until the client has ended the connection, and say how."""
        try:
            while await self.stream.receive_some():
                pass
        except trio.BrokenResourceError:
            return "RST"
        return "EOF"

    async def reset(self) -> None:
        """End the connection with an RST."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.stream)

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise trio.BrokenResourceError("the client is gone")
        self._unread += data


def switching(head: bytes) -> bytes:
    """The 101 that answers this request."""
    found = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
    assert found is not None
    accept = base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """One whole frame as a server sends it."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 2**16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[int]:
    """Run the script for every connection while the context lasts; gives the port. Nothing in here lasts for long."""

    async def contained(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # the client may leave in the middle: many tests are about that
            await script(Peer(stream))

    with trio.fail_after(NET) as net:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, contained, listeners)
            try:
                yield listeners[0].socket.getsockname()[1]
            except BaseException as exc:
                if only_cancelled(exc) and not (net.cancel_called or nursery.cancel_scope.cancel_called):
                    raise AssertionError("a cancellation spreads") from exc  # a nursery would swallow it silently
                raise
            nursery.cancel_scope.cancel()


def only_cancelled(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(only_cancelled(each) for each in exc.exceptions)
    return isinstance(exc, trio.Cancelled)


@asynccontextmanager
async def nobody_listening() -> AsyncIterator[int]:
    """A port that is taken, so that nobody else gets it, and at which nobody listens."""
    with trio.fail_after(NET), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
