"""The health endpoint: its listeners and bounds, its four paths, and the measurement of the event loop's lag."""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any

import trio

from worker_state.extras import MissingExtra, extra
from worker_state.integrations import readiness
from worker_state.integrations.accepting import Clients, is_local
from worker_state.integrations.http_server import Request, Response, serve_requests
from worker_state.logs import Logger, event
from worker_state.manager import Manager

CLIENTS = 32  # connections at once; one more takes the place of the oldest
DEADLINE = 5.0  # seconds for a whole connection
HEADERS = {"cache-control": "no-store", "connection": "close"}
MEASURE_EVERY = 0.5  # seconds between two measurements of the lag
REMEMBERED = 10.0  # seconds for which a lag counts: a usual probe's period, so that the next one sees it
BOUND = 5.0
"""Seconds. A loop that was later than this is called stuck: nothing that the library does blocks it for so long, and
pings, proofs and answers are still in time with less."""

GetManager = Callable[[], Manager | str]  # the manager, or in words why there is none (yet, or any more)

log: Logger = Logger("worker_state.health")


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
    routes = Routes(get_manager, Lag(trio.current_time()))

    async def serve_one(stream: trio.SocketStream, *, local: bool) -> None:
        try:
            await serve_requests(stream, routes.respond, headers=HEADERS, seconds=DEADLINE, bodies=False, local=local)
        except trio.BrokenResourceError:
            pass  # the client is gone
        except Exception:
            # A bug in here must not end the worker, which shares the nursery of its owner.
            log.exception("a question about this worker's health could not be answered", extra=event("health_failed"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_measure, routes.lag)
        clients = Clients(nursery, most=CLIENTS)
        for listener in listeners:
            nursery.start_soon(clients.accept, listener, partial(serve_one, local=is_local(listener)))
        task_status.started(url_of(listeners))


async def _measure(lag: "Lag") -> None:
    while True:
        await trio.sleep_until(lag.due)
        lag.woke(trio.current_time())


class Lag:
    """How late a task woke, against when it had asked to. Times are arguments, in seconds of any one clock."""

    def __init__(self, now: float) -> None:
        self.due: float = now + MEASURE_EVERY  # when the task is to wake
        self._late: deque[tuple[float, float]] = deque()

    def woke(self, now: float) -> None:
        """The task is awake; moves `due` on."""
        self._late.append((now, now - self.due))
        while now - self._late[0][0] > REMEMBERED:
            self._late.popleft()
        self.due = now + MEASURE_EVERY

    def worst(self, now: float) -> float:
        """The longest delay of the last `REMEMBERED` seconds, one that is not over yet included."""
        return max(0.0, now - self.due, *(late for at, late in self._late if now - at <= REMEMBERED))


class Routes:
    """Responses about one worker; none holds a secret. The owner of `lag` measures it."""

    def __init__(self, get_manager: GetManager, lag: Lag) -> None:
        self.lag = lag
        self._get_manager = get_manager
        self._began = trio.current_time()
        try:
            with extra("health"):
                from worker_state.integrations import metrics  # big: loaded before anybody waits for a response
            self._metrics: ModuleType | str = metrics
        except MissingExtra as missing:
            self._metrics = str(missing)
        self._of_worker = {"/ready": _ready, "/worker": _worker, "/metrics": self._exposition}

    async def respond(self, request: Request) -> Response:
        now, paths = trio.current_time(), ["/health", *self._of_worker]
        if request.path not in paths:
            return _json(404, {"error": "there is no such path", "paths": paths})
        if request.method not in ("GET", "HEAD"):
            return _json(405, {"error": "only GET and HEAD can be asked"}, {"allow": "GET, HEAD"})
        if request.path == "/health":
            lag = self.lag.worst(now)
            alive = lag <= BOUND
            return _json(200 if alive else 503, {"alive": alive, "lag_seconds": round(lag, 4), "bound_seconds": BOUND})
        if request.path == "/metrics" and isinstance(self._metrics, str):
            return _json(501, {"error": self._metrics})
        manager = self._get_manager()
        if isinstance(manager, str):
            seconds = round(now - self._began, 3)
            return _json(503, {"pid": os.getpid(), "ready": False, "reason": manager, "reason_seconds": seconds})
        return self._of_worker[request.path](manager, now)

    def _exposition(self, manager: Manager, now: float) -> Response:
        assert not isinstance(self._metrics, str)
        wall_ahead = time.time() - now  # trio's clock becomes the wall's
        lag = self.lag.worst(now)
        state, counts = manager.state, manager.counts
        content_type, text = self._metrics.exposition(state, counts, now=now, lag=lag, wall_ahead=wall_ahead)
        return Response(200, text, content_type)


def _ready(manager: Manager, now: float) -> Response:
    account = readiness.account(manager.state, now)
    body = {name: account[name] for name in ("ready", "reason", "reason_seconds")}
    return _json(200 if account["ready"] else 503, body)


def _worker(manager: Manager, now: float) -> Response:
    return _json(200, {"pid": os.getpid(), **readiness.account(manager.state, now)})


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    return Response(status, json.dumps(body).encode() + b"\n", headers=headers)
