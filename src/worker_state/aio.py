"""The manager for asyncio programs, over the bridge: trio runs in a thread of its own.

    async with aio.open_state_manager(config) as manager:
        manager.set_busy("job-1")
        await manager.synced()

Whatever waits may be cancelled, and loses nothing: a signal that was not handed over goes to the next who asks.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

from worker_state.bridge import Life, RemoteManager, Task, ended
from worker_state.config import Config
from worker_state.config_files import load_config
from worker_state.errors import ManagerEnded
from worker_state.integrations import health, systemd
from worker_state.protocol.frames import Message
from worker_state.protocol.state import State

__all__ = [
    "Manager",
    "Signals",
    "Stream",
    "in_thread",
    "load_config",
    "notify_systemd",
    "open_state_manager",
    "serve_health",
]

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """Run a job's function in a thread, and wait for its end even when cancelled: until then the worker is busy.

    `asyncio.to_thread` would leave the thread alone at a cancel, and `busy()` end while the GPU is in use. Returns what
    the function returns, raises what it raises (`RuntimeError` for `StopIteration`, as every coroutine); cancelled,
    `CancelledError` when it is over. How the function hears of the cancel is the program's own, a `threading.Event`,
    say; for a message of its own it uses `asyncio.run_coroutine_threadsafe`.
    """

    def call() -> T:
        try:
            return function(*args)
        except StopIteration as error:  # no future of asyncio takes it: it would stay open for ever
            raise RuntimeError("the function raised StopIteration") from error

    running = asyncio.ensure_future(asyncio.to_thread(call))
    if (cancelled := await _outlast(running)) is not None:
        if not running.cancelled():
            running.exception()  # or asyncio would log that nobody has read it
        raise cancelled
    return running.result()


@asynccontextmanager
async def open_state_manager(config: Config) -> AsyncIterator["Manager"]:
    """Keep this worker discoverable while the block lasts: `async with open_state_manager(config) as manager`.

    Entering waits until the server has accepted the registration; raises `StartupFailed` when it will not. At the end
    of the block, however it comes, the server is asked to delete what was created, and the socket closed, within
    `timing.exit + timing.close` seconds, which no cancel shortens. What the block raised leaves as itself.
    """
    life = Life(config)
    try:
        async with _running(life.manager):
            yield Manager(life)
    finally:
        life.close()


@asynccontextmanager
async def _running(task: Task[T]) -> AsyncIterator[T]:
    """The task while the block lasts; gives what it has started with. Its end is waited for, whatever is cancelled
    meanwhile. Raises what it has raised since its start."""
    try:
        # A cancel ends the waiting alone; asyncio would log what nobody reads then.
        begun = asyncio.wrap_future(task.begun)
        begun.add_done_callback(lambda done: done.cancelled() or done.exception())
        yield await asyncio.shield(begun)
    finally:
        if task.here:
            task.cancel()
            ending = asyncio.wrap_future(task.done)
            cancelled = await _outlast(ending)
            failure = ending.exception()
            if failure is not None and failure is not task.begun.exception():
                raise failure
            if cancelled is not None:
                raise cancelled


async def _outlast(future: "asyncio.Future[Any]") -> asyncio.CancelledError | None:
    """Wait until it is done, whatever is cancelled meanwhile; returns the last cancel."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


class Manager(RemoteManager):
    """The `worker_state.Manager` of an asyncio program: what is plain there is plain here, what waits is awaited.

    Put `asyncio.timeout` around what may wait for long. Once the manager has ended, calls raise `ManagerEnded`; what
    can be read is the last that was known.
    """

    async def synced(self) -> None:
        """Return when the server has confirmed exactly what is true now and an echo has proved the registration."""
        await _awaited(self._life, self._manager.synced)

    async def wait_for(self, wanted: Callable[[State], bool]) -> State:
        """Wait until `wanted(state)` is true, and give that state. It is called in trio's thread."""
        return await _awaited(self._life, self._manager.wait_for, wanted)

    async def draining(self) -> None:
        """Take no further job from now on, for good, and return when none is reserved or running any more.

        A cancel ends the waiting and not the draining.
        """
        await _awaited(self._life, self._manager.draining)

    async def send_signal(self, message: Mapping[str, Any]) -> None:
        """Send a message of the worker's other parts; returns when the socket has taken it over.

        Raises `Disconnected` when the worker is not registered, `ValueError` or `TypeError` as
        `worker_state.Manager.send_signal`. One that is cancelled may have been sent.
        """
        await _awaited(self._life, self._manager.send_signal, message)

    @property
    def states(self) -> "Stream[State]":
        """`async for`: the present snapshot, then each newer one; some may be missed. Each loop has its own place."""
        return Stream(self._life, self._manager.states)

    @property
    def signals(self) -> "Signals":
        """Messages for the worker's other parts, in order, each to one reader. Bounded, as `Manager.signals`."""
        return Signals(self._life, self._signals, self._signals.give_back)


class Stream(Generic[T]):
    """One thing after another, with `async for`. Ends when the manager does."""

    def __init__(self, life: Life, source: AsyncIterable[T], give_back: Callable[[T], None] | None = None) -> None:
        self._life = life
        self._source = source
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[T]:
        source = aiter(self._source)
        with suppress(StopAsyncIteration, ManagerEnded):
            while True:
                yield await self._take(source)

    async def _take(self, source: AsyncIterator[T]) -> T:
        return await _awaited(self._life, anext, source, give_back=self._give_back)


class Signals(Stream[Message]):
    """The messages for the worker's other parts."""

    async def receive(self) -> Message:
        """The next message. Raises `ManagerEnded`."""
        try:
            return await self._take(aiter(self._source))
        except StopAsyncIteration:
            raise ended() from None


async def _awaited(
    life: Life, function: Callable[..., Awaitable[T]], *args: object, give_back: Callable[[T], None] | None = None
) -> T:
    with life.waiting(function, *args, give_back=give_back) as future:
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and not (task is not None and task.cancelling()):
                raise ended() from None  # the loop over there has ended
            raise


def serve_health(manager: Manager, port: int, host: str = "127.0.0.1") -> AbstractAsyncContextManager[str]:
    """Answer `/health`, `/ready`, `/worker` and `/metrics` while the block lasts: `async with … as url`.

    As `worker_state.serve_health`: port 0 takes a free one; raises `OSError` when it cannot listen there,
    `ConfigError` for what is no port or no host. `/metrics` needs the extra `health`.
    """
    return _beside(manager, health.serve_health, port, host)


def notify_systemd(manager: Manager) -> AbstractAsyncContextManager[None]:
    """Keep systemd informed while the block lasts, as `worker_state.notify_systemd`. Nothing goes wrong in here."""
    return _beside(manager, systemd.notify_systemd)


@asynccontextmanager
async def _beside(manager: Manager, function: Callable[..., Awaitable[object]], *args: object) -> AsyncIterator[Any]:
    async with _running(manager._life.beside(function, *args)) as begun:
        yield begun
