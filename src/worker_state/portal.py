"""trio in a thread of its own, and what runs there for other threads: tasks, and calls that somebody waits for."""

import math
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
import trio
from anyio.from_thread import BlockingPortal

from worker_state.errors import ManagerEnded

T = TypeVar("T")


def open_portal() -> tuple[threading.Thread, BlockingPortal]:
    """Start trio in a thread, until `portal.stop`. Raises what keeps it from starting.

    anyio has a block around such a thread. Left over in a forked child, it would wait there for ever (G25).
    """
    opened: Future[BlockingPortal] = Future()
    thread = threading.Thread(target=_serve, args=(opened,), name="worker-state", daemon=True)
    thread.start()
    return thread, opened.result()


def _serve(opened: "Future[BlockingPortal]") -> None:
    async def serve() -> None:
        async with BlockingPortal() as portal:
            opened.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve, backend="trio")
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)


class Task(Generic[T]):
    """An async function in trio's thread that says when it has started, as `nursery.start` wants it."""

    def __init__(self, portal: BlockingPortal, function: Callable[..., Awaitable[object]]) -> None:
        self.begun: Future[T] = Future()  # what it has started with, or why it has not
        self._portal = portal
        self._function = function
        self._scope = trio.CancelScope()
        self._pid = os.getpid()
        self.done: Future[None] = portal.start_task_soon(self._run)
        self.done.add_done_callback(self._settle)

    @property
    def here(self) -> bool:
        """Whether it runs in this process. In a forked child nobody runs it, and `done` would never come."""
        return os.getpid() == self._pid

    async def _run(self) -> None:
        with self._scope:
            await self._function(task_status=self)

    def started(self, value: Any = None) -> None:
        """Called by the function."""
        if not self.begun.done():
            self.begun.set_result(value)

    def _settle(self, done: "Future[None]") -> None:
        if not self.begun.done():
            self.begun.set_exception((None if done.cancelled() else done.exception()) or ended())

    def cancel(self) -> None:
        """Returns at once; `done` follows. Does nothing in a forked child."""
        if self.here:
            with suppress(RuntimeError):  # the loop is gone already
                self._portal.start_task_soon(self._scope.cancel)


class Call(Generic[T]):
    """An async call that another thread waits for. All of it runs in trio's thread."""

    def __init__(
        self,
        function: Callable[[], Awaitable[T]],
        timeout: float | None = None,
        give_back: Callable[[T], None] | None = None,
    ) -> None:
        self._function = function
        self._timeout = math.inf if timeout is None else timeout
        self._give_back = give_back
        self._scope = trio.CancelScope()
        self._results: list[T] = []

    async def run(self) -> T:
        try:
            with self._scope, trio.fail_after(self._timeout):
                result = await self._function()
                self._results.append(result)
                if self._scope.cancel_called:
                    self.give_up()
                return result
        except trio.TooSlowError:
            raise TimeoutError(f"not within {self._timeout:g} s") from None
        raise ended()

    def give_up(self) -> None:
        """The caller is gone: cancel the call, or give its result back."""
        self._scope.cancel()
        while self._results and self._give_back is not None:
            self._give_back(self._results.pop())


def ended() -> ManagerEnded:
    """What every call raises from now on."""
    return ManagerEnded("the manager has ended: its `with` block is over")


def result(future: "Future[T]") -> T:
    """What the future gives, in the words of this package."""
    try:
        return future.result()
    except CancelledError:
        raise ended() from None
