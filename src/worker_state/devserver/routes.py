"""The HTTP routes of the development server: the three calls of the real one, and its page for people."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from worker_state import foreign_json
from worker_state.devserver.model import JSON, Reply
from worker_state.devserver.page import page, workers
from worker_state.devserver.rules import Rooms
from worker_state.integrations.http_server import Request, Response
from worker_state.logs import Logger, event

if TYPE_CHECKING:
    from worker_state.devserver.faults import DevServer

log: Logger = Logger("worker_state.devserver")


async def respond(server: "DevServer", request: Request) -> Response:
    """The response to one request: a fault that was asked for, or the route's."""
    fault = await server.http_fault(request.path)
    if fault is not None:
        return fault
    if request.path not in ROUTES:
        return Response.json(404, {"detail": "Not Found"})
    methods, handle = ROUTES[request.path]
    if request.method not in methods:
        return Response.json(405, {"detail": "Method Not Allowed"}, {"allow": ", ".join(methods)})
    try:
        answer = handle(server.rooms, request, server.clock())
        return answer if isinstance(answer, Response) else Response.json(answer.status, answer.body)
    except Exception as error:  # noqa: BLE001 - any internal error is a 500 in plain text, as on the real server
        log.error("internal error: %s", type(error).__name__, extra=event("server_error"))
        return Response(500, b"Internal Server Error", "text/plain; charset=utf-8")
    finally:
        server.notify()


def _delete_peer(rooms: Rooms, request: Request, now: float) -> Reply:
    try:
        body: JSON = foreign_json.read(request.body) if request.body else None
    except ValueError:
        return Reply.unprocessable("json_invalid", ["body"], "JSON decode error", {})
    return rooms.delete_peer(body, now)


LOOK, CALL = ("GET", "HEAD"), ("POST",)
ROUTES: dict[str, tuple[tuple[str, ...], Callable[[Rooms, Request, float], Reply | Response]]] = {
    "/": (LOOK, lambda rooms, request, now: page()),
    "/workers.json": (LOOK, lambda rooms, request, now: workers(rooms, now)),
    "/anonymous-signin": (CALL, lambda rooms, request, now: rooms.sign_in(now)),
    "/create-room": (CALL, lambda rooms, request, now: rooms.create_room(request.headers.get("authorization"), now)),
    "/delete-peer": (CALL, _delete_peer),
}
