"""The way over real sockets: the development server, on free ports of loopback, for any kind of worker."""

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Unpack

import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from worker_state.background import open_background
from worker_state.devserver.rules import Rooms
from worker_state.errors import Disconnected
from worker_state.protocol.frames import Message
from worker_state.testing.client import Client
from worker_state.testing.kit import Kit, Rules, nobody

if TYPE_CHECKING:
    from worker_state.devserver.faults import DevServer

MAX_MESSAGE = 16 * 2**20  # bytes: the list of a large room
GOODBYE_SECONDS = 1.0  # for a client's Close frame to be answered
REFUSALS = 100_000  # of upgrades: more than a test makes


class SocketKit(Kit):
    """The development server on loopback. Faults of it alone, of one TCP connection and more, are `server`'s."""

    server: "DevServer"

    def __init__(self, server: "DevServer", **rules: Unpack[Rules]) -> None:
        super().__init__(rules)
        self.server = server
        self.websocket_url, self.http_url = server.ws_url, server.http_url

    def now(self) -> float:
        return self.server.clock()

    def frames(self, *types: str) -> list[Message]:
        return [frame for _, frame in self.server.frames if not types or frame.get("type") in types]

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        opening = open_websocket_url(
            self.websocket_url, max_message_size=MAX_MESSAGE, disconnect_timeout=GOODBYE_SECONDS
        )
        async with AsyncExitStack() as stack:
            try:
                socket = await stack.enter_async_context(opening)
            except (OSError, HandshakeError) as error:
                raise Disconnected(f"a client cannot connect: {error}") from error

            async def receive() -> str:
                try:
                    text = await socket.get_message()
                except ConnectionClosed as error:
                    raise Disconnected(f"the client's connection is over: {error.reason}") from error
                assert isinstance(text, str)
                return text

            async def send(text: str) -> None:
                try:
                    await socket.send_message(text)
                except ConnectionClosed as error:
                    raise Disconnected(f"the client's connection is over: {error.reason}") from error

            yield Client("", send, receive)

    def refuse(self) -> None:
        self.server.refuse_upgrades(503, times=REFUSALS)

    def come_back(self) -> None:
        self.server.accept_upgrades()
        super().come_back()

    async def deliver(self, peer_id: str | None, text: str | bytes) -> None:
        found = [each for each in self.server.connections if self.rooms.peer_of(each) == peer_id]
        if not found or peer_id is None:
            raise nobody(peer_id)
        with suppress(ConnectionClosed):
            await found[0].websocket.send_message(text)


@asynccontextmanager
async def on_sockets(seed: int = 1, **rules: Unpack[Rules]) -> AsyncIterator[SocketKit]:
    """The development server on two free ports of loopback, while the block lasts.

    It needs the extra `cli`: raises `MissingExtra` (a `ConfigError`) without it. Raises `RuntimeError` under a clock
    that jumps. `seed` is of the chance in the server, `rules` are its rules.
    """
    from worker_state.devserver import serve  # here, since the way in memory does without the extra

    clock = trio.lowlevel.current_clock()
    if isinstance(clock, MockClock) and clock.autojump_threshold < math.inf:
        raise RuntimeError(
            "a MockClock that jumps does not wait for real sockets, so every deadline would pass at once:"
            " use in_memory(), or MockClock(rate=…)"
        )
    rooms = Rooms(random=Random(seed), **rules)
    async with open_background(partial(serve, rooms=rooms)) as server:
        yield SocketKit(server, **rules)
