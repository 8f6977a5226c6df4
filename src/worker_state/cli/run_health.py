"""`worker-state run --health`: takes the port, answers before and after the worker's life, lets `status` find it."""

import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import trio

from worker_state import Manager
from worker_state.cli import address_files
from worker_state.cli.errors import bad_usage
from worker_state.cli.screen import Screen
from worker_state.integrations.health.server import listen, serve, url_of
from worker_state.logs import About

Listeners = Sequence[trio.SocketListener]


@dataclass
class CurrentWorker:
    """The worker as probes see it: starting, there, leaving. Cancelling the scope makes it leave."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    manager: Manager | None = None

    @property
    def started(self) -> bool:
        """Whether the server has ever accepted the worker."""
        return self.manager is not None and self.manager.state.peer_id is not None

    def look(self) -> Manager | str:
        """The manager, or why there is none."""
        return "the worker is leaving" if self.scope.cancel_called else self.manager or "the worker is starting"


async def take_port(port: int, host: str | None) -> Listeners:
    """Listen there, on loopback without a host; port 0 is a free one. Raises `typer.Exit`."""
    address = "127.0.0.1" if host is None else host
    try:
        if not address:
            raise OSError("an address must not be empty")
        return await listen(port, address)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            used = f"--health {port}: this port of {address} is in use already, choose another (0: any)."
            raise bad_usage(used) from None
        option = "--health" if host is None else "--health-host"
        why = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise bad_usage(f"{option}: cannot listen on port {port} of {address!r}: {why}.") from None


async def serve_health(
    listeners: Listeners,
    worker: CurrentWorker,
    screen: Screen,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled, and let `worker-state status` find it meanwhile."""

    def warn(text: str, about: About) -> None:
        screen.line(f"warning: {text}", "yellow", level=logging.WARNING, about=about)

    url = url_of(listeners)
    screen.line(f"health: {url}/health, /ready, /worker and /metrics", about=About("health", {"url": url}))
    for listener in listeners:
        host = listener.socket.getsockname()[0]
        if not ip_address(host.partition("%")[0]).is_loopback:
            text = f"everybody who reaches {host} may ask about this worker's health; nothing is protected"
            warn(text, About("health_exposed", {"host": host}))
    with address_files.published(url, lambda why: warn(why, About("health_unlisted", {}))):
        await serve(listeners, worker.look, task_status=task_status)
