"""How a running command ends: the first Ctrl-C, SIGTERM or hang-up leaves in order, the second one at once."""

import os
import signal

import trio

from worker_state.cli.screen import Screen

ASKED = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
ECHO = 0.3
"""Seconds. A second signal within this is the first one again: `timeout` and shells hand it on, and to the group."""


async def cancel_on_signal(
    scope: trio.CancelScope,
    screen: Screen,
    farewell: str,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel the scope at the first signal. Run it outside that scope, so that it still hears the second."""
    with trio.open_signal_receiver(*ASKED) as signals:
        task_status.started()
        since: float | None = None
        async for number in signals:
            if since is not None and trio.current_time() - since < ECHO:
                continue
            if since is not None:
                # The person has waited for the orderly way and does not want it: no clean-up, no flushing.
                os._exit(128 + number)
            since = trio.current_time()
            screen.line(f"{farewell} (once more to force it).")
            scope.cancel()
