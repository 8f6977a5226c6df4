"""`worker-state run --health`: taking the port, what is answered before and after the worker's life, being found.

What the answers are is `worker_state.integrations.health`'s business.
"""

import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import trio

from worker_state import Manager
from worker_state.cli import addresses
from worker_state.cli.refusal import ExitCode, refuse
from worker_state.cli.screen import Screen
from worker_state.integrations.health.server import listen, serve, url_of
from worker_state.logs import About

Listeners = Sequence[trio.SocketListener]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 takes a free one; without a host it is loopback."""

    port: int
    host: str | None = None


class Seen:
    """The worker as a probe sees it: not there yet, there, leaving."""

    def __init__(self, leaving: trio.CancelScope) -> None:
        self.manager: Manager | None = None
        self._leaving = leaving

    @property
    def started(self) -> bool:
        """The server has accepted the worker at least once."""
        return self.manager is not None and self.manager.state.peer_id is not None

    def look(self) -> Manager | str:
        """The manager, or why there is none."""
        if self._leaving.cancel_called:
            return "the worker is leaving"
        return self.manager or "the worker is starting"


async def take(address: Address) -> Listeners:
    """Take the port before anything else is done; raises `typer.Exit` when that is not possible."""
    host = address.host if address.host is not None else "127.0.0.1"
    try:
        if not host:
            raise OSError("an address must not be empty")
        return await listen(address.port, host)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            sentence = f"--health {address.port}: this port of {host} is in use already, choose another (0: any)."
        else:
            option = "--health" if address.host is None else "--health-host"
            sentence = f"{option}: cannot listen on port {address.port} of {host!r}: {_why(error)}."
        raise refuse(sentence, ExitCode.BAD_USAGE) from None


async def oversee(
    listeners: Listeners, seen: Seen, screen: Screen, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer until cancelled, and let `worker-state status` find it meanwhile."""
    url = url_of(listeners)
    screen.line(f"health: {url}/health, /ready, /worker and /metrics", about=About("health", {"url": url}))
    for listener in listeners:
        host = listener.socket.getsockname()[0]
        if not ip_address(host.partition("%")[0]).is_loopback:
            warning = f"warning: whoever reaches {host} may ask about this worker's health; nothing is protected"
            about = About("health_exposed", {"host": host})
            screen.line(warning, "yellow", level=logging.WARNING, about=about)

    def cannot_be_found(why: str) -> None:
        screen.line(f"warning: {why}", "yellow", level=logging.WARNING, about=About("health_unlisted", {}))

    with addresses.left(url, cannot_be_found):
        await serve(listeners, seen.look, task_status=task_status)


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
