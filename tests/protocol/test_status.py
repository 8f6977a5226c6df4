"""The sum type of statuses: what each is called, which job it is about, and what it says on the wire."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker_state.protocol.record import status_properties
from worker_state.protocol.status import (
    LONGEST_JOB_ID,
    Available,
    Busy,
    Maintenance,
    Reserved,
    Truth,
    WorkerStatus,
    job_id,
    word,
)

TRUTHS: list[tuple[Truth, str, str | None, str | None]] = [
    (Available(), "available", None, None),
    (Reserved("job-1"), "reserved", None, "job-1"),
    (Reserved(), "reserved", None, None),
    (Busy("job-1"), "busy", "job-1", None),
    (Maintenance(), "maintenance", None, None),
]


@pytest.mark.parametrize(("truth", "status", "current", "pending"), TRUTHS)
def test_properties(truth: Truth, status: str, current: str | None, pending: str | None) -> None:
    """Every status names all three of its properties, the one that does not apply as an explicit null."""
    assert status_properties(truth) == {"status": status, "current_job_id": current, "pending_job_id": pending}


@pytest.mark.parametrize(("truth", "status", "current", "pending"), TRUTHS)
def test_word_and_job(truth: Truth, status: str, current: str | None, pending: str | None) -> None:
    """The word and the job of a truth are those that stand on the wire."""
    assert word(truth) is WorkerStatus(status)
    assert job_id(truth) == (current or pending)


def test_words() -> None:
    """There are exactly the four words that clients search for."""
    assert {str(status) for status in WorkerStatus} == {"available", "reserved", "busy", "maintenance"}


def test_property_is_plain_text() -> None:
    """The status on the wire is a plain string, which every encoder knows."""
    assert type(status_properties(Available())["status"]) is str


@pytest.mark.parametrize("status", [Reserved, Busy])
@given(job=st.text(min_size=1, max_size=LONGEST_JOB_ID))
@example(job="x" * LONGEST_JOB_ID)
def test_job_ids(status: type[Reserved] | type[Busy], job: str) -> None:
    """Any text of 1 to 512 characters is a job id."""
    assert job_id(status(job)) == job


@pytest.mark.parametrize("status", [Reserved, Busy])
@pytest.mark.parametrize("job", ["", "x" * (LONGEST_JOB_ID + 1)])
def test_job_id_of_wrong_length(status: type[Reserved] | type[Busy], job: str) -> None:
    """A job id that is empty or too long is refused with its length, not with all of it."""
    with pytest.raises(ValueError, match=f"job_id must have 1 to 512 characters, this one has {len(job)}$"):
        status(job)


@pytest.mark.parametrize("status", [Reserved, Busy])
def test_job_id_with_half_a_character(status: type[Reserved] | type[Busy]) -> None:
    """A lone surrogate is refused: not every client could read the record."""
    with pytest.raises(ValueError, match="job_id must be text that UTF-8 can say"):
        status("job-\ud800")


@pytest.mark.parametrize("status", [Reserved, Busy])
@pytest.mark.parametrize("job", [None, 7, True, b"job", ["job"]])
def test_job_id_of_wrong_type(status: type[Reserved] | type[Busy], job: Any) -> None:
    """A job id that is no string is refused with the name of its type; only a reservation needs none."""
    if status is Reserved and job is None:
        assert status(job) == Reserved()
        return
    with pytest.raises(TypeError, match=f"job_id must be a string, not {type(job).__name__}"):
        status(job)


def test_equality() -> None:
    """Two truths are equal when they are the same status of the same job."""
    truths: list[Truth] = [Available(), Maintenance(), Busy("a"), Busy("b"), Reserved("a")]
    again: list[Truth] = [Available(), Maintenance(), Busy("a"), Busy("b"), Reserved("a")]
    assert [[one == other for other in again] for one in truths] == [[x == y for y in range(5)] for x in range(5)]


def test_repr() -> None:
    """The repr of a truth shows the job."""
    assert repr(Busy("job-1")) == "Busy(job_id='job-1')"
