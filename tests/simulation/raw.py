"""The byte level: the product's own `WebSocketDial` over an in-memory stream, and real WebSocket framing at both ends.

The server's end is wsproto without any task, so that it goes on while the workers are stopped. A connection can break
at any byte, and bytes arrive in pieces.
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.events import Ping as WebSocketPing
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from tests.simulation.conns import FIN, RST, TIMED_OUT, CloseFrame, Conn, Item
from tests.simulation.server import Server
from tests.simulation.wire import encoded
from worker_state.devserver.model import Message
from worker_state.net.dial import WebSocketDial

GARBAGE = (
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: no\r\n\r\n"
    ),
    b"\x00" * 70_000,
)
REJECTIONS = {"404": (404, []), "503": (503, []), "429": (429, [(b"retry-after", b"7")])}


class Framed:
    """The server's end of one connection: bytes in, frames to the server; frames of the server, bytes out."""

    def __init__(self, conn: Conn, server: Server, chance: Random, mood: str) -> None:
        self._conn = conn
        self._server = server
        self._chance = chance
        self._mood = mood
        self._ws = WSConnection(ConnectionType.SERVER)
        self._text = ""
        self._open = False

    # from the server

    def text(self, message: Message) -> None:
        self._send(TextMessage(data=encoded(message)))

    def junk(self, data: str | bytes) -> None:
        self._send(TextMessage(data=data) if isinstance(data, str) else BytesMessage(data=data))

    def ping(self) -> None:
        self._send(WebSocketPing(payload=b"devserver"))

    def tiny(self, count: int) -> None:
        """Pongs that answer nothing, and one message of empty fragments."""
        for _ in range(count):
            self._send(Pong(payload=b""))
        for _ in range(count):
            self._send(TextMessage(data="", message_finished=False))
        self._send(TextMessage(data="{}"))

    def close(self, code: int, reason: str) -> None:
        self._send(CloseConnection(code=code, reason=reason or None))

    def _send(self, event: TextMessage | BytesMessage | WebSocketPing | Pong | CloseConnection) -> None:
        if self._open:
            with suppress(LocalProtocolError):  # it is closing, and nothing can be said on it any more
                self._put(self._ws.send(event))

    def _put(self, data: bytes) -> None:
        """In pieces, as TCP does."""
        while data:
            size = len(data) if self._chance.random() < 0.7 else self._chance.randrange(1, len(data) + 1)
            self._conn.down.push(data[:size])
            data = data[size:]

    # from the worker

    def receive(self, data: bytes) -> None:
        if self._mood in ("mute", "closes"):
            return
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._take(event)
        except RemoteProtocolError:
            self._conn.server_closes(1002)

    def _take(self, event: object) -> None:
        match event:
            case Request():
                self._answer_upgrade()
            case TextMessage(data=text, message_finished=finished):
                self._text += text
                if finished:
                    whole, self._text = self._text, ""
                    self._server.take_frame(self._conn, whole)
            case BytesMessage():
                pass
            case WebSocketPing():
                self._put(self._ws.send(event.response()))
            case CloseConnection(code=code):
                if self._open:
                    self._server.take_frame(self._conn, CloseFrame(code))
            case _:
                pass

    def _answer_upgrade(self) -> None:
        match self._mood:
            case "open" | "slams":
                self._open = True
                self._put(self._ws.send(AcceptConnection()))
                if self._mood == "slams":
                    self._server.net.after(0.02, lambda: self._conn.server_closes(1013))
            case "garbage":
                self._put(self._chance.choice(GARBAGE))
                if self._chance.random() < 0.5:
                    self._hang_up()
                else:
                    end_with_the_mood(self._server, self._conn, self._mood)
            case mood:
                status, headers = REJECTIONS[mood]
                self._put(self._ws.send(RejectConnection(status_code=status, headers=headers)))
                self._hang_up()

    def _hang_up(self) -> None:
        self._conn.down.put(FIN)
        self._conn.server_notices()


def end_with_the_mood(server: Server, conn: Conn, mood: str) -> None:
    """A server that says nothing, or nonsense and then nothing, is gone one day, and its connections with it."""
    if server.door(conn.owner) != mood:
        conn.break_(0.0, 0.0)
    elif conn.client_open:
        server.net.after(1.0, lambda: end_with_the_mood(server, conn, mood))


class MemoryStream(trio.abc.Stream):
    """The worker's end of a TCP connection."""

    def __init__(self) -> None:
        self.conn: Conn
        self._received = bytearray()
        self._end: Item | None = None
        self._closed = False
        self._news = trio.Event()

    def arrive(self, item: Item) -> None:
        """Bytes, or how it ends."""
        if self._end is None:
            if isinstance(item, bytes):
                self._received += item
            else:
                self._end = item
                if item is not FIN:
                    self._received.clear()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._received:
                taken = bytes(self._received[: max_bytes or 65536])
                del self._received[: len(taken)]
                return taken
            if self._end is FIN:
                return b""
            self._raise_if_broken()
            await self._news.wait()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        while not self._closed and self._end in (None, FIN) and self.conn.up.full:
            await self.conn.up.wait_for_room()
        if self._closed:
            raise trio.ClosedResourceError
        self._raise_if_broken()
        self.conn.up.push(bytes(data))

    def _raise_if_broken(self) -> None:
        if self._end not in (None, FIN):
            raise trio.BrokenResourceError from (TimeoutError() if self._end is TIMED_OUT else None)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._tell()
            self.conn.abandon(FIN)
        await trio.lowlevel.checkpoint()


class ByteDial(WebSocketDial):
    """The product's dial, with streams of ours under it."""

    def __init__(self, server: Server, owner: str, chance: Random, dialled: Callable[[], None]) -> None:
        super().__init__("ws://127.0.0.1", open_stream=self._open)
        self._dialled = dialled
        self._server = server
        self._owner = owner
        self._chance = chance

    async def _open(self, host: str, port: int, within: float) -> trio.abc.Stream:
        self._dialled()
        await trio.sleep(self._chance.uniform(0.001, 0.04))
        mood = self._server.door(self._owner)
        if mood == "refused":
            raise OSError("all attempts failed") from ExceptionGroup("", [ConnectionRefusedError()])
        if mood == "no route":
            raise OSError(113, "No route to host")
        if mood == "unanswered":
            await trio.sleep(within)
            raise TimeoutError
        stream = MemoryStream()
        conn = stream.conn = self._server.connect(self._owner, self._chance, stream.arrive)
        conn.codec = Framed(conn, self._server, self._chance, mood)
        if mood == "closes":
            conn.down.put(self._chance.choice((FIN, RST)))
        elif mood == "full":
            conn.up.cut_off()
        elif mood == "mute":
            end_with_the_mood(self._server, conn, mood)
        return stream
