"""One HTTP/1.1 connection from the server's side: h11 over a stream, for health and the development server alike.

Everything is bounded: the sizes of head and body, the time between two requests, and the time for each request. A bad
request costs its own connection only.
"""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import h11
import trio

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024
IDLE_SECONDS = 75.0  # between two requests
REQUEST_SECONDS = 30.0  # for a request to arrive, and again for each piece of its response to leave
RESPONSE_SECONDS = 300.0  # for all of it
PIECE = 64 * 1024  # bytes: at 2 kB a second it is progress
DRAIN_SECONDS, DRAIN_BYTES = 1.0, 16 * 2**20
REFUSALS = {408: "Request Timeout", 413: "Request Entity Too Large"}
FOREIGN = (
    "This server listens on loopback: ask it as localhost or 127.0.0.1, and from no other site's page. On another "
    "address (for a worker's pages: --health-host) it answers by any name, to everybody."
)

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Headers = field(repr=False)  # by name in lower case; of several with one name, the first
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    headers: Headers = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, body: Any, headers: Headers = MappingProxyType({})) -> "Response":
        return cls(status, json.dumps(body).encode(), headers=headers)


async def serve_requests(
    stream: trio.abc.HalfCloseableStream,
    respond: Callable[[Request], Awaitable[Response]],
    *,
    headers: Headers = MappingProxyType({}),
    seconds: float = math.inf,
    bodies: bool = True,
    local: bool = False,
) -> None:
    """Answer the requests of one connection in order, until one side ends it or `seconds` have passed.

    `headers` are sent with every response. Without `bodies` a request is answered when its head is there. `local`: only
    this machine reaches the server, so pages of other sites are refused (`is_foreign`). Raises trio's
    errors of a stream whose other end is gone, and what `respond` raises; the caller closes the stream.
    """
    with trio.move_on_after(seconds):
        await _Exchange(stream, headers, bodies, local).run(respond)
        await drain(stream)


def is_foreign(host: str | None, origin: str | None) -> bool:
    """Whether a request to a server on loopback comes from a page of another site: by a name that somebody has pointed
    at this machine (DNS rebinding), or across origins. Programs send no `Origin`."""
    return (bool(host) and not _is_this_machine(host or "")) or (
        origin is not None and not _is_this_machine(origin.partition("://")[2])
    )


def _is_this_machine(authority: str) -> bool:
    try:
        name = urlsplit(f"//{authority}").hostname or ""
        return name.rstrip(".") == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _split_absolute(target: str) -> tuple[str, str]:
    try:
        parts = urlsplit(target)
    except ValueError:
        raise h11.RemoteProtocolError("the target is no URL", 400) from None
    return parts.netloc, parts.path or "/"


async def drain(stream: trio.abc.HalfCloseableStream) -> None:
    """Send the end and read up to the client's. A close with unread bytes is a reset, which overtakes the response."""
    left = DRAIN_BYTES
    with trio.move_on_after(DRAIN_SECONDS):
        await stream.send_eof()
        while left > 0 and (data := await stream.receive_some()):
            left -= len(data)


class _Exchange:
    def __init__(self, stream: trio.abc.HalfCloseableStream, headers: Headers, bodies: bool, local: bool) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._stream = stream
        self._headers = headers
        self._bodies = bodies
        self._local = local
        self._method = b""  # of the request that is answered: to a HEAD no response has a body

    async def run(self, respond: Callable[[Request], Awaitable[Response]]) -> None:
        try:
            while (request := await self._receive_request()) is not None:
                foreign = self._local and is_foreign(request.headers.get("host"), request.headers.get("origin"))
                response = Response.json(403, {"detail": FOREIGN}) if foreign else await respond(request)
                with trio.fail_after(RESPONSE_SECONDS):
                    await self._send_response(response)
                if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    return
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
        except trio.TooSlowError:
            await self._refuse(408)

    async def _refuse(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            detail = {"detail": REFUSALS.get(status, "Bad Request")}
            with trio.move_on_after(REQUEST_SECONDS):
                await self._send_response(Response.json(status, detail, {"connection": "close"}))

    async def _receive_request(self) -> Request | None:
        """The next request; None when there is none."""
        self._method = b""
        if not self._http.trailing_data[0]:
            with trio.move_on_after(IDLE_SECONDS) as idle:
                await self._receive()
            if idle.cancelled_caught:
                return None
        with trio.fail_after(REQUEST_SECONDS):
            head = await self._next_event()
            if not isinstance(head, h11.Request):
                return None
            self._method = head.method
            body = bytearray()
            while self._bodies and isinstance(event := await self._next_event(), h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise h11.RemoteProtocolError("the body is too large", 413)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(list(head.headers))}
        target = head.target.decode("ascii")
        if target.lower().startswith(("http://", "https://")):  # as a proxy is asked; its host is the one that counts
            headers["host"], target = _split_absolute(target)
        return Request(head.method.decode("ascii"), target.partition("?")[0], headers, bytes(body))

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            await self._receive()
        return event

    async def _receive(self) -> None:
        self._http.receive_data(bytes(await self._stream.receive_some()))

    async def _send_response(self, response: Response) -> None:
        content = {"content-type": response.content_type, "content-length": str(len(response.body))}
        headers = {**self._headers, **content, **response.headers}
        head = h11.Response(status_code=response.status, headers=list(headers.items()))
        body = [] if self._method == b"HEAD" else [h11.Data(data=response.body)]
        await self._send(head, *body, h11.EndOfMessage())

    async def _send(self, *events: h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage) -> None:
        data = memoryview(b"".join(self._http.send(event) or b"" for event in events))
        for at in range(0, len(data), PIECE):
            with trio.fail_after(REQUEST_SECONDS):
                await self._stream.send_all(data[at : at + PIECE])
