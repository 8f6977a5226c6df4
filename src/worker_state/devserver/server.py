"""The development server on the network: two ports. What goes wrong on a connection ends that connection only."""

import ipaddress
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from random import Random

import trio
from trio_websocket import ConnectionClosed, HandshakeError

from worker_state.devserver.admission import Admission
from worker_state.devserver.faults import DevServer
from worker_state.devserver.identities import Generation
from worker_state.devserver.model import Send
from worker_state.devserver.routes import respond
from worker_state.devserver.rules import Rooms
from worker_state.devserver.sockets import FaultyStream, serve_socket
from worker_state.forked import keep_from_children
from worker_state.integrations.accepting import Clients, is_local
from worker_state.integrations.http_server import serve_requests
from worker_state.logs import Logger, event

EXPOSE = "WORKER_STATE_DEVSERVER_EXPOSE"
NETWORK_TROUBLE = (ConnectionClosed, HandshakeError, trio.BrokenResourceError, trio.ClosedResourceError)

log: Logger = Logger("worker_state.devserver")


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
    admission: Admission | None = None,
    task_status: trio.TaskStatus[DevServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. `await nursery.start(serve)` returns the `DevServer` once both ports are open.

    `rooms` of an earlier server may be handed in: as after a restart, users and rooms are there, registrations not.
    `admission`, a new one for each start, says when WebSocket clients get in.
    """
    address = _address(host, allow_exposed)
    rooms = rooms or Rooms(random=Random(), generation=generation)
    rooms.forget_peers()
    admission = admission or Admission()
    (http,) = await trio.open_tcp_listeners(http_port, host=address)
    try:
        (ws,) = await trio.open_tcp_listeners(ws_port, host=address, backlog=admission.backlog)
    except OSError:
        http.socket.close()
        raise
    ports = ws.socket.getsockname()[1], http.socket.getsockname()[1]
    server = DevServer(address, ports, rooms, clock, admission)
    serve_ws = partial(serve_socket, server, local=is_local(ws))
    serve_http = partial(_serve_http, server, local=is_local(http))
    async with trio.open_nursery() as nursery:
        accept_ws = partial(_accept, server, ws, serve_ws, admission)
        await nursery.start(partial(accept_ws, replaceable=False))  # a worker that is registered makes way for nobody
        await nursery.start(_accept, server, http, serve_http, Admission())
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


async def _accept(
    server: DevServer,
    listener: trio.SocketListener,
    serve_one: Callable[[FaultyStream], Awaitable[None]],
    admission: Admission,
    *,
    replaceable: bool = True,
    task_status: trio.TaskStatus[None],
) -> None:
    """Accept connections on one port, but while the server is away."""
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as connections:
        clients = Clients(connections, replaceable=replaceable)
        while True:
            keep_from_children(listener.socket)
            with trio.CancelScope() as server.accepting[listener]:
                taken_from = admission.opened(listener)
                task_status.started()
                await clients.accept(taken_from, partial(contain, server, partial(admission.serve, serve_one)))
            task_status = trio.TASK_STATUS_IGNORED
            while server.away or listener.socket.fileno() < 0:
                await server.until(lambda: not server.away)
                (listener,) = await trio.open_tcp_listeners(port, host=server.host, backlog=admission.backlog)
                if server.away:
                    listener.socket.close()


async def _serve_http(server: DevServer, stream: FaultyStream, *, local: bool) -> None:
    await serve_requests(stream, partial(respond, server, stream), headers={"server": "devserver"}, local=local)


async def _ping(server: DevServer, every: float) -> None:
    while True:
        await trio.sleep(every)
        server.perform([Send(connection, {"type": "ping"}) for connection in server.connections])


async def contain(
    server: DevServer, serve_one: Callable[[FaultyStream], Awaitable[None]], accepted: trio.SocketStream
) -> None:
    """Run one connection. Nothing but a cancellation of the whole server leaves here."""
    stream = FaultyStream(accepted)
    if server.away:
        stream.reset()
        return
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
            server.notify()
            # trio-websocket can raise an old Cancelled again. Here it ends, and the other connections live.
            scope.cancel()


def _type_names(failure: BaseException) -> Iterator[str]:
    if isinstance(failure, BaseExceptionGroup):
        for each in failure.exceptions:
            yield from _type_names(each)
    else:
        yield type(failure).__name__
