"""A value that can be watched: level-triggered, so a slow watcher misses steps in between but never the newest.

One owner calls `set`; everybody else reads `value`, waits for a condition, or iterates. No callbacks, no history.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")

SETTLED = 0.1  # seconds for the error of a task that ends to cancel those that its nursery, and those around it, cancel


async def settled() -> None:
    """Wait before raising that nothing will come any more: most waiters are cancelled by the error of the task that
    failed, and would only add one of their own."""
    await trio.sleep(SETTLED)


class Watched(Generic[T]):
    """Holds the newest value; `async for` gives the present one first and then each newer one until `close`."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._closed = False
        self._changed: trio.Event | None = None  # made by the first that waits for the next change

    def __repr__(self) -> str:
        return f"<Watched{' closed' if self._closed else ''} {self._value!r}>"

    @property
    def value(self) -> T:
        """The newest value."""
        return self._value

    def set(self, value: T) -> None:
        """Replace the value and wake the watchers; setting an equal one wakes nobody."""
        if value is not self._value and value != self._value:
            self._value = value
            self._version += 1
            self._wake()

    def close(self) -> None:
        """There will be no newer value: iterations end, and waits for what is not so raise."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    @trio.lowlevel.enable_ki_protection
    async def wait_for(self, wanted: Callable[[T], bool]) -> T:
        """Wait until `wanted(value)` is true and return that value; raises `trio.ClosedResourceError` after `close`."""
        await trio.lowlevel.checkpoint()  # always: a loop around this must let others run
        while not wanted(self._value):
            if self._closed:
                await settled()
                raise trio.ClosedResourceError("nobody sets this value any more")
            await self._change()
        return self._value

    def __aiter__(self) -> "Watching[T]":
        return Watching(self)


class Watching(Generic[T]):
    """One iteration over a `Watched`. A plain object, not an async generator: it may be dropped half-way."""

    def __init__(self, watched: Watched[T]) -> None:
        self._watched = watched
        self._seen = -1

    def __aiter__(self) -> "Watching[T]":
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        watched = self._watched
        while self._seen == watched._version:
            if watched._closed:
                await settled()
                raise StopAsyncIteration
            await watched._change()
        self._seen = watched._version
        return watched._value
