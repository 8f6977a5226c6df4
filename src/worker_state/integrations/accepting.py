"""Accepting connections for the small servers in here: slow clients give way, and no descriptor left is no end."""

import errno
import math
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TypeAlias

import trio

from worker_state.errors import ConfigError
from worker_state.forked import keep_from_children
from worker_state.logs import Logger, event, ever_more_rarely

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE = 0.1  # seconds until the next try when nothing can be accepted
CALM = 3600.0  # seconds without such trouble, after which the next is told like the first

ServeOne: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]  # a connection, which is closed behind it

log: Logger = Logger(__name__)


async def listen(port: int, host: str) -> Sequence[trio.SocketListener]:
    """Take the port; `::` is every address of both families. Raises `OSError`, whose text names both, when that is not
    possible, and `ConfigError` for what is no port or no host."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigError(f"port must be a whole number from 0 to 65535, not {port!r}")
    if not isinstance(host, str) or not host:  # either would listen on every address
        raise ConfigError(f"host must be a name or an address to listen on, as '127.0.0.1', not {host!r}")
    try:
        listeners = [_listen_on_both(port)] if host == "::" else await trio.open_tcp_listeners(port, host=host)
    except (OSError, UnicodeError) as error:  # the latter for a host that can be no name
        number, why = (error.errno, error.strerror) if isinstance(error, OSError) else (errno.EINVAL, None)
        why = (why or str(error)).rstrip(".")
        raise OSError(number, f"cannot listen on port {port} of {host!r}: {why}") from None
    for listener in listeners:
        keep_from_children(listener.socket)
    for listener in listeners[1:] if port == 0 else ():
        listener.socket.close()  # the second address of a name would get another free port
    return listeners[:1] if port == 0 else listeners


def _listen_on_both(port: int) -> trio.SocketListener:
    # trio's own listeners are of one family each, and two of them cannot have the same free port.
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        sock.listen(socket.SOMAXCONN)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        sock.close()
        raise


def is_local(listener: trio.SocketListener) -> bool:
    """Only this machine reaches it."""
    return ip_address(listener.socket.getsockname()[0].partition("%")[0]).is_loopback


class Clients:
    """The connections of a server. With one more than `most` the oldest is ended, and so it is when no descriptor is
    left: a client that asks and is answered is gone long before, and slow clients cannot keep others out."""

    def __init__(self, nursery: trio.Nursery, *, most: float = math.inf, replaceable: bool = True) -> None:
        """`nursery` runs the connections. Without `replaceable` none is ended: that is for those that stay."""
        self._nursery = nursery
        self._most = most
        self._replaceable = replaceable
        self._scopes: dict[trio.CancelScope, None] = {}  # of each connection, the oldest first
        self._troubles, self._last_trouble = 0, -math.inf  # at the limit they come and go with every connection

    async def accept(self, listener: trio.abc.Listener[trio.SocketStream], serve_one: ServeOne) -> None:
        """Accept until cancelled, and then close the listener. `serve_one` gets each connection."""
        failures, exhausted = 0, False
        async with listener:
            while True:
                if exhausted and isinstance(listener, trio.SocketListener):
                    await trio.lowlevel.wait_readable(listener.socket)
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in EXHAUSTED:
                        raise
                    if exhausted or not isinstance(listener, trio.SocketListener):  # and somebody waits
                        failures += 1
                        self._make_room(failures, error)
                        await trio.sleep(PAUSE)
                    exhausted = True  # Linux says so although nobody waits
                    continue
                if failures and ever_more_rarely(self._troubles):
                    about = event("accept_recovered", failures=failures)
                    log.warning("connections are accepted again, after %d failures", failures, extra=about)
                failures, exhausted = 0, False
                keep_from_children(stream.socket)
                scope = trio.CancelScope()
                self._scopes[scope] = None
                self._nursery.start_soon(self._serve, scope, stream, serve_one)
                if len(self._scopes) > self._most:
                    self._end_oldest()

    def _make_room(self, failures: int, error: OSError) -> None:
        now = trio.current_time()
        if failures == 1:
            self._troubles = self._troubles + 1 if now - self._last_trouble < CALM else 1
            if ever_more_rarely(self._troubles):
                text = "no connection can be accepted just now (%s): tried again until one can"
                log.error(text, error.strerror, extra=event("accept_failed", reason=error.strerror))
        self._last_trouble = now
        self._end_oldest()

    def _end_oldest(self) -> None:
        if self._replaceable and self._scopes:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            oldest.cancel()

    async def _serve(self, scope: trio.CancelScope, stream: trio.SocketStream, serve_one: ServeOne) -> None:
        try:
            with scope:
                await serve_one(stream)
        finally:
            self._scopes.pop(scope, None)
            await trio.aclose_forcefully(stream)
