"""Byte streams as this package needs them: aborted at the end, and their failures read.

Only trio and the socket module; nothing of WebSocket or HTTP.
"""

import socket
import struct
from contextlib import suppress

import trio

from worker_state.core.verdict import Cause, DialFailure
from worker_state.core.words import shown


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
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)
