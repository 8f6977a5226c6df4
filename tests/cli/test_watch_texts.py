"""How a roster reads, in cells, sentences and in the document for scripts."""

import json
import time

import pytest

from worker_state.cli import screen, watch_room
from worker_state.tools.roster import Change, Entry, Roster, Row, answered, lost

TAGS = ("sleap-rtc",)
FREE = Entry("1a2b3c4d-5e6f", "available", None, "NVIDIA RTX A5000", 24576, "gpu-07", TAGS, 1_800_000_000.0)
BUSY = Entry("1a2b3c4d-5e6f", "busy", "train-1", "NVIDIA RTX A5000", 24576, "gpu-07", TAGS, 1_800_000_000.0)
EVIL = "\x1b[2J\r\n" + "x" * 300


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_is_rounded_down_to_what_matters(seconds: float, text: str) -> None:
    assert screen.duration(seconds) == text


def test_the_cells_of_a_worker_say_since_when_and_what_was_last() -> None:
    row = Row(BUSY, since=100.0, at_least=False, last=Change(100.0, FREE, BUSY))
    assert tuple(watch_room.cells(row, 112.0, 8).values()) == (
        "1a2b3c4d",
        "gpu-07",
        "busy",
        "train-1",
        "NVIDIA RTX A5000",
        "24 GiB",
        "12 s",
        "12 s ago: available → busy, job train-1",
    )


@pytest.mark.parametrize(("megabytes", "text"), [(None, "-"), (512, "512 MiB"), (1024, "1 GiB"), (24_564, "24 GiB")])
def test_memory_is_in_the_unit_that_reads_best(megabytes: float | None, text: str) -> None:
    """A GPU below a gibibyte has its memory in MiB, and not in thousandths."""
    assert watch_room.memory(megabytes) == text


def test_what_was_there_before_has_at_least_its_time_and_what_is_gone_none() -> None:
    assert tuple(watch_room.cells(Row(FREE, 0.0, True), 180.0, 8).values())[-2:] == ("≥ 3 min", "-")
    gone = Row(FREE, 0.0, True, Change(170.0, FREE, None), gone=True)
    cells = tuple(watch_room.cells(gone, 180.0, 8).values())
    assert (cells[2], *cells[-2:]) == ("gone", "-", "10 s ago: gone")


def test_a_worker_that_says_nothing_has_dashes_and_what_hides_it_from_clients() -> None:
    assert tuple(watch_room.cells(Row(Entry("one"), 0.0, False), 0.0, 8).values())[:6] == (
        "one",
        "-",
        "unknown (no tags)",
        "-",
        "-",
        "-",
    )


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, BUSY, "appeared, busy, job train-1"),
        (BUSY, None, "gone"),
        (BUSY, FREE, "busy → available"),
        (FREE, Entry("1a2b3c4d-5e6f", "available"), "available → available (no tags)"),
        (Entry("one", connected_at=1.0), Entry("one", connected_at=2.0), "registered again"),
        (Entry("one"), Entry("one", hostname="new"), "new record: hostname"),
        (Entry("one", others=(("a", 1), ("b", 1))), Entry("one", others=(("b", 2),)), "new record: a, b"),
        (Entry("one"), Entry("one", others=((EVIL, 1),)), "new record: \\x1b[2J\\r\\n" + "x" * 34),
    ],
)
def test_a_change_in_words(before: Entry | None, after: Entry | None, words: str) -> None:
    assert watch_room.change(Change(0.0, before, after)) == words


def test_the_headline_counts() -> None:
    roster = answered(Roster("r-1"), [FREE, Entry("two", "busy", tags=TAGS), Entry("three", "busy", tags=TAGS)], 0.0)
    assert watch_room.summary(roster) == "Room r-1: 3 workers, 1 available, 2 busy"
    assert watch_room.summary(answered(Roster("r-1"), [FREE], 0.0)) == "Room r-1: 1 worker, 1 available"
    assert watch_room.summary(Roster("r-1")) == "Room r-1: 0 workers"


def test_the_first_look_at_a_crowd_is_quick() -> None:
    """Its cost grows with the workers, not with their square: 5,000 took 18 s, in which no signal was taken."""
    crowd = answered(Roster("r-1"), [Entry(f"{number:012}", "available", tags=TAGS) for number in range(5000)], 0.0)
    began = time.process_time()
    assert sum(1 for _ in watch_room.found(crowd)) == 5001
    assert time.process_time() - began < 5.0


def test_the_last_change_of_all_is_named() -> None:
    quiet = answered(Roster("r-1"), [FREE, Entry("two", "busy", tags=TAGS)], 0.0)
    assert watch_room.latest(quiet, 5.0) is None
    moved = answered(answered(quiet, [BUSY, Entry("two", "busy", tags=TAGS)], 10.0), [BUSY], 20.0)
    assert watch_room.latest(moved, 25.0) == "last change, 5 s ago: two gone"


def test_a_view_is_old_in_trouble_and_when_an_answer_is_late() -> None:
    fresh = answered(Roster("r-1"), [FREE], 100.0)
    assert watch_room.old_since(fresh, 104.9, 2.0) is None
    assert watch_room.old_since(fresh, 105.1, 2.0) == pytest.approx(5.1)
    assert watch_room.staleness(fresh, 5.1).startswith("OLD: nothing new for 5 s (the server is late)")
    assert watch_room.old_since(lost(fresh, "cut"), 100.5, 2.0) == 0.5
    assert watch_room.staleness(lost(fresh, "cut"), 70.0).startswith("OLD: nothing new for 1 min (cut)")


def test_nothing_that_strangers_wrote_reaches_a_terminal_as_it_is() -> None:
    entry = Entry(EVIL, EVIL, EVIL, EVIL, 1.0, EVIL, (EVIL,))
    change = Change(0.0, Entry(EVIL, "busy", "j"), entry)
    roster = lost(answered(Roster(EVIL), [entry], 0.0), EVIL)
    for text in (
        *watch_room.cells(Row(entry, 0.0, False, change), 0.0, 8).values(),
        watch_room.summary(roster),
        watch_room.staleness(roster, 1.0),
        json.dumps(watch_room.document(roster)),
    ):
        assert text.isprintable()


def test_the_document_has_its_fields_in_order() -> None:
    document = watch_room.document(answered(Roster("r-1"), [Entry("two", connected_at=1e300), FREE], 0.0))
    assert list(document) == ["room_id", "count", "workers"]
    assert document["workers"][0] == {
        "peer_id": "1a2b3c4d-5e6f",
        "status": "available",
        "job_id": None,
        "gpu_model": "NVIDIA RTX A5000",
        "gpu_memory_mb": 24576,
        "hostname": "gpu-07",
        "tags": ["sleap-rtc"],
        "registered_at": "2027-01-15T08:00:00+00:00",
    }
    assert document["workers"][1]["registered_at"] is None
    assert watch_room.document(Roster("r-1", answered_at=0.0)) == {"room_id": "r-1", "count": 0, "workers": []}
