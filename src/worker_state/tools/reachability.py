"""The way to a server, a stage at a time: name, TCP, TLS. Each is opened and dropped again.

What a failure leads to is decided elsewhere; nothing raises.
"""

import socket
from collections.abc import Awaitable, Callable

import trio

from worker_state.net import tcp
from worker_state.protocol.error_policy import DialFailure
from worker_state.tools.checks import Endpoint

Check = Callable[[Endpoint, float], Awaitable[str | DialFailure]]
"""Takes an endpoint and seconds; gives what was found, as a phrase, or why nothing was."""


async def look_up(endpoint: Endpoint, within: float) -> str | DialFailure:
    """The addresses behind the name. The caller sets the deadline."""
    try:
        found = await trio.socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return tcp.why_not_connected(error)
    return f"{endpoint.host} is {found[0][4][0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")


async def connect(endpoint: Endpoint, within: float) -> str | DialFailure:
    """A TCP connection."""
    stream = await tcp.connect(endpoint.host, endpoint.port, within)
    if isinstance(stream, DialFailure):
        return stream
    await tcp.abort(stream)
    return str(endpoint)


async def secure(endpoint: Endpoint, within: float) -> str | DialFailure:
    """A TLS handshake, certificate and all. The caller sets its deadline."""
    stream = await tcp.connect(endpoint.host, endpoint.port, within)
    if isinstance(stream, DialFailure):
        return stream
    try:
        secured = await tcp.secure(stream, endpoint.host)
    finally:
        await tcp.abort(stream)
    return secured if isinstance(secured, DialFailure) else f"{endpoint.host} has a certificate that is trusted here"
