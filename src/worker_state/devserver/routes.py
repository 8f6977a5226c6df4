"""The HTTP routes of the development server: the three calls of the real one, and its page for people."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from worker_state import foreign_json
from worker_state.devserver.model import JSON, Reply
from worker_state.devserver.page import page, workers
from worker_state.devserver.sockets import FaultyStream
from worker_state.integrations.http_server import Request, Response
from worker_state.logs import Logger, event

if TYPE_CHECKING:
    from worker_state.devserver.faults import DevServer

log: Logger = Logger("worker_state.devserver")


async def respond(server: "DevServer", stream: FaultyStream, request: Request) -> Response:
    """The response to one request: a fault that was asked for, or the route's. Raises `trio.BrokenResourceError`, in a
    group, for a request that hangs until nobody waits for it any more."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.fail_when_left)
        await server.while_it_hangs(request.path)
        nursery.cancel_scope.cancel()
    if (fault := server.next_answer(request.path)) is not None:
        return fault
    if request.path not in ROUTES:
        return Response.json(404, {"detail": "Not Found"})
    methods, handle = ROUTES[request.path]
    if request.method not in methods:
        return Response.json(405, {"detail": "Method Not Allowed"}, {"allow": ", ".join(methods)})
    try:
        answer = handle(server, request, server.clock())
        return answer if isinstance(answer, Response) else Response.json(answer.status, answer.body)
    except Exception as error:  # noqa: BLE001 - any internal error is a 500 in plain text, as on the real server
        log.error("internal error: %s", type(error).__name__, extra=event("server_error"))
        return Response(500, b"Internal Server Error", "text/plain; charset=utf-8")
    finally:
        server.notify()


def _create_room(server: "DevServer", request: Request, now: float) -> Reply:
    return server.rooms.create_room(request.headers.get("authorization"), now)


def _delete_peer(server: "DevServer", request: Request, now: float) -> Reply:
    try:
        body: JSON = foreign_json.read(request.body) if request.body else None
    except ValueError:
        return Reply.unprocessable("json_invalid", ["body"], "JSON decode error", {})
    return server.rooms.delete_peer(body, now)


LOOK, CALL = ("GET", "HEAD"), ("POST",)
ROUTES: dict[str, tuple[tuple[str, ...], Callable[["DevServer", Request, float], Reply | Response]]] = {
    "/": (LOOK, lambda server, request, now: page()),
    "/workers.json": (LOOK, lambda server, request, now: workers(server.rooms, now, server.ws_url)),
    "/anonymous-signin": (CALL, lambda server, request, now: server.rooms.sign_in(now)),
    "/create-room": (CALL, _create_room),
    "/delete-peer": (CALL, _delete_peer),
}
