"""What a run has shown: figures, and what must never be."""

from dataclasses import dataclass, field

from tests.simulation.plan import Plan
from tests.simulation.trace import Trace


@dataclass(frozen=True)
class Violation:
    """Something that must never be."""

    judge: str
    who: str
    what: str
    at: float


@dataclass
class Result:
    """What a run has shown."""

    plan: Plan
    trace: Trace
    violations: list[Violation] = field(default_factory=list)
    healed: list[float] = field(default_factory=list)
    """Seconds from the last thing that disturbed a worker until it was right for good."""
    healed_slowly: list[float] = field(default_factory=list)
    """The same where a fault asked for more patience than usual."""
    exits: list[float] = field(default_factory=list)
    worker_seconds: float = 0.0
    faults: int = 0
