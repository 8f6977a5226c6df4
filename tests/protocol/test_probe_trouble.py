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


def refused() -> EchoRefusals:
    """Two echoes in a row were refused."""
    refusals = EchoRefusals()
    for _ in range(2):
        refusals.suspect()
        refusals.count()
    return refusals


def test_the_first_lost_echo() -> None:
    """An echo that is lost without any error was not refused."""
    assert not EchoRefusals().count()


def test_a_proof_makes_the_count_begin_again() -> None:
    """An echo refused before a proof and one after it are not two in a row."""
    refusals = EchoRefusals()
    refusals.suspect()
    refusals.count()
    refusals.proved()
    refusals.suspect()
    refusals.count()
    assert not refusals.in_force


def test_an_echo_is_tried_again() -> None:
    """Every proof is an echo until echoes are refused; then one in five is."""
    assert all(EchoRefusals().worth_an_echo() for _ in range(10))
    refusals = refused()
    assert [refusals.worth_an_echo() for _ in range(10)] == [False, False, False, False, True] * 2


def test_an_echo_that_comes_back_after_all() -> None:
    """It puts the refusal out of force, and two more in a row are needed to put it in force again."""
    refusals = refused()
    refusals.disproved()
    assert not refusals.in_force
    refusals.suspect()
    refusals.count()
    assert not refusals.in_force
    refusals.suspect()
    refusals.count()
    assert refusals.in_force


def test_a_suspicion_that_an_echo_disproves() -> None:
    """An error that came before an echo did says nothing of the next one."""
    refusals = EchoRefusals()
    refusals.suspect()
    refusals.disproved()
    assert not refusals.count()
