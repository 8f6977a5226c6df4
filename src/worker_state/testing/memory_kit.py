"""The way in memory: no sockets, and with trio's `MockClock` an hour takes a moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Unpack

import trio

from worker_state.config import Config
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Cause, DialFailure
from worker_state.protocol.frames import Message
from worker_state.protocol.reconnect import ReconnectParameters
from worker_state.testing.kit import Kit, nobody
from worker_state.testing.memory import MemoryServer
from worker_state.testing.memory_socket import MemorySocket
from worker_state.testing.server_rules import Rules
from worker_state.world import World, replaced

HOST = "in-memory.invalid"  # such a name belongs to nobody, so nothing can reach a real server by it


class MemoryKit(Kit):
    """A server in memory. `server` has more faults: `latency`, `stuck`, `dials_hang`, `answer_instead` and others."""

    server: MemoryServer
    websocket_url, http_url = f"wss://{HOST}", f"https://{HOST}"

    def __init__(self, seed: int = 1, **rules: Unpack[Rules]) -> None:
        self.server = MemoryServer(seed, **rules)
        self.random: Random = Random(f"the workers of {seed}")
        """The chance in the pauses and ids of the workers."""
        self._suspended = 0.0

    def world(self, config: Config) -> World:
        """What a worker of this configuration lives in. Raises `RuntimeError` if it is another server's."""
        if (config.websocket_url, config.http_url) != (self.websocket_url, self.http_url):
            named = config.websocket_url.partition("?")[0]
            raise RuntimeError(f"in memory there is no server at {named}: start the worker with kit.config()")
        return World(
            dial=self.server.dial,
            http=_Http(self.server, config.timing.http),
            random=self.random,
            nonce=lambda: f"{self.random.getrandbits(64)}",
            pace=ReconnectParameters.patient(config.timing.register),
            awake=lambda: trio.current_time() + self._suspended,
        )

    def frames(self, *types: str) -> list[Message]:
        return [frame for frame in self.server.frames if not types or frame.get("type") in types]

    async def _dial(self, nursery: trio.Nursery) -> Socket | DialFailure:
        await trio.lowlevel.checkpoint()
        return self.server.connect() if self.server.takes_connections else DialFailure(Cause.REFUSED)

    def suspend(self, seconds: float) -> None:
        """The machine was suspended for so long: the server has lived on, trio's clock has not. (`trio.sleep` is the
        other thing: time that passes for both.)"""
        self._suspended += seconds
        self.server.ahead += seconds

    async def deliver(self, peer_id: str | None, text: str | bytes) -> None:
        await trio.lowlevel.checkpoint()
        peer = self.rooms.peer(peer_id or "")
        if peer is None or not isinstance(peer.connection, MemorySocket):
            raise nobody(peer_id)
        peer.connection.deliver(text)


class _Http:
    """The server's HTTP side, with a worker's own patience."""

    def __init__(self, server: MemoryServer, within: float) -> None:
        self.post = partial(server.post, within=within)


@asynccontextmanager
async def in_memory(seed: int = 1, **rules: Unpack[Rules]) -> AsyncIterator[MemoryKit]:
    """A server in memory: whatever of `worker_state` starts in this run of trio while the block lasts, finds it there.

    Under `trio.testing.MockClock(autojump_threshold=0)` no time is waited for; under any other clock it works, too.
    `seed` is of the chance in server and workers, `rules` are the server's. Raises `RuntimeError` inside another such
    block.
    """
    await trio.lowlevel.checkpoint()
    kit = MemoryKit(seed, **rules)
    with replaced(kit.world):
        yield kit
