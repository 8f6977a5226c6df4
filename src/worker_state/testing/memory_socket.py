"""One WebSocket connection to the server in memory."""

from typing import TYPE_CHECKING

import trio

from worker_state.protocol.error_policy import Closed

if TYPE_CHECKING:
    from worker_state.testing.memory import MemoryServer

FULL_SECONDS = 1.0  # between two looks whether the server reads again


class MemorySocket:
    """Both ends of one connection: the worker has it as its `Socket`, the server delivers frames into it.

    What a worker may await returns the end of the connection, `Closed`, once it is over.
    """

    def __init__(self, server: "MemoryServer") -> None:
        self._server = server
        self.heard_at: float = trio.current_time()
        self.in_message: bool = False  # each comes at once
        self._inbox_in, self._inbox = trio.open_memory_channel[str | bytes](float("inf"))
        self._pong = trio.Event()
        self.closed: Closed | None = None
        """How the connection has ended, for the client; None while it is open."""
        self.frozen: list[str] | None = None
        """What the client has sent since the server stopped looking at this connection; None: it does look."""
        self.unsent: list[str | bytes | None] = []
        """What the server could not send meanwhile: frames, and None for a pong."""
        self.deaf = False
        """A proxy answers the pings; behind it there is nobody any more."""
        self.half_open: bool = False
        """Over for the client, and the server does not know."""

    # the client's side

    async def send(self, text: str) -> Closed | None:
        """Send one text frame; waits while the server does not read (`MemoryServer.stuck`)."""
        await trio.lowlevel.checkpoint()
        while self._server.stuck and self.closed is None:
            await trio.sleep(FULL_SECONDS)
        if self.closed is None:
            self._server.receive(self, text)
        return self.closed

    async def receive(self) -> str | bytes | Closed:
        """The next frame that the server has delivered."""
        try:
            return await self._inbox.receive()
        except trio.EndOfChannel:
            assert self.closed is not None
            return self.closed

    async def ping(self) -> Closed | None:
        """Return at the pong; a server that answers no pings lets the client wait."""
        self._pong = trio.Event()
        if self.frozen is not None and self.closed is None:
            self.unsent.append(None)
        elif self.closed is not None or self._server.answers_pings or not self._server.silent:
            self._hear(None)
        await self._pong.wait()
        return self.closed

    async def close(self) -> Closed | None:
        """Close politely."""
        await trio.lowlevel.checkpoint()
        self._server.closes.append(self)
        if self.frozen is None:
            self.end(Closed(1000))
        return None

    async def abort(self) -> None:
        """End the connection without a Close frame."""
        self.end(Closed())

    # the server's side

    def deliver(self, frame: str | bytes | None) -> None:
        """Send the client a text frame, a binary one, or a pong (None), unless a fault is in the way."""
        if self.frozen is not None:
            self.unsent.append(frame)
        elif self.closed is None and not (self.deaf and frame is not None):
            self._hear(frame)

    def _hear(self, frame: str | bytes | None) -> None:
        self.heard_at = trio.current_time()
        if frame is None:
            self._pong.set()
        else:
            self._inbox_in.send_nowait(frame)

    def end(self, closed: Closed, *, noticed: bool = True) -> None:
        """The connection is over for the client; for the server, too, if that is `noticed`."""
        if self.closed is None:
            self.closed = closed
            self.half_open = not noticed or self.frozen is not None
            self._inbox_in.close()
            self._pong.set()
            if not self.half_open:
                self._server.lose(self)
