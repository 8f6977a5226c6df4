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

REPEATED = 0.3
"""Seconds. `timeout` and shells send a signal to the process and to its group: within this time it counts once."""


@asynccontextmanager
async def ending_on_signal(
    screen: Screen, text: str, *, drain: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[trio.CancelScope]:
    """Listen to signals while the block runs. They cancel the scope, which the block enters; so does a lost reader."""
    scope = trio.CancelScope()
    screen.on_gone = scope.cancel
    ending = False
    since: float | None = None

    def end() -> None:
        nonlocal ending, since
        ending, since = True, trio.current_time()
        screen.line(f"{text} (once more to force it).", about=About("leaving", {}))
        scope.cancel()

    async def drain_and_end(drain: Callable[[], Awaitable[None]]) -> None:
        await drain()
        if not ending:
            end()

    async def listen(signals: AsyncIterator[int]) -> None:
        nonlocal since
        async for number in signals:
            if since is not None and trio.current_time() - since < REPEATED:
                continue
            if ending:
                os._exit(128 + number)  # no clean-up: that was asked for twice
            if since is None and number == signal.SIGTERM and drain is not None:
                since = trio.current_time()
                nursery.start_soon(drain_and_end, drain)
            else:
                end()

    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by `nohup`
        numbers.remove(signal.SIGHUP)
    with trio.open_signal_receiver(*numbers) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, signals)
            yield scope
            nursery.cancel_scope.cancel()
