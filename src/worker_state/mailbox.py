"""Where the notes for one actor lie until it reads them: all of them at once, in the order in which they were said.

An unbounded memory channel of trio's would do, at the price of 1.7 KiB each and of two more scheduling steps for each
note; it serves many readers and writers, and bounds. Here there is one reader, nobody waits to write, and both are
protected from Ctrl-C, which must not come between waking the reader and forgetting him.
"""

from collections.abc import Awaitable, Generator
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class _Now:
    """What is over as soon as it is awaited."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_NOW = _Now()


class Mailbox(Generic[T]):
    """Unbounded. Anybody may `put`, in trio's thread; one task reads."""

    __slots__ = ("_notes", "_reader")

    def __init__(self) -> None:
        self._notes: list[T] = []
        self._reader: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<Mailbox of {len(self)}{'' if self._reader is None else ', read'}>"

    def __len__(self) -> int:
        """How many have not been read."""
        return len(self._notes)

    def put(self, note: T) -> None:
        """Add a note and wake the reader. Never waits."""
        self._notes.append(note)
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    def take(self) -> list[T]:
        """All notes that there are, the oldest first. Never waits."""
        notes, self._notes = self._notes, []
        return notes

    def put_back(self, notes: list[T]) -> None:
        """They were taken too early, by the reader: they are to be taken again, first."""
        self._notes[:0] = notes

    def filled(self) -> Awaitable[object]:
        """To be awaited at once; it returns when there is something to take: without a checkpoint when there is
        already. (trio's own trap and no coroutine around it: that would weigh as much as the mailbox.)"""
        if self._notes:
            return _NOW
        self._reader = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._give_up)  # noqa: ASYNC105 - by the caller

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED
