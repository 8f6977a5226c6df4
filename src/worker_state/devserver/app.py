"""The signaling server on the network: two ports, and whatever goes wrong on a connection ends that connection only.

The rules are in `rooms`, the handle that callers get in `server`.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random

import trio
from trio_websocket import ConnectionClosed, HandshakeError

from worker_state.devserver import page
from worker_state.devserver.admission import Generation
from worker_state.devserver.cable import Cable
from worker_state.devserver.effects import JSON, Reply, unprocessable
from worker_state.devserver.gate import Gate, SlottedListener
from worker_state.devserver.rooms import Rooms
from worker_state.devserver.server import DevServer
from worker_state.devserver.sockets import serve_socket
from worker_state.devserver.web import Request, Response, serve_requests
from worker_state.logs import event

EXPOSE = "WORKER_STATE_DEVSERVER_EXPOSE"
NETWORK_TROUBLE = (ConnectionClosed, HandshakeError, trio.BrokenResourceError, trio.ClosedResourceError)

log = logging.getLogger("worker_state.devserver")


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
    """Serves until cancelled. `await nursery.start(serve)` returns the `DevServer` once both ports are open.

    `rooms` of an earlier server may be handed in: as after a restart, users and rooms are there, registrations not.
    A `gate`, a new one for each start, lets WebSocket clients in at a limited rate.
    """
    address = _address(host, allow_exposed)
    if rooms is None:
        rooms = Rooms(random=Random(), generation=generation)
    rooms.forget_peers()
    http_listeners = await trio.open_tcp_listeners(http_port, host=address)
    try:
        ws_listeners = await _listen(address, ws_port, gate)
    except OSError:
        for listener in http_listeners:
            listener.socket.close()
        raise
    ports = [listeners[0].socket.getsockname()[1] for listeners in (ws_listeners, http_listeners)]
    server = DevServer(address, ports[0], ports[1], rooms, clock, gate)
    serve_one = partial(serve_socket, server)
    async with trio.open_nursery() as nursery:
        if gate is not None:
            serve_one = partial(gate.guard, serve_one)
            nursery.start_soon(gate.run)
        serve_ws = partial(contain, server, serve_one)
        serve_http = partial(contain, server, partial(serve_requests, answer=partial(_answer, server)))
        await nursery.start(trio.serve_listeners, serve_ws, ws_listeners)
        await nursery.start(trio.serve_listeners, serve_http, http_listeners)
        if ping_every is not None:
            nursery.start_soon(_ping, server, ping_every)
        task_status.started(server)


async def _listen(address: str, port: int, gate: Gate | None) -> Sequence[trio.SocketListener | SlottedListener]:
    if gate is None:
        return await trio.open_tcp_listeners(port, host=address)
    return [gate.listen(address, port)]


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
        server.ping_all()


async def contain(server: DevServer, serve_one: Callable[[Cable], Awaitable[None]], stream: trio.SocketStream) -> None:
    """Runs one connection. Nothing but a cancellation of the whole server leaves here."""
    cable = Cable(stream)
    server.cables.add(cable)
    with trio.CancelScope() as scope:
        try:
            await serve_one(cable)
        except* NETWORK_TROUBLE:
            log.debug("a connection was lost", extra=event("server_link_lost"))
        except* Exception as failures:  # noqa: BLE001 - a server outlives what its clients do to it
            # Types only: the words of a foreign exception may quote what was sent, and that may be a token.
            names = ", ".join(_type_names(failures))
            log.warning("a connection was dropped after %s", names, extra=event("server_link_dropped"))
        finally:
            cable.close()
            server.cables.discard(cable)
            server.note_change()
            # trio-websocket can raise an old Cancelled again. Here it ends, and the other connections live.
            scope.cancel()


def _type_names(failures: BaseExceptionGroup[BaseException]) -> list[str]:
    names: list[str] = []
    for failure in failures.exceptions:
        names += _type_names(failure) if isinstance(failure, BaseExceptionGroup) else [type(failure).__name__]
    return names


async def _answer(server: DevServer, request: Request) -> Response:
    await server.request_may_proceed(request.path)
    failure = server.next_failure(request.path)
    if failure is not None:
        return failure
    allowed = ("GET", "HEAD") if request.path in PAGES else ("POST",)
    if request.path not in PAGES and request.path not in ROUTES:
        return Response.json(404, {"detail": "Not Found"})
    if request.method not in allowed:
        return Response.json(405, {"detail": "Method Not Allowed"}, headers=(("allow", ", ".join(allowed)),))
    try:
        if request.path in PAGES:
            return PAGES[request.path](server)  # who only looks changes nothing
        reply = ROUTES[request.path](server.rooms, request, server.clock())
        response = Response.json(reply.status, reply.body)
    except Exception as error:  # noqa: BLE001 - any internal error is a 500 in plain text, as on the real server
        log.error("internal error: %s", type(error).__name__, extra=event("server_error"))
        response = Response(500, b"Internal Server Error", "text/plain; charset=utf-8")
    server.note_change()
    return response


def _sign_in(rooms: Rooms, request: Request, now: float) -> Reply:
    return rooms.sign_in(now)


def _create_room(rooms: Rooms, request: Request, now: float) -> Reply:
    return rooms.create_room(request.header("authorization"), now)


def _delete_peer(rooms: Rooms, request: Request, now: float) -> Reply:
    try:
        body: JSON = json.loads(request.body) if request.body else None
    except (ValueError, RecursionError):
        return unprocessable("json_invalid", ["body"], "JSON decode error", {})
    return rooms.delete_peer(body, now)


def _page(server: DevServer) -> Response:
    return page.page()


def _workers(server: DevServer) -> Response:
    return page.workers(server.rooms, server.clock())


PAGES = {"/": _page, "/workers.json": _workers}
ROUTES = {"/anonymous-signin": _sign_in, "/create-room": _create_room, "/delete-peer": _delete_peer}
