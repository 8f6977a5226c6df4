"""When to dial next. Never sleeps, never reads a clock, never touches a socket: it is told what happened, and when.

One object for each worker, with a `Random` of its own that is seeded by the operating system: cloned workers must not
draw the same delays (FAULTS T17). The rule: after a link that had lived, a quick first try (somebody pulled a cable);
after that the pauses grow to a minute, each drawn from the upper half of its range, and only a link that was
registered for a while makes them short again. A hammering client is always one that resets on connect (STORMS, 2).
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class PaceParameters:
    """Seconds, all of them."""

    blip: float = 0.3
    """The first try after a link that had lived comes within this: a pulled cable costs a client nothing."""
    first: float = 0.5
    """The range of the first pause that follows a failure."""
    cap: float = 60.0
    """The largest range: half a minute to a minute between tries, however long the server is away."""
    lived: float = 30.0
    """A link that was registered for less than this never really came back."""


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
            return self.failed()
        self._failures = 0
        return self._draw(self._parameters.blip)

    def failed(self) -> float:
        """A dial has given no link. How long to wait, in seconds; never 0."""
        span = min(self._parameters.cap, self._parameters.first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return self._draw(span)

    def _draw(self, span: float) -> float:
        return self._random.uniform(span / 2, span)
