"""The manager for programs in plain threads, over the bridge. `worker_state.aio` is the same for asyncio."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

from worker_state import aio
from worker_state.bridge import Life, RemoteManager, Task, result
from worker_state.config import Config
from worker_state.config_files import load_config
from worker_state.errors import ManagerEnded
from worker_state.integrations import health, systemd
from worker_state.protocol.frames import Message
from worker_state.protocol.state import State

__all__ = [
    "BlockingManager",
    "ManagerEnded",
    "Stream",
    "load_config",
    "notify_systemd",
    "serve_health",
    "start_state_manager",
]

T = TypeVar("T")


@contextmanager
def start_state_manager(config: Config) -> Iterator["BlockingManager"]:
    """Keep this worker discoverable while the block lasts: `with start_state_manager(config) as manager`.

    Blocks until the server has accepted the registration; raises `StartupFailed` when it will not. At the end of the
    block, however it comes, the server is asked to delete what was created, and the socket closed, within
    `timing.exit + timing.close` seconds; what the block raised arrives as itself. Several may run at once, in one
    thread or in many.
    """
    life = Life(config)
    try:
        with _running(life.manager):
            yield BlockingManager(life)
    finally:
        life.close()


@contextmanager
def _running(task: Task[T]) -> Iterator[T]:
    """The task while the block lasts; gives what it has started with. Raises what it has raised since its start."""
    try:
        yield result(task.begun)
    finally:
        task.cancel()
        if task.here and not task.begun.exception():
            with suppress(ManagerEnded):
                result(task.done)


class BlockingManager(RemoteManager):
    """The `Manager` of a `start_state_manager` block. Every method may be called from any thread.

    The plain ones take as long as a step of trio's loop, whatever the network does. Those with a `timeout` (seconds;
    None: no limit) wait. Once the block is over, every call raises `ManagerEnded`; what can be read is the last that
    was known.
    """

    @property
    def states(self) -> "Stream[State]":
        """The present snapshot, then each newer one; some may be missed. Every iteration has its own place."""
        return Stream(self._life, self._manager.states)

    @property
    def signals(self) -> "Stream[Message]":
        """Messages for the worker's other parts, in order, each to one iteration. Bounded, as `Manager.signals`."""
        return Stream(self._life, self._signals, self._signals.give_back)

    def synced(self, timeout: float | None = None) -> None:
        """Return when the server has confirmed exactly what is true now and an echo has proved the registration."""
        self._life.wait(timeout, self._manager.synced)

    def wait_for(self, wanted: Callable[[State], bool], timeout: float | None = None) -> State:
        """Wait until `wanted(state)` is true, and give that state. It is called in trio's thread."""
        return self._life.wait(timeout, self._manager.wait_for, wanted)

    def draining(self, timeout: float | None = None) -> None:
        """Take no further job from now on, for good, and return when none is reserved or running any more.

        `TimeoutError` ends the waiting and not the draining.
        """
        self._life.wait(timeout, self._manager.draining)

    def send_signal(self, message: Mapping[str, Any], timeout: float | None = None) -> None:
        """Send a message of the worker's other parts; returns when the socket has taken it over.

        Raises `Disconnected` when the worker is not registered, `ValueError` or `TypeError` as `Manager.send_signal`.
        """
        self._life.wait(timeout, self._manager.send_signal, message)


class Stream(aio.Stream[T]):
    """One thing after another: `for` in a thread, `async for` in an asyncio program. Ends when the manager does."""

    def __iter__(self) -> Iterator[T]:
        source = aiter(self._source)
        with suppress(StopAsyncIteration, ManagerEnded):
            while True:
                yield self._life.wait(None, anext, source, give_back=self._give_back)


def serve_health(manager: BlockingManager, port: int, host: str = "127.0.0.1") -> AbstractContextManager[str]:
    """Answer `/health`, `/ready`, `/worker` and `/metrics` while the block lasts: `with serve_health(…) as url`.

    As `worker_state.serve_health`: port 0 takes a free one; raises `OSError` when it cannot listen there,
    `ConfigError` for what is no port or no host. `/metrics` needs the extra `health`.
    """
    return _beside(manager, health.serve_health, port, host)


def notify_systemd(manager: BlockingManager) -> AbstractContextManager[None]:
    """Keep systemd informed while the block lasts, as `worker_state.notify_systemd`. Nothing goes wrong in here."""
    return _beside(manager, systemd.notify_systemd)


@contextmanager
def _beside(manager: BlockingManager, function: Callable[..., Awaitable[object]], *args: object) -> Iterator[Any]:
    with _running(manager._life.beside(function, *args)) as begun:
        yield begun
