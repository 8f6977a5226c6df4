"""When to register again on a link that is up: the pauses after refusals and evictions, and how many those were.

Pure, like `pace`, which is about links: time and chance are arguments. Two workers with one identity evict each other
as often as they register; growing pauses keep that from going on for ever at full speed (FAULTS F04, F06).
"""

from collections import deque
from random import Random

LIVED = 120.0
"""Seconds. A registration that lived for so long makes the pauses short again."""
LONGEST = 120.0
"""Seconds. The longest pause: slow enough for two to share an identity, quick enough to be found again."""
HOUR = 3600.0


class Holds:
    """The pauses of one worker's registration."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._count = 0
        self._evicted_at: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<Holds {self._count}, {len(self._evicted_at)} evictions within an hour>"

    def pause(self, first: float, lived: float) -> float:
        """Seconds to wait: `first` or somewhat less, doubled with each pause since a registration has `lived`."""
        if lived > LIVED:
            self._count = 0
        longest = min(LONGEST, first * 2.0**self._count)
        self._count = min(self._count + 1, 20)
        return self._random.uniform(longest / 2, longest)

    def evicted(self, now: float) -> int:
        """The server has forgotten an accepted registration: how often that has happened within the last hour."""
        self._evicted_at.append(now)
        while now - self._evicted_at[0] > HOUR:
            self._evicted_at.popleft()
        return len(self._evicted_at)
