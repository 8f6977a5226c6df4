"""The way over real sockets: the development server, on free ports of loopback, for any kind of worker."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Unpack

import trio
from trio_websocket import ConnectionClosed

from worker_state.background import open_background
from worker_state.devserver.rules import Rooms
from worker_state.net.dial import WebSocketDial
from worker_state.net.websocket import Socket, close
from worker_state.protocol.error_policy import DialFailure
from worker_state.protocol.frames import Message
from worker_state.protocol.reconnect import Deadlines
from worker_state.testing.kit import Kit, nobody
from worker_state.testing.server_rules import Rules

if TYPE_CHECKING:
    from worker_state.devserver.faults import DevServer

PATIENT = Deadlines(connect=60.0, acknowledge=60.0, upgrade=60.0, register=60.0)  # seconds; the machine may be busy
GOODBYE_SECONDS = 1.0  # for a client's Close frame to be answered


class SocketKit(Kit):
    """The development server on loopback. Faults of it alone, of one TCP connection and more, are `server`'s."""

    server: "DevServer"

    def __init__(self, server: "DevServer") -> None:
        self.server = server
        self.websocket_url: str = server.ws_url
        self.http_url: str = server.http_url

    def frames(self, *types: str) -> list[Message]:
        return [frame for _, frame in self.server.frames if not types or frame.get("type") in types]

    async def _dial(self, nursery: trio.Nursery) -> Socket | DialFailure:
        return await WebSocketDial(self.websocket_url)(PATIENT, nursery)

    async def _hang_up(self, socket: Socket) -> None:
        await close(socket, GOODBYE_SECONDS)
        await socket.abort()

    async def deliver(self, peer_id: str | None, text: str | bytes) -> None:
        peer = self.rooms.peer(peer_id or "")
        connection = next((each for each in self.server.connections if peer and each is peer.connection), None)
        if connection is None:
            raise nobody(peer_id)
        with suppress(ConnectionClosed):
            await connection.websocket.send_message(text)


@asynccontextmanager
async def on_sockets(seed: int = 1, **rules: Unpack[Rules]) -> AsyncIterator[SocketKit]:
    """The development server on two free ports of loopback, while the block lasts.

    It needs the extra `cli`: raises `MissingExtra` (a `ConfigError`) without it. Raises `RuntimeError` under a clock
    that jumps. `seed` is of the chance in the server, `rules` are its rules.
    """
    from worker_state.devserver import serve  # here, since the way in memory does without the extra

    if getattr(trio.lowlevel.current_clock(), "autojump_threshold", math.inf) < math.inf:
        raise RuntimeError(
            "a MockClock that jumps does not wait for real sockets, so every deadline would pass at once:"
            " use in_memory(), or MockClock(rate=…)"
        )
    rooms = Rooms(random=Random(seed), **rules)
    async with open_background(partial(serve, rooms=rooms)) as server:
        yield SocketKit(server)
