"""Byte streams as this package needs them: opened in stages that can be told apart, and aborted at the end.

Only trio and the socket module; nothing of WebSocket or HTTP, and no decision about what a failure leads to.
"""

import errno
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import trio

from worker_state.core.verdict import Cause, DialFailure
from worker_state.core.words import shown

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

ASK_AFTER, ASK_AGAIN = 10, 5
"""Seconds. The kernel asks a silent connection whether it lives, first and then again (TCP keep-alive)."""


class TcpStream(trio.abc.Stream):
    """A connected socket, with a scheduling step less for each send than trio's, and a system call for each receive.

    Sending is a checkpoint only when the kernel's buffer is full; trio-websocket's lock is one for every frame anyway.
    Not for two senders or two receivers at the same time.
    """

    __slots__ = ("socket",)

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while True:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                pass
            except OSError as exc:
                raise self._broken() from exc
            if not rest:
                return
            await trio.lowlevel.wait_writable(self.socket)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._open())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._open())
            try:
                return self.socket.recv(max_bytes or 65536)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise self._broken() from exc

    def close(self) -> None:
        """Whoever waits for this socket gets `trio.ClosedResourceError`."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _open(self) -> socket.socket:
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError("this socket is closed")
        return self.socket

    def _broken(self) -> Exception:
        if self.socket.fileno() < 0:
            return trio.ClosedResourceError("this socket is closed")
        return trio.BrokenResourceError("the connection is broken")


async def open_tcp_stream(host: str, port: int, within: float) -> TcpStream:
    """Connect to one of the host's addresses. Raises `OSError` (`TimeoutError` when nobody answers within so many
    seconds), or `UnicodeError` for what is no host name.

    To the only address directly, which costs a quarter of trio's race between several and keeps the errno.
    """
    deadline = trio.current_time() + within
    addresses: list[Any] = []
    with trio.move_on_at(deadline):
        addresses = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        if len(addresses) > 1:
            raced = await trio.open_tcp_stream(host, port)
            return TcpStream(socket.socket(fileno=raced.socket.detach()))
    if len(addresses) != 1:
        raise TimeoutError
    ((family, kind, protocol, _, address),) = addresses
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        failed = connecting.connect_ex(address)
        if failed == errno.EINPROGRESS:
            # Our own loop may have been late: what the kernel has connected meanwhile is not thrown away.
            with trio.move_on_at(deadline):
                await trio.lowlevel.wait_writable(connecting)
            failed = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _not_yet(connecting)
        if failed:
            raise OSError(failed, os.strerror(failed))
        return TcpStream(connecting)
    except BaseException:
        connecting.close()
        raise


def _not_yet(connecting: socket.socket) -> int:
    """ETIMEDOUT when nobody has answered so far, else 0."""
    try:
        connecting.getpeername()
    except OSError:
        return errno.ETIMEDOUT
    return 0


@cache
def ssl_context() -> ssl.SSLContext:
    """One verifying context for everything in the process: a fresh one costs 18 ms of CPU each time (FAULTS T26)."""
    return ssl.create_default_context()


async def secure(
    stream: trio.abc.Stream, host: str, context: ssl.SSLContext | None = None
) -> trio.SSLStream[trio.abc.Stream]:
    """TLS over a stream; how long the handshake may take is the caller's scope to say.

    Raises `trio.BrokenResourceError` with the reason when there is none, or when this is not the certificate of that
    host.
    """
    secured = trio.SSLStream(stream, context or ssl_context(), server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError) as exc:
        raise trio.BrokenResourceError(str(exc.__cause__ or "the connection broke off")) from exc
    return secured


def unacknowledged(stream: trio.abc.Stream) -> int:
    """Bytes that were sent and that the kernel over there has not acknowledged; 0 where that cannot be asked."""
    if sys.platform != "linux" or not isinstance(stream, TcpStream) or stream.socket.fileno() < 0:
        return 0
    return int(struct.unpack("i", ioctl(stream.socket.fileno(), TIOCOUTQ, b"\0\0\0\0"))[0])


def give_up_after(stream: trio.abc.Stream, seconds: float) -> None:
    """Have the kernel end the connection when the one over there is not heard of for so long, where it can do that.

    Linux would send lost bytes again for a quarter of an hour, and asks nobody at all while there is nothing to send:
    who waits for an answer with patience must know that somebody is still there.
    """
    milliseconds = max(1, min(round(seconds * 1000), 2**31 - 1))  # 0 would mean the usual quarter of an hour
    options = {"TCP_USER_TIMEOUT": milliseconds, "TCP_KEEPIDLE": ASK_AFTER, "TCP_KEEPINTVL": ASK_AGAIN}
    if not isinstance(stream, TcpStream) or not all(hasattr(socket, name) for name in options):
        return
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            stream.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def why_not_connected(exc: OSError | UnicodeError) -> DialFailure:
    # trio says "all attempts failed" without errno; what happened to each address is in the group of its cause.
    causes = exc.__cause__.exceptions if isinstance(exc.__cause__, BaseExceptionGroup) else (exc,)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return DialFailure(Cause.REFUSED)
    if any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes):
        return DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved")
    return DialFailure(Cause.UNREACHABLE, shown(str(causes[0])))


async def abort(stream: trio.abc.Stream) -> None:
    """Close at once, with RST: no Close frame, no FIN behind unread data, nothing waited for (FAULTS T4, T5, T7)."""
    if isinstance(stream, TcpStream):
        with suppress(OSError):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()
        return
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)


class Unacknowledged(trio.BrokenResourceError):
    """The kernel over there has not acknowledged our first bytes in time."""


class Watching(trio.abc.Stream):
    """A stream whose first answer is waited for only as long as our bytes are acknowledged.

    A SYN-ACK is no acceptance: with its accept queue full the kernel over there drops what follows, while the socket
    looks connected here (STORMS, finding 3). From the first bytes received on everything passes straight through.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        within: float,
        unacknowledged: Callable[[trio.abc.Stream], int] = unacknowledged,
    ) -> None:
        self._stream = stream
        self._within = within
        self._unacknowledged = unacknowledged
        self.lost = False
        """Our bytes were not acknowledged."""
        self.send_all = stream.send_all  # type: ignore[method-assign]

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        with trio.move_on_after(self._within) as scope:
            data = await self._stream.receive_some(max_bytes)
        if scope.cancelled_caught:
            if self._unacknowledged(self._stream):
                self.lost = True
                raise Unacknowledged(f"our bytes were not acknowledged in {self._within:g} s")
            data = await self._stream.receive_some(max_bytes)
        self.receive_some = self._stream.receive_some  # type: ignore[method-assign]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise NotImplementedError  # the instance has the stream's own

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
