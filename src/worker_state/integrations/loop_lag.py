"""How late the event loop is: from when a task woke, against when it had asked to.

Pure: times are arguments, in seconds of whatever clock the caller uses.
"""

from collections import deque

EVERY = 0.5  # seconds between two measurements
REMEMBERED = 10.0
"""Seconds for which a late waking counts: as long as a usual probe's period, so that the next one sees it."""
BOUND = 5.0
"""Seconds. A loop that was later than this is called stuck: nothing that the library does holds it for so long, and
pings, proofs and answers are still in time with less."""


class Lag:
    """The latest wakings of one task."""

    def __init__(self, now: float) -> None:
        self.due = now + EVERY  # when the task is to wake
        self._late: deque[tuple[float, float]] = deque()

    def woke(self, now: float) -> None:
        """The task is awake; moves `due` on."""
        self._late.append((now, now - self.due))
        while now - self._late[0][0] > REMEMBERED:
            self._late.popleft()
        self.due = now + EVERY

    def worst(self, now: float) -> float:
        """The longest delay of the last `REMEMBERED` seconds, one that is not over yet included."""
        return max(0.0, now - self.due, *(late for at, late in self._late if now - at <= REMEMBERED))
