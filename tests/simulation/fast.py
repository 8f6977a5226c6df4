"""The fast level: the worker's end of a connection as the protocols `Dial` and `Socket`, frames as they are.

The server's end is `Frames`. Nothing is encoded, so this level finds what is wrong with the worker, not with framing.
"""

from collections.abc import Callable
from random import Random

import trio

from tests.simulation.conns import FIN, PART, RST, CloseFrame, Conn, Item, Ping
from tests.simulation.server import Server
from tests.simulation.wire import encoded
from worker_state.devserver.model import Message
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.reconnect import Deadlines

SHUT_DOORS = {
    "refused": DialFailure(Cause.REFUSED),
    "no route": DialFailure(Cause.UNREACHABLE, "[Errno 113] No route to host"),
    "closes": DialFailure(Cause.CLOSED, "before the handshake was done"),
    "garbage": DialFailure(Cause.GARBAGE, "the answer is no WebSocket handshake"),
    "404": DialFailure(Cause.REJECTED, "HTTP 404", status=404),
    "503": DialFailure(Cause.SHED, "HTTP 503", status=503),
    "429": DialFailure(Cause.SHED, "HTTP 429", status=429, retry_after="7"),
}


class Frames:
    """The server's end: frames travel as they are."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn

    def text(self, message: Message) -> None:
        self._conn.down.push(encoded(message))

    def junk(self, data: str | bytes) -> None:
        self._conn.down.push(data)

    def ping(self) -> None:
        self._conn.down.push(Ping(0))

    def tiny(self, count: int) -> None:
        """Frames that only the byte level has: here they are pings."""
        for _ in range(count):
            self.ping()

    def close(self, code: int, reason: str) -> None:
        self._conn.down.push(CloseFrame(code, reason))


class FastSocket:
    """`Socket` without WebSocket."""

    in_message = False

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.heard_at = trio.current_time()
        self._inbox_in, self._inbox = trio.open_memory_channel[str | bytes](float("inf"))
        self._pings = 0
        self._pong = trio.Event()
        self.closed: Closed | None = None
        self.conn: Conn

    def arrive(self, item: Item) -> None:
        """Something has come from the server."""
        if self.closed is not None:
            return
        self.heard_at = trio.current_time()
        self.in_message = item is PART
        match item:
            case _ if self.in_message:
                pass
            case str() | bytes():
                self._inbox_in.send_nowait(item)
            case Ping(answered=True):
                self._pong.set()
            case Ping():
                self.conn.up.push(Ping(item.number, answered=True))
            case CloseFrame():
                self.conn.up.push(CloseFrame(item.code))
                self._end(Closed(item.code, item.reason))
            case _:
                self._end(Closed(1006, "without a Close frame"))

    def _end(self, closed: Closed) -> None:
        self.closed = closed
        self._inbox_in.close()
        self._pong.set()

    async def send(self, text: str) -> Closed | None:
        await trio.lowlevel.checkpoint()
        while self.closed is None and self.conn.up.full:
            await self.conn.up.wait_for_room()
        if self.closed is None:
            self.conn.up.push(text)
        return self.closed

    async def receive(self) -> str | bytes | Closed:
        try:
            return await self._inbox.receive()
        except trio.EndOfChannel:
            assert self.closed is not None
            return self.closed

    async def ping(self) -> Closed | None:
        await trio.lowlevel.checkpoint()
        self._pings += 1
        if self.closed is None:
            self._pong = trio.Event()
            self.conn.up.push(Ping(self._pings))
        await self._pong.wait()
        return self.closed

    async def close(self) -> Closed | None:
        await trio.lowlevel.checkpoint()
        self.conn.up.push(CloseFrame(1000))
        return self.closed

    async def abort(self) -> None:
        self.conn.abandon(FIN if self._chance.random() < 0.5 else RST)


class FastDial:
    """`Dial` of one worker."""

    def __init__(self, server: Server, owner: str, chance: Random, dialled: Callable[[], None]) -> None:
        self._server = server
        self._dialled = dialled
        self._owner = owner
        self._chance = chance

    async def __call__(
        self, deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        self._dialled()
        failure = await self._failure(deadlines)
        if failure is not None:
            return failure
        socket = FastSocket(self._chance)
        conn = socket.conn = self._server.connect(self._owner, self._chance, socket.arrive)
        conn.codec = Frames(conn)
        if self._server.door(self._owner) == "slams":
            self._server.net.after(0.02, lambda: conn.server_closes(1013))
        return socket

    async def _failure(self, deadlines: Deadlines) -> DialFailure | None:
        await trio.sleep(self._chance.uniform(0.001, 0.08))
        with trio.move_on_after(deadlines.upgrade):
            await self._server.resumed.wait()
        if not self._server.resumed.is_set():
            return DialFailure(Cause.UNANSWERED, f"nothing in {deadlines.upgrade:g} s")
        match self._server.door(self._owner):
            case "open" | "slams":
                return None
            case "unanswered":
                await trio.sleep(deadlines.connect)
                return DialFailure(Cause.NO_ANSWER, f"in {deadlines.connect:g} s")
            case "full":
                await trio.sleep(deadlines.acknowledge)
                return DialFailure(Cause.UNACKNOWLEDGED)
            case "mute":
                return await self._unanswered(deadlines)
            case shut:
                return SHUT_DOORS[shut]

    async def _unanswered(self, deadlines: Deadlines) -> DialFailure:
        """Accepted, and then nothing, until the patience is over or the broken server is gone."""
        give_up_at = trio.current_time() + deadlines.upgrade
        while trio.current_time() < give_up_at:
            await trio.sleep(min(0.5, give_up_at - trio.current_time()))
            if self._server.door(self._owner) != "mute":
                return DialFailure(Cause.CLOSED, "before the handshake was done")
        return DialFailure(Cause.UNANSWERED, f"nothing in {deadlines.upgrade:g} s")
