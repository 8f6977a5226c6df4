"""The manager for programs that are not written for trio: from plain threads, and from asyncio.

Trio runs in a thread of its own (anyio's blocking portal), and every call is handed over to it. Nothing is decided
here: what a method means stands at its namesake in `worker_state.Manager`.
"""

import asyncio
import atexit
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from worker_state.config import Config
from worker_state.errors import ManagerEnded
from worker_state.manager import Manager, run_state_manager
from worker_state.protocol.frames import Message
from worker_state.protocol.state import State
from worker_state.protocol.status import Busy, WorkerStatus

__all__ = ["BlockingManager", "ManagerEnded", "Stream", "start_state_manager"]

T = TypeVar("T")


@contextmanager
def start_state_manager(config: Config) -> Iterator["BlockingManager"]:
    """Keep this worker discoverable while the block lasts: `with start_state_manager(config) as manager`.

    Blocks until the server has accepted the registration; raises `StartupFailed` when it will not. At the end of the
    block, however it comes, the server is asked to delete what was created, and the socket closed, within
    `timing.exit + timing.close` seconds; what the block raised arrives as itself. Several may run at once, in one
    thread or in many.
    """
    scope = trio.CancelScope()
    with start_blocking_portal("trio") as portal:
        life, manager = portal.start_task(_live, config, scope)

        def leave() -> None:
            with suppress(RuntimeError):  # the loop is gone already
                portal.call(scope.cancel)
            life.result()

        # A block in a daemon thread, or entered by hand, does not end by itself when the interpreter does.
        atexit.register(leave)
        try:
            yield BlockingManager(_Calls(portal, life), manager)
        finally:
            atexit.unregister(leave)
            leave()


async def _live(config: Config, scope: trio.CancelScope, *, task_status: "trio.TaskStatus[Manager]") -> None:
    with scope:
        await run_state_manager(config, task_status=task_status)


class _Calls:
    """Hands calls over to trio's thread, for as long as the manager lives."""

    def __init__(self, portal: BlockingPortal, life: "Future[None]") -> None:
        self._portal = portal
        self._life = life

    def start(self, function: Callable[..., Awaitable[T]] | Callable[..., T], *args: object) -> "Future[T]":
        """What the function gives in trio's thread, later. Raises `ManagerEnded`."""
        if self._life.done():
            raise _ended()
        try:
            return cast("Future[T]", self._portal.start_task_soon(function, *args))
        except RuntimeError as error:
            raise _ended() from error

    def now(self, function: Callable[..., T], *args: object) -> T:
        """Call a plain function in trio's thread: as long as one step of its loop takes."""
        return _result(self.start(function, *args))

    def wait(
        self,
        timeout: float | None,
        function: Callable[..., Awaitable[T]],
        *args: object,
        give_back: Callable[[T], None] | None = None,
    ) -> T:
        """Wait for an async function in trio's thread, for so many seconds at most, else `TimeoutError`."""
        with self.waiting(_Call(partial(function, *args), timeout, give_back)) as future:
            return _result(future)

    @contextmanager
    def waiting(self, call: "_Call[T]") -> "Iterator[Future[T]]":
        """Start the call. A block that is left by an error, a cancel or Ctrl-C at whatever moment, gives it up."""
        try:
            yield self.start(call.run)
        except BaseException:
            with suppress(RuntimeError):  # the loop is gone already
                self._portal.call(call.give_up)
            raise


class _Call(Generic[T]):
    """An async call that another thread waits for. All of it runs in trio's thread."""

    def __init__(
        self, function: Callable[[], Awaitable[T]], timeout: float | None, give_back: Callable[[T], None] | None
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
        raise _ended()

    def give_up(self) -> None:
        """The caller is gone: cancel the call, or give its result back."""
        self._scope.cancel()
        while self._results and self._give_back is not None:
            self._give_back(self._results.pop())


def _ended() -> ManagerEnded:
    return ManagerEnded("the manager has ended: its `with` block is over")


def _result(future: "Future[T]") -> T:
    try:
        return future.result()
    except (trio.ClosedResourceError, CancelledError):
        raise _ended() from None


class BlockingManager:
    """The `Manager` of a `start_state_manager` block. Every method may be called from any thread.

    The plain ones take as long as a step of trio's loop, whatever the network does, so an asyncio program may call
    them directly. Those with a `timeout` (seconds; None: no limit) wait; asyncio calls them with `asyncio.to_thread`.
    Once the block is over, every call raises `ManagerEnded`; what can be read is the last that was known.
    """

    def __init__(self, calls: _Calls, manager: Manager) -> None:
        self._calls = calls
        self._manager = manager
        self._signals = _Untaken(manager.signals)

    def __repr__(self) -> str:
        return repr(self._manager).replace("worker_state.Manager", "worker_state.blocking.BlockingManager")

    # what can be read: snapshots are frozen, so that reading one needs no hand-over

    @property
    def state(self) -> State:
        """The present snapshot. Its times are of trio's clock: for differences between them only."""
        return self._manager.state

    @property
    def status(self) -> WorkerStatus:
        """What the worker is doing: the local truth, whatever the server shows."""
        return self.state.status

    @property
    def job_id(self) -> str | None:
        """The job that the status is about, pending or current."""
        return self.state.job_id

    @property
    def session_string(self) -> str | None:
        """What clients type in to reach this worker. It may change (see `states`). None with an API key."""
        return self.state.session_string

    @property
    def states(self) -> "Stream[State]":
        """The present snapshot, then each newer one; some may be missed. Every iteration has its own place."""
        return Stream(self._calls, self._manager.states)

    @property
    def signals(self) -> "Stream[Message]":
        """Messages for the worker's other parts, in order, each to one iteration. Bounded, as `Manager.signals`."""
        return Stream(self._calls, self._signals, self._signals.give_back)

    @property
    def backlog(self) -> dict[str, int]:
        """How many events each actor has not read yet, by its name."""
        return self._calls.now(lambda: self._manager.backlog)

    # what takes effect at once

    def set_available(self) -> None:
        """Free from now on (in maintenance while draining); the job ids are cleared on the server too."""
        self._calls.now(self._manager.set_available)

    def set_reserved(self, job_id: str) -> None:
        """Promised to a client. `job_id`: 1 to 512 characters, else `ValueError` (`TypeError` if it is no string)."""
        self._calls.now(self._manager.set_reserved, job_id)

    def set_busy(self, job_id: str) -> None:
        """Working on a job. `job_id` as for `set_reserved`."""
        self._calls.now(self._manager.set_busy, job_id)

    def set_maintenance(self) -> None:
        """Alive, but not to be used."""
        self._calls.now(self._manager.set_maintenance)

    @contextmanager
    def busy(self, job_id: str) -> Iterator[None]:
        """Busy inside, after it again what was true before, as `Manager.busy`; the block may outlast the manager."""
        job = Busy(job_id)
        self._calls.now(self._manager._begin, job)
        try:
            yield
        finally:
            with suppress(ManagerEnded):
                # Looked at and changed in one step of trio's loop, so that no other thread comes between.
                self._calls.now(self._manager._end, job)

    def reregister(self) -> None:
        """Ask for a full `register` with the true status; it is done as soon as there is a link."""
        self._calls.now(self._manager.reregister)

    # what waits

    def synced(self, timeout: float | None = None) -> None:
        """Return when the server has confirmed exactly what is true now and an echo has proved the registration."""
        self._calls.wait(timeout, self._manager.synced)

    def draining(self, timeout: float | None = None) -> None:
        """Take no further job from now on, for good, and return when none is reserved or running any more.

        `TimeoutError` ends the waiting and not the draining.
        """
        self._calls.wait(timeout, self._manager.draining)

    def send_signal(self, message: Mapping[str, Any], timeout: float | None = None) -> None:
        """Send a message of the worker's other parts; returns when the socket has taken it over.

        Raises `Disconnected` when the worker is not registered, `ValueError` or `TypeError` as `Manager.send_signal`.
        """
        self._calls.wait(timeout, self._manager.send_signal, message)


class _Untaken(Generic[T]):
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


class Stream(Generic[T]):
    """One thing after another: `for` in a thread, `async for` in an asyncio program. Ends when the manager does."""

    def __init__(self, calls: _Calls, source: AsyncIterable[T], give_back: Callable[[T], None] | None = None) -> None:
        self._calls = calls
        self._source = source
        self._give_back = give_back

    def __iter__(self) -> Iterator[T]:
        source = aiter(self._source)
        with suppress(StopAsyncIteration, ManagerEnded):
            while True:
                yield self._calls.wait(None, anext, source, give_back=self._give_back)

    async def __aiter__(self) -> AsyncIterator[T]:
        source = aiter(self._source)
        with suppress(StopAsyncIteration, ManagerEnded):
            while True:
                yield await self._take(source)

    async def _take(self, source: AsyncIterator[T]) -> T:
        with self._calls.waiting(_Call(partial(anext, source), None, self._give_back)) as future:
            return await asyncio.wrap_future(future)
