"""One question and its answer over one connection: h11 on a trio stream. What is answered is not known here.

Everything is bounded: the head's size, the time for all of it, and what is read of a body that nobody wants.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import h11
import trio

DEADLINE = 5.0
"""Seconds for the whole exchange, its end included."""
MAX_HEAD = 16 * 1024
"""Bytes of a request line with its headers."""
PARTING, UNWANTED = 1.0, 64 * 1024
"""Seconds and bytes to wait for the client's end: who closes with something unread resets, and the answer is lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


async def exchange(stream: trio.SocketStream, answer: Callable[[str, str], Answer]) -> None:
    """Read one request, send `answer(method, path)`, and part. A client that is too slow, or goes, is dropped."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    with trio.move_on_after(DEADLINE):
        try:
            method, path = await _request(http, stream)
            response = answer(method, path)
        except h11.RemoteProtocolError as error:
            method, response = "GET", Answer(error.error_status_hint, b'{"error": "this is no request"}\n')
        except EOFError:
            return
        try:
            await stream.send_all(_written(http, response, body=method != "HEAD"))
            await _part(stream)
        except trio.BrokenResourceError:
            pass  # the client has gone, which is its right


async def _request(http: h11.Connection, stream: trio.SocketStream) -> tuple[str, str]:
    """Method and path. Raises `EOFError` when the client goes before it has asked."""
    while (event := http.next_event()) is h11.NEED_DATA:
        try:
            http.receive_data(await stream.receive_some(MAX_HEAD))
        except trio.BrokenResourceError:
            raise EOFError from None
    if not isinstance(event, h11.Request):
        raise EOFError
    return event.method.decode("ascii"), event.target.decode("ascii", "replace").partition("?")[0]


def _written(http: h11.Connection, response: Answer, *, body: bool) -> bytes:
    headers = [
        ("content-type", response.content_type),
        ("content-length", str(len(response.body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
        *response.headers,
    ]
    parts = [http.send(h11.Response(status_code=response.status, headers=headers))]
    if body:
        parts.append(http.send(h11.Data(data=response.body)))
    return b"".join(part for part in (*parts, http.send(h11.EndOfMessage())) if part)


async def _part(stream: trio.SocketStream) -> None:
    await stream.send_eof()
    with trio.move_on_after(PARTING):
        left = UNWANTED
        while left > 0 and (data := await stream.receive_some(left)):
            left -= len(data)
