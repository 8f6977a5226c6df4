"""TCP and TLS on trio's streams: connect in stages that can be told apart, keep-alive, and the abort with RST."""

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache

import trio

from worker_state.protocol.error_policy import Cause, DialFailure
from worker_state.redact import shown

ASK_AFTER, ASK_AGAIN = 10, 5  # seconds before TCP keep-alive asks a silent connection, first and then again

OpenStream = Callable[[str, int, float], Awaitable[trio.abc.Stream]]
"""Host, port and seconds to a stream. Raises `OSError` or `UnicodeError`."""


async def open_tcp_stream(host: str, port: int, within: float) -> trio.SocketStream:
    """Connect to one of the host's addresses. Raises `OSError` (`TimeoutError` when nobody answers within so many
    seconds), or `UnicodeError` for what is no host name."""
    with trio.move_on_after(within):
        addresses = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if len(addresses) > 1:
            return await trio.open_tcp_stream(host, port)
        # trio's race throws away what the kernel connected while the loop was late (faults.md, T15).
        ((family, kind, protocol, _, address),) = addresses
        connecting = trio.socket.socket(family, kind, protocol)
        try:
            await connecting.connect(address)
        except BaseException:
            connecting.close()
            raise
        return trio.SocketStream(connecting)
    raise TimeoutError


async def connect(
    host: str, port: int, within: float, open_stream: OpenStream = open_tcp_stream
) -> trio.abc.Stream | DialFailure:
    """A TCP connection, or why there is none."""
    try:
        return await open_stream(host, port, within)
    except TimeoutError:
        return DialFailure(Cause.NO_ANSWER, f"in {within:g} s")
    except (OSError, UnicodeError) as error:  # the latter for a name that no resolver can be asked for
        return why_not_connected(error)


def why_not_connected(error: OSError | UnicodeError) -> DialFailure:
    # trio says "all attempts failed" without errno; what happened to each address is in the group of its cause.
    causes = error.__cause__.exceptions if isinstance(error.__cause__, BaseExceptionGroup) else (error,)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return DialFailure(Cause.REFUSED)
    if any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes):
        return DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved")
    return DialFailure(Cause.UNREACHABLE, shown(str(causes[0])))


@cache
def ssl_context() -> ssl.SSLContext:
    """One verifying context for everything in the process: a fresh one costs 18 ms of CPU each time (T26)."""
    return ssl.create_default_context()


async def secure(
    stream: trio.abc.Stream, host: str, context: ssl.SSLContext | None = None
) -> trio.SSLStream[trio.abc.Stream] | DialFailure:
    """TLS over a stream with that host's certificate, or why there is none. The caller sets the deadline."""
    secured = trio.SSLStream(stream, context or ssl_context(), server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError) as error:
        if gave_up(error):
            return DialFailure(Cause.UNACKNOWLEDGED)
        return DialFailure(Cause.TLS, shown(str(error.__cause__ or "the connection broke off")))
    return secured


def give_up_after(stream: trio.abc.Stream, seconds: float) -> None:
    """Have the kernel end a connection on which the peer acknowledges nothing for so long, where it can do that.

    Linux would repeat lost bytes for a quarter of an hour, and do nothing at all while there is nothing to send.
    """
    milliseconds = max(1, min(round(seconds * 1000), 2**31 - 1))  # 0 would mean the usual quarter of an hour
    options = {"TCP_USER_TIMEOUT": milliseconds, "TCP_KEEPIDLE": ASK_AFTER, "TCP_KEEPINTVL": ASK_AGAIN}
    if not isinstance(stream, trio.SocketStream) or not all(hasattr(socket, name) for name in options):
        return
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def gave_up(error: BaseException) -> bool:
    """Whether the stream broke for that."""
    return isinstance(error.__cause__, TimeoutError)


async def abort(stream: trio.abc.Stream) -> None:
    """Close at once, with RST: no Close frame, no FIN behind unread data, nothing waited for (T4, T5, T7)."""
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
        return
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)
