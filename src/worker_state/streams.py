"""Byte streams as this package needs them: limited before the handshake, aborted at the end, failures read.

Only trio and the socket module; nothing of WebSocket or HTTP.
"""

import socket
import struct
from contextlib import suppress

import trio

from worker_state.core.verdict import Cause, DialFailure
from worker_state.core.wire import shown


class LimitedHead(trio.abc.Stream):
    """A stream that breaks off when more than `limit` bytes come before the handshake is done (FAULTS T3)."""

    def __init__(self, stream: trio.abc.Stream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._left: float = limit
        self.excess = ""

    def lift(self) -> None:
        """The handshake is done: from here on the library's own message limit holds."""
        self._left = float("inf")

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self._left -= len(data)
        if self._left < 0:
            self.excess = f"more than {self._limit} bytes in place of a handshake"
            raise trio.BrokenResourceError(self.excess)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def why_not_connected(exc: OSError) -> DialFailure:
    # trio says "all attempts failed" without errno; what happened to each address is in the group of its cause.
    causes = exc.__cause__.exceptions if isinstance(exc.__cause__, BaseExceptionGroup) else (exc,)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return DialFailure(Cause.REFUSED)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved")
    return DialFailure(Cause.UNREACHABLE, shown(str(causes[0])))


async def abort(stream: trio.abc.Stream) -> None:
    """Close at once, with RST: no Close frame, no FIN behind unread data, nothing waited for (FAULTS T4, T5, T7)."""
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)
