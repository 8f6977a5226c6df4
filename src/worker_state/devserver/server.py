"""The development server on the network: two ports. What goes wrong on a connection ends that connection only."""

import ipaddress
import json
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any

import trio
from trio_websocket import ConnectionClosed, HandshakeError

from worker_state.devserver.effects import Effect, Send
from worker_state.devserver.faults import Faults, FaultyStream
from worker_state.devserver.identities import Generation
from worker_state.devserver.rate_limit import Gate, SlottedListener
from worker_state.devserver.routes import respond
from worker_state.devserver.rules import Rooms
from worker_state.devserver.sockets import Connection, serve_socket
from worker_state.integrations.http_server import Response, serve_requests
from worker_state.logs import event

EXPOSE = "WORKER_STATE_DEVSERVER_EXPOSE"
FRAMES_KEPT = 10_000
NETWORK_TROUBLE = (ConnectionClosed, HandshakeError, trio.BrokenResourceError, trio.ClosedResourceError)

log = logging.getLogger("worker_state.devserver")


class DevServer(Faults):
    """A running server as its owner holds it: where it is, what it knows, and the faults that it can be asked for."""

    def __init__(
        self,
        host: str,
        ws_port: int,
        http_port: int,
        rooms: Rooms,
        clock: Callable[[], float],
        gate: Gate | None = None,
    ) -> None:
        super().__init__(rooms, clock)
        authority = f"[{host}]" if ":" in host else host
        self.host, self.ws_port, self.http_port = host, ws_port, http_port
        self.ws_url, self.http_url = f"ws://{authority}:{ws_port}", f"http://{authority}:{http_port}"
        self.gate = gate
        #: The frames received last, oldest first, each with the peer id of its connection or else its own.
        self.frames: deque[tuple[str | None, dict[str, Any]]] = deque(maxlen=FRAMES_KEPT)

    def perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            connection = effect.connection
            if not isinstance(connection, Connection):
                continue  # registered by somebody who talks to the same `Rooms` without a socket
            if not isinstance(effect, Send):
                connection.close(effect.code, effect.reason)
            elif self.answering:
                connection.send(json.dumps(effect.message))

    def note_frame(self, connection: Connection, text: str | bytes) -> bool:
        """Keep the frame for `frames`; the rules parse it for themselves. Is it a `register`?"""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = {}
        message = message if isinstance(message, dict) else {}
        peer_id = self.rooms.peer_of(connection) or message.get("peer_id") or message.get("from_peer_id")
        self.frames.append((peer_id, message))
        self.note_change()
        return message.get("type") == "register"

    def refusal(self, stream: FaultyStream) -> Response | None:
        """What this connection gets instead of the 101."""
        return self.next_refusal() or (self.gate.refusal(stream) if self.gate is not None else None)

    async def register_may_proceed(self, connection: Connection) -> None:
        if self.gate is not None:
            await self.gate.admit(connection.stream)
        # A Close frame that came in the same breath has to be seen before the answer is sent.
        await trio.lowlevel.checkpoint()
        await self.hold_register()


async def serve(
    *,
    host: str = "127.0.0.1",
    ws_port: int = 0,
    http_port: int = 0,
    rooms: Rooms | None = None,
    generation: Generation = "v2",
    allow_exposed: bool = False,
    ping_every: float | None = None,
    clock: Callable[[], float] = time.time,
    gate: Gate | None = None,
    task_status: trio.TaskStatus[DevServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. `await nursery.start(serve)` returns the `DevServer` once both ports are open.

    `rooms` of an earlier server may be handed in: as after a restart, users and rooms are there, registrations not.
    A `gate`, a new one for each start, lets WebSocket clients in at a limited rate.
    """
    address = _address(host, allow_exposed)
    if rooms is None:
        rooms = Rooms(random=Random(), generation=generation)
    rooms.forget_peers()
    http_listeners = await trio.open_tcp_listeners(http_port, host=address)
    try:
        ws_listeners: Sequence[trio.SocketListener | SlottedListener] = (
            [gate.listen(address, ws_port)]
            if gate is not None
            else await trio.open_tcp_listeners(ws_port, host=address)
        )
    except OSError:
        for listener in http_listeners:
            listener.socket.close()
        raise
    ws_port, http_port = (listeners[0].socket.getsockname()[1] for listeners in (ws_listeners, http_listeners))
    server = DevServer(address, ws_port, http_port, rooms, clock, gate)
    serve_ws = partial(serve_socket, server)
    serve_http = partial(serve_requests, respond=partial(respond, server), headers={"server": "devserver"})
    async with trio.open_nursery() as nursery:
        if gate is not None:
            serve_ws = partial(gate.guard, serve_ws)
            nursery.start_soon(gate.run)
        await nursery.start(trio.serve_listeners, partial(contain, server, serve_ws), ws_listeners)
        await nursery.start(trio.serve_listeners, partial(contain, server, serve_http), http_listeners)
        if ping_every is not None:
            nursery.start_soon(_ping, server, ping_every)
        task_status.started(server)


def _address(host: str, allow_exposed: bool) -> str:
    """The IP address to bind. Anything but loopback has to be asked for twice: there is no authentication here."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError(f"The development server binds an IP address or localhost, not {host!r}.") from None
    if not address.is_loopback and not (allow_exposed and os.environ.get(EXPOSE) == "1"):
        raise ValueError(
            f"The development server protects nothing, so it binds {host!r} only if it is told twice:"
            f" allow_exposed=True, and {EXPOSE}=1 in the environment."
        )
    return str(address)


async def _ping(server: DevServer, every: float) -> None:
    while True:
        await trio.sleep(every)
        server.perform([Send(connection, {"type": "ping"}) for connection in server.connections])


async def contain(
    server: DevServer, serve_one: Callable[[FaultyStream], Awaitable[None]], accepted: trio.SocketStream
) -> None:
    """Run one connection. Nothing but a cancellation of the whole server leaves here."""
    stream = FaultyStream(accepted)
    server.streams.add(stream)
    with trio.CancelScope() as scope:
        try:
            await serve_one(stream)
        except* NETWORK_TROUBLE:
            log.debug("a connection was lost", extra=event("server_link_lost"))
        except* Exception as failures:  # noqa: BLE001 - a server outlives what its clients do to it
            # Types only: the words of a foreign exception may quote what was sent, and that may be a token.
            names = ", ".join(_type_names(failures))
            log.warning("a connection was dropped after %s", names, extra=event("server_link_dropped"))
        finally:
            stream.close()
            server.streams.discard(stream)
            server.note_change()
            # trio-websocket can raise an old Cancelled again. Here it ends, and the other connections live.
            scope.cancel()


def _type_names(failures: BaseExceptionGroup[BaseException]) -> list[str]:
    names: list[str] = []
    for failure in failures.exceptions:
        names += _type_names(failure) if isinstance(failure, BaseExceptionGroup) else [type(failure).__name__]
    return names
