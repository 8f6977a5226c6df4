"""What happened, in order and in words: a ring of the latest events, counters, and where the log goes during a run.

Nothing is formatted before somebody wants to read it; a run has tens of thousands of entries and almost all are
thrown away.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

current_worker: ContextVar[str] = ContextVar("current_worker", default="-")
"""Whose task is running: set by each worker's program, inherited by everything that it starts."""

KEPT = 6000
"""Entries of the ring: some minutes of a busy world."""


class Trace:
    """The timeline of one run, and how often each thing has happened."""

    def __init__(self, *, whole: bool) -> None:
        self._entries: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=None if whole else KEPT)
        self.faults: Counter[str] = Counter()
        self.branches: Counter[str] = Counter()
        self.deepest = 0
        """Notes that waited in one inbox, at most."""

    def note(self, at: float, who: str, what: str, *arguments: object) -> None:
        """`what` is a %-format, filled in only when it is read."""
        self._entries.append((at, who, what, arguments))

    def lines(self, who: str | None = None, last: int | None = None) -> list[str]:
        """The timeline as text, all of it or what concerns one worker (and everybody)."""
        chosen = [each for each in self._entries if who is None or each[1] in (who, "world", "server", "fault")]
        if last is not None:
            chosen = chosen[-last:]
        return [f"{at:10.3f}  {by:<7} {what % arguments if arguments else what}" for at, by, what, arguments in chosen]


class LogIntoTrace(logging.Handler):
    """Log records become entries of the timeline, and their unfilled texts are counted as branches."""

    def __init__(self, trace: Trace, now: Callable[[], float]) -> None:
        super().__init__(logging.INFO)
        self._trace = trace
        self._now = now

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self._trace.branches[f"log: {record.msg}"] += 1
        self._trace.note(self._now(), current_worker.get(), f"{record.levelname}: {record.msg}", *arguments)


@contextmanager
def logging_into(trace: Trace, now: Callable[[], float]) -> Iterator[None]:
    """The package's log goes into the trace and nowhere else."""
    logger = logging.getLogger("worker_state")
    handler = LogIntoTrace(trace, now)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
