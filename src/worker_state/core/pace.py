"""When to dial next, and how long each stage of a dial may take. Never sleeps, never reads a clock."""

import math
from dataclasses import dataclass
from random import Random

from worker_state.core.verdict import Cause


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Of one dial, in seconds."""

    connect: float
    acknowledge: float
    register: float


@dataclass(frozen=True, slots=True)
class PaceParameters:
    """Seconds, all of them."""

    blip: float = 0.3
    connect: float = 10.0
    acknowledge: float = 2.0
    patience: float = 60.0
    longest_patience: float = 240.0
    cap_away: float = 12.0
    cap: float = 30.0
    lived: float = 30.0
    longest_hint: float = 120.0


class Pace:
    """The pauses between dials of one worker."""

    def __init__(self, random: Random, parameters: PaceParameters | None = None) -> None:
        self._random = random
        self._parameters = parameters or PaceParameters()
        self._failures = 0
        self._answered_at: float | None = None
        self._patience = self._parameters.patience

    def dialling(self, now: float) -> Deadlines:
        p = self._parameters
        self._answered_at = None
        return Deadlines(p.connect, p.acknowledge, self._patience)

    def answered(self, now: float) -> None:
        self._answered_at = now

    def proved(self, now: float) -> None:
        pass

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        if self._answered_at is None or now - self._answered_at < self._parameters.lived:
            return self.failed(now, cause, hint)
        self._failures = 0
        return self._draw(self._parameters.blip)

    def moved(self, now: float) -> float:
        return self._draw(self._parameters.blip)

    def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
        away = cause in (Cause.REFUSED, Cause.UNREACHABLE)
        cap = self._parameters.cap_away if away else self._parameters.cap
        pause = self._draw(min(cap, 0.5 * 2.0 ** min(self._failures, 60)))
        self._failures += 1
        if hint is None or not 0 <= hint < math.inf:
            return pause
        hint = min(hint, self._parameters.longest_hint)
        return max(pause, hint + self._random.uniform(0.0, max(0.25, 0.1 * hint)))

    def _draw(self, span: float) -> float:
        return self._random.uniform(span / 2, span)
