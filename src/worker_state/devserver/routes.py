"""The HTTP routes of the development server: the three calls of the real one, and its page for people."""

import json
import logging
from typing import TYPE_CHECKING

from worker_state.devserver.effects import JSON, Reply, unprocessable
from worker_state.devserver.page import page, workers
from worker_state.devserver.rules import Rooms
from worker_state.integrations.http_server import Request, Response
from worker_state.logs import event

if TYPE_CHECKING:
    from worker_state.devserver.server import DevServer

log = logging.getLogger("worker_state.devserver")


async def respond(server: "DevServer", request: Request) -> Response:
    """The response to one request: a fault that was asked for, or the route's."""
    fault = await server.http_fault(request.path)
    if fault is not None:
        return fault
    is_page = request.path in PAGES
    allowed = ("GET", "HEAD") if is_page else ("POST",)
    if not is_page and request.path not in CALLS:
        return Response.json(404, {"detail": "Not Found"})
    if request.method not in allowed:
        return Response.json(405, {"detail": "Method Not Allowed"}, headers=(("allow", ", ".join(allowed)),))
    try:
        if is_page:
            return PAGES[request.path](server.rooms, server.clock())  # a look changes nothing
        reply = CALLS[request.path](server.rooms, request, server.clock())
        response = Response.json(reply.status, reply.body)
    except Exception as error:  # noqa: BLE001 - any internal error is a 500 in plain text, as on the real server
        log.error("internal error: %s", type(error).__name__, extra=event("server_error"))
        response = Response(500, b"Internal Server Error", "text/plain; charset=utf-8")
    server.note_change()
    return response


def _sign_in(rooms: Rooms, request: Request, now: float) -> Reply:
    return rooms.sign_in(now)


def _create_room(rooms: Rooms, request: Request, now: float) -> Reply:
    return rooms.create_room(request.headers.get("authorization"), now)


def _delete_peer(rooms: Rooms, request: Request, now: float) -> Reply:
    try:
        body: JSON = json.loads(request.body) if request.body else None
    except (ValueError, RecursionError):
        return unprocessable("json_invalid", ["body"], "JSON decode error", {})
    return rooms.delete_peer(body, now)


PAGES = {"/": lambda rooms, now: page(), "/workers.json": workers}
CALLS = {"/anonymous-signin": _sign_in, "/create-room": _create_room, "/delete-peer": _delete_peer}
