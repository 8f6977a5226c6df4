"""Opens the worker's connection, one dial at a time, and keeps one dial that is not answered yet.

A front whose server is away and a server with a long queue look alike: TCP connects, and the upgrade is not answered.
The one is found by asking again, the other by keeping one's place (storms.md, 10). So an unanswered dial is kept, and
the next one made beside it; the first that is answered wins. When to dial is not decided here.
"""

import math
import ssl
from collections.abc import Callable
from functools import partial
from typing import Protocol
from urllib.parse import quote, urlsplit

import trio

from worker_state.net import tcp, tls
from worker_state.net.addresses import Addresses
from worker_state.net.websocket import Socket, WebSocket
from worker_state.protocol.error_policy import Cause, DialFailure
from worker_state.protocol.reconnect import Deadlines

PATH_SAFE = "/%?:@!$&'()*+,;=~-._"  # what may stand unquoted in a path or a query


class Dial(Protocol):
    """Opens a connection, or says why there is none. Cancelled, it leaves none behind but one that is kept."""

    async def __call__(
        self, deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        """`nursery` runs the tasks of the connection until `abort`, and a dial that is kept: cancel it to end that.

        `kept_answered` is called when that is answered between two calls: the next call returns it at once.
        """


class _Handshake:
    """TLS and the upgrade of one connection, in a task of its own, so that others need not wait for it."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.missing = "nothing"  # what has not come yet
        self.failure: DialFailure | None = DialFailure(Cause.UNANSWERED)  # unless something else is found out
        self.decided = trio.Event()  # `failure` says how it went
        self.taken = trio.Event()  # the socket is somebody else's, who will abort it
        self.over = trio.Event()
        self.scope = trio.CancelScope()

    async def give_up(self) -> None:
        """Abort the connection."""
        self.scope.cancel()
        with trio.CancelScope(shield=True):
            await self.over.wait()


class WebSocketDial:
    """`Dial` over TCP and TLS. It serves one caller at a time, because of the dial that it keeps; with `upgrade` equal
    to `register` it keeps none."""

    def __init__(
        self,
        url: str,
        *,
        unacknowledged_within: float = 15.0,
        open_stream: tcp.OpenStream | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "wss"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._resource = quote(parts.path or "/", safe=PATH_SAFE) + (
            f"?{quote(parts.query, safe=PATH_SAFE)}" if parts.query else ""
        )
        name = f"[{self._host}]" if ":" in self._host else self._host  # T27
        self._host_header = name if self._port == (443 if self._secure else 80) else f"{name}:{self._port}"
        self._unacknowledged_within = unacknowledged_within
        self._addresses = Addresses()
        self._open_stream = open_stream or partial(tcp.open_tcp_stream, addresses=self._addresses)
        self._ssl_context = ssl_context
        self._kept: _Handshake | None = None
        self._kept_answered: Callable[[], object] = lambda: None

    async def __call__(
        self, deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        dialled: Socket | DialFailure = DialFailure(Cause.DROPPED)  # if the kept dial is answered first
        if self._kept is None or not self._kept.decided.is_set():
            with trio.CancelScope() as dialling:
                self._kept_answered = dialling.cancel
                try:
                    dialled = await self._dial(deadlines, nursery)
                finally:
                    self._kept_answered = kept_answered
        if self._kept is not None and not isinstance(dialled, DialFailure):
            self._kept.scope.cancel()  # without waiting: Ctrl-C would be raised here, and the socket be lost
        elif self._kept is not None and self._kept.decided.is_set():
            kept, self._kept = self._kept, None
            return self._take(kept)
        return dialled

    async def _dial(self, deadlines: Deadlines, nursery: trio.Nursery) -> Socket | DialFailure:
        below = await tcp.connect(self._host, self._port, deadlines.connect, self._open_stream)
        if isinstance(below, DialFailure):
            return below
        # A SYN-ACK is no acceptance: a kernel whose accept queue is full drops what follows (storms.md, 3).
        tcp.give_up_after(below, deadlines.acknowledge)
        handshake = _Handshake(WebSocket(below, nursery))
        connected_at = handshake.socket.connected_at
        nursery.start_soon(self._shake_hands, handshake, below)
        try:
            with trio.move_on_at(connected_at + deadlines.upgrade):
                await handshake.decided.wait()
        except trio.Cancelled:
            await handshake.give_up()
            raise
        if handshake.decided.is_set():
            return handshake.failure or self._take(handshake)
        if self._kept is None and deadlines.upgrade < deadlines.register:
            self._kept = handshake
            handshake.scope.deadline = connected_at + deadlines.register
        else:
            await handshake.give_up()
        return DialFailure(Cause.UNANSWERED, f"{handshake.missing} in {deadlines.upgrade:g} s")

    def _take(self, handshake: _Handshake) -> Socket:
        handshake.taken.set()
        tcp.give_up_after(handshake.socket.below, self._unacknowledged_within)
        return handshake.socket

    @trio.lowlevel.enable_ki_protection
    async def _shake_hands(self, handshake: _Handshake, stream: trio.abc.Stream) -> None:
        try:
            with handshake.scope:
                failure = await self._upgraded(handshake, stream)
                await trio.lowlevel.checkpoint_if_cancelled()  # or it would be answered and given up
                handshake.failure = failure
                if handshake.failure is None:
                    handshake.scope.deadline = math.inf
                    handshake.decided.set()
                    if handshake is self._kept:
                        self._kept_answered()
                    await handshake.taken.wait()
        finally:
            if not handshake.taken.is_set():
                if handshake is self._kept:
                    self._kept = None
                await handshake.socket.abort()
            handshake.decided.set()
            handshake.over.set()

    async def _upgraded(self, handshake: _Handshake, stream: trio.abc.Stream) -> DialFailure | None:
        if self._secure:
            handshake.missing = "no TLS"
            secured = await tls.secure(stream, self._host, self._ssl_context)
            if isinstance(secured, DialFailure):
                return secured
            stream, handshake.missing = secured, "nothing"
        failure = await handshake.socket.upgrade(stream, self._host_header, self._resource)
        if failure is None:
            self._addresses.served(tcp.address_of(handshake.socket.below))
        return failure
