"""How long to wait: before registering again on a link that is up, after refusals and evictions, between HTTP calls.

Pure, like `pace`, which is about links: time and chance are arguments. Two workers with one identity evict each other
as often as they register; growing pauses keep that from going on for ever at full speed (faults.md, F04, F06).
"""

from random import Random

from worker_state.protocol.reconnect import ReconnectParameters, overrun

LIVED = 120.0  # seconds. A registration that lived for so long makes the pauses short again.
APART = 300.0
"""Seconds. Evictions further apart have nothing to do with each other: two who share an identity, each with the longest
pause, come again within 240. (A link that dies every few minutes evicts each new registration after half a minute.)"""
EVICTED = (0.1, 120.0)
"""Seconds. The first and the longest pause after evictions: slow enough for two to share an identity."""
LONGEST_REFUSED = 30.0
"""Seconds. The longest pause after refusals: one frame each, and found soon after the server is mended."""
HOUR = 3600.0
MANY_EVICTIONS = 3  # in an hour: more than the network's accidents explain (faults.md, F04)
MISSING, RENEWING = (2.0, 20.0), (10.0, 600.0)
"""Seconds. The first and the longest pause between HTTP calls that fail. Without credentials nobody finds the worker;
while they are only due for renewal, they go on being used."""
HINT_MOST = ReconnectParameters().hint_most
"""Seconds. A longer `Retry-After` is looked after on the way, as that of a dial."""


def asked_for(hint: float | None, random: Random) -> float:
    """Seconds that a server's own `Retry-After` makes us wait; 0 without one."""
    return 0.0 if hint is None else overrun(min(hint, HINT_MOST), random)


class CallBackoff:
    """The HTTP calls of one worker, which come one at a time: the present one, and those that failed in a row."""

    __slots__ = ("_failures", "under_way")

    def __init__(self) -> None:
        self.under_way = False
        self._failures = 0

    def __repr__(self) -> str:
        return f"<CallBackoff {self._failures} failures>"

    def begin(self) -> None:
        """One is on its way."""
        self.under_way = True

    def ended(self) -> None:
        """It has brought nothing."""
        self.under_way = False

    def done(self) -> None:
        """It has succeeded."""
        self.under_way, self._failures = False, 0

    def failed(self, *, missing: bool) -> float:
        """One more in a row: seconds to wait at most. `missing`: the worker cannot register without what it brings."""
        first, longest = MISSING if missing else RENEWING
        pause = min(longest, first * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return pause


class RegistrationBackoff:
    """The pauses of one worker's registration."""

    __slots__ = (
        "_evicted_at",
        "_random",
        "_refusals",
        "_short_lives",
    )

    def __init__(self, random: Random) -> None:
        self._random = random
        self._refusals = 0
        self._short_lives = 0
        self._evicted_at: list[float] = []

    def __repr__(self) -> str:
        return f"<RegistrationBackoff {self._refusals} refusals, {self.evictions} evictions within an hour>"

    @property
    def evictions(self) -> int:
        """How often the server had forgotten an accepted registration within an hour, when it last did."""
        return len(self._evicted_at)

    def accepted(self) -> None:
        """The server has registered us: what it refused before is over."""
        self._refusals = 0

    def refused(self, first: float) -> float:
        """The server cannot register us just now: seconds to wait, so many at first."""
        pause = self._draw(first, self._refusals, LONGEST_REFUSED)
        self._refusals += 1
        return pause

    def evicted(self, now: float, lived: float) -> float:
        """The server has forgotten a registration that had `lived` for so many seconds: seconds to wait."""
        self._evicted_at.append(now)
        while now - self._evicted_at[0] > HOUR:
            del self._evicted_at[0]
        if lived > LIVED or len(self._evicted_at) < 2 or now - self._evicted_at[-2] > APART:
            self._short_lives = 0
        first, longest = EVICTED
        pause = self._draw(first, self._short_lives, longest)
        self._short_lives += 1
        return pause

    def _draw(self, first: float, before: int, longest: float) -> float:
        """From the upper half of a range that has doubled so many times before."""
        span = min(longest, first * 2.0 ** min(before, 20))
        return self._random.uniform(span / 2, span)
