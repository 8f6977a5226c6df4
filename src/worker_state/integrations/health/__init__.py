"""Health over HTTP: what a probe, a scraper or a person can ask a worker. Off unless it is started.

Nothing that goes wrong here reaches the worker.
"""

import trio

from worker_state.extras import extra
from worker_state.manager import Manager
from worker_state.refusals import check_manager


async def serve_health(
    manager: Manager,
    port: int,
    host: str = "127.0.0.1",
    *,
    task_status: "trio.TaskStatus[str]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer `/health`, `/ready`, `/worker` and `/metrics` until cancelled.

    `url = await nursery.start(worker_state.serve_health, manager, 8790)`. Port 0 takes a free one. Anybody who reaches
    the address may ask, so it is loopback unless `host` says otherwise. Raises `OSError`, whose text names port and
    host, when it cannot listen there, `ConfigError` for what is no port or no host, and afterwards nothing. `/metrics`
    needs the extra `health`.
    """
    check_manager(manager, "serve_health")
    with extra("health"):
        from worker_state.integrations.accepting import listen
        from worker_state.integrations.health.server import serve
    await serve(await listen(port, host), lambda: manager, task_status=task_status)
