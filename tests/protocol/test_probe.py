"""The echoes: dense while an eviction is likely, endless after that, thin in a large room."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.protocol.probe import (
    AFTER_REGISTRATION,
    ROOM_RATE,
    STEADY,
    MissedAnswers,
    Proof,
    Schedule,
    SuspendDetector,
    expected_peers,
    longest_unconfirmed,
    longest_unproved,
)


def times(schedule: Schedule, count: int) -> list[tuple[float, Proof]]:
    """When the next proofs are sent, each exactly when it is due, and what belongs to them."""
    found = []
    for _ in range(count):
        due = schedule.due
        found.append((due, schedule.sent(due)))
    return found


@given(seed=st.integers(), now=st.floats(min_value=0, max_value=1e9))
def test_early(seed: int, now: float) -> None:
    """The first echo is due at once, the next about 2, 5, 10, 20, 35 and 55 s after the registration."""
    at_once, *early = times(Schedule(Random(seed), now, peers=0), 7)
    assert at_once == (now, Proof.ECHO)
    for (at, _), about in zip(early, AFTER_REGISTRATION, strict=True):
        assert about * 0.9 - 1e-6 <= at - now <= about * 1.1 + 1e-6
    assert [proof for _, proof in early] == [Proof.LOOK] * 5 + [Proof.FULL]


@given(seed=st.integers())
def test_steady(seed: int) -> None:
    """After the early ones an echo follows every 20 to 29 s for ever, each of them with a full update."""
    found = times(Schedule(Random(seed), 0.0, peers=3), 200)[6:]
    gaps = [after - before for (before, _), (after, _) in pairwise(found)]
    assert all(20 - 1e-6 <= gap <= 29 + 1e-6 for gap in gaps)
    assert max(gaps) - min(gaps) > 5
    assert all(proof is Proof.FULL for _, proof in found)


@given(seed=st.integers())
def test_watched_for_a_minute(seed: int) -> None:
    """No stretch of the first 80 s, in which a dying connection may evict us, goes unwatched for over 29 s."""
    found = [at for at, _ in times(Schedule(Random(seed), 0.0, peers=0), 10)]
    assert max(after - before for before, after in pairwise(found)) <= 29 + 1e-6
    assert found[6] >= 49


def test_late() -> None:
    """Echoes that were missed while the worker was stopped are not sent after it, one behind the other."""
    schedule = Schedule(Random(1), 0.0, peers=0)
    assert schedule.sent(12.0) is Proof.ECHO
    assert 18 <= schedule.due <= 22
    assert schedule.sent(1_000.0) is Proof.FULL
    assert 1_020 <= schedule.due <= 1_029


def test_hurry() -> None:
    """When something makes the present proof doubtful, the next echo is due at once and the rest follow as before."""
    schedule = Schedule(Random(1), 0.0, peers=0)
    times(schedule, 20)
    schedule.hurry(500.0)
    assert schedule.due == 500.0
    assert schedule.sent(500.0) is Proof.FULL
    assert 520 <= schedule.due <= 529


def test_hurry_early() -> None:
    """A hurried echo in the first minute stands for the next early one and costs none of the others."""
    schedule = Schedule(Random(1), 0.0, peers=0)
    schedule.sent(0.0)
    schedule.hurry(1.0)
    assert schedule.sent(1.0) is Proof.LOOK
    assert 4.5 <= schedule.due <= 5.5


@pytest.mark.parametrize("workers", [1, 2, 100, 1_000, 1_001, 5_000, 100_000])
def test_room_rate(workers: int) -> None:
    """All workers of a room together stay at 50 steady echoes a second or less, whatever its size."""
    found = [at for at, proof in times(Schedule(Random(5), 0.0, peers=workers - 1), 300) if proof is Proof.FULL]
    shortest = min(after - before for before, after in pairwise(found))
    assert workers / shortest <= ROOM_RATE * (1 + 1e-9)


def test_large_room_has_no_early_echoes() -> None:
    """In a room that is over its rate already, the one echo at once is the only early one."""
    (first, second) = times(Schedule(Random(1), 0.0, peers=1_999), 2)
    assert first == (0.0, Proof.ECHO)
    assert 0.2 * STEADY[1] <= second[0] <= 2 * STEADY[1]
    assert second[1] is Proof.FULL


@given(seed=st.integers())
def test_the_second_echo_in_a_large_room(seed: int) -> None:
    """With fifty others or more the second echo comes within the first 29 s, anywhere in them but at once."""
    (_, second) = times(Schedule(Random(seed), 0.0, peers=50), 2)
    assert 2.9 <= second[0] <= 29.0
    assert second[1] is Proof.FULL


def test_small_room_is_not_stretched() -> None:
    """A room of fifty workers is as quick as a room of one."""
    assert times(Schedule(Random(1), 0.0, peers=49), 50) == times(Schedule(Random(1), 0.0, peers=0), 50)


@pytest.mark.parametrize(("workers", "slower"), [(1, 1.0), (800, 1.0), (1_600, 2.0), (8_000, 10.0)])
def test_longest_times_between_proofs(workers: int, slower: float) -> None:
    """Within 29 s a proof follows another, and within 60.5 s of the registration a full update; a room above 800
    workers takes longer in proportion."""
    assert longest_unproved(workers - 1) == pytest.approx(29.0 * slower)
    assert longest_unconfirmed(workers - 1) == pytest.approx(max(60.5, 29.0 * slower))


def per_second(schedules: list[Schedule], start: float, end: float) -> list[int]:
    """How many echoes all of them send in each second."""
    counts = [0] * (int(end - start) + 1)
    for schedule in schedules:
        while schedule.due < end:
            if schedule.due >= start:
                counts[int(schedule.due - start)] += 1
            schedule.sent(schedule.due)
    return counts


@pytest.mark.parametrize("workers", [50, 400, 1_000, 2_000, 10_000])
@pytest.mark.parametrize("capacity", [50, 200, 10_000])
def test_return_of_a_whole_room(workers: int, capacity: int) -> None:
    """Beside the one echo of each registration, a room whose workers all come back sends no more than its rate."""
    random, took = Random(workers), workers / capacity
    before = workers - 1
    schedules = [Schedule(random, k / capacity, expected_peers(before, answered=k)) for k in range(workers)]
    for schedule in schedules:
        schedule.sent(schedule.due)
    counts = per_second(schedules, 0.0, took + 300)
    minutes = [sum(counts[at : at + 60]) / 60 for at in range(len(counts) - 60)]
    assert max(minutes) <= ROOM_RATE
    assert max(counts) <= 2 * ROOM_RATE


def test_size_of_a_room_is_remembered() -> None:
    """A room that was large is reckoned with as such at the next registrations too, though less each time."""
    assert expected_peers(10_000, answered=0) == 9_000
    assert expected_peers(100, answered=500) == 500
    size = 10_000
    for _ in range(100):
        size = expected_peers(size, answered=3)
    assert size <= 9


def test_two_workers() -> None:
    """Two workers that are registered in the same moment do not send their echoes together."""
    one = {at for at, _ in times(Schedule(Random(1), 0.0, peers=0), 50)[1:]}
    other = {at for at, _ in times(Schedule(Random(2), 0.0, peers=0), 50)[1:]}
    assert not one & other


def test_suspends() -> None:
    """The first question tells nothing; each later one the seconds that only the second clock has counted since."""
    suspends = SuspendDetector()
    assert suspends.since(10.0, 1010.0) == 0.0
    assert suspends.since(11.0, 1011.0) == 0.0
    assert suspends.since(12.0, 1072.0) == 60.0
    assert suspends.since(13.0, 1073.0) == 0.0


def test_misses() -> None:
    """Two in a row are too many; what was sent before the first was noticed is no second one."""
    misses = MissedAnswers()
    misses.add(sent=1.0, now=13.0)
    misses.add(sent=12.0, now=24.0)
    assert (misses.count, misses.too_many) == (1, False)
    misses.add(sent=13.0, now=25.0)
    assert (misses.count, misses.too_many) == (2, True)
