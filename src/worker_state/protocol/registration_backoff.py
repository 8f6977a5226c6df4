"""How long to wait before registering again on a link that is up, and between HTTP calls that fail.

Two workers with one identity evict each other as often as they register; growing pauses keep that from going on for
ever at full speed (F04, F06). Pauses between links are those of `reconnect.py`.
"""

from random import Random

from worker_state.protocol.reconnect import ReconnectParameters, overrun

LIVED = 120.0  # seconds. A registration that lived for so long makes the pauses short again.
APART = 300.0
"""Seconds. Evictions further apart have nothing to do with each other: two who share an identity, each with the longest
pause, come again within 240. (A link that dies every few minutes evicts each new registration after half a minute.)"""
EVICTED = (0.1, 120.0)  # seconds: the first and the longest pause. Slow enough for two to share an identity.
LONGEST_REFUSED = 30.0  # seconds: one frame each, and found soon after the server is mended
HOUR = 3600.0
MANY_EVICTIONS = 3  # in an hour: more than the network's accidents explain (F04)
HINT_MOST = ReconnectParameters().hint_most  # seconds. A longer `Retry-After` is not slept through.


def asked_for(hint: float | None, random: Random) -> float:
    """Seconds to wait because the server asks for `hint`; 0 without one."""
    return 0.0 if hint is None else overrun(min(hint, HINT_MOST), random)


def doubled(first: float, longest: float, *, times: int) -> float:
    """The first pause, doubled so many times, up to the longest."""
    return min(longest, first * 2.0 ** min(times, 20))


class RegistrationBackoff:
    """The pauses of one worker's registration."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._refusals = 0
        self._short_lives = 0  # of registrations that were evicted soon, in a row
        self._evicted_at: list[float] = []  # within the last hour

    @property
    def evictions(self) -> int:
        """How often the server had forgotten an accepted registration within an hour, when it last did."""
        return len(self._evicted_at)

    def accepted(self) -> None:
        """The server has registered us: what it refused before is over."""
        self._refusals = 0

    def refused(self, first: float) -> float:
        """The server cannot register us just now: seconds to wait, `first` at most to begin with."""
        pause = self._draw(doubled(first, LONGEST_REFUSED, times=self._refusals))
        self._refusals += 1
        return pause

    def evicted(self, now: float, lived: float) -> float:
        """The server has forgotten a registration that had `lived` for so many seconds: seconds to wait."""
        self._evicted_at = [*(at for at in self._evicted_at if now - at <= HOUR), now]
        if lived > LIVED or len(self._evicted_at) < 2 or now - self._evicted_at[-2] > APART:
            self._short_lives = 0
        pause = self._draw(doubled(*EVICTED, times=self._short_lives))
        self._short_lives += 1
        return pause

    def _draw(self, span: float) -> float:
        return self._random.uniform(span / 2, span)
