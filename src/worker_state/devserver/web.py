"""HTTP/1.1 for one connection: h11 over a stream. Bounds and deadlines are kept here; what is answered is not known.

Nothing is parsed by hand, and a bad request costs its own connection only.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import h11
import trio

from worker_state.devserver.cable import Cable

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024
IDLE_SECONDS = 75.0  # between two requests
REQUEST_SECONDS = 30.0  # for one request to arrive, and for its answer to leave
SERVER = "devserver"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, status: int, body: Any, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        return cls(status, json.dumps(body).encode(), headers=headers)


class BodyTooLarge(Exception):
    pass


async def serve_requests(cable: Cable, answer: Callable[[Request], Awaitable[Response]]) -> None:
    """Answers the requests of one connection, one after the other, until one side has had enough."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        while (request := await _receive_request(http, cable)) is not None:
            response = await answer(request)
            with trio.fail_after(REQUEST_SECONDS):
                await _send_response(http, cable, response, body=request.method != "HEAD")
            if http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                break  # the client wants, or has to, go
            http.start_next_cycle()
    except h11.RemoteProtocolError as error:
        await _refuse(http, cable, error.error_status_hint, "Bad Request")
    except BodyTooLarge:
        await _refuse(http, cable, 413, "Request Entity Too Large")
    except trio.TooSlowError:
        await _refuse(http, cable, 408, "Request Timeout")
    await cable.drain()


async def _refuse(http: h11.Connection, cable: Cable, status: int, detail: str) -> None:
    if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        with trio.move_on_after(REQUEST_SECONDS):
            refusal = Response.json(status, {"detail": detail}, headers=(("connection", "close"),))
            await _send_response(http, cable, refusal, body=True)


async def _receive_request(http: h11.Connection, cable: Cable) -> Request | None:
    """The next request; None when there will be none."""
    with trio.move_on_after(IDLE_SECONDS) as idle:
        head = http.next_event()
        if head is h11.NEED_DATA:
            http.receive_data(bytes(await cable.receive_some()))
            head = http.next_event()
    if idle.cancelled_caught:
        return None
    with trio.fail_after(REQUEST_SECONDS):
        while head is h11.NEED_DATA:
            http.receive_data(bytes(await cable.receive_some()))
            head = http.next_event()
        if not isinstance(head, h11.Request):
            return None
        body = await _receive_body(http, cable)
    return Request(
        head.method.decode("ascii"),
        head.target.decode("ascii").partition("?")[0],
        tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers),
        body,
    )


async def _receive_body(http: h11.Connection, cable: Cable) -> bytes:
    body = bytearray()
    while True:
        event = http.next_event()
        match event:
            case h11.NEED_DATA:
                if http.they_are_waiting_for_100_continue:
                    await _send(http, cable, h11.InformationalResponse(status_code=100, headers=[]))
                http.receive_data(bytes(await cable.receive_some()))
            case h11.Data():
                body += event.data
                if len(body) > MAX_BODY:
                    raise BodyTooLarge
            case _:
                return bytes(body)


async def _send_response(http: h11.Connection, cable: Cable, response: Response, *, body: bool) -> None:
    headers = [
        ("server", SERVER),
        ("content-type", response.content_type),
        ("content-length", str(len(response.body))),
        *response.headers,
    ]
    await _send(http, cable, h11.Response(status_code=response.status, headers=headers))
    if body:
        await _send(http, cable, h11.Data(data=response.body))
    await _send(http, cable, h11.EndOfMessage())


async def _send(
    http: h11.Connection, cable: Cable, event: h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage
) -> None:
    data = http.send(event)
    if data:
        await cable.send_all(data)
