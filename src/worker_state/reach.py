"""The way to a server, a stage at a time: name, TCP, TLS. Each is opened and dropped again.

What a failure leads to is decided elsewhere; nothing raises.
"""

import socket
from collections.abc import Awaitable, Callable

import trio

from worker_state import streams
from worker_state.core.checkup import Endpoint
from worker_state.core.verdict import Cause, DialFailure
from worker_state.core.words import shown

Check = Callable[[Endpoint, float], Awaitable[str | DialFailure]]
"""Takes an endpoint and seconds; gives what was found, as a phrase, or why nothing was."""


async def look_up(endpoint: Endpoint, within: float) -> str | DialFailure:
    """The addresses behind the name. How long that may take is the caller's scope to say."""
    try:
        found = await trio.socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return streams.why_not_connected(error)
    return f"{endpoint.host} is {found[0][4][0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")


async def connect(endpoint: Endpoint, within: float) -> str | DialFailure:
    """A TCP connection."""
    stream = await _open(endpoint, within)
    if isinstance(stream, DialFailure):
        return stream
    await streams.abort(stream)
    return str(endpoint)


async def secure(endpoint: Endpoint, within: float) -> str | DialFailure:
    """A TLS handshake, certificate and all; what is not done within so many seconds is the caller's scope to end."""
    stream = await _open(endpoint, within)
    if isinstance(stream, DialFailure):
        return stream
    try:
        await streams.secure(stream, endpoint.host)
    except trio.BrokenResourceError as error:
        return DialFailure(Cause.TLS, shown(str(error)))
    finally:
        await streams.abort(stream)
    return f"{endpoint.host} has a certificate that is trusted here"


async def _open(endpoint: Endpoint, within: float) -> streams.TcpStream | DialFailure:
    try:
        return await streams.open_tcp_stream(endpoint.host, endpoint.port, within)
    except TimeoutError:
        return DialFailure(Cause.NO_ANSWER, f"in {within:g} s")
    except (OSError, UnicodeError) as error:
        return streams.why_not_connected(error)
