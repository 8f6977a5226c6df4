"""Byte streams: aborted at the end, and why a connection was not made."""

import errno
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from tests.support.peers import SOON, Peer, nobody_listening, serving
from worker_state.core.verdict import Cause, DialFailure
from worker_state.streams import abort, why_not_connected

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
