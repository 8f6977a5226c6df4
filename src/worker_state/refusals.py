"""What is refused in words: calls on what has ended, and arguments of another world."""

from inspect import iscoroutinefunction

import trio

from worker_state.config import Config
from worker_state.errors import ManagerEnded


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
