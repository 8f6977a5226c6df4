"""The health endpoint's listeners, its bound on clients, and the measurement of the event loop's lag."""

import logging
from collections.abc import Sequence

import trio

from worker_state.integrations.health.routes import GetManager, Routes
from worker_state.integrations.http_server import serve_requests
from worker_state.integrations.loop_lag import Lag
from worker_state.logs import event

CLIENTS = 32  # connections at once. Each ends within `DEADLINE`, so a crowd of slow clients is soon over.
DEADLINE = 5.0  # seconds for a whole connection
HEADERS = {"cache-control": "no-store", "connection": "close"}

log = logging.getLogger("worker_state.health")


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
    get_manager: GetManager,
    *,
    task_status: "trio.TaskStatus[str]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """`serve_health` on a port that is taken; `get_manager` gives the manager, or says in words why there is none."""
    routes, clients = Routes(get_manager, Lag(trio.current_time())), 0

    async def serve_one(stream: trio.SocketStream) -> None:
        nonlocal clients
        if clients >= CLIENTS:
            return  # trio closes the connection
        clients += 1
        try:
            await serve_requests(stream, routes.respond, headers=HEADERS, seconds=DEADLINE, bodies=False)
        except trio.BrokenResourceError:
            pass  # the client is gone
        except Exception:
            # A bug in here must not end the worker, which shares the nursery of its owner.
            log.exception("a question about this worker's health could not be answered", extra=event("health_failed"))
        finally:
            clients -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_measure, routes.lag)
        await nursery.start(trio.serve_listeners, serve_one, listeners)
        task_status.started(url_of(listeners))


async def _measure(lag: Lag) -> None:
    while True:
        await trio.sleep_until(lag.due)
        lag.woke(trio.current_time())
