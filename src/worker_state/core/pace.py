"""When to dial next. Never sleeps, never reads a clock, never touches a socket: it is told what happened, and when.

One object for each worker, with a `Random` of its own that is seeded by the operating system: cloned workers must not
draw the same delays (FAULTS T17). The rule: after a link that had lived, a quick first try (somebody pulled a cable);
after that the pauses double, each drawn from the upper half of its range, up to a cap that depends on what was found. A
hint of the server's is obeyed. Only a link that was registered for a while makes the pauses short again: a hammering
client is always one that resets on connect (STORMS, 2).
"""

import math
from dataclasses import dataclass
from random import Random

from worker_state.core.verdict import Cause


@dataclass(frozen=True, slots=True)
class PaceParameters:
    """Seconds, all of them."""

    blip: float = 0.3
    """The first try after a link that had lived comes within this: a pulled cable costs a client nothing."""
    first: float = 0.5
    """The range of the first pause that follows a failure."""
    cap_away: float = 12.0
    """The largest range while nobody is there (refused, not reached): asking costs nobody anything, and it decides how
    soon a server that was away for long is found again."""
    cap: float = 30.0
    """The largest range when somebody is there but does not serve: with the upper half drawn, two dials a minute."""
    lived: float = 30.0
    """A link that was registered for less than this never really came back."""
    longest_hint: float = 120.0
    """A longer hint (`Retry-After`) is cut to this: one answer of some box in between must not hide a living worker for
    a quarter of an hour."""


class Pace:
    """The pauses between dials of one worker."""

    def __init__(self, random: Random, parameters: PaceParameters | None = None) -> None:
        self._random = random
        self._parameters = parameters or PaceParameters()
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Pace after {self._failures} failures>"

    def lost(self, registered_for: float) -> float:
        """A link has ended that had been registered for so many seconds (0: never). How long to wait, in seconds."""
        if registered_for < self._parameters.lived:
            return self.failed(Cause.CLOSED)
        self._failures = 0
        return self._draw(self._parameters.blip)

    def moved(self) -> float:
        """We have ended a link that served, to open another. How long to wait, in seconds; it resets nothing."""
        return self._draw(self._parameters.blip)

    def failed(self, cause: Cause, hint: float | None = None) -> float:
        """A dial has given no link, for this cause; the server asked for so many seconds. How long to wait; never 0."""
        away = cause in (Cause.REFUSED, Cause.UNREACHABLE)
        cap = self._parameters.cap_away if away else self._parameters.cap
        pause = self._draw(min(cap, self._parameters.first * 2.0 ** min(self._failures, 60)))
        self._failures += 1
        if hint is None or not 0 <= hint < math.inf:
            return pause
        hint = min(hint, self._parameters.longest_hint)
        # Everybody got the same hint: who obeys it to the second comes back together.
        return max(pause, hint + self._random.uniform(0.0, max(0.25, 0.1 * hint)))

    def _draw(self, span: float) -> float:
        return self._random.uniform(span / 2, span)
