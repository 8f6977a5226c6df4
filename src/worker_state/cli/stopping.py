"""How a running command ends: the first Ctrl-C, SIGTERM or hang-up leaves in order, the next one at once.

What can drain does so at SIGTERM, which is how systemd and Kubernetes ask, before it leaves: then the next signal ends
the draining, and only the one after that the process. At Ctrl-C a person waits, and nothing is drained.
"""

import os
import signal
from collections.abc import Awaitable, Callable

import trio

from worker_state.cli.screen import Screen
from worker_state.logs import About

ALWAYS = (signal.SIGINT, signal.SIGTERM)
ASKED = (*ALWAYS, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
ECHO = 0.3
"""Seconds. A second signal within this is the first one again: `timeout` and shells hand it on, and to the group."""


async def cancel_on_signal(
    scope: trio.CancelScope,
    screen: Screen,
    farewell: str,
    *,
    drain: Callable[[], Awaitable[None]] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel the scope at the first signal (at SIGTERM: after `drain`, or at the next one).

    Run it outside that scope, so that it still hears the ones after that.
    """

    leaving = trio.Event()
    since: float | None = None

    def leave() -> None:
        nonlocal since
        since = trio.current_time()
        leaving.set()
        screen.line(f"{farewell} (once more to force it).", about=About("leaving", {}))
        scope.cancel()

    async def drain_and_leave(drain: Callable[[], Awaitable[None]]) -> None:
        await drain()
        if not leaving.is_set():
            leave()

    # Who has us ignore the end of the terminal (`nohup`) means it.
    heard = [number for number in ASKED if number in ALWAYS or signal.getsignal(number) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*heard) as signals:
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for number in signals:
                first = since is None
                if since is not None and trio.current_time() - since < ECHO:
                    continue
                if leaving.is_set():
                    # The person has waited for the orderly way and does not want it: no clean-up, no flushing.
                    os._exit(128 + number)
                if first and number == signal.SIGTERM and drain is not None:
                    since = trio.current_time()
                    nursery.start_soon(drain_and_leave, drain)
                else:
                    leave()
