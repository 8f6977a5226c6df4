"""How a running command ends: the first Ctrl-C, SIGTERM or hang-up ends it in order, the next one at once.

SIGTERM, which systemd and Kubernetes send, first drains what can drain; the next signal ends the draining. Whatever
holds the loop, the second signal ends the process: a thread hands signals over, and sees whether they are taken.
"""

import math
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from queue import SimpleQueue
from types import FrameType

import trio

from worker_state.cli.output import is_prepared
from worker_state.cli.screen import Screen
from worker_state.logs import About

REPEATED = 0.3
"""Seconds. `timeout` and shells send a signal to the process and to its group: within this time it counts once."""
TERMINATED_AGAIN = 1.0
"""The same for SIGTERM, which programs send: SLURM to the whole job, and then the job's shell hands it on. On a node
whose cores all compute, that shell waits for its turn. A person who means a second signal has Ctrl-C."""
STUCK = 1.0  # seconds in which the loop takes a signal, or it is stuck
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # not every system has the latter two
KINDS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
HANG_UP = getattr(signal, "SIGHUP", None)


@asynccontextmanager
async def ending_on_signal(
    screen: Screen, text: str, *, drain: Callable[[], Awaitable[None]] | None = None, for_reader: bool = False
) -> AsyncIterator[trio.CancelScope]:
    """Listen to signals while the block runs. They cancel the scope, which the block enters; so does a reader that is
    lost at a line, or with `for_reader` at once: then the command is of no use without one."""
    scope = trio.CancelScope()
    token = trio.lowlevel.current_trio_token()
    ending = False
    since: float | None = None

    def lost() -> None:  # in the thread that has printed, or that prints for others
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(scope.cancel, idempotent=True)

    def end() -> None:
        nonlocal ending, since
        ending, since = True, trio.current_time()
        screen.line(f"{text} (once more to force it).", about=About("leaving", {}))
        scope.cancel()

    async def drain_and_end(drain: Callable[[], Awaitable[None]]) -> None:
        await drain()
        if not ending:
            end()

    def take(number: int) -> None:
        nonlocal since
        if since is not None and _is_the_same(number, trio.current_time() - since):
            return
        if ending:
            os._exit(128 + number)  # no clean-up: that was asked for twice
        if since is None and number == signal.SIGTERM and drain is not None:
            since = trio.current_time()
            nursery.start_soon(drain_and_end, drain)
        else:
            end()

    screen.on_gone = lost
    async with trio.open_nursery() as nursery:
        if for_reader:
            nursery.start_soon(_reader_gone, lost)
        with _listening(take):
            yield scope
        nursery.cancel_scope.cancel()


async def _reader_gone(lost: Callable[[], None]) -> None:
    """Call this when the reader of a pipe goes: what is printed next may come in hours (`watch --json | head`)."""
    if sys.platform != "linux":  # else it is noticed at the next line
        return
    with suppress(OSError, ValueError):
        number = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            await trio.lowlevel.wait_readable(number)  # a pipe's end for writing, which is never readable, but broken
            lost()


def _is_the_same(number: int, age: float) -> bool:
    """Whether a signal is the one before it, so many seconds old, handed on by somebody."""
    return age < (TERMINATED_AGAIN if number == signal.SIGTERM else REPEATED)


_taken_over: set[signal.Signals] = set()  # what is heard here, and by nobody in a forked child


@contextmanager
def _listening(take: Callable[[int], None]) -> Iterator[None]:
    """Have the loop `take` each signal while the block runs. A second one that it does not take ends the process."""
    token, listening = trio.lowlevel.current_trio_token(), True
    numbers: SimpleQueue[int | None] = SimpleQueue()
    heard_at = -math.inf  # the last one

    def hear(number: int, _frame: FrameType | None) -> None:
        nonlocal heard_at
        heard_at = time.monotonic()
        numbers.put(number)

    def late(number: int, _frame: FrameType | None) -> None:
        if not _is_the_same(number, time.monotonic() - heard_at):
            os._exit(128 + number)

    def in_the_loop(number: int, taken: threading.Event) -> None:
        taken.set()
        if listening:
            take(number)

    def hand_over() -> None:
        first: float | None = None
        while (number := numbers.get()) is not None:
            taken = threading.Event()
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(in_the_loop, number, taken)
            if first is not None and not _is_the_same(number, time.monotonic() - first) and not taken.wait(STUCK):
                os._exit(128 + number)
            first = first or time.monotonic()

    before = {kind: signal.getsignal(kind) for kind in KINDS}
    if before.get(HANG_UP) is signal.SIG_IGN:  # by `nohup`
        del before[HANG_UP]
    threading.Thread(target=hand_over, name="worker-state signals", daemon=True).start()
    try:
        _taken_over.update(before)
        for kind in before:
            signal.signal(kind, hear)
        yield
    finally:
        listening = False
        # In a process of the command's own, one that is handed on late must not end its last moments.
        some_may_be_late = is_prepared() and heard_at > -math.inf
        for kind, handler in before.items():
            signal.signal(kind, late if some_may_be_late else handler)
        if not some_may_be_late:
            _taken_over.clear()
        numbers.put(None)


def _end_as_any_process() -> None:
    """In a forked child, whatever it is in: a handler of Python's would wait for the end of a long call in C."""
    for kind in _taken_over:
        signal.signal(kind, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):  # else nothing forks
    os.register_at_fork(after_in_child=_end_as_any_process)
