"""The handler that `worker-state run MODULE:FUNCTION` names: found, checked, and an example to start with."""

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

STEPS, STEP = 10, 0.5  # of the example: how many, and seconds for each


class NoHandler(Exception):
    """There is no such handler; the text is a sentence without a full stop."""


def load_handler(named: str) -> Callable[[Any], Any]:
    """The function that `MODULE:FUNCTION` names, from here or from what is installed. Raises `NoHandler`."""
    module_name, colon, name = named.partition(":")
    if not colon or not module_name or not name:
        raise NoHandler(f"{named!r} must be MODULE:FUNCTION, as in my_worker:handle")
    if "/" in module_name or module_name.startswith(".") or module_name.endswith(".py"):
        raise NoHandler(f"{module_name!r} must be a module's name, without a path and without .py")
    with suppress(OSError):  # somebody may have deleted the current directory
        if (here := os.getcwd()) not in sys.path:
            sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = f"there is no module {error.name}"
        why = missing if error.name == module_name else f"{module_name} cannot be imported: {missing}"
        raise NoHandler(why) from None
    except (Exception, SystemExit) as error:
        raise NoHandler(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise NoHandler(f"{module_name} has no function {name}")
        found = getattr(found, part)
    if not callable(found) or inspect.isasyncgenfunction(found) or inspect.isgeneratorfunction(found):
        raise NoHandler(f"{named} must be a function, `async def handle(job)` or `def handle(job)`")
    try:
        inspect.signature(found).bind(object())
    except TypeError:
        raise NoHandler(f"{named} must take one argument, the job") from None
    except ValueError:  # some functions that are written in C do not tell
        pass
    return found  # type: ignore[no-any-return]


async def example_handler(job: Any) -> None:
    """Count for some seconds, and tell the client how far it is."""
    import trio

    for step in range(1, STEPS + 1):
        await trio.sleep(STEP)
        await job.send({"type": "progress", "step": step, "of": STEPS})
