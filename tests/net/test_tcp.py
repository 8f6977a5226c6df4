"""Byte streams: opened in stages that can be told apart, aborted at the end, and why a connection was not made."""

import errno
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.support.peers import SOON, Peer, nobody_listening, serving
from worker_state.net.tcp import (
    abort,
    give_up_after,
    open_tcp_stream,
    why_not_connected,
)
from worker_state.protocol.error_policy import Cause, DialFailure

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


# --- opening ----------------------------------------------------------------------------------------------------------


async def test_open_refused() -> None:
    """A refusal by the only address keeps its errno."""
    async with nobody_listening() as port:
        with pytest.raises(ConnectionRefusedError):
            await open_tcp_stream("127.0.0.1", port, 10.0)


class Blocking(trio.abc.HostnameResolver):
    """Knows where a name is, and blocks the event loop as soon as a connection to it is under way."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def getaddrinfo(self, host: object, port: object, *_: object, **__: object) -> list[Any]:
        self._nursery.start_soon(self._block)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def _block(self) -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - the loop has to stand still

    async def getnameinfo(self, *_: object, **__: object) -> tuple[str, str]:
        raise AssertionError


async def test_open_late() -> None:
    """What the kernel has connected while our own loop was late to hear of it is taken, not thrown away."""

    async def script(peer: Peer) -> None:
        await peer.end()

    async with serving(script) as port, trio.open_nursery() as nursery:
        trio.socket.set_custom_hostname_resolver(Blocking(nursery))
        stream = await open_tcp_stream("late.example", port, 0.2)
        await stream.aclose()


class Silence(trio.abc.HostnameResolver):
    """A resolver that never answers."""

    async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        await trio.sleep_forever()
        raise AssertionError

    async def getnameinfo(self, *_: object, **__: object) -> tuple[str, str]:
        raise AssertionError


async def test_open_unanswered(autojump_clock: MockClock) -> None:
    """A name that nobody resolves in time is an address that nobody answers at."""
    trio.socket.set_custom_hostname_resolver(Silence())
    with pytest.raises(TimeoutError):
        await open_tcp_stream("silent.example", 80, 10.0)
    assert trio.current_time() == 10.0


class TwoAddresses(trio.abc.HostnameResolver):
    """A name with one address at which nobody listens, and one that works."""

    async def getaddrinfo(self, host: object, port: object, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")]

    async def getnameinfo(self, *_: object, **__: object) -> tuple[str, str]:
        raise AssertionError


async def test_open_one_of_two() -> None:
    """Of several addresses one that works is enough."""
    ends = list[str]()

    async def script(peer: Peer) -> None:
        ends.append(await peer.end())

    async with serving(script) as port:
        trio.socket.set_custom_hostname_resolver(TwoAddresses())
        stream = await open_tcp_stream("two.example", port, 10.0)
        await stream.aclose()


async def test_kernel_gives_up() -> None:
    """The kernel is told how long to go on without an acknowledgement; a stream without a socket is left alone."""

    async def script(peer: Peer) -> None:
        await peer.end()

    async with serving(script) as port:
        stream = await open_tcp_stream("127.0.0.1", port, 10.0)
        give_up_after(stream, 15.0)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        await stream.aclose()
    give_up_after(memory_stream_pair()[0], 15.0)


# --- the abort --------------------------------------------------------------------------------------------------------


async def aborted(before: Callable[[trio.SocketStream], Awaitable[None]]) -> tuple[str, float]:
    """How the peer sees the end of a stream that is aborted after this was done with it, and how long that took."""
    ends = list[str]()
    ended = trio.Event()

    async def script(peer: Peer) -> None:
        ends.append(await peer.end())
        ended.set()

    async with serving(script) as port:
        stream = await open_tcp_stream("127.0.0.1", port, 10.0)
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
        stream = await open_tcp_stream("127.0.0.1", port, 10.0)
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
        stream = await open_tcp_stream("127.0.0.1", port, 10.0)
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
        stream = await open_tcp_stream("127.0.0.1", port, 10.0)
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
