"""The bridge to programs that are not written for trio: it runs in a thread of its own, and calls are handed over.

`blocking` (threads) and `aio` (asyncio) are its two faces. Nothing is decided here: what a method means stands at its
namesake in `worker_state.Manager`.

A forked child has no such thread: there every call raises, and leaving does nothing (G25).
"""

import atexit
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

import trio

from worker_state.config import Config
from worker_state.errors import ManagerEnded
from worker_state.manager import Manager, run_state_manager
from worker_state.portal import Call, Task, ended, open_portal, result
from worker_state.protocol.counters import Counters
from worker_state.protocol.state import State
from worker_state.protocol.status import Busy, WorkerStatus
from worker_state.redact import Secrets
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


class RemoteManager:
    """What the managers of both faces share. Every method may be called from any thread, and takes as long as a step of
    trio's loop, whatever the network does. Once the manager has ended, calls raise `ManagerEnded`, and in a forked
    child `RuntimeError`; what can be read is the last that was known."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._manager = life.manager.begun.result()
        self._signals = Untaken(self._manager.signals)

    def __repr__(self) -> str:
        kind = type(self)
        return repr(self._manager).replace("worker_state.Manager", f"{kind.__module__}.{kind.__name__}")

    # what can be read: snapshots are frozen, so that reading one needs no hand-over

    @property
    def state(self) -> State:
        """The present snapshot. Its times are of trio's clock: `ages` says how long ago they are."""
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
    def config(self) -> Config:
        """The configuration that it was started with."""
        return self._manager.config

    @property
    def secrets(self) -> Secrets:
        """What must stand in no text: `manager.secrets.shown(text)` makes a client's words fit for a log of yours."""
        return self._manager.secrets

    @property
    def counts(self) -> Counters:
        """What has happened since the start, counted."""
        return self._manager.counts

    @property
    def ages(self) -> dict[str, float | None]:
        """How long ago each time of `state` is, in seconds: `ages["proved"]`. None for what is not the case."""
        return self._life.now(lambda: self._manager.ages)

    @property
    def backlog(self) -> dict[str, int]:
        """How many events each actor has not read yet, by its name."""
        return self._life.now(lambda: self._manager.backlog)

    # what takes effect at once

    def set_available(self) -> None:
        """Free from now on (in maintenance while draining); the job ids are cleared on the server too."""
        self._life.now(self._manager.set_available)

    def set_reserved(self, job_id: str | None = None) -> None:
        """Promised to a client, perhaps before there is a job. `job_id`: None, or as for `set_busy`."""
        self._life.now(self._manager.set_reserved, job_id)

    def set_busy(self, job_id: str) -> None:
        """Working on a job. `job_id`: 1 to 512 characters, else `ValueError` (`TypeError` if it is no string)."""
        self._life.now(self._manager.set_busy, job_id)

    def set_maintenance(self) -> None:
        """Alive, but not to be used."""
        self._life.now(self._manager.set_maintenance)

    @contextmanager
    def busy(self, job_id: str) -> Iterator[None]:
        """Busy inside, after it again what was true before, as `Manager.busy`; the block may outlast the manager."""
        job = Busy(job_id)
        self._life.now(self._manager._begin, job)
        try:
            yield
        finally:
            if self._life.here:
                with suppress(ManagerEnded):
                    # Looked at and changed in one step of trio's loop, so that no other thread comes between.
                    self._life.now(self._manager._end, job)

    def set_capabilities(self, changes: Mapping[str, Any]) -> None:
        """Change capabilities; those that are not named stay. Raises `ConfigError`."""
        self._life.now(self._manager.set_capabilities, changes)

    def set_tags(self, tags: Sequence[str]) -> None:
        """Be found by these tags from now on. Raises `ConfigError`."""
        self._life.now(self._manager.set_tags, tags)

    def set_admin(self, admin: bool) -> None:
        """Offer to be the room's admin, or no longer. `TypeError` if it is no bool."""
        self._life.now(self._manager.set_admin, admin)

    def reregister(self) -> None:
        """Ask for a full `register` with the true status; it is done as soon as there is a link."""
        self._life.now(self._manager.reregister)
