"""One HTTP connection: bounds, deadlines, and requests that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from worker_state.integrations.http_server import (
    MAX_BODY,
    MAX_HEAD,
    PIECE,
    REQUEST_SECONDS,
    RESPONSE_SECONDS,
    Request,
    Response,
    serve_requests,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock


@pytest.fixture
async def stream(nursery: trio.Nursery) -> AsyncIterator[trio.SocketStream]:
    """The client's end of a connection whose server answers with the path and the length of the body."""
    ours, theirs = trio.socket.socketpair()

    async def answer(request: Request) -> Response:
        return Response.json(200, [request.path, len(request.body)])

    async def serve() -> None:
        async with trio.SocketStream(theirs) as accepted:
            await serve_requests(accepted, answer)

    nursery.start_soon(serve)
    async with trio.SocketStream(ours) as stream:
        yield stream


async def read_all(stream: trio.SocketStream) -> str:
    received = bytearray()
    with trio.fail_after(300):
        while data := await stream.receive_some():
            received += data
    return received.decode()


def post(path: str, length: int, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: devserver", f"Content-Length: {length}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + b"x" * length


async def test_pipelined_requests_are_answered_in_order(stream: trio.SocketStream) -> None:
    await stream.send_all(post("/a", 1) + post("/b?c=d", 2, "Connection: close"))
    answers = await read_all(stream)
    assert answers.index('["/a", 1]') < answers.index('["/b", 2]')


async def test_the_largest_body_is_taken(stream: trio.SocketStream) -> None:
    await stream.send_all(post("/", MAX_BODY, "Connection: close"))
    assert f'["/", {MAX_BODY}]' in await read_all(stream)


async def test_a_larger_body_is_refused(stream: trio.SocketStream) -> None:
    await stream.send_all(post("/", MAX_BODY + 1))
    assert (await read_all(stream)).startswith("HTTP/1.1 413 ")


async def test_a_larger_head_is_refused(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Pad: " + b"x" * 2 * MAX_HEAD)
    assert (await read_all(stream)).startswith("HTTP/1.1 431 ")


async def test_who_asks_before_sending_the_body_is_told_to_go_on(stream: trio.SocketStream) -> None:
    head, body = post("/", 3, "Expect: 100-continue", "Connection: close")[:-3], b"xxx"
    await stream.send_all(head)
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
    await stream.send_all(body)
    assert '["/", 3]' in await read_all(stream)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff" * 100 + b"\r\n\r\n",
        b"EHLO example.org\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n",
    ],
)
async def test_a_bad_request_gets_a_400(stream: trio.SocketStream, garbage: bytes) -> None:
    await stream.send_all(garbage)
    assert (await read_all(stream)).startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"HEAD http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b"x" * (MAX_BODY + 1), 413),
    ],
)
async def test_a_head_that_is_refused_gets_no_body(stream: trio.SocketStream, request_: bytes, status: int) -> None:
    """To a HEAD no response has a body, and a refusal neither."""
    await stream.send_all(request_)
    head, _, body = (await read_all(stream)).partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert body == ""


async def test_after_a_head_a_refusal_has_its_body(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nno request\r\n\r\n")
    assert (await read_all(stream)).endswith('{"detail": "Bad Request"}')


async def test_half_a_request_is_refused_at_its_end(stream: trio.SocketStream) -> None:
    await stream.send_all(post("/", 100)[:-50])
    await stream.send_eof()
    assert (await read_all(stream)).startswith("HTTP/1.1 400 ")


async def test_an_idle_connection_is_closed(stream: trio.SocketStream, autojump_clock: MockClock) -> None:
    assert await read_all(stream) == ""
    assert trio.current_time() < 100


async def test_a_request_that_does_not_arrive_is_not_waited_for(
    stream: trio.SocketStream, autojump_clock: MockClock
) -> None:
    await stream.send_all(post("/", 100)[:-50])
    assert (await read_all(stream)).startswith("HTTP/1.1 408 ")


class SlowReader(trio.abc.HalfCloseableStream):
    """The server's end of a client that asks once and then takes a piece every so often."""

    def __init__(self, pause: float) -> None:
        self.taken = b""
        self._asked = [b"GET / HTTP/1.1\r\nHost: devserver\r\nConnection: close\r\n\r\n"]
        self._pause = pause

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._asked.pop() if self._asked else b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(self._pause)
        self.taken += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("pause", "pieces", "seconds"), [(20.0, 5, 120.0), (40.0, 5, REQUEST_SECONDS), (20.0, 100, RESPONSE_SECONDS)]
)
async def test_g21_a_client_that_reads_slowly(
    pause: float, pieces: int, seconds: float, autojump_clock: MockClock
) -> None:
    """A long response goes on while the client takes pieces of it, up to a total bound; silence ends it sooner."""
    slow = SlowReader(pause)

    async def answer(_: Request) -> Response:
        return Response(200, b"x" * (pieces * PIECE), "text/plain")

    await serve_requests(slow, answer)
    assert trio.current_time() == seconds
    assert (len(slow.taken) > pieces * PIECE) == (seconds == 120.0)
