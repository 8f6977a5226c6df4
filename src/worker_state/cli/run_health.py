"""`worker-state run --health`: takes the port, answers before and after the worker's life, lets `status` find it."""

import errno
import logging
from collections.abc import Sequence

import trio

from worker_state.cli import status
from worker_state.cli.output import bad_usage
from worker_state.cli.screen import Screen
from worker_state.integrations.accepting import is_local, listen
from worker_state.integrations.health.server import GetManager, serve, url_of
from worker_state.logs import About

Listeners = Sequence[trio.SocketListener]


async def take_port(port: int, host: str | None) -> Listeners:
    """Listen there, on loopback without a host; port 0 is a free one. Raises `typer.Exit`."""
    address = "127.0.0.1" if host is None else host
    try:
        if not address:
            raise OSError("an address must not be empty")
        return await listen(port, address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            used = f"--health {port}: this port of {address} is in use already, choose another (0: any)."
            raise bad_usage(used) from None
        option = "--health" if host is None else "--health-host"
        why = error.strerror or f"cannot listen on port {port} of {address!r}: {error}"
        raise bad_usage(f"{option}: {why}.") from None


async def serve_health(
    listeners: Listeners, look: GetManager, screen: Screen, *, task_status: trio.TaskStatus[str]
) -> None:
    """Answer with what `look` returns until cancelled, and let `worker-state status` find it meanwhile."""

    def warn(text: str, about: About) -> None:
        screen.line(f"warning: {text}", "yellow", level=logging.WARNING, about=about)

    url = url_of(listeners)
    screen.line(f"health: {url}/health, /ready, /worker and /metrics", about=About("health", {"url": url}))
    for listener in listeners:
        if not is_local(listener):
            host = listener.socket.getsockname()[0]
            text = f"everybody who reaches {host} may ask about this worker's health; nothing is protected"
            warn(text, About("health_exposed", {"host": host}))

    with status.published(url, lambda why: warn(why, About("health_unlisted", {}))):
        await serve(listeners, look, task_status=task_status)
