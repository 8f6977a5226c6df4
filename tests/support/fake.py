"""An in-memory signaling server behind the `Dial` and `Http` protocols: the real rules, no sockets, any clock.

Text frames go in and out of the development server's own `Rooms`; only the network around it is made up. The contract
suite runs against this and against the real transport, so that it cannot lie.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from worker_state.core.verdict import Cause, Closed, DialFailure
from worker_state.core.wire import HttpAnswer, HttpFailure
from worker_state.devserver.effects import Close, Effect, Reply, Send
from worker_state.devserver.rooms import Rooms
from worker_state.transport import Socket

EPOCH = 1_800_000_000.0


class FakeSocket:
    """One connection, seen from the client."""

    def __init__(self, server: "FakeServer") -> None:
        self._server = server
        self._inbox_in, self._inbox = trio.open_memory_channel[str | bytes](float("inf"))
        self.closed: Closed | None = None

    async def send(self, text: str) -> Closed | None:
        await trio.lowlevel.checkpoint()
        while self._server.stuck and self.closed is None:
            await trio.sleep(1)
        if self.closed is None:
            self._server.receive(self, text)
        return self.closed

    async def receive(self) -> str | bytes | Closed:
        try:
            return await self._inbox.receive()
        except trio.EndOfChannel:
            assert self.closed is not None
            return self.closed

    async def ping(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._server.silent or self.closed is not None:
            await trio.sleep_forever()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self._server.closes.append(self)
        self.end(Closed(1000))

    def deliver(self, text: str | bytes) -> None:
        if self.closed is None:
            self._inbox_in.send_nowait(text)

    def end(self, closed: Closed) -> None:
        if self.closed is None:
            self.closed = closed
            self._inbox_in.close()
            self._server.lose(self)


class FakeServer:
    """What the network and the server do; every fault is an attribute that a test sets and unsets."""

    def __init__(self, seed: int = 1, generation: str = "v2", **rules: Any) -> None:
        self.rooms = Rooms(random=Random(seed), generation=generation, **rules)  # type: ignore[arg-type]
        self.sockets: list[FakeSocket] = []
        self.closes: list[FakeSocket] = []
        self.frames: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, Any] | None, float]] = []
        self.dials: list[float] = []
        self.up = True
        self.silent = False
        """Takes frames and answers nothing, not even pings."""
        self.stuck = False
        """Does not read: a send never comes back."""
        self.http_answers: dict[str, list[HttpAnswer | HttpFailure]] = {}
        """Next answers by path, in place of the rules'."""
        self.http_hangs: set[str] = set()

    # the network

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Socket | DialFailure]:
        await trio.lowlevel.checkpoint()
        self.dials.append(trio.current_time())
        if not self.up:
            yield DialFailure(Cause.REFUSED)
            return
        socket = FakeSocket(self)
        self.sockets.append(socket)
        try:
            yield socket
        finally:
            socket.end(Closed())

    def cut(self) -> None:
        """Every open connection is reset."""
        for socket in tuple(self.sockets):
            socket.end(Closed())

    def lose(self, socket: FakeSocket) -> None:
        self.sockets.remove(socket)
        self.rooms.gone(socket, self.now())

    def receive(self, socket: FakeSocket, text: str) -> None:
        self.frames.append(json.loads(text))
        if not self.silent:
            self._perform(self.rooms.receive(socket, text, self.now()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            socket = effect.connection
            assert isinstance(socket, FakeSocket)
            match effect:
                case Send(_, message):
                    socket.deliver(json.dumps(message))
                case Close(_, code, reason):
                    socket.end(Closed(code, reason))

    @staticmethod
    def now() -> float:
        return EPOCH + trio.current_time()

    # HTTP

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        await trio.lowlevel.checkpoint()
        self.requests.append((path, None if body is None else dict(body), trio.current_time()))
        if path in self.http_hangs:
            await trio.sleep(30)
            return HttpFailure("no whole answer in 30 s")
        if self.http_answers.get(path):
            return self.http_answers[path].pop(0)
        match path:
            case "/anonymous-signin":
                return _answer(self.rooms.sign_in(self.now()))
            case "/create-room":
                return _answer(self.rooms.create_room(bearer and f"Bearer {bearer}", self.now()))
            case "/delete-peer":
                return _answer(self.rooms.delete_peer(None if body is None else dict(body), self.now()))
            case _:
                return HttpAnswer(404, "application/json", b'{"detail": "Not Found"}')


def _answer(reply: Reply) -> HttpAnswer:
    return HttpAnswer(reply.status, "application/json", json.dumps(reply.body).encode())
