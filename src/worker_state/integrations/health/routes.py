"""The health endpoint's four paths, answered from the snapshot, the counts and the event loop's lag.

No response holds a secret; the snapshot's JSON is `core.readiness.account`.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import trio

from worker_state.extras import MissingExtra, extra
from worker_state.integrations import readiness
from worker_state.integrations.http_server import Request, Response
from worker_state.integrations.loop_lag import BOUND, Lag
from worker_state.manager import Manager

GetManager = Callable[[], Manager | str]  # the manager, or in words why there is none (yet, or any more)


class Routes:
    """Responses about one worker. The owner of `lag` measures it."""

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
        self._of_worker = {"/ready": self._ready, "/worker": self._worker, "/metrics": self._numbers}

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

    def _ready(self, manager: Manager, now: float) -> Response:
        judged = readiness.judge(manager.state, now)
        seconds = round(max(0.0, now - judged.since), 3)
        body = {"ready": judged.ready, "reason": judged.reason, "reason_seconds": seconds}
        return _json(200 if judged.ready else 503, body)

    def _worker(self, manager: Manager, now: float) -> Response:
        return _json(200, {"pid": os.getpid(), **readiness.account(manager.state, now)})

    def _numbers(self, manager: Manager, now: float) -> Response:
        assert not isinstance(self._metrics, str)
        wall_ahead = time.time() - now  # trio's clock becomes the wall's
        lag = self.lag.worst(now)
        content_type, text = self._metrics.exposition(manager.state, manager.counts, lag=lag, wall_ahead=wall_ahead)
        return Response(200, text, content_type)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, json.dumps(body).encode() + b"\n", headers=headers or {})
