"""What a worker can be doing: the sum type of statuses and the wire properties of each.

The server merges properties and never removes one (protocol.md, 2), so every status names both job
ids, and the one that does not apply is an explicit null.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

LONGEST_JOB_ID = 512
"""Characters. A job id travels in every frame about this worker; a longer one is a mistake at the caller's."""


class WorkerStatus(StrEnum):
    """The four words that clients search for in `properties.status`."""

    AVAILABLE = "available"
    RESERVED = "reserved"
    BUSY = "busy"
    MAINTENANCE = "maintenance"


def _check_job_id(job_id: object) -> None:
    if not isinstance(job_id, str):
        raise TypeError(f"job_id must be a string, not {type(job_id).__name__}")
    if not 0 < len(job_id) <= LONGEST_JOB_ID:
        raise ValueError(f"job_id must have 1 to {LONGEST_JOB_ID} characters, this one has {len(job_id)}")


@dataclass(frozen=True, slots=True)
class Available:
    """Free: clients may connect."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """Promised to a client whose job has not begun."""

    job_id: str

    def __post_init__(self) -> None:
        _check_job_id(self.job_id)


@dataclass(frozen=True, slots=True)
class Busy:
    """Working on a job."""

    job_id: str

    def __post_init__(self) -> None:
        _check_job_id(self.job_id)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Alive, but not to be used."""


Truth = Available | Reserved | Busy | Maintenance
"""What the worker really is at this moment, whatever the server believes."""


def word(truth: Truth) -> WorkerStatus:
    """The status word of this truth, as it stands on the wire."""
    match truth:
        case Available():
            return WorkerStatus.AVAILABLE
        case Reserved():
            return WorkerStatus.RESERVED
        case Busy():
            return WorkerStatus.BUSY
        case Maintenance():
            return WorkerStatus.MAINTENANCE
        case _:
            assert_never(truth)


def job_id(truth: Truth) -> str | None:
    """The job that this truth is about, pending or current, or None."""
    return truth.job_id if isinstance(truth, Reserved | Busy) else None


def engaged(truth: Truth) -> bool:
    """Somebody has been promised the worker, or is served by it."""
    return job_id(truth) is not None


def properties(truth: Truth) -> dict[str, str | None]:
    """The three properties that a status owns on the server, nulls included (recorded step "job id cleared")."""
    return {
        "status": word(truth).value,
        "current_job_id": truth.job_id if isinstance(truth, Busy) else None,
        "pending_job_id": truth.job_id if isinstance(truth, Reserved) else None,
    }
