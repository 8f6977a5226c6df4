"""TCP on trio's streams: connect in stages that can be told apart, keep-alive, and the abort with RST."""

import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import trio

from worker_state.forked import keep_from_children, may_have_copies
from worker_state.net.addresses import Address, Addresses
from worker_state.protocol.error_policy import Cause, DialFailure, in_words

ASK_AFTER, ASK_AGAIN = 10, 5  # seconds before TCP keep-alive asks a silent connection, first and then again

STAGGERED = 0.25  # seconds after which the next address of a name is tried beside those before (RFC 8305)

OpenStream = Callable[[str, int, float], Awaitable[trio.abc.Stream]]
"""Host, port and seconds to a stream. Raises `TimeoutError`, and whatever else keeps it from opening one."""


async def open_tcp_stream(host: str, port: int, within: float, addresses: Addresses | None = None) -> trio.SocketStream:
    """Connect to one of the host's addresses, the first of `addresses` first. Raises `OSError` (`TimeoutError` when
    nobody answers within so many seconds), and what else a look-up raises (`addresses.look_up`)."""
    race, addresses = _Race(), addresses or Addresses()
    try:
        with trio.move_on_after(within):
            found = await addresses.find(host, port)
            await race.run(_other_family_second(found))
    except BaseException:
        if race.winner is not None:
            race.winner.socket.close()
        raise
    if race.winner is None:
        raise TimeoutError
    addresses.tried(address_of(race.winner))
    return race.winner


def address_of(stream: trio.abc.Stream) -> str:
    """The other end's IP address; empty where there is none, or none any more."""
    with suppress(OSError, IndexError):
        return str(stream.socket.getpeername()[0]) if isinstance(stream, trio.SocketStream) else ""
    return ""


class _Race:
    """One connection to each address, until one is there. In place of trio's, which throws away what the kernel
    connected while the loop was late (faults.md, T15), and looks up names by itself."""

    def __init__(self) -> None:
        self.winner: trio.SocketStream | None = None
        self._errors: list[Exception] = []
        self._nursery: trio.Nursery

    async def run(self, found: Sequence[Address]) -> None:
        """Until there is a winner. Raises what kept the only address from connecting, or a group's `OSError`."""
        if len(found) == 1:
            self.winner = await _connected(found[0])
            return
        async with trio.open_nursery() as self._nursery:
            for address in found:
                ended = trio.Event()
                self._nursery.start_soon(self._connect, address, ended)
                with trio.move_on_after(STAGGERED):
                    await ended.wait()
        if self.winner is None:
            raise OSError("all attempts failed") from ExceptionGroup("addresses", self._errors or [OSError("none")])

    @trio.lowlevel.enable_ki_protection
    async def _connect(self, address: Address, ended: trio.Event) -> None:
        try:
            stream = await _connected(address)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next address may do
            self._errors.append(error)
            ended.set()
        else:
            if self.winner is not None:
                stream.socket.close()
            self.winner = self.winner or stream
            self._nursery.cancel_scope.cancel()


@trio.lowlevel.enable_ki_protection
async def _connected(address: Address) -> trio.SocketStream:
    connecting = trio.socket.socket(*address[:3])
    try:
        keep_from_children(connecting)
        await connecting.connect(address[4])
        return trio.SocketStream(connecting)
    except BaseException:
        connecting.close()
        raise


def _other_family_second(found: Sequence[Address]) -> list[Address]:
    """A machine without IPv6 must not try all such addresses first."""
    other = next((each for each in found if each[0] != found[0][0]), None)
    return [*found] if other is None else [found[0], other, *(each for each in found[1:] if each is not other)]


async def connect(
    host: str, port: int, within: float, open_stream: OpenStream = open_tcp_stream
) -> trio.abc.Stream | DialFailure:
    """A TCP connection, or why there is none."""
    try:
        return await open_stream(host, port, within)
    except TimeoutError:
        return DialFailure(Cause.NO_ANSWER, f"in {within:g} s")
    except Exception as error:  # noqa: BLE001 - a resolver and a starting thread raise all sorts (faults.md, G28)
        return why_not_connected(error)


def why_not_connected(error: Exception) -> DialFailure:
    """What has kept a connection from being opened, or a name from being looked up, means. Of several addresses what
    happened to each is in the group of the error's cause."""
    causes = error.__cause__.exceptions if isinstance(error.__cause__, BaseExceptionGroup) else (error,)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return DialFailure(Cause.REFUSED)
    if any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes):
        return DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved")
    return DialFailure(Cause.UNREACHABLE, in_words(causes[0]))


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
    """Close at once, with RST: no Close frame, no FIN behind unread data, nothing waited for (T4, T5, T7).

    What a forked child may have a copy of is shut down first: the RST would wait for the last copy (G24).
    """
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if may_have_copies(stream.socket):
                stream.socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            stream.socket.close()
        return
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)
