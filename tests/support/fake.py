"""An in-memory signaling server behind the `Dial` and `Http` protocols: the real rules, no sockets, any clock.

Text frames go in and out of the development server's own `Rooms`; only the network around it is made up. The contract
suite runs against this and against the real transport, so that it cannot lie.
"""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import trio

from worker_state.devserver.model import Close, Effect, Reply, Send
from worker_state.devserver.rules import Rooms
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.http_api import HttpAnswer, HttpFailure
from worker_state.protocol.reconnect import Deadlines

EPOCH = 1_800_000_000.0


class FakeSocket:
    """One connection, seen from the client."""

    def __init__(self, server: "FakeServer") -> None:
        self._server = server
        self.heard_at = trio.current_time()
        self._inbox_in, self._inbox = trio.open_memory_channel[str | bytes](float("inf"))
        self._pong = trio.Event()
        self.closed: Closed | None = None
        self.frozen: list[str] | None = None
        """What the client has sent since the server stopped looking at this connection; None: it does look."""
        self.unsent: list[str | bytes | None] = []
        """What the server could not send meanwhile: frames, and None for a pong."""
        self.deaf = False
        """A proxy answers the pings; behind it there is nobody any more."""
        self.half_open = False
        """Over for the client, and the server does not know."""

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

    async def ping(self) -> Closed | None:
        self._pong = trio.Event()
        if self.frozen is not None:
            self.unsent.append(None)
        elif self.closed is not None or self._server.answers_pings or not self._server.silent:
            self._hear(None)
        await self._pong.wait()
        return self.closed

    async def close(self) -> Closed | None:
        await trio.lowlevel.checkpoint()
        self._server.closes.append(self)
        if self.frozen is None:
            self.end(Closed(1000))
        return None

    async def abort(self) -> None:
        self.end(Closed())

    def deliver(self, frame: str | bytes | None) -> None:
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
        if self.closed is None:
            self.closed = closed
            self.half_open = not noticed or self.frozen is not None
            self._inbox_in.close()
            self._pong.set()
            if not self.half_open:
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
        self.answers_pings = False
        """Though it is silent: as a proxy does."""
        self.stuck = False
        """Does not read: a send never comes back."""
        self.http_answers: dict[str, list[HttpAnswer | HttpFailure]] = {}
        """Next answers by path, in place of the rules'."""
        self.http_hangs: set[str] = set()
        self.latency = 0.0
        """Seconds that a dial takes, and each way of an HTTP request."""
        self.dials_hang = False
        """TCP connects, and the upgrade is never answered."""
        self.answer_instead: Callable[[FakeSocket, dict[str, Any]], dict[str, Any] | None] = lambda socket, frame: None
        """What is answered to a frame in place of the rules' answer, or nothing for {}; None: the rules answer."""
        self.held_registers = 0
        self.ahead = 0.0
        """Seconds that the server has lived through and trio's clock has not: the machine was suspended."""
        self._registers_to_hold = 0
        self._held: list[tuple[FakeSocket, str]] = []

    # the network

    async def dial(
        self, deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        await trio.lowlevel.checkpoint()
        self.dials.append(trio.current_time())
        await trio.sleep(self.latency)
        with trio.move_on_after(deadlines.upgrade):
            while self.dials_hang:
                await trio.sleep(0.5)
        if self.dials_hang:
            return DialFailure(Cause.UNANSWERED, f"nothing in {deadlines.upgrade:g} s")
        if not self.up:
            return DialFailure(Cause.REFUSED)
        socket = FakeSocket(self)
        self.sockets.append(socket)
        return socket

    def cut(self, peer_id: str | None = None, closed: Closed | None = None) -> None:
        """The open connections of one peer, or all, are over; the server notices at once."""
        for socket in self._sockets_of(peer_id):
            socket.end(closed or Closed())

    def disconnect_all(self, code: int, reason: str = "") -> None:
        """Closes every connection politely."""
        self.cut(closed=Closed(code, reason))

    def restart(self) -> None:
        """Cuts everything and forgets all registrations. Users and rooms stay."""
        self.cut()
        self.rooms.forget_peers()

    def half_open(self, peer_id: str) -> None:
        """The peer loses its connections, and the server does not know until `notice`."""
        for socket in self._sockets_of(peer_id):
            socket.end(Closed(), noticed=False)

    def notice(self) -> None:
        """The server finds out which connections are dead."""
        for socket in tuple(self.sockets):
            if socket.half_open:
                socket.half_open = False
                self.lose(socket)

    def freeze(self, peer_id: str) -> None:
        """The server does nothing on this peer's connections, and notices nothing. Ends with `thaw`, as if nothing
        had been."""
        for socket in self._sockets_of(peer_id):
            socket.frozen = []

    def thaw(self) -> None:
        for socket in tuple(self.sockets):
            texts, socket.frozen = socket.frozen or [], None
            unsent, socket.unsent = socket.unsent, []
            for each in unsent:
                socket.deliver(each)
            for text in texts:
                self._handle(socket, text)
        self.notice()

    def deafen(self, peer_id: str) -> None:
        """The backend behind this peer's connections is dead; a proxy keeps them open and answers their pings."""
        for socket in self._sockets_of(peer_id):
            socket.deaf = True
            self.rooms.gone(socket)

    def hold_registers(self, times: int = 1) -> None:
        """The next `times` registers are not handled before `release_registers`, even if their socket dies first."""
        self._registers_to_hold = times

    def release_registers(self, *, ghosts: bool = False) -> None:
        """Those of dead sockets take effect too; with `ghosts` the entries outlive even the end of those sockets."""
        held, self._held = self._held, []
        self.held_registers = self._registers_to_hold = 0
        for socket, text in held:
            self._handle(socket, text)
            if socket.closed is not None:
                if ghosts:
                    self.rooms.unanswered(socket)
                self.rooms.gone(socket)

    def _sockets_of(self, peer_id: str | None) -> list[FakeSocket]:
        return [each for each in self.sockets if peer_id is None or self.rooms.peer_of(each) == peer_id]

    def lose(self, socket: FakeSocket) -> None:
        self.sockets.remove(socket)
        self.rooms.gone(socket)

    def receive(self, socket: FakeSocket, text: str) -> None:
        self.frames.append(json.loads(text))
        if socket.frozen is not None:
            socket.frozen.append(text)
        elif not (self.silent or socket.deaf):
            self._handle(socket, text)

    def _handle(self, socket: FakeSocket, text: str) -> None:
        frame = json.loads(text)
        instead = self.answer_instead(socket, frame) if isinstance(frame, dict) else None
        if instead is not None:
            if instead:
                socket.deliver(json.dumps(instead))
        elif any(held is socket for held, _ in self._held):
            self._held.append((socket, text))  # the frames of one socket are handled in order
        elif self._registers_to_hold and frame.get("type") == "register":
            self._registers_to_hold -= 1
            self.held_registers += 1
            self._held.append((socket, text))
        else:
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

    def now(self) -> float:
        return EPOCH + trio.current_time() + self.ahead

    # HTTP

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        await trio.lowlevel.checkpoint()
        self.requests.append((path, None if body is None else dict(body), trio.current_time()))
        await trio.sleep(self.latency)
        if path in self.http_hangs:
            await trio.sleep(30)
            return HttpFailure("no whole answer in 30 s")
        if self.http_answers.get(path):
            return self.http_answers[path].pop(0)
        answer = self._answer_to(path, body, bearer)
        await trio.sleep(self.latency)
        return answer

    def _answer_to(self, path: str, body: Mapping[str, Any] | None, bearer: str | None) -> HttpAnswer:
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
