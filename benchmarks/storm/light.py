"""The light client: dials, upgrades, registers, proves and holds, for any `Rule`, so that only the rule differs.

When to dial, and how long each stage is waited for, is the rule's to say and nobody else's. Everything else is alike:
bare sockets, the framing of wsproto, one task for each client.
"""

import json
import math
import struct
from collections import deque
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

import h11
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from benchmarks.rules import Rule
from benchmarks.server import Seat
from benchmarks.storm.frames import Truth, echo, register, update
from benchmarks.storm.tally import Tally
from worker_state.protocol.error_policy import Cause, hint
from worker_state.protocol.reconnect import Deadlines

LIVED = 3600.0
"""Seconds that every rule is told its link has lived for when the storm begins."""
START = Deadlines(connect=30.0, acknowledge=60.0, upgrade=60.0, register=60.0)
"""For the registration before the storm, which no rule is asked about."""
PING_EVERY, SILENCE = 8.0, 25.0
"""Seconds without a word after which a link is asked, and then without an answer after which it is dead."""
BUSY = frozenset({429, 502, 503, 504})
UPGRADE = h11.Request(
    method="GET",
    target="/",
    headers=[
        ("Host", "localhost"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "c3Rvcm1zdG9ybXN0b3JtIQ=="),
        ("Sec-WebSocket-Version", "13"),
    ],
)


RESET = struct.pack("ii", 1, 0)


class Over(Exception):
    """A dial or a link has ended, for this cause; `opened` says whether there was a 101."""

    def __init__(self, cause: Cause, *, code: int = 1006, hint: float | None = None, opened: bool = True) -> None:
        super().__init__(cause)
        self.opened = opened
        self.cause = cause
        self.code = code
        self.hint = hint


class Link:
    """An open WebSocket on a stream. Whatever ends it comes out as `Over`."""

    def __init__(self, stream: trio.SocketStream, received: bytes) -> None:
        self._stream = stream
        self._frames = Connection(ConnectionType.CLIENT)
        self._frames.receive_data(received)
        self._pending: deque[Event] = deque(self._frames.events())

    async def send(self, message: dict[str, Any]) -> None:
        await self._send(TextMessage(json.dumps(message, separators=(",", ":"))))

    async def ping(self) -> None:
        await self._send(Ping())

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None for a sign of life that is none."""
        while not self._pending:
            try:
                data = await self._stream.receive_some()
                self._frames.receive_data(bytes(data) or None)
                self._pending.extend(self._frames.events())
            except (trio.BrokenResourceError, RemoteProtocolError):
                raise Over(Cause.CLOSED) from None
        match self._pending.popleft():
            case TextMessage(data=text, message_finished=True):  # the server never cuts a message into pieces
                message: dict[str, Any] = json.loads(text)
                return message
            case CloseConnection(code=code):
                raise Over(Cause.CLOSED, code=int(code))
            case Ping() as ping:
                await self._send(ping.response())
                return None
            case _:
                return None

    async def _send(self, event: Event) -> None:
        try:
            await self._stream.send_all(self._frames.send(event))
        except (trio.BrokenResourceError, LocalProtocolError):
            raise Over(Cause.CLOSED) from None


class LightClient:
    """One client with one seat and one rule. `resets`: it gives up with RST, where `close` alone sends a FIN."""

    def __init__(self, seat: Seat, rule: Rule, at: tuple[str, int], tally: Tally, *, resets: bool) -> None:
        self._seat = seat
        self._rule = rule
        self._at = at
        self.truth = Truth()
        self._tally = tally
        self._resets = resets
        self._link: Link | None = None

    async def run(self, together: trio.CapacityLimiter) -> None:
        """Register with a few others and without the rule, as if that had been long ago; then as the rule says."""
        stream, link = await self._start(together)
        now = trio.current_time()
        self._rule.dialling(now - LIVED)
        self._rule.answered(now - LIVED)
        pause = await self._until_lost(stream, link)
        while True:
            await trio.sleep(pause)
            pause = await self.dial()

    async def update(self) -> None:
        """Tell the server what is true now; without a link the next `register` does."""
        if self._link is not None:
            with suppress(Over):  # whoever reads there learns it as well
                await self._link.send(update(self._seat, self.truth))

    async def _start(self, together: trio.CapacityLimiter) -> tuple[trio.SocketStream, Link]:
        async with together:
            stream = await self._connect(START)
            return stream, await self._register(stream, START, trio.current_time() + START.register)

    async def dial(self) -> float:
        """One dial and, if it comes to that, its link. The pause that follows."""
        self._tally.dials += 1
        stream = None
        deadlines = self._rule.dialling(trio.current_time())
        try:
            stream = await self._connect(deadlines)
            link = await self._register(stream, deadlines, trio.current_time() + deadlines.register)
        except BaseException as over:
            if stream is not None:
                self._give_up(stream)
            if not isinstance(over, Over):
                raise
            self._tally.outcomes[over.cause.name] += 1
            if over.opened:
                return self._rule.lost(trio.current_time(), over.cause, over.code, over.hint)
            return self._rule.failed(trio.current_time(), over.cause, over.hint)
        self._tally.outcomes["REGISTERED"] += 1
        self._rule.answered(trio.current_time())
        return await self._until_lost(stream, link)

    async def _connect(self, deadlines: Deadlines) -> trio.SocketStream:
        connection = trio.socket.socket()
        try:
            with trio.move_on_after(deadlines.connect):
                await connection.connect(self._at)
                return trio.SocketStream(connection)
            raise Over(Cause.NO_ANSWER, opened=False)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            cause = Cause.REFUSED if isinstance(error, ConnectionRefusedError) else Cause.UNREACHABLE
            raise Over(cause, opened=False) from None

    async def _register(self, stream: trio.SocketStream, deadlines: Deadlines, give_up_at: float) -> Link:
        """From the connection to the registration's answer."""
        link = None
        with trio.move_on_at(give_up_at):
            with trio.move_on_after(deadlines.upgrade):
                link = await self._upgrade(stream, deadlines.acknowledge)
            if link is None:
                raise Over(Cause.UNANSWERED, opened=False)
            await link.send(register(self._seat, self.truth))
            while (answer := await link.receive()) is None or answer.get("type") != "registered_auth":
                pass
            return link
        raise Over(Cause.UNREGISTERED)

    async def _upgrade(self, stream: trio.SocketStream, acknowledge: float) -> Link:
        http = h11.Connection(h11.CLIENT)
        try:
            await stream.send_all(http.send(UPGRADE) or b"")
            while (head := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await self._receive_first(stream, acknowledge))
                acknowledge = math.inf
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            raise Over(Cause.CLOSED, opened=False) from None
        match head:
            case h11.InformationalResponse(status_code=101):
                return Link(stream, http.trailing_data[0])
            case h11.Response(status_code=status):
                retry_after = dict(head.headers).get(b"retry-after")
                cause = Cause.SHED if status in BUSY else Cause.REJECTED
                raise Over(cause, hint=hint(retry_after.decode()) if retry_after is not None else None, opened=False)
            case _:
                raise Over(Cause.CLOSED, opened=False)

    async def _receive_first(self, stream: trio.SocketStream, acknowledge: float) -> bytes:
        with trio.move_on_after(acknowledge):
            return bytes(await stream.receive_some())
        if struct.unpack("i", ioctl(stream.socket.fileno(), TIOCOUTQ, bytes(4)))[0]:
            raise Over(Cause.UNACKNOWLEDGED, opened=False)
        return bytes(await stream.receive_some())

    async def _until_lost(self, stream: trio.SocketStream, link: Link) -> float:
        """Prove that we are there, and hold the link. The pause that follows its end."""
        self._link = link
        self._tally.registered += 1
        try:
            await self._hold(link)
        except Over as over:
            return self._rule.lost(trio.current_time(), over.cause, over.code, over.hint)
        finally:
            self._link = None
            self._tally.registered -= 1
            self._give_up(stream)
        raise AssertionError("a link ends with Over")

    async def _hold(self, link: Link) -> None:
        await link.send(echo(self._seat))
        while True:
            heard = False
            with trio.move_on_after(PING_EVERY):
                await link.receive()
                heard = True
            if not heard:
                await link.ping()
                with trio.move_on_after(SILENCE) as silence:
                    await link.receive()
                if silence.cancelled_caught:
                    raise Over(Cause.SILENT)

    def _give_up(self, stream: trio.SocketStream) -> None:
        if self._resets:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        stream.socket.close()
