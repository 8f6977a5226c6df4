"""A signaling server in memory, behind the `Dial` and `Http` protocols: the real rules, no sockets, any clock.

Text frames go in and out of the development server's own `Rooms`; only the network around it is made up. The project's
scenarios run against this and against real sockets, so that it cannot lie.
"""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Unpack

import trio

from worker_state.devserver.model import Close, Effect, Reply, Send
from worker_state.devserver.rules import Rooms
from worker_state.devserver.shared_faults import LOOK_SECONDS, FaultyServer
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.frames import Message
from worker_state.protocol.http_api import HttpAnswer, HttpFailure, Sending
from worker_state.protocol.reconnect import Deadlines
from worker_state.testing.memory_socket import MemorySocket
from worker_state.testing.server_rules import Rules

EPOCH = 1_800_000_000.0
"""The server's wall clock when trio's clock shows 0, in seconds since 1970."""
HTTP_SECONDS = 30.0  # that a call is waited for, unless the caller has a deadline of its own


class MemoryServer(FaultyServer[HttpAnswer | HttpFailure]):
    """What the network and the server do. A fault is a method, or an attribute that you set and unset; each begins at
    once. All times are in seconds of trio's clock.
    """

    def __init__(self, seed: int = 1, **rules: Unpack[Rules]) -> None:
        super().__init__(Rooms(random=Random(seed), **rules), clock=lambda: EPOCH + trio.current_time() + self.ahead)
        self.sockets: list[MemorySocket] = []
        """The connections that the server believes to be alive."""
        self.closes: list[MemorySocket] = []
        """Those that a client has closed politely."""
        self.frames: list[Message] = []
        """Every frame that has come, oldest first."""
        self.requests: list[tuple[str, dict[str, Any] | None, float]] = []
        """Every HTTP call: path, body, and when."""
        self.dials: list[float] = []
        """When somebody has dialled."""
        self.silent: bool = False
        """Takes frames and answers nothing, not even pings."""
        self.answers_pings: bool = False
        """Though it is silent: as a proxy does."""
        self.stuck = False
        """Does not read: a send never comes back."""
        self.latency: float = 0.0
        """Seconds that a dial takes, and each way of an HTTP call."""
        self.dials_hang = False
        """TCP connects, and the upgrade is never answered."""
        self.answer_instead: Callable[[MemorySocket, Message], Message | None] = lambda socket, frame: None
        """What is answered to a frame in place of the rules' answer, or nothing for {}; None: the rules answer."""
        self.ahead: float = 0.0
        """Seconds that the server has lived through and trio's clock has not: the machine was suspended."""
        self._held: list[tuple[MemorySocket, str]] = []

    # the network

    async def dial(
        self, deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        """Open a connection, or say why there is none: what the worker has in place of the network's `Dial`."""
        await trio.lowlevel.checkpoint()
        self.dials.append(trio.current_time())
        self.notify()
        await trio.sleep(self.latency)
        with trio.move_on_after(deadlines.upgrade):
            while self.dials_hang:
                await trio.sleep(LOOK_SECONDS)
        if self.dials_hang:
            return DialFailure(Cause.UNANSWERED, f"nothing in {deadlines.upgrade:g} s")
        return self.connect() if self.takes_connections else DialFailure(Cause.REFUSED)

    @property
    def takes_connections(self) -> bool:
        """Neither away nor refusing."""
        return self.up and not self.away

    def connect(self) -> MemorySocket:
        """A new connection, whatever the faults."""
        socket = MemorySocket(self)
        self.sockets.append(socket)
        return socket

    def cut(self, peer_id: str | None = None, closed: Closed | None = None) -> None:
        """The open connections of one peer, or all, are over; the server notices at once."""
        for socket in self._sockets_of(peer_id):
            socket.end(closed or Closed())

    def disconnect_all(self, code: int, reason: str = "") -> None:
        """Closes every connection politely."""
        self.cut(closed=Closed(code, reason))

    def mute(self) -> None:
        """Frames are taken and never answered; pings are. Ends with `unmute`."""
        self.silent = self.answers_pings = True

    def unmute(self) -> None:
        """The end of `mute`: frames are handled and answered again."""
        self.silent = self.answers_pings = False

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
            socket.frozen = socket.frozen or []

    def thaw(self) -> None:
        """The end of `freeze`: what has come meanwhile is handled."""
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

    def _sockets_of(self, peer_id: str | None) -> list[MemorySocket]:
        return [each for each in self.sockets if peer_id is None or self.rooms.peer_of(each) == peer_id]

    def lose(self, socket: MemorySocket) -> None:
        """The server knows that this connection is over."""
        self.sockets.remove(socket)
        self.rooms.gone(socket)
        self.notify()

    def receive(self, socket: MemorySocket, text: str) -> None:
        """A frame has come from this client."""
        self.frames.append(json.loads(text))
        if socket.frozen is not None:
            socket.frozen.append(text)
        elif not (self.silent or socket.deaf):
            self._handle(socket, text)
        self.notify()

    def _handle(self, socket: MemorySocket, text: str) -> None:
        frame = json.loads(text)
        instead = self.answer_instead(socket, frame) if isinstance(frame, dict) else None
        if instead is not None:
            if instead:
                socket.deliver(json.dumps(instead))
        elif any(held is socket for held, _ in self._held):
            self._held.append((socket, text))  # the frames of one socket are handled in order
        elif isinstance(frame, dict) and frame.get("type") == "register" and self._is_to_be_held():
            self._held.append((socket, text))
        else:
            self._perform(self.rooms.receive(socket, text, self.now()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            socket = effect.connection
            assert isinstance(socket, MemorySocket)
            match effect:
                case Send(_, message):
                    socket.deliver(json.dumps(message))
                case Close(_, code, reason):
                    socket.end(Closed(code, reason))

    # HTTP

    def _answer(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]) -> HttpAnswer:
        hint = {name.lower(): value for name, value in headers.items()}.get("retry-after")
        return HttpAnswer(status, content_type, body, hint)

    async def post(
        self,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        bearer: str | None = None,
        sending: Sending | None = None,
        within: float = HTTP_SECONDS,
    ) -> HttpAnswer | HttpFailure:
        """One call, answered within so many seconds."""
        if sending is not None:
            sending()
        with trio.move_on_after(within):
            return await self._post(path, body, bearer)
        return HttpFailure(f"no whole answer in {within:g} s")

    async def _post(self, path: str, body: Mapping[str, Any] | None, bearer: str | None) -> HttpAnswer | HttpFailure:
        await trio.lowlevel.checkpoint()
        self.requests.append((path, None if body is None else dict(body), trio.current_time()))
        await trio.sleep(self.latency)
        await self.while_it_hangs(path)
        if self.away:
            return HttpFailure("connection refused")
        if (fault := self.next_answer(path)) is not None:
            return fault
        reply = self._handle_call(path, body, bearer)
        self.notify()
        await trio.sleep(self.latency)
        return HttpAnswer(reply.status, "application/json", json.dumps(reply.body).encode())

    def _handle_call(self, path: str, body: Mapping[str, Any] | None, bearer: str | None) -> Reply:
        match path:
            case "/anonymous-signin":
                return self.rooms.sign_in(self.now())
            case "/create-room":
                return self.rooms.create_room(bearer and f"Bearer {bearer}", self.now())
            case "/delete-peer":
                return self.rooms.delete_peer(None if body is None else dict(body), self.now())
            case _:
                return Reply(404, {"detail": "Not Found"})
