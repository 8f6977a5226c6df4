"""What is refused in words: calls on what has ended, and arguments of another world."""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

import trio

from worker_state.config import Config
from worker_state.errors import ManagerEnded

P = ParamSpec("P")
T = TypeVar("T")


def ended() -> ManagerEnded:
    return ManagerEnded("the manager has ended: its block, or the task that ran it, is over")


def check_config(config: object) -> None:
    """Raises `TypeError` in words for anything but a `Config`."""
    if not isinstance(config, Config):
        raise TypeError(f"config must be a worker_state.Config, not {type(config).__name__}")


def check_manager(manager: object, function: str) -> None:
    """Raises `TypeError` in words for another world's manager, which has a function of that name beside it."""
    home = type(manager).__module__
    if home in ("worker_state.aio", "worker_state.blocking"):
        raise TypeError(f"worker_state.{function} is for trio: for a {type(manager).__name__} use {home}.{function}")


def check_wanted(wanted: object) -> None:
    """Raises `TypeError` in words for what cannot be asked about a state."""
    if not callable(wanted) or iscoroutinefunction(wanted):
        found = "an async function" if callable(wanted) else type(wanted).__name__
        example = "wait_for(lambda state: state.registered)"
        raise TypeError(f"wait_for takes a plain function of the state, as in {example}, not {found}")


def check_start(config: object) -> None:
    """Refuses in words what cannot be started: `TypeError`, or `RuntimeError` outside trio (G58)."""
    check_config(config)
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        text = "this needs trio: worker_state.aio is for asyncio, worker_state.blocking for threads"
        raise RuntimeError(text) from None


def entered_once(opens: Callable[P, T]) -> Callable[P, T]:
    """For a function that gives a context manager: one that is entered again says so, as contextlib's does not."""

    @wraps(opens)
    def opened(*args: P.args, **kwargs: P.kwargs) -> T:
        return cast("T", _Once(opens(*args, **kwargs), opens.__name__))

    return opened


class _Once:
    def __init__(self, manager: Any, name: str) -> None:
        self._manager = manager
        self._name = name
        self._entered = False

    def _enter(self) -> Any:
        if self._entered:
            text = f"this block was entered before, and a worker lives once: call {self._name} again for another one"
            raise RuntimeError(text)
        self._entered = True
        return self._manager

    def __enter__(self) -> Any:
        return self._enter().__enter__()

    def __exit__(self, *error: object) -> Any:
        return self._manager.__exit__(*error)

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C must not come between a block and its end
    async def __aenter__(self) -> Any:
        return await self._enter().__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, *error: object) -> Any:
        return await self._manager.__aexit__(*error)
