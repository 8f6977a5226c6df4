"""Echoes that a server refuses, and repairs of a record that somebody else writes."""

from worker_state.protocol.echo import EchoRefusals
from worker_state.protocol.probe import RepairPauses


def test_an_unknown_error_for_each_echo() -> None:
    """Two echoes in a row that came to nothing, each with an unknown error, put the refusal in force."""
    refusals = EchoRefusals()
    for in_force in (False, True):
        refusals.suspect()
        assert refusals.count()
        assert refusals.in_force is in_force


def test_a_lost_echo_in_between() -> None:
    """A lost echo without an error in between makes the count begin again."""
    refusals = EchoRefusals()
    refusals.suspect()
    assert refusals.count()
    assert not refusals.count()
    refusals.suspect()
    assert refusals.count()
    assert not refusals.in_force


def test_a_proof_in_between() -> None:
    """An echo that does come back clears the suspicion, but not a refusal that is in force."""
    refusals = EchoRefusals()
    refusals.suspect()
    refusals.proved()
    assert not refusals.count()
    for _ in range(2):
        refusals.suspect()
        refusals.count()
    refusals.proved()
    assert refusals.in_force


def test_repairs_slow_down() -> None:
    """The first difference is repaired at once, the next ever more slowly, up to a minute between repairs."""
    repairs = RepairPauses()
    pauses = []
    for now in range(0, 3000, 100):
        repairs.found(float(now))
        pauses.append(max(0.0, repairs.until - now))
    assert pauses[:5] == [0, 1, 2, 4, 8]
    assert pauses[-1] == 10


def test_no_difference() -> None:
    """A look that finds no difference makes the next repair quick again."""
    repairs = RepairPauses()
    for _ in range(5):
        repairs.found(0.0)
    repairs.none()
    repairs.found(1000.0)
    assert repairs.until <= 1000.0
