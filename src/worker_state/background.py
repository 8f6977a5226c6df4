"""A task in the background of a block, whose errors leave as themselves.

A nursery would put them into a group: `sys.exit(3)` in its body ends the process with 1, and no `except` fits. An error
that is carried around the nursery is lost when the nursery itself raises, be it only `trio.Cancelled`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio


@asynccontextmanager
@trio.lowlevel.enable_ki_protection  # a Ctrl-C in here must not replace what the block has raised
async def open_background(task: Callable[..., Awaitable[object]]) -> AsyncIterator[Any]:
    """Run the task, as `nursery.start` does, while the block lasts; gives what it has started with.

    At the end of the block the task is cancelled, and waited for. What the block raised leaves as itself, and what the
    task raised, too; both together leave in one group. `trio.Cancelled` leaves only where nothing else does.
    """
    errors: list[BaseException] = []
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            try:
                yield await nursery.start(task)
            except BaseException as error:
                if _without_cancelled(error) is not error:
                    raise  # only the nursery knows which scope this cancel belongs to
                errors.append(error)
            nursery.cancel_scope.cancel()
    except BaseException as error:  # noqa: BLE001 - raised again below
        errors += error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
    if errors:
        leaving = _together(errors)
        context = leaving.__context__
        try:
            raise leaving
        finally:
            leaving.__context__ = context  # its own, and not the cancel that it caused in the block


def _together(errors: Sequence[BaseException]) -> BaseException:
    """What leaves of several errors: one as itself, more in a group, and a cancel only where there is nothing else."""
    serious = [error for error in errors if _without_cancelled(error) is not None] or errors[:1]
    return serious[0] if len(serious) == 1 else BaseExceptionGroup("both the block and its background failed", serious)


def _without_cancelled(error: BaseException) -> BaseException | None:
    """The very same error where it has nothing to do with a cancel."""
    if isinstance(error, BaseExceptionGroup):
        cancelled, rest = error.split(trio.Cancelled)
        return error if cancelled is None else rest
    return None if isinstance(error, trio.Cancelled) else error
