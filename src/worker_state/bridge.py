"""The bridge to programs that are not written for trio: it runs in a thread of its own, and calls are handed over.

`blocking` (threads) and `aio` (asyncio) are its two faces. Nothing is decided here: what a method means stands in
`plain`, or at its namesake in `worker_state.Manager`.

A forked child has no such thread: there every call raises, and leaving does nothing (G25).
"""

import atexit
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

import trio

from worker_state.config import Config
from worker_state.errors import ManagerEnded
from worker_state.manager import Manager, run_state_manager
from worker_state.plain import PlainManager
from worker_state.portal import Call, Task, ended, open_portal, result
from worker_state.protocol.status import Busy
from worker_state.refusals import check_config

T = TypeVar("T")


class Life:
    """One manager from its start to its end, and the calls into its thread. Raises `TypeError` for no `Config`."""

    def __init__(self, config: Config) -> None:
        check_config(config)
        self._thread, self._portal = open_portal()
        self.manager: Task[Manager] = Task(self._portal, partial(run_state_manager, config))
        # A block in a daemon thread, or entered by hand, does not end by itself when the interpreter does (G53).
        atexit.register(self.leave)

    @property
    def here(self) -> bool:
        """Whether this process has the thread, and is no forked child of that process."""
        return self.manager.here

    def leave(self) -> None:
        """End it all, and wait for that. May be called again. Does nothing in a forked child."""
        if not self.here:
            return
        self.manager.cancel()
        try:
            wait([self.manager.done])
        finally:
            self.close()

    def close(self) -> None:
        """End the thread, once the manager has ended. May be called again. Does nothing in a forked child."""
        if self.here:
            atexit.unregister(self.leave)
            with suppress(RuntimeError):  # it has ended already
                self._portal.call(self._portal.stop)
            self._thread.join()

    def task(self, function: Callable[..., Awaitable[object]]) -> "Task[Any]":
        """Run something beside the manager."""
        self._check_process()
        try:
            return Task(self._portal, function)
        except RuntimeError as error:
            raise ended() from error

    def start(self, function: Callable[..., Awaitable[T]] | Callable[..., T], *args: object) -> "Future[T]":
        """What the function gives in trio's thread, later. Raises `ManagerEnded`; `RuntimeError` in a forked child."""
        self._check_process()
        if self.manager.done.done():
            raise ended()
        try:
            return cast("Future[T]", self._portal.start_task_soon(function, *args))
        except RuntimeError as error:
            raise ended() from error

    def _check_process(self) -> None:
        if not self.here:
            raise RuntimeError(
                "the manager is in the process that this one was forked from, and cannot be reached here"
            )

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
        with self.waiting(Call(partial(function, *args), timeout, give_back)) as future:
            return result(future)

    @contextmanager
    def waiting(self, call: "Call[T]") -> "Iterator[Future[T]]":
        """Start the call. A block that is left by an error, a cancel or Ctrl-C at whatever moment, gives it up."""
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


class RemoteManager(PlainManager):
    """What the managers of both faces share. Every method may be called from any thread, and takes as long as a step of
    trio's loop, whatever the network does. Once the manager has ended, calls raise `ManagerEnded`, and in a forked
    child `RuntimeError`; what can be read is the last that was known."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._manager = life.manager.begun.result()
        super().__init__(self._manager._supervisor)
        self._signals = Untaken(self._manager.signals)

    def _make(self, step: Callable[[PlainManager], T]) -> T:
        """By trio's own manager, in its thread. What can be read without a step is frozen."""
        return self._life.now(step, self._manager)

    def _end(self, job: Busy) -> None:
        """A block may outlast the manager."""
        if self._life.here:
            with suppress(ManagerEnded):
                super()._end(job)
