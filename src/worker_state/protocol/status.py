"""What a worker can be doing."""

from dataclasses import dataclass
from enum import StrEnum

from worker_state.advertised import check_text

LONGEST_JOB_ID = 512  # characters. A job id is in every frame about this worker; a longer one is a caller's mistake.


class WorkerStatus(StrEnum):
    """The four words that clients search for in `properties.status`. Each equals its text.

    >>> from worker_state import WorkerStatus
    >>> WorkerStatus.BUSY == "busy"
    True
    """

    AVAILABLE = "available"
    RESERVED = "reserved"
    BUSY = "busy"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Busy:
    """Working on a job."""

    job_id: str

    def __post_init__(self) -> None:
        _check_job_id(self.job_id)


@dataclass(frozen=True, slots=True)
class Available:
    """Free: clients may connect."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """Promised to a client whose job has not begun, or whose job has no id yet."""

    job_id: str | None = None

    def __post_init__(self) -> None:
        if self.job_id is not None:
            _check_job_id(self.job_id)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Alive, but not to be used."""


def _check_job_id(job_id: object) -> None:
    if not isinstance(job_id, str):
        raise TypeError(f"job_id must be a string, not {type(job_id).__name__}")
    if not 0 < len(job_id) <= LONGEST_JOB_ID:
        raise ValueError(f"job_id must have 1 to {LONGEST_JOB_ID} characters, this one has {len(job_id)}")
    check_text("job_id", job_id, ValueError)


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
