"""The WebSocket side of the transport, against peers that do what the libraries cannot stand (faults.md, T1 to T28)."""

import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, memory_stream_pair

from tests.support.dialled import PATIENT, Dialled
from tests.support.peers import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    SOON,
    TEXT,
    Peer,
    Script,
    close_frame,
    frame,
    nobody_listening,
    serving,
    switching,
)
from worker_state.net.dial import WebSocketDial
from worker_state.net.websocket import MAX_MESSAGE, Socket
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.reconnect import Deadlines


def dialling(port: int, *, scheme: str = "ws", register: float = PATIENT) -> Dialled:
    return Dialled(WebSocketDial(f"{scheme}://127.0.0.1:{port}/"), register=register)


@asynccontextmanager
async def connected(script: Script) -> AsyncIterator[Socket]:
    """An open socket to a peer that follows the script after its 101."""

    async def upgraded(peer: Peer) -> None:
        await peer.upgrade()
        await script(peer)

    async with serving(upgraded) as port, dialling(port)() as made:
        assert not isinstance(made, DialFailure), made
        yield made


async def failure_of(script: Script, **options: Any) -> DialFailure:
    """What a dial to this peer fails with; it may not take longer than its deadlines allow."""
    async with serving(script) as port:
        begun = trio.current_time()
        async with dialling(port, **options)() as made:
            assert isinstance(made, DialFailure), made
        assert trio.current_time() - begun < SOON
    return made


@asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    begun = trio.current_time()
    yield
    assert trio.current_time() - begun < SOON


# --- an ordinary connection -------------------------------------------------------------------------------------------


async def test_conversation() -> None:
    """Text goes both ways whole and in order, a binary frame arrives as bytes."""

    async def script(peer: Peer) -> None:
        for _ in range(2):
            opcode, payload = await peer.frame()
            assert opcode == TEXT
            await peer.send(frame(TEXT, payload))
        await peer.send(frame(BINARY, b"\x00\xff"))
        await peer.end()

    async with connected(script) as made:
        assert await made.send("first") is None
        assert await made.send("ä" * 40_000) is None
        assert await made.receive() == "first"
        assert await made.receive() == "ä" * 40_000
        assert await made.receive() == b"\x00\xff"


async def test_frames_behind_the_101() -> None:
    """Frames in the same segment as the 101 are not lost."""

    async def script(peer: Peer) -> None:
        await peer.upgrade(behind=frame(TEXT, b"one") + frame(TEXT, b"two"))
        await peer.end()

    async with serving(script) as port, dialling(port)() as made:
        assert not isinstance(made, DialFailure)
        assert [await made.receive(), await made.receive()] == ["one", "two"]


async def test_polite_close() -> None:
    """A polite close sends 1000 and hears the answer, and nothing can be sent from then on."""
    ends = list[Any]()

    async def script(peer: Peer) -> None:
        ends.append(await peer.frame())
        await peer.send(close_frame(1000))
        ends.append(await peer.end())

    async with connected(script) as made:
        assert await made.close() is None
        assert isinstance(await made.send("late"), Closed)
        assert await made.receive() == Closed(1000)
        assert await made.receive() == Closed(1000)
        for each in (made.send("late"), made.ping(), made.close()):
            assert await each == Closed(1000)
    assert ends[0] == (CLOSE, b"\x03\xe8")


async def test_end_without_a_close_frame() -> None:
    """Leaving the context without a close aborts: the peer sees no Close frame, only the end of the connection."""
    seen, done = list[bytes](), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        try:
            while data := await peer.stream.receive_some():
                seen.append(bytes(data))
        except trio.BrokenResourceError:
            seen.append(b"RST")
        done.set()

    async with serving(script) as port:
        async with dialling(port)() as made:
            assert not isinstance(made, DialFailure)
        await done.wait()
    assert seen == [b"RST"]


async def test_dialling_again() -> None:
    """One dial object makes any number of connections, each on its own."""

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.send(frame(TEXT, b"hello"))
        await peer.end()

    async with serving(script) as port:
        dial = dialling(port)
        async with dial() as one, dial() as other:
            assert not isinstance(one, DialFailure)
            assert not isinstance(other, DialFailure)
            assert [await one.receive(), await other.receive()] == ["hello", "hello"]
        async with dial() as third:
            assert not isinstance(third, DialFailure)
            assert await third.receive() == "hello"


async def test_ping() -> None:
    """A pong is a sign of life and ends the wait for it; a ping is answered by a pong with its payload."""

    async def script(peer: Peer) -> None:
        opcode, payload = await peer.frame()
        assert opcode == PING
        await peer.send(frame(PONG, payload) + frame(PING, b"and you?"))
        assert await peer.frame() == (PONG, b"and you?")
        await peer.send(frame(TEXT, b"well"))
        await peer.end()

    async with connected(script) as made:
        before = made.heard_at
        assert await made.ping() is None
        assert made.heard_at > before
        assert await made.receive() == "well"


async def test_message_between_pings() -> None:
    """Messages are received, and the pings between them are answered."""
    seen = list[Any]()

    async def script(peer: Peer) -> None:
        await peer.send(frame(PONG) + frame(PING, b"1") + frame(TEXT, b"one"))
        seen.append(await peer.frame())
        await peer.send(close_frame(1001))
        await peer.end()

    async with connected(script) as made:
        assert await made.receive() == "one"
        assert await made.receive() == Closed(1001)
    assert seen == [(PONG, b"1")]


# --- dials that give no connection ------------------------------------------------------------------------------------


async def test_refused() -> None:
    """A port at which nobody listens is a refusal, known at once."""
    async with nobody_listening() as port, at_once(), dialling(port)() as made:
        assert made == DialFailure(Cause.REFUSED)


INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
)


@pytest.mark.parametrize("size", [1, 30, 1000])
async def test_g31_interim_answers_are_skipped(size: int) -> None:
    """What a proxy says before the 101 is skipped, however it is cut into segments."""

    async def script(peer: Peer) -> None:
        answer = b"".join(INTERIM * 3) + switching(await peer.head()) + frame(TEXT, b"hello")
        for at in range(0, len(answer), size):
            await peer.send(answer[at : at + size])
        await peer.end()

    async with serving(script) as port, dialling(port)() as made:
        assert not isinstance(made, DialFailure), made
        assert await made.receive() == "hello"


async def early_hints_for_ever(peer: Peer) -> None:
    await peer.head()
    while True:
        await peer.send(INTERIM[1])


async def early_hints_and_no_more(peer: Peer) -> None:
    await peer.head()
    await peer.send(INTERIM[1])


async def refused_after_hints(peer: Peer) -> None:
    await peer.head()
    await peer.send(INTERIM[1] + b"HTTP/1.1 404 Not Found\r\n\r\n")
    await peer.end()


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (early_hints_for_ever, DialFailure(Cause.REJECTED, "HTTP 103", status=103)),
        (early_hints_and_no_more, DialFailure(Cause.CLOSED, "before the handshake was done")),
        (refused_after_hints, DialFailure(Cause.REJECTED, "HTTP 404", status=404)),
    ],
)
async def test_g31_interim_answers_are_bounded(script: Script, failure: DialFailure) -> None:
    """Interim answers without an end are a refusal; what follows them counts as if it had come first."""
    async with serving(script) as port, at_once(), dialling(port)() as made:
        assert made == failure


class NoSuchName(trio.abc.HostnameResolver):
    """A resolver that knows no name."""

    async def getaddrinfo(self, *_: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


async def test_unknown_name() -> None:
    """A name that cannot be resolved is told from a host that cannot be reached."""
    trio.socket.set_custom_hostname_resolver(NoSuchName())
    async with Dialled(WebSocketDial("ws://worker.example/"))() as made:
        assert made == DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved")


async def test_impossible_name() -> None:
    """A name that no resolver can even be asked for is a failure like any other."""
    async with Dialled(WebSocketDial("ws://☃☃.example/"))() as made:
        assert isinstance(made, DialFailure)


@pytest.mark.parametrize("path", ["/é", "/?q=é"])
async def test_path_of_another_script(path: str) -> None:
    """A path with letters beyond ASCII, which `Config` accepts, is dialled or refused as a value."""

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.end()

    async with serving(script) as port:
        dial = Dialled(WebSocketDial(f"ws://127.0.0.1:{port}{path}"), register=1)
        async with dial() as made:
            assert not isinstance(made, DialFailure), made


async def wait_for_ever(host: str, port: int, within: float) -> trio.abc.Stream:
    await trio.sleep(within)
    raise TimeoutError


async def test_unanswered_connect(autojump_clock: MockClock) -> None:
    """A host that does not answer is given up after the time for connecting."""
    dial = Dialled(WebSocketDial("ws://h/", open_stream=wait_for_ever), connect=10)
    async with dial() as made:
        assert made == DialFailure(Cause.NO_ANSWER, "in 10 s")
    assert trio.current_time() == 10


@pytest.mark.parametrize(
    ("scheme", "failure", "seconds"),
    [
        ("ws", DialFailure(Cause.UNANSWERED, "nothing in 60 s"), 60),
        ("wss", DialFailure(Cause.UNANSWERED, "no TLS in 60 s"), 60),
    ],
)
async def test_silent_peer(scheme: str, failure: DialFailure, seconds: float, autojump_clock: MockClock) -> None:
    """A peer that accepts and says nothing is given up after the time for its stage, not before and not later."""
    near, far = memory_stream_pair()

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        return near

    dial = Dialled(WebSocketDial(f"{scheme}://h/", open_stream=open_stream), register=60)
    async with dial() as made:
        assert made == failure
        assert trio.current_time() == seconds
    while await far.receive_some():
        pass


async def test_silent_peer_on_a_socket() -> None:
    """The same over a real socket: the connection is ended at the deadline."""
    done = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.end()
        done.set()

    async with serving(script) as port:
        async with dialling(port, register=0.2)() as made:
            assert made == DialFailure(Cause.UNANSWERED, "nothing in 0.2 s")
        await done.wait()


class Swallowed(trio.abc.Stream):
    """The client's end of a connection whose bytes the peer's kernel drops: ours gives up after a while."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(14)
        raise trio.BrokenResourceError from TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_bytes_that_nobody_acknowledges(scheme: str, autojump_clock: MockClock) -> None:
    """A connection that a full server's kernel has never accepted is told from one that is not answered."""

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        return Swallowed()

    async with Dialled(WebSocketDial(f"{scheme}://h/", open_stream=open_stream), register=60)() as made:
        assert made == DialFailure(Cause.UNACKNOWLEDGED)
    assert trio.current_time() == 14


async def test_how_long_the_kernel_goes_on() -> None:
    """The kernel gives a dial up after the time for acknowledgements, and an open connection after its own."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system cannot be told")
    opened = list[trio.SocketStream]()
    seconds = list[float]()

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        opened.append(await trio.open_tcp_stream(host, port))
        return opened[0]

    def note() -> None:
        milliseconds = opened[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert isinstance(milliseconds, int)
        seconds.append(milliseconds / 1000)

    async def script(peer: Peer) -> None:
        head = await peer.head()
        note()
        await peer.send(switching(head))
        await peer.end()

    async with serving(script) as port:
        dial = WebSocketDial(f"ws://127.0.0.1:{port}", open_stream=open_stream, unacknowledged_within=15.0)
        async with Dialled(dial, acknowledge=3.0)():
            note()
    assert seconds == [3.0, 15.0]


ENDINGS: dict[str, Callable[[Peer], Awaitable[None]]] = {
    "EOF": lambda peer: peer.stream.aclose(),
    "RST": lambda peer: peer.reset(),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("after", ["nothing", "the request", "half the answer"])
async def test_closed_before_the_101(ending: str, after: str) -> None:
    """A peer that ends the connection before its 101 is known at once, whether it had read or begun to answer."""

    async def script(peer: Peer) -> None:
        if after != "nothing":
            await peer.head()
        if after == "half the answer":
            await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: web")
        await ENDINGS[ending](peer)

    failure = await failure_of(script)
    assert failure.cause in (Cause.CLOSED, Cause.GARBAGE if after == "half the answer" else Cause.CLOSED)


async def test_half_closed_before_the_101() -> None:
    """A peer that stops sending but keeps the connection is known at once as well."""

    async def script(peer: Peer) -> None:
        await peer.head()
        assert isinstance(peer.stream, trio.SocketStream)
        await peer.stream.send_eof()
        await peer.end()

    assert (await failure_of(script)).cause is Cause.CLOSED


GARBAGE = [
    b"220 mail.example.org ESMTP\r\n\r\n",
    b"\x00\xff" * 100,
    b"\r\n\r\n\r\n\r\nnothing\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm90aGluZw==\r\n\r\n",
    b"HTTP/1.1 999999 What\r\n\r\n",
    b"HTTP/1.1 101 x\r\n" + b"X-Pad: x\r\n" * 5_000 + b"\r\n",
]


@pytest.mark.parametrize("answer", GARBAGE)
async def test_garbage_costs_no_time(answer: bytes) -> None:
    """Bytes that are no WebSocket handshake end the dial at once, although the peer keeps the connection open."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        await peer.end()

    assert (await failure_of(script)).cause in (Cause.GARBAGE, Cause.CLOSED)


async def test_garbage_without_an_end() -> None:
    """Bytes that might still become a handshake last no longer than the time for the upgrade."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"SSH-2.0-OpenSSH_9.6\r\n")
        await peer.end()

    assert (await failure_of(script, register=0.2)).cause is Cause.UNANSWERED


@pytest.mark.parametrize("answer", GARBAGE)
async def test_garbage(answer: bytes) -> None:
    """Bytes that are no WebSocket handshake are told from a connection that was closed."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        await peer.end()

    assert await failure_of(script) == DialFailure(Cause.GARBAGE, "the answer is no WebSocket handshake")


@pytest.mark.parametrize(
    ("answer", "status", "hint"),
    [
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nbusy", 503, "30"),
        (b"HTTP/1.1 503 Busy\r\nretry-after: 2.5\r\nContent-Length: 0\r\n\r\n", 503, "2.5"),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n", 429, "Wed"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 403, None),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>", 200, None),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n", 302, None),
        (b"HTTP/1.1 500 Oops\r\nRetry-After: \xff\r\nContent-Length: 0\r\n\r\n", 500, "\ufffd"),
        (b"HTTP/1.1 500 Oops\r\nRetry-After:\r\nContent-Length: 0\r\n\r\n", 500, None),
        (b"HTTP/1.1 404 No\r\nContent-Length: 15\r\n\r\nRetry-After: 9\n", 404, None),
    ],
)
async def test_rejected(answer: bytes, status: int, hint: str | None) -> None:
    """An HTTP answer instead of the 101 is a rejection with its status and its Retry-After, if it has one."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        await peer.end()

    failure = await failure_of(script)
    cause = Cause.SHED if status in (429, 502, 503, 504) else Cause.REJECTED
    assert (failure.cause, failure.detail, failure.status) == (cause, f"HTTP {status}", status)
    assert failure.retry_after == hint or (hint == "Wed" and str(failure.retry_after).startswith("Wed"))


async def test_rejected_until_the_end_of_the_connection() -> None:
    """A rejection whose body ends with the connection, as HAProxy sends it, keeps its status and its Retry-After."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.0 503 Busy\r\nRetry-After: 30\r\n\r\nbusy")
        await peer.stream.aclose()

    assert await failure_of(script) == DialFailure(Cause.SHED, "HTTP 503", status=503, retry_after="30")


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_endless_rejection(framing: bytes) -> None:
    """A rejection with an endless body is known by its head, and nothing of the body is collected."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 503 Busy\r\n" + framing + b"\r\n")
        while True:
            await peer.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
            sent += 1007

    assert await failure_of(script) == DialFailure(Cause.SHED, "HTTP 503", status=503)
    assert sent < 64 * 2**20


async def test_truncated_rejection() -> None:
    """A rejection whose body stops half-way, the connection left open, is known by its head at once."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\nbusy")
        await peer.end()

    assert await failure_of(script) == DialFailure(Cause.SHED, "HTTP 503", status=503)


async def test_endless_head() -> None:
    """A head without an end is no handshake, however long it could go on, and is not collected."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        while True:
            await peer.send(b"X-Pad: x\r\n" * 100)
            sent += 1000

    assert (await failure_of(script)).cause is Cause.GARBAGE
    assert sent < 64 * 2**20


async def test_endless_dribble() -> None:
    """A head that comes letter by letter lasts no longer than the time for the upgrade."""

    async def script(peer: Peer) -> None:
        await peer.head()
        while True:
            await peer.send(b"H")
            await trio.sleep(0.02)

    failure = await failure_of(script, register=0.3)
    assert failure.cause in (Cause.UNANSWERED, Cause.GARBAGE)


# --- TLS --------------------------------------------------------------------------------------------------------------


async def plain_bytes(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.end()


@pytest.mark.parametrize("script", [plain_bytes, *ENDINGS.values()], ids=["plain bytes", *ENDINGS])
async def test_no_tls_there(script: Script) -> None:
    """A peer that does not speak TLS, or ends the connection instead, is a TLS failure with its reason, at once."""
    failure = await failure_of(script, scheme="wss")
    assert failure.cause is Cause.TLS
    assert failure.detail
    assert failure.detail.isprintable()


# --- what the request says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "opened", "host", "target"),
    [
        ("ws://example.org:8080/", ("example.org", 8080), "example.org:8080", "/"),
        ("ws://example.org", ("example.org", 80), "example.org", "/"),
        ("ws://127.0.0.1:8080/a/b?c=d&e", ("127.0.0.1", 8080), "127.0.0.1:8080", "/a/b?c=d&e"),
        ("ws://example.org?c=d", ("example.org", 80), "example.org", "/?c=d"),
        ("ws://[::1]:8080/", ("::1", 8080), "[::1]:8080", "/"),
        ("ws://[2001:db8::1]/", ("2001:db8::1", 80), "[2001:db8::1]", "/"),
        ("WS://EXAMPLE.ORG/", ("example.org", 80), "example.org", "/"),
        pytest.param(
            *("ws://example.org:80/", ("example.org", 80), "example.org", "/"),
        ),
    ],
)
async def test_request(url: str, opened: tuple[str, int], host: str, target: str, autojump_clock: MockClock) -> None:
    """The request names the host as the URL does, an IPv6 literal in brackets, a default port left out."""
    near, far = memory_stream_pair()

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        assert (host, port) == opened
        return near

    heads = list[str]()

    async def answer() -> None:
        head = await Peer(far).head()
        heads.extend(head.decode("ascii").split("\r\n"))
        await far.send_all(switching(head))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            dial = Dialled(WebSocketDial(url, open_stream=open_stream), register=1)
            async with dial() as made:
                assert not isinstance(made, DialFailure)
    assert heads[0] == f"GET {target} HTTP/1.1"
    assert [line for line in heads if line.lower().startswith("host:")] == [f"Host: {host}"]


async def test_default_port_of_tls() -> None:
    """Without a port a wss:// URL means 443."""
    opened = list[tuple[str, int]]()

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        opened.append((host, port))
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    async with Dialled(WebSocketDial("wss://h/", open_stream=open_stream))() as made:
        assert made == DialFailure(Cause.UNREACHABLE, f"[Errno {errno.ENETUNREACH}] Network is unreachable")
    assert opened == [("h", 443)]


# --- how a connection ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "closed"),
    [
        (close_frame(1000), Closed(1000)),
        (close_frame(1001, "going away"), Closed(1001, "going away")),
        (close_frame(1011, "keepalive\x1b[2J"), Closed(1011, r"keepalive\x1b[2J")),
        (close_frame(1012, "service restart"), Closed(1012, "service restart")),
        (close_frame(4999), Closed(4999)),
        (frame(CLOSE), Closed(1005)),
    ],
)
async def test_closed_by_the_peer(last: bytes, closed: Closed) -> None:
    """A Close frame ends the connection with its code and reason although the peer keeps the TCP connection open."""

    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"last words") + last)
        await trio.sleep_forever()

    async with at_once(), connected(script) as made:
        assert await made.receive() == "last words"
        assert await made.receive() == closed
        assert await made.receive() == closed
        assert await made.send("late") == closed
        await made.ping()
        await made.close()


@pytest.mark.parametrize("ending", ENDINGS)
async def test_end_of_the_connection(ending: str) -> None:
    """The end of the connection without a Close frame is 1006, for a reader and for whoever sends after it."""

    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"last words"))
        await peer.frame()
        await ENDINGS[ending](peer)

    async with at_once(), connected(script) as made:
        assert await made.receive() == "last words"
        await made.send("go on")
        assert await made.receive() == Closed(1006, "without a Close frame")
        assert await made.send("late") == Closed(1006, "without a Close frame")
        await made.ping()
        await made.close()


async def test_message_too_big() -> None:
    """A message over 8 MiB ends the connection with 1009, and the end holds nothing up."""

    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"x" * (10 * 2**20)))
        await trio.sleep_forever()

    async with connected(script) as made:
        closed = await made.receive()
        assert isinstance(closed, Closed)
        assert closed.code == 1009
        begun = trio.current_time()
    assert trio.current_time() - begun < SOON


async def test_message_of_full_size() -> None:
    """A registration's answer in a room of ten thousand, 5 MiB, arrives whole."""
    text = b"x" * (5 * 2**20)
    assert len(text) < MAX_MESSAGE

    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, text))
        await peer.end()

    async with connected(script) as made:
        assert await made.receive() == text.decode("ascii")


RANDOM = Random(20)


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"\xff\xfe"),
        frame(3, b"reserved opcode"),
        b"\xf1\x01x",
        frame(PING, b"x" * 200),
        b"\x81\x82mask\x00\x00",
        frame(0, b"a continuation of nothing"),
        frame(CLOSE, b"\x03"),
        close_frame(1005),
        close_frame(999),
        frame(CLOSE, b"\x03\xe8\xff\xff"),
        frame(TEXT)[:1] + b"\x7f" + b"\xff" * 8,
        *(RANDOM.randbytes(400) for _ in range(10)),
    ],
)
async def test_broken_frames(data: bytes) -> None:
    """Whatever a peer sends after its 101 ends the connection or is read, and is never an exception."""

    async def script(peer: Peer) -> None:
        await peer.send(data)
        await peer.stream.aclose()

    async with at_once(), connected(script) as made:
        while not isinstance(await made.receive(), Closed):
            pass
        assert isinstance(await made.send("late"), Closed)
        await made.ping()


@pytest.mark.parametrize(
    ("data", "code"), [(frame(TEXT, b"\xff"), 1007), (frame(3), 1002), (frame(CLOSE, b"\x03"), 1002)]
)
async def test_a_broken_frame_is_answered(data: bytes, code: int) -> None:
    """A peer that breaks the protocol is told so by a Close frame with the code."""
    answers = list[Any]()

    async def script(peer: Peer) -> None:
        await peer.send(data)
        answers.append(await peer.frame())
        await peer.end()

    async with at_once(), connected(script) as made:
        end = await made.receive()
        assert isinstance(end, Closed)
        assert end.code == code
    assert answers == [(CLOSE, code.to_bytes(2))]


@pytest.mark.parametrize("close", [True, False], ids=["closed", "aborted"])
async def test_half_open_peer(close: bool) -> None:
    """A peer that neither reads nor answers holds up neither the bounded close nor the end of the context."""

    async def script(peer: Peer) -> None:
        await trio.sleep_forever()

    async with at_once(), connected(script) as made:
        with trio.move_on_after(0.1):
            await made.send("x" * 20_000_000)
        if close:
            with trio.move_on_after(0.1):
                await made.close()


async def test_close_that_is_not_answered() -> None:
    """Who waits for the answer to a Close frame sets the deadline, and the end of the context ends the connection."""
    ends, done = list[str](), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        assert (await peer.frame())[0] == CLOSE
        ends.append(await peer.end())
        done.set()

    async with serving(script) as port:
        async with dialling(port)() as made:
            assert not isinstance(made, DialFailure)
            assert await made.close() is None
            with trio.move_on_after(0.1) as scope:
                await made.receive()
            assert scope.cancelled_caught
        async with at_once():
            await done.wait()
    assert ends == ["RST"]


async def test_ping_while_closing() -> None:
    """A ping of the peer's while we are closing is no error and gets no pong: the close goes on (faults.md, T9)."""
    more = bytearray()

    async def script(peer: Peer) -> None:
        assert (await peer.frame())[0] == CLOSE
        await peer.send(frame(PING, b"still there?"))
        await peer.send(close_frame(1000))
        with suppress(trio.BrokenResourceError):
            more.extend(await peer.stream.receive_some())

    async with at_once(), connected(script) as made:
        await made.close()
        assert await made.receive() == Closed(1000)
    assert more == b""


async def test_ping_after_the_close_frames() -> None:
    """A ping of the peer's behind its own Close frame is no error."""

    async def script(peer: Peer) -> None:
        await peer.send(close_frame(1001) + frame(PING, b"still there?"))
        await peer.end()

    async with at_once(), connected(script) as made:
        assert await made.receive() == Closed(1001)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_ping_on_a_dying_connection(ending: str) -> None:
    """A ping whose connection dies under it holds nobody up: the end is received."""

    async def script(peer: Peer) -> None:
        await peer.frame()
        await ENDINGS[ending](peer)

    async with at_once(), connected(script) as made:
        await made.ping()
        assert await made.receive() == Closed(1006, "without a Close frame")


async def test_ping_behind_unread_frames() -> None:
    """However many frames came before it, nothing of them is lost and the ping is seen when they are read."""
    count = 600
    pongs = list[Any]()

    async def script(peer: Peer) -> None:
        await peer.send(b"".join(frame(TEXT, str(number).encode()) for number in range(count)))
        await peer.send(frame(PING, b"alive?"))
        pongs.append(await peer.frame())
        await peer.send(frame(TEXT, b"thanks"))
        await peer.end()

    async with connected(script) as made:
        assert [await made.receive() for _ in range(count)] == [str(number) for number in range(count)]
        assert await made.receive() == "thanks"
    assert pongs == [(PONG, b"alive?")]


async def test_ping_behind_sixty_unread_messages() -> None:
    """A ping is answered although nobody has read what came before it (faults.md, T8, T28)."""
    answered = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"unread") * 60 + frame(PING, b"alive?"))
        assert await peer.frame() == (PONG, b"alive?")
        answered.set()
        await peer.end()

    async with at_once(), connected(script):
        await answered.wait()


@pytest.mark.parametrize("flood", [frame(TEXT, b"x" * 60_000), frame(PING, b"x" * 100) * 500], ids=["texts", "pings"])
async def test_a_flood_fills_nothing(flood: bytes) -> None:
    """A peer that sends and sends is held up when its messages are not read, or its pongs not taken."""
    held_up = trio.Event()

    async def script(peer: Peer) -> None:
        for _ in range(2_000):
            with trio.move_on_after(1.0) as scope:
                await peer.send(flood)
            if scope.cancelled_caught:
                held_up.set()
                break
        await trio.sleep_forever()

    async with connected(script):
        with trio.fail_after(PATIENT):
            await held_up.wait()


async def test_sending_that_was_cut_short() -> None:
    """Behind a frame of which half may be on the wire nothing is sent any more."""
    seen = bytearray()

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await go_on.wait()
        await peer.send(frame(PING, b"alive?"))
        with suppress(trio.BrokenResourceError):
            while data := await peer.stream.receive_some():
                seen.extend(data)
        done.set()

    go_on, done = trio.Event(), trio.Event()
    async with serving(script) as port:
        async with dialling(port)() as made:
            assert not isinstance(made, DialFailure)
            async with trio.open_nursery() as sending:
                sending.start_soon(made.send, "x" * 20_000_000)
                await trio.testing.wait_all_tasks_blocked(0.05)
                sending.cancel_scope.cancel()
            assert sending.cancel_scope.cancelled_caught
            for each in (made.send("behind it"), made.ping(), made.close()):
                assert await each == Closed(1006, "nothing can be sent any more")
            go_on.set()
            await trio.testing.wait_all_tasks_blocked(0.05)
        await done.wait()
    mask, body = seen[10:14], seen[14:]
    pattern = bytes(each ^ ord("x") for each in mask)
    assert bytes(body) == (pattern * (len(body) // 4 + 1))[: len(body)]


@pytest.mark.parametrize("more", [b"", b"and more"])
async def test_receiving_that_is_cancelled_in_the_answer_to_a_close(more: bytes) -> None:
    """Whoever is cancelled while a Close frame is answered to a peer that does not read gets its code the next time,
    whatever the peer sends behind it."""

    async def stuck() -> None:
        await trio.sleep_forever()

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        return ours

    async def serve() -> None:
        peer = Peer(theirs)
        await peer.upgrade()
        ours.send_stream.send_all_hook = stuck
        await peer.send(close_frame(1012, "service restart"))

    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with Dialled(WebSocketDial("ws://h/", open_stream=open_stream))() as made:
            assert not isinstance(made, DialFailure)
            with trio.move_on_after(0.1) as scope:
                await made.receive()
            assert scope.cancelled_caught
            await theirs.send_all(more)
            assert await made.receive() == Closed(1012, "service restart")


# --- cancelled at any stage -------------------------------------------------------------------------------------------


async def handshake_only(peer: Peer) -> None:
    await peer.take(1)


async def upgraded(peer: Peer) -> None:
    await peer.upgrade()


async def receiving(made: Socket) -> None:
    await made.receive()


async def sending(made: Socket) -> None:
    while await made.send("x" * 2**20) is None:
        pass


async def pinging(made: Socket) -> None:
    await made.ping()
    await made.receive()


async def closing(made: Socket) -> None:
    await made.close()
    await made.receive()


async def nothing(made: Socket) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("scheme", "begin", "stage"),
    [
        pytest.param("wss", handshake_only, nothing, id="TLS handshake"),
        pytest.param("ws", handshake_only, nothing, id="upgrade"),
        pytest.param("ws", upgraded, nothing, id="open"),
        pytest.param("ws", upgraded, receiving, id="receiving"),
        pytest.param("ws", upgraded, sending, id="sending"),
        pytest.param("ws", upgraded, pinging, id="pinging"),
        pytest.param("ws", upgraded, closing, id="closing"),
    ],
)
async def test_cancelled(scheme: str, begin: Script, stage: Callable[[Socket], Awaitable[None]]) -> None:
    """Cancelled in the middle of any stage, the peer sees the end at once, and only Cancelled is raised."""
    begun, ended, cancelled, cancel = trio.Event(), trio.Event(), trio.Event(), trio.CancelScope()

    async def script(peer: Peer) -> None:
        await begin(peer)
        begun.set()
        if stage is sending:
            await cancelled.wait()
        await peer.end()
        ended.set()

    async def client() -> None:  # `cancelled` is not set when more than this one Cancelled comes out
        with cancel:
            async with dialling(port, scheme=scheme)() as made:
                assert not isinstance(made, DialFailure)
                await stage(made)
        cancelled.set()

    async with serving(script) as port, trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await begun.wait()
        await trio.sleep(0.1)  # for the client to come to the stage's await; correct also if it does not
        async with at_once():
            cancel.cancel()
            await ended.wait()
            await cancelled.wait()
    assert cancel.cancelled_caught


async def test_cancelled_while_connecting(autojump_clock: MockClock) -> None:
    """Cancelled before there is a connection, a dial raises only Cancelled."""
    dial = Dialled(WebSocketDial("ws://h/", open_stream=wait_for_ever), connect=10)
    with trio.move_on_after(1) as scope:
        async with dial():
            raise AssertionError
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_cancelled_beforehand() -> None:
    """A dial in a scope that is cancelled already makes no connection, and leaves none."""
    accepted = list[str]()

    async def script(peer: Peer) -> None:
        accepted.append(await peer.end())

    async with serving(script) as port:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with dialling(port)():
                raise AssertionError
        assert scope.cancelled_caught


async def test_abort_under_cancellation() -> None:
    """An abort ends the connection and its task although its caller is being cancelled."""

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.end()

    deadlines = Deadlines(connect=PATIENT, acknowledge=PATIENT, upgrade=PATIENT, register=PATIENT)
    async with serving(script) as port, trio.open_nursery() as nursery:
        made = await WebSocketDial(f"ws://127.0.0.1:{port}/")(deadlines, nursery)
        assert not isinstance(made, DialFailure)
        await trio.testing.wait_all_tasks_blocked()  # the handshake's task has ended
        assert len(nursery.child_tasks) == 1
        with trio.CancelScope() as scope:
            scope.cancel()
            await made.abort()
        assert not nursery.child_tasks


async def test_error_in_the_body() -> None:
    """What the body raises ends the connection and comes out, alone in its group."""
    done = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.end()
        done.set()

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with connected(script):
            raise ZeroDivisionError


async def test_quiet_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a normal nor a broken connection writes to the log above debug: that is the actors' to do."""

    async def script(peer: Peer) -> None:
        await peer.send(frame(3))
        await peer.reset()

    with caplog.at_level(logging.INFO):
        async with connected(script) as made:
            assert isinstance(await made.receive(), Closed)
    assert caplog.records == []
