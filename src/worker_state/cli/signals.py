"""How a running command ends: the first Ctrl-C, SIGTERM or hang-up ends it in order, the next one at once.

SIGTERM, which systemd and Kubernetes send, first drains what can drain; the next signal ends the draining.
"""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from worker_state.cli.screen import Screen
from worker_state.logs import About

ALWAYS = {signal.SIGINT, signal.SIGTERM}
REPEATED = 0.3
"""Seconds. `timeout` and shells send a signal to the process and to its group: within this time it counts once."""

Drain = Callable[[], Awaitable[None]]


@asynccontextmanager
async def ending_on_signal(screen: Screen, text: str, *, drain: Drain | None = None) -> AsyncIterator[trio.CancelScope]:
    """Listen to signals while the block runs. They cancel the scope, which the block enters; so does a lost reader."""
    scope = trio.CancelScope()
    screen.on_gone = scope.cancel
    async with trio.open_nursery() as nursery:
        await nursery.start(_listen, scope, screen, text, drain)
        yield scope
        nursery.cancel_scope.cancel()


async def _listen(
    scope: trio.CancelScope, screen: Screen, text: str, drain: Drain | None, *, task_status: trio.TaskStatus[None]
) -> None:
    ending = False
    since: float | None = None

    def end() -> None:
        nonlocal ending, since
        ending, since = True, trio.current_time()
        screen.line(f"{text} (once more to force it).", about=About("leaving", {}))
        scope.cancel()

    async def drain_and_end(drain: Drain) -> None:
        await drain()
        if not ending:
            end()

    # `nohup` makes a process ignore SIGHUP.
    heard = ALWAYS if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else ALWAYS | {signal.SIGHUP}
    with trio.open_signal_receiver(*heard) as signals:
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for number in signals:
                if since is not None and trio.current_time() - since < REPEATED:
                    continue
                if ending:
                    os._exit(128 + number)  # no clean-up: the person has asked twice
                if since is None and number == signal.SIGTERM and drain is not None:
                    since = trio.current_time()
                    nursery.start_soon(drain_and_end, drain)
                else:
                    end()
