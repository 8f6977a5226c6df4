"""Byte streams: limited before the handshake, aborted at the end, and why a connection was not made."""

import errno
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, check_two_way_stream, lockstep_stream_pair, memory_stream_pair

from tests.support.peers import SOON, Peer, nobody_listening, serving
from worker_state.core.verdict import Cause, DialFailure
from worker_state.streams import LimitedHead, abort, why_not_connected

# --- the limit --------------------------------------------------------------------------------------------------------


async def test_below_the_limit() -> None:
    """Up to the limit everything passes, the last byte included."""
    near, far = memory_stream_pair()
    limited = LimitedHead(near, 10)
    await far.send_all(b"12345")
    assert await limited.receive_some() == b"12345"
    await far.send_all(b"67890")
    assert await limited.receive_some() == b"67890"
    assert limited.excess == ""


async def test_over_the_limit() -> None:
    """The first byte over the limit breaks the stream, and it stays broken."""
    near, far = memory_stream_pair()
    limited = LimitedHead(near, 10)
    await far.send_all(b"1234567890")
    await limited.receive_some()
    for _ in range(2):
        await far.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError, match="more than 10 bytes"):
            await limited.receive_some()
    assert limited.excess == "more than 10 bytes in place of a handshake"


async def test_lifted() -> None:
    """Once the handshake is done there is no limit."""
    near, far = memory_stream_pair()
    limited = LimitedHead(near, 10)
    limited.lift()
    await far.send_all(b"x" * 10_000)
    assert len(await limited.receive_some()) == 10_000
    assert limited.excess == ""


async def test_sending_is_not_limited() -> None:
    """What we send does not count."""
    near, far = memory_stream_pair()
    limited = LimitedHead(near, 10)
    await limited.send_all(b"x" * 100)
    assert await far.receive_some() == b"x" * 100
    await far.send_all(b"1234567890")
    assert await limited.receive_some() == b"1234567890"


async def test_end_of_stream() -> None:
    """The end of the stream comes through as the end, not as excess."""
    near, far = memory_stream_pair()
    limited = LimitedHead(near, 10)
    await far.send_eof()
    assert await limited.receive_some() == b""
    assert limited.excess == ""


async def test_limited_is_a_stream() -> None:
    """A limited stream keeps every promise of trio's streams: cancellation, closing, busy and broken ends."""

    async def maker(
        pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]],
    ) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = pair()
        return LimitedHead(near, 10**9), LimitedHead(far, 10**9)

    await check_two_way_stream(lambda: maker(memory_stream_pair), lambda: maker(lockstep_stream_pair))


# --- why there is no connection ---------------------------------------------------------------------------------------


def all_failed(*errors: OSError) -> OSError:
    """What trio raises when it has tried every address of a name."""
    failed = OSError("all attempts to connect to example.org:80 failed")
    failed.__cause__ = ExceptionGroup(str(failed), errors)
    return failed


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
NO_ROUTE = OSError(errno.EHOSTUNREACH, "No route to host")
TIMED_OUT = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (REFUSED, DialFailure(Cause.REFUSED)),
        (all_failed(REFUSED), DialFailure(Cause.REFUSED)),
        (all_failed(TIMED_OUT, REFUSED), DialFailure(Cause.REFUSED)),
        (UNKNOWN, DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved")),
        (all_failed(UNKNOWN), DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved")),
        (all_failed(NO_ROUTE, TIMED_OUT), DialFailure(Cause.UNREACHABLE, str(NO_ROUTE))),
        (NO_ROUTE, DialFailure(Cause.UNREACHABLE, str(NO_ROUTE))),
        (OSError("a\x1b[2Jb"), DialFailure(Cause.UNREACHABLE, r"a\x1b[2Jb")),
    ],
)
def test_why_not_connected(error: OSError, failure: DialFailure) -> None:
    """A refusal at any address is a refusal, an unknown name is called so, and the rest says what the system said."""
    assert why_not_connected(error) == failure


async def test_what_trio_raises() -> None:
    """What trio raises for a port at which nobody listens is read as a refusal."""
    async with nobody_listening() as port:
        with pytest.raises(OSError, match=r"\S") as caught:
            await trio.open_tcp_stream("127.0.0.1", port)
    assert why_not_connected(caught.value) == DialFailure(Cause.REFUSED)


# --- the abort --------------------------------------------------------------------------------------------------------


async def aborted(before: Callable[[trio.SocketStream], Awaitable[None]]) -> tuple[str, float]:
    """How the peer sees the end of a stream that is aborted after this was done with it, and how long that took."""
    ends = list[str]()
    ended = trio.Event()

    async def script(peer: Peer) -> None:
        ends.append(await peer.end())
        ended.set()

    async with serving(script) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await before(stream)
        begun = trio.current_time()
        await abort(stream)
        took = trio.current_time() - begun
        await ended.wait()
    return ends[0], took


async def test_abort_resets() -> None:
    """An aborted connection ends with an RST at once, which leaves no half-open entry at the server."""

    async def before(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")

    end, took = await aborted(before)
    assert end == "RST"
    assert took < SOON


async def test_abort_of_a_clogged_stream() -> None:
    """Bytes that the peer does not read hold up no abort."""
    waiting = trio.Event()

    async def script(peer: Peer) -> None:
        await waiting.wait()

    async with serving(script) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.move_on_after(0.2):
            while True:
                await stream.send_all(b"x" * 2**20)
        begun = trio.current_time()
        await abort(stream)
        assert trio.current_time() - begun < SOON
        waiting.set()


async def test_abort_under_cancellation() -> None:
    """An abort is carried out although its caller is being cancelled."""
    ended = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.end()
        ended.set()

    async with serving(script) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.CancelScope() as scope:
            scope.cancel()
            await abort(stream)
        assert not scope.cancelled_caught  # what comes after the abort is for the caller to decide
        await ended.wait()


async def test_abort_twice() -> None:
    """A stream that is closed already is aborted without complaint."""

    async def script(peer: Peer) -> None:
        await peer.end()

    async with serving(script) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.aclose()
        await abort(stream)
        await abort(stream)


async def test_abort_of_another_stream(autojump_clock: MockClock) -> None:
    """A stream that is no socket is closed without waiting for its polite end."""

    class Polite(trio.abc.Stream):
        """A stream whose close waits for the peer's, as TLS does."""

        def __init__(self) -> None:
            self.closed_politely = False

        async def aclose(self) -> None:
            await trio.sleep(3600)
            self.closed_politely = True

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            raise NotImplementedError

        async def wait_send_all_might_not_block(self) -> None:
            raise NotImplementedError

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            raise NotImplementedError

    stream = Polite()
    await abort(stream)
    assert trio.current_time() == 0
    assert not stream.closed_politely
