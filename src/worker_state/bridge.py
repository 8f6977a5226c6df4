"""The bridge to programs that are not written for trio: it runs in a thread of its own, and calls are handed over.

`blocking` (threads) and `aio` (asyncio) are its two faces. Nothing is decided here: what a method means stands in
`manager_base`, or at its namesake in `worker_state.Manager`.

A forked child has no such thread: there every call raises, and leaving does nothing (G25).
"""

import atexit
import math
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

import anyio
import trio
from anyio.from_thread import BlockingPortal

from worker_state.config import Config
from worker_state.errors import ManagerEnded
from worker_state.manager import Manager, run_state_manager
from worker_state.manager_base import ManagerBase
from worker_state.protocol.status import Busy
from worker_state.refusals import check_config

T = TypeVar("T")


def _serve(opened: "Future[BlockingPortal]") -> None:
    """Run trio until `portal.stop`. What keeps it from starting is the future's."""

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


class _Call(Generic[T]):
    """An async call that another thread waits for. All of it runs in trio's thread."""

    def __init__(
        self, function: Callable[[], Awaitable[T]], timeout: float | None, give_back: Callable[[T], None] | None
    ) -> None:
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
            raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be 0 seconds or more, not {timeout:g}")
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


class Life:
    """One manager from its start to its end, and the calls into its thread. Raises `TypeError` for no `Config`."""

    def __init__(self, config: Config) -> None:
        check_config(config)
        # anyio has a block around such a thread. Left over in a forked child, it would wait there for ever (G25).
        opened: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=_serve, args=(opened,), name="worker-state", daemon=True)
        self._thread.start()
        self._portal = opened.result()
        self.manager: Task[Manager] = Task(self._portal, partial(run_state_manager, config))
        # A block in a daemon thread, or entered by hand, does not end by itself when the interpreter does (G53).
        atexit.register(self._leave)

    @property
    def here(self) -> bool:
        """Whether this process has the thread, and is no forked child of that process."""
        return self.manager.here

    def _leave(self) -> None:
        self.manager.cancel()
        try:
            if self.here:
                wait([self.manager.done])
        finally:
            self.close()

    def close(self) -> None:
        """End the thread, once the manager has ended. May be called again. Does nothing in a forked child."""
        if self.here:
            atexit.unregister(self._leave)
            with suppress(RuntimeError):  # it has ended already
                self._portal.call(self._portal.stop)
            self._thread.join()

    @contextmanager
    def _reached(self) -> Iterator[BlockingPortal]:
        if not self.here:
            raise RuntimeError(
                "the manager is in the process that this one was forked from, and cannot be reached here"
            )
        if threading.current_thread() is self._thread:
            raise RuntimeError("a condition of `wait_for` is called in trio's thread, and may not call the manager")
        try:
            yield self._portal
        except RuntimeError as error:  # it has stopped
            raise ended() from error

    def beside(self, function: Callable[..., Awaitable[object]], *args: object) -> "Task[Any]":
        """Run a function of trio's manager beside that."""
        with self._reached() as portal:
            return Task(portal, partial(function, self.manager.begun.result(), *args))

    def start(self, function: Callable[..., Awaitable[T]] | Callable[..., T], *args: object) -> "Future[T]":
        """What the function gives in trio's thread, later. Raises `ManagerEnded`; `RuntimeError` in a forked child."""
        with self._reached() as portal:
            if self.manager.done.done():
                raise ended()
            return cast("Future[T]", portal.start_task_soon(function, *args))

    def now(self, function: Callable[..., T], *args: object) -> T:
        """Call a plain function in trio's thread: as long as one step of its loop takes."""
        return result(self.start(function, *args))

    def wait(
        self,
        timeout: float | None,
        function: Callable[..., Awaitable[T]],
        *args: object,
        give_back: Callable[[T], None] | None = None,
    ) -> T:
        """Wait for an async function in trio's thread, for so many seconds at most, else `TimeoutError`."""
        with self.waiting(function, *args, timeout=timeout, give_back=give_back) as future:
            return result(future)

    @contextmanager
    def waiting(
        self,
        function: Callable[..., Awaitable[T]],
        *args: object,
        timeout: float | None = None,
        give_back: Callable[[T], None] | None = None,
    ) -> "Iterator[Future[T]]":
        """Start an async function in trio's thread. A block that is left by an error, a cancel or Ctrl-C at whatever
        moment, gives the call up; a result that does not reach the caller any more goes to `give_back`."""
        call = _Call(partial(function, *args), timeout, give_back)
        try:
            yield self.start(call.run)
        except BaseException:
            if self.here:
                with suppress(RuntimeError):  # the loop is gone already
                    self._portal.call(call.give_up)
            raise


class Untaken(Generic[T]):
    """An iterator to which an item can be given back, for the next one that asks, or that waits already."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self._given_back: deque[T] = deque()
        self._waiting: set[trio.CancelScope] = set()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._given_back:
            with trio.CancelScope() as scope:
                self._waiting.add(scope)
                try:
                    return await anext(self._source)
                finally:
                    self._waiting.remove(scope)
        return self._given_back.popleft()

    def give_back(self, item: T) -> None:
        """It has not reached its caller."""
        self._given_back.appendleft(item)
        for scope in self._waiting:
            scope.cancel()


class RemoteManager(ManagerBase):
    """What the managers of both faces share. Every method may be called from any thread, and takes as long as a step of
    trio's loop, whatever the network does. Once the manager has ended, calls raise `ManagerEnded`, and in a forked
    child `RuntimeError`; what can be read is the last that was known."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._manager = life.manager.begun.result()
        super().__init__(self._manager._supervisor)
        self._signals = Untaken(self._manager.signals)

    def _make(self, step: Callable[[ManagerBase], T]) -> T:
        """By trio's own manager, in its thread. What can be read without a step is frozen."""
        return self._life.now(step, self._manager)

    def _end(self, job: Busy) -> None:
        """A block may outlast the manager."""
        if self._life.here:
            with suppress(ManagerEnded):
                super()._end(job)
