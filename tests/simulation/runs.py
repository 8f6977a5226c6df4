"""Many seeds: each becomes a small outcome that can travel between processes, and all together a tally.

A run that spins is cut off after so many seconds of CPU and counts as a violation.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.simulation.plan import Plan, draw
from tests.simulation.result import Violation
from tests.simulation.world import simulate

LIMIT = 60.0
"""Seconds of CPU for one seed; the longest take five."""


@dataclass
class Outcome:
    """What one seed has shown."""

    seed: int
    plan: str
    violations: list[Violation]
    timeline: list[str]
    """Of the first violation."""
    faults: Counter[str]
    branches: Counter[str]
    took_hold: int
    healed: list[float]
    healed_slowly: list[float]
    exits: list[float]
    worker_seconds: float
    cpu: float


class TooLong(BaseException):
    """A run has used up its CPU time."""


@contextmanager
def cut_off_after(seconds: float) -> Iterator[None]:
    def ring(_signal: int, _frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def run_seed(seed: int) -> Outcome:
    """The run of this seed."""
    return run_plan(draw(seed))


def run_plan(plan: Plan) -> Outcome:
    """One run, whatever happens in it."""
    began = time.process_time()
    try:
        with cut_off_after(LIMIT):
            result = simulate(plan)
    except (TooLong, Exception, BaseExceptionGroup) as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup((KeyboardInterrupt, SystemExit)):
            raise
        crash = Violation("right", "world", f"the run ended with {error!r:.500}", -1.0)
        cpu = time.process_time() - began
        return Outcome(plan.seed, str(plan), [crash], [], Counter(), Counter(), 0, [], [], [], 0.0, cpu)
    timeline = []
    if result.violations:
        who = result.violations[0].who
        timeline = result.trace.lines(None if who == "world" else who, last=60)
    return Outcome(
        plan.seed,
        str(plan),
        result.violations,
        timeline,
        result.trace.faults,
        result.trace.branches,
        result.faults,
        result.healed,
        result.healed_slowly,
        result.exits,
        result.worker_seconds,
        time.process_time() - began,
    )


def replay_command(seed: int) -> str:
    """The one command that shows this run again."""
    return f"python -m benchmarks.simulate --seed {seed} --trace"


@dataclass
class Tally:
    """Many outcomes, added up."""

    seeds: int = 0
    took_hold: int = 0
    cpu: float = 0.0
    worker_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    branches: Counter[str] = field(default_factory=Counter)
    healed: list[float] = field(default_factory=list)
    healed_slowly: list[float] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.took_hold += outcome.took_hold
        self.cpu += outcome.cpu
        self.worker_seconds += outcome.worker_seconds
        self.faults.update(outcome.faults)
        self.branches.update(outcome.branches)
        self.healed += outcome.healed
        self.healed_slowly += outcome.healed_slowly
        self.exits += outcome.exits
        if outcome.violations:
            self.failed.append(outcome)

    def complaint(self) -> str:
        """The failed seeds as text: what was violated, how to see it again, and the timeline of the first."""
        lines = []
        for outcome in self.failed:
            lines += [f"{each.judge}: {each.who} at {each.at:.2f} s: {each.what}" for each in outcome.violations[:5]]
            lines += [f"  {outcome.plan}", f"  again: {replay_command(outcome.seed)}", ""]
        return "\n".join(lines + (self.failed[0].timeline if self.failed else []))


def share(values: list[float], part: float) -> float:
    """The value that this part of all does not exceed; NaN if there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")
