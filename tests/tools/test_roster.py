"""Who is in a room, and how long: the fold over the answers to searches."""

from typing import Any

import pytest

from worker_state.redact import Secrets
from worker_state.tools.roster import (
    KEPT,
    MOST_GONE,
    Change,
    Entry,
    Roster,
    Row,
    answered,
    changes,
    id_length,
    lost,
    read_answer,
    read_entry,
)

ONE = Entry("one", status="available", tags=("sleap-rtc",))
BUSY = Entry("one", status="busy", job_id="j", tags=("sleap-rtc",))
TWO = Entry("two", status="busy", job_id="j-2")


def after(*answers: tuple[float, list[Entry]]) -> Roster:
    roster = Roster("room")
    for at, entries in answers:
        roster = answered(roster, entries, at)
    return roster


def test_an_entry_has_what_the_record_says() -> None:
    """Every field is taken from where workers put it, the pending job where there is no current one."""
    properties = {
        "status": "reserved",
        "current_job_id": None,
        "pending_job_id": "j-1",
        "gpu_model": "NVIDIA RTX A5000",
        "gpu_memory_mb": 24576,
        "hostname": "gpu-07",
    }
    assert read_entry("one", {"tags": ["sleap-rtc"], "properties": properties}, 12.5) == Entry(
        "one", "reserved", "j-1", "NVIDIA RTX A5000", 24576, "gpu-07", ("sleap-rtc",), 12.5
    )
    assert read_entry("one", {"properties": properties | {"current_job_id": "j-2"}}).job_id == "j-2"


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        {"tags": "sleap-rtc", "properties": []},
        {"tags": [1, None], "properties": {"status": 7, "gpu_memory_mb": True, "hostname": ["x"], "gpu_model": ""}},
        {"properties": {"gpu_memory_mb": 10**400}},
        {"properties": {"gpu_memory_mb": float("nan")}},
        {"properties": {"gpu_memory_mb": "24576"}},
    ],
)
def test_a_record_of_another_shape_says_nothing(metadata: Any) -> None:
    """Strangers write records: what is not of its type is not known, and nothing is raised."""
    assert read_entry("one", metadata, metadata) == Entry("one")


def test_an_answer_is_read_in_the_order_of_the_peer_ids() -> None:
    """What has no peer id is left out, and anything but a list of peers is no answer."""
    peers = [{"peer_id": "two"}, {"peer_id": 3}, "four", {"peer_id": "one", "metadata": {}, "connected_at": 1}]
    assert read_answer({"type": "peer_list", "peers": peers}, Secrets()) == (Entry("one", connected_at=1), Entry("two"))
    assert read_answer({"type": "peer_list", "peers": None}, Secrets()) is None
    assert read_answer({"type": "error"}, Secrets()) is None


def test_what_was_there_before_may_have_been_so_for_longer() -> None:
    """The first answer says what is, and not since when; it is no change."""
    roster = after((10.0, [ONE]), (20.0, [ONE]))
    assert roster.rows == (Row(ONE, since=10.0, at_least=True),)
    assert roster.answered_at == 20.0
    assert roster.entries == (ONE,)


def test_a_change_that_was_seen_has_its_time() -> None:
    """Status and job begin anew; the times of other workers go on."""
    roster = after((10.0, [ONE, TWO]), (20.0, [BUSY, TWO]))
    assert roster.rows == (
        Row(BUSY, since=20.0, at_least=False, last=Change(20.0, ONE, BUSY)),
        Row(TWO, since=10.0, at_least=True),
    )


def test_another_record_with_the_same_status_is_a_change_that_leaves_its_time() -> None:
    """A worker that has registered again goes on doing what it does."""
    again = Entry("one", status="available", tags=("sleap-rtc",), connected_at=15.0)
    assert after((10.0, [ONE]), (20.0, [again])).rows == (
        Row(again, since=10.0, at_least=True, last=Change(20.0, ONE, again)),
    )


def test_a_worker_that_appears_has_a_time() -> None:
    """It was not found before, so it has been there since now."""
    assert after((10.0, []), (20.0, [ONE])).rows == (Row(ONE, 20.0, False, Change(20.0, None, ONE)),)


def test_a_worker_that_is_gone_keeps_its_row_for_a_while() -> None:
    """It is no entry any more; its row stays for a minute, and then nothing does."""
    roster = after((10.0, [ONE]), (20.0, []))
    assert roster.rows == (Row(ONE, 10.0, True, Change(20.0, ONE, None), gone=True),)
    assert roster.entries == ()
    assert answered(roster, [], 19.9 + KEPT).rows == roster.rows
    assert answered(roster, [], 20.0 + KEPT).rows == ()


def test_a_worker_that_comes_back_begins_anew() -> None:
    """Nobody knows what it was doing meanwhile."""
    assert after((10.0, [ONE]), (20.0, []), (30.0, [ONE])).rows == (Row(ONE, 30.0, False, Change(30.0, None, ONE)),)


def test_what_changed_while_nobody_answered_may_have_been_so_for_longer() -> None:
    """After trouble the times are lower bounds again, for those who appeared too; later ones are exact."""
    roster = answered(lost(after((10.0, [ONE])), "cut"), [BUSY, TWO], 50.0)
    assert [(row.since, row.at_least) for row in roster.rows] == [(50.0, True), (50.0, True)]
    assert answered(roster, [ONE, TWO], 52.0).rows[0].at_least is False


def test_trouble_stands_in_the_roster_until_there_is_an_answer() -> None:
    """What was so at the last answer stays, with its time."""
    roster = lost(after((10.0, [ONE])), "cut")
    assert (roster.trouble, roster.answered_at, roster.entries) == ("cut", 10.0, (ONE,))
    assert answered(roster, [ONE], 20.0).trouble is None


def test_changes_are_told_once_whatever_was_skipped() -> None:
    """Each worker's last change between two rosters; nothing between a roster and itself."""
    first, last = after((10.0, [ONE])), after((10.0, [ONE]), (20.0, [BUSY]), (30.0, [ONE, TWO]))
    assert changes(first, last) == (Change(30.0, BUSY, ONE), Change(30.0, None, TWO))
    assert changes(last, answered(last, [ONE, TWO], 40.0)) == ()


def test_peer_ids_are_as_long_as_it_takes_to_tell_them_apart() -> None:
    """Eight characters of a UUID; more where all begin alike, but not without end."""
    assert id_length(["1a2b3c4d-1", "2a2b3c4d-1"]) == 8
    assert id_length(["worker-gpu-1", "worker-gpu-2"]) == 12
    assert id_length(["x" * 100 + "1", "x" * 100 + "2"]) == 40


def test_g10_workers_that_are_gone_are_bounded_in_number() -> None:
    """A server that names others with every answer fills no memory: of the gone ones the newest stay."""
    answers = [(float(at), [Entry(f"{at}-{number:04}") for number in range(MOST_GONE - 1)]) for at in range(3)]
    roster = after(*answers, (3.0, [ONE]))
    assert roster.entries == (ONE,)
    assert len(roster.rows) == MOST_GONE + 1
    assert sum(row.entry.peer_id.startswith("2-") for row in roster.rows) == MOST_GONE - 1
