"""What a worker can be doing."""

from dataclasses import dataclass
from enum import StrEnum

LONGEST_JOB_ID = 512  # characters. A job id is in every frame about this worker; a longer one is a caller's mistake.


class WorkerStatus(StrEnum):
    """The four words that clients search for in `properties.status`."""

    AVAILABLE = "available"
    RESERVED = "reserved"
    BUSY = "busy"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class _Job:
    job_id: str

    def __post_init__(self) -> None:
        if not isinstance(self.job_id, str):
            raise TypeError(f"job_id must be a string, not {type(self.job_id).__name__}")
        if not 0 < len(self.job_id) <= LONGEST_JOB_ID:
            raise ValueError(f"job_id must have 1 to {LONGEST_JOB_ID} characters, this one has {len(self.job_id)}")


@dataclass(frozen=True, slots=True)
class Available:
    """Free: clients may connect."""


@dataclass(frozen=True, slots=True)
class Reserved(_Job):
    """Promised to a client whose job has not begun."""


@dataclass(frozen=True, slots=True)
class Busy(_Job):
    """Working on a job."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Alive, but not to be used."""


Truth = Available | Reserved | Busy | Maintenance  # what the worker is doing, whatever the server believes

_WORDS: dict[type[Truth], WorkerStatus] = {
    Available: WorkerStatus.AVAILABLE,
    Reserved: WorkerStatus.RESERVED,
    Busy: WorkerStatus.BUSY,
    Maintenance: WorkerStatus.MAINTENANCE,
}


def word(truth: Truth) -> WorkerStatus:
    """The status word of this truth, as it stands on the wire."""
    return _WORDS[type(truth)]


def job_id(truth: Truth) -> str | None:
    """The job that this truth is about, pending or current, or None."""
    return truth.job_id if isinstance(truth, Reserved | Busy) else None


def in_use(truth: Truth) -> bool:
    """Somebody has been promised the worker, or is served by it."""
    return isinstance(truth, Reserved | Busy)


def without_job(*, draining: bool) -> Truth:
    """What the worker is without a job: free, or, while it drains, not to be used."""
    return Maintenance() if draining else Available()
