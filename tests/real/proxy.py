"""A TCP proxy between worker and server that does to their bytes what a bad network does: every fault is an attribute.

It knows nothing of what goes through it. Each direction of a connection is a reader, which always reads, and a writer,
which is held up, delayed, slowed down or cut off; so what was said before a stall can still arrive after its sender is
gone, as on a real network.
"""

import errno
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import trio

from tests.support.peers import Peer, Script

CHUNK = 65536
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
End = Literal["FIN", "RST"]
Side = Literal["worker", "server"]


class Way:
    """What happens to the bytes of one direction, on all connections."""

    def __init__(self) -> None:
        self.delay = 0.0
        """Seconds that every byte is under way."""
        self.rate: float | None = None
        """Bytes per second; None: as fast as it goes."""
        self.swallows = False
        """Bytes are taken and go nowhere."""
        self.cut_after: int | None = None
        """So many bytes of a connection come through, then both its ends are reset."""
        self.detained = 0
        """Bytes that came to a connection while it was detained."""
        self._flowing = trio.Event()
        self._flowing.set()

    def stall(self) -> None:
        """Nothing comes through until `flow`; then everything does, late."""
        self._flowing = trio.Event()

    def flow(self) -> None:
        self._flowing.set()

    async def flows(self) -> None:
        await self._flowing.wait()


@dataclass(eq=False)
class _Half:
    """One of the two TCP connections that a connection through the proxy consists of."""

    stream: trio.SocketStream
    ended: End | None = None

    def end(self, how: End) -> None:
        """End it now, the polite or the rude way; whoever uses it here hears of that."""
        if self.stream.socket.fileno() < 0:
            return
        if how == "RST":
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


@dataclass(eq=False)
class _Pipe:
    """One connection through the proxy."""

    proxy: "Proxy"
    worker: _Half
    server: _Half
    released: trio.Event = field(default_factory=trio.Event)
    """Until then nothing of this connection arrives."""

    def __post_init__(self) -> None:
        self.released.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for source, sink, way in (
                (self.worker, self.server, self.proxy.up),
                (self.server, self.worker, self.proxy.down),
            ):
                on_the_way, arriving = trio.open_memory_channel[tuple[float, bytes]](float("inf"))
                nursery.start_soon(self._read, source, on_the_way)
                nursery.start_soon(self._write, source, sink, arriving, way)

    async def _read(self, source: _Half, on_the_way: trio.MemorySendChannel[tuple[float, bytes]]) -> None:
        source_end: End = "FIN"
        with on_the_way:
            try:
                while data := bytes(await source.stream.receive_some(CHUNK)):
                    on_the_way.send_nowait((trio.current_time(), data))
            except GONE:
                source_end = "RST"
            source.ended = source_end

    async def _write(
        self, source: _Half, sink: _Half, arriving: trio.MemoryReceiveChannel[tuple[float, bytes]], way: Way
    ) -> None:
        passed = 0
        with suppress(*GONE):
            async for sent_at, data in arriving:
                await trio.sleep_until(sent_at + way.delay)
                await way.flows()
                way.detained += 0 if self.released.is_set() else len(data)
                await self.released.wait()
                if way.swallows:
                    continue
                room = len(data) if way.cut_after is None else max(0, way.cut_after - passed)
                await self._pass(sink, data[:room], way)
                passed += len(data)
                if room < len(data):
                    self.worker.end("RST")
                    self.server.end("RST")
                    return
        # Everything that the source had said is said; now its end is.
        await way.flows()
        await self.proxy.telling()
        if source.ended == "FIN":
            with suppress(*GONE):
                await sink.stream.send_eof()
        else:
            sink.end("RST")

    async def _pass(self, sink: _Half, data: bytes, way: Way) -> None:
        if way.rate is None:
            if data:
                await sink.stream.send_all(data)
            return
        step = max(1, int(way.rate / 50))
        for at in range(0, len(data), step):
            await trio.sleep(len(data[at : at + step]) / way.rate)
            await sink.stream.send_all(data[at : at + step])


@dataclass
class Proxy:
    """Listens on loopback and passes on to the server's port, or plays a script instead."""

    port: int
    server_port: int
    dials: list[float] = field(default_factory=list)
    """When connections were opened, of trio's clock."""
    up: Way = field(default_factory=Way)
    """From the worker to the server."""
    down: Way = field(default_factory=Way)
    """From the server to the worker."""
    script: Script | None = None
    """Played to every new connection, and the server hears nothing of it."""
    _pipes: set[_Pipe] = field(default_factory=set)
    _scripted: set[trio.SocketStream] = field(default_factory=set)
    _telling: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self._telling.set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def cut(self, how: End = "RST", only: Side | None = None) -> None:
        """End every present connection, on both sides or on one; the other hears of it unless ends are hidden."""
        for pipe in tuple(self._pipes):
            if only != "server":
                pipe.worker.end(how)
            if only != "worker":
                pipe.server.end(how)
        for stream in tuple(self._scripted):
            _Half(stream).end(how)

    def hide_ends(self) -> None:
        """What happens to one half of a connection is not told to the other: half-open connections."""
        self._telling = trio.Event()

    def tell_ends(self) -> None:
        """Now it is told, late."""
        self._telling.set()

    def detain(self) -> None:
        """Nothing of the present connections arrives until `release`; later ones are not concerned."""
        for pipe in self._pipes:
            pipe.released = trio.Event()

    def release(self) -> None:
        for pipe in self._pipes:
            pipe.released.set()

    async def telling(self) -> None:
        await self._telling.wait()

    async def serve(self, worker: trio.SocketStream) -> None:
        """One connection, from its first byte to its last."""
        self.dials.append(trio.current_time())
        if self.script is not None:
            await self._play(self.script, worker)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.server_port)
        except OSError:
            _Half(worker).end("RST")
            return
        pipe = _Pipe(self, _Half(worker), _Half(server))
        self._pipes.add(pipe)
        try:
            await pipe.run()
        finally:
            self._pipes.discard(pipe)
            pipe.worker.end("FIN")
            pipe.server.end("FIN")

    async def _play(self, script: Script, worker: trio.SocketStream) -> None:
        self._scripted.add(worker)
        try:
            with suppress(*GONE):
                await script(Peer(worker))
        finally:
            self._scripted.discard(worker)
            worker.socket.close()


@asynccontextmanager
async def proxying(server_port: int) -> AsyncIterator[Proxy]:
    """A proxy before this port while the context lasts."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy = Proxy(listeners[0].socket.getsockname()[1], server_port)

        async def serve(stream: trio.SocketStream) -> None:
            try:
                await proxy.serve(stream)
            except OSError as error:
                # A connection can be gone before the first look at it.
                if error.errno not in (errno.EBADF, errno.ENOTCONN, errno.ECONNRESET):
                    raise

        nursery.start_soon(trio.serve_listeners, serve, listeners)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
