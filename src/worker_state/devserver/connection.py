"""One accepted WebSocket: its outbox, and the task that empties it.

The rules know a connection only as something hashable. What is said on it, and when it is over, is decided elsewhere.
"""

from __future__ import annotations

import math
from contextlib import suppress

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from worker_state.devserver.cable import Cable
from worker_state.devserver.effects import Close

# The answer to a register in a room of ten thousand is 5 MiB. Who lets more than this pile up does not read, and is
# dropped so that nobody else has to wait.
OUTBOX_BYTES = 16 * 2**20
# For the Close frame to be answered. The TCP connection is then closed with or without it.
CLOSE_SECONDS = 2.0


class Connection:
    def __init__(self, websocket: WebSocketConnection, cable: Cable) -> None:
        self.websocket = websocket
        self.cable = cable
        self.closing = False
        self._written = trio.Event()
        self._unsent_bytes = 0
        # Bounded by bytes rather than by messages: those are from 20 bytes to some MiB long.
        self._outbox, self._pending = trio.open_memory_channel[str | Close](math.inf)

    @property
    def closed_politely(self) -> bool:
        """The client has sent a Close frame, or we have."""
        return self.websocket.closed is not None and self.websocket.closed.code != 1006

    def send(self, text: str) -> None:
        """Puts a frame into the outbox. Cannot block; on a dead connection it does nothing."""
        if self._unsent_bytes <= OUTBOX_BYTES:
            self._unsent_bytes += len(text)
            self._put(text)
        elif not self.cable.frozen:
            self.cable.reset()

    def close(self, code: int, reason: str = "") -> None:
        """Closes politely, after what has been sent so far."""
        self.closing = True
        self._put(Close(self, code, reason))

    def _put(self, item: str | Close) -> None:
        with suppress(trio.BrokenResourceError):  # the writer is gone, and so is the connection
            self._outbox.send_nowait(item)

    async def write(self) -> None:
        """Sends what is in the outbox, in order, until there is a Close in it or the connection is dead."""
        with self._pending:
            async for item in self._pending:
                try:
                    if isinstance(item, Close):
                        with trio.move_on_after(CLOSE_SECONDS):
                            await self.websocket.aclose(item.code, item.reason or None)
                        break
                    await self.websocket.send_message(item)
                    self._unsent_bytes -= len(item)
                except ConnectionClosed:
                    break
        self._written.set()

    async def say_goodbye(self) -> None:
        """Lets the last words out: the queued Close, or the one that the library sent by itself."""
        if self.closing:
            await self._written.wait()
        elif self.websocket.closed is not None and self.websocket.closed.code == 1009:
            await self.cable.drain()
