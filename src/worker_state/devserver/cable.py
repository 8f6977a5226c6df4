"""A TCP stream that faults can get hold of: it can be frozen, thawed, reset, and drained before it is closed.

Nothing of the protocol is known here.
"""

from __future__ import annotations

import struct

import trio

# How long, and for how many bytes, we go on reading from somebody to whom we have said goodbye. Closing with unread
# bytes in the kernel would be a reset, which can overtake our last words.
DRAIN_SECONDS = 1.0
DRAIN_BYTES = 16 * 2**20

# How long somebody may not read what he is sent. The real server's keepalive drops him after 36 s.
SEND_SECONDS = 36.0

ABORT = struct.pack("ii", 1, 0)


class Cable(trio.abc.Stream):
    def __init__(self, stream: trio.SocketStream) -> None:
        self.ended = trio.Event()  #: nothing more will be received
        self._stream = stream
        self._thawed = trio.Event()
        self._thawed.set()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def freeze(self) -> None:
        """From now on this side neither reads nor writes, nor notices anything. The kernel goes on accepting."""
        self._thawed = trio.Event()

    def thaw(self) -> None:
        self._thawed.set()

    def reset(self) -> None:
        """Ends the connection with a RST, now. A frozen side does not notice until it is thawed."""
        if self._stream.socket.fileno() >= 0:
            self._stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, ABORT)
        self._stream.socket.close()

    def close(self) -> None:
        self._stream.socket.close()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
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

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._thawed.wait()
        with trio.move_on_after(SEND_SECONDS) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            # Half a frame may be on the wire, so nothing more can be said on it.
            self.reset()
            raise trio.BrokenResourceError("the other side does not read")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def drain(self) -> None:
        """Says that nothing more will come, and waits for the other side to do the same; not for ever."""
        left = DRAIN_BYTES
        with trio.move_on_after(DRAIN_SECONDS):
            try:
                await self._stream.send_eof()
                while left > 0 and (data := await self._stream.receive_some()):
                    left -= len(data)
            except trio.BusyResourceError:
                # Somebody else is still reading, and will see the end.
                await self.ended.wait()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
