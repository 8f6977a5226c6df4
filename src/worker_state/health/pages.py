"""What is answered to whom: the four paths, from the snapshot, the counts and the loop's lag. No sockets here.

Nothing that is answered holds a secret; what is in the snapshot's JSON stands in `core.readiness.account`.
"""

import json
import os
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import trio

from worker_state.core import readiness
from worker_state.core.lag import BOUND, Lag
from worker_state.health.http import Answer
from worker_state.manager import Manager

Look = Callable[[], Manager | str]
"""The manager, or in words why there is none (yet, or any more)."""

NO_METRICS = "metrics need the package prometheus-client: pip install 'worker-state[metrics]'"


class Desk:
    """Answers questions about one worker."""

    def __init__(self, look: Look, lag: Lag) -> None:
        self._look = look
        self.lag = lag
        """Whoever measures tells it."""
        self._began = trio.current_time()
        self._metrics = _metrics()
        self._pages: dict[str, Callable[[float], Answer]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/worker": self._worker,
            "/metrics": self._numbers,
        }

    def answer(self, method: str, path: str) -> Answer:
        """The response to this method and path."""
        page = self._pages.get(path)
        if page is None:
            return _json(404, {"error": "there is no such path", "paths": list(self._pages)})
        if method not in ("GET", "HEAD"):
            return _json(405, {"error": "only GET and HEAD can be asked"}, ("allow", "GET, HEAD"))
        return page(trio.current_time())

    def _health(self, now: float) -> Answer:
        lag = self.lag.worst(now)
        alive = lag <= BOUND
        return _json(200 if alive else 503, {"alive": alive, "lag_seconds": round(lag, 4), "bound_seconds": BOUND})

    def _ready(self, now: float) -> Answer:
        manager = self._look()
        if isinstance(manager, str):
            return self._none(manager, now)
        judged = readiness.judge(manager.state, now)
        seconds = round(max(0.0, now - judged.since), 3)
        return _json(
            200 if judged.ready else 503, {"ready": judged.ready, "reason": judged.reason, "reason_seconds": seconds}
        )

    def _worker(self, now: float) -> Answer:
        manager = self._look()
        if isinstance(manager, str):
            return self._none(manager, now)
        return _json(200, {"pid": os.getpid(), **readiness.account(manager.state, now)})

    def _none(self, why: str, now: float) -> Answer:
        seconds = round(now - self._began, 3)
        return _json(503, {"pid": os.getpid(), "ready": False, "reason": why, "reason_seconds": seconds})

    def _numbers(self, now: float) -> Answer:
        if self._metrics is None:
            return _json(501, {"error": NO_METRICS})
        manager = self._look()
        if isinstance(manager, str):
            return self._none(manager, now)
        content_type, text = self._metrics.exposition(
            manager.state,
            manager.counts,
            lag=self.lag.worst(now),
            # What is a time of trio's clock here becomes one of the wall's there.
            wall_ahead=time.time() - now,
        )
        return Answer(200, text, content_type)


def _metrics() -> ModuleType | None:
    """The part that needs the client; it is big, so it is loaded before anybody waits for an answer."""
    try:
        from worker_state.health import metrics
    except ImportError:
        return None
    return metrics


def _json(status: int, body: dict[str, Any], *headers: tuple[str, str]) -> Answer:
    return Answer(status, json.dumps(body).encode() + b"\n", headers=headers)
