"""Health over HTTP: what a probe, a scraper or a person on this machine may ask a worker. Off unless it is started.

Here is what serves: listeners, the measuring of the loop's lag, and a bound on how many clients there are. What is
answered stands in `pages`, how it travels in `http`, and the metrics in `metrics`. Nothing that goes wrong here
reaches the worker.
"""

import logging
from collections.abc import Callable, Sequence

import trio

from worker_state.core.lag import Lag
from worker_state.health.http import Answer, exchange
from worker_state.health.pages import Desk, Look
from worker_state.logs import event
from worker_state.manager import Manager

log = logging.getLogger(__name__)

CLIENTS = 32
"""Connections at once. Each ends within `http.DEADLINE`, so that a crowd of slow ones is over soon."""


async def serve_health(
    manager: Manager,
    port: int,
    host: str = "127.0.0.1",
    *,
    task_status: "trio.TaskStatus[str]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer `/health`, `/ready`, `/worker` and `/metrics` until cancelled.

    `url = await nursery.start(worker_state.serve_health, manager, 8790)`. Port 0 takes a free one. Anybody who reaches
    the address may ask, so it is loopback unless `host` says otherwise. Raises `OSError` when it cannot listen there;
    afterwards it raises nothing, and harms nobody.
    """
    await serve(await listen(port, host), lambda: manager, task_status=task_status)


async def listen(port: int, host: str) -> Sequence[trio.SocketListener]:
    """Take the port. Raises `OSError` when that is not possible."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    for listener in listeners[1:] if port == 0 else ():
        listener.socket.close()  # the second address of a name would get another free port
    return listeners[:1] if port == 0 else listeners


def url_of(listeners: Sequence[trio.SocketListener]) -> str:
    """Where a client on this machine finds it: the first address, or loopback for "every address"."""
    host, port = listeners[0].socket.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    listeners: Sequence[trio.SocketListener],
    look: Look,
    *,
    task_status: "trio.TaskStatus[str]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """`serve_health` on a port that has been taken; `look` gives the manager, or says in words why there is none."""
    desk = Desk(look, Lag(trio.current_time()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_measure, desk.lag)
        await nursery.start(trio.serve_listeners, _Clerks(desk.answer).serve_one, listeners)
        task_status.started(url_of(listeners))


class _Clerks:
    """Serves so many at once and no more, and lets nothing out."""

    def __init__(self, answer: Callable[[str, str], Answer]) -> None:
        self._answer = answer
        self._serving = 0

    async def serve_one(self, stream: trio.SocketStream) -> None:
        if self._serving >= CLIENTS:
            return  # which closes the connection
        self._serving += 1
        try:
            await exchange(stream, self._answer)
        except Exception:
            # A mistake in here must not take the worker down, which shares the nursery of its owner.
            log.exception("a question about this worker's health could not be answered", extra=event("health_failed"))
        finally:
            self._serving -= 1


async def _measure(lag: Lag) -> None:
    while True:
        await trio.sleep_until(lag.due)
        lag.woke(trio.current_time())
