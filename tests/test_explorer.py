"""The explorer finds nothing in the product at a small depth, and finds a sabotage there."""

import logging
from collections.abc import Iterator

import pytest

from benchmarks.explorer.canonical import fingerprint
from benchmarks.explorer.moves import moves
from benchmarks.explorer.sabotages import BY_FILE, BY_NAME
from benchmarks.explorer.search import STARTS, Limits, Search
from benchmarks.mutants import MUTANTS
from worker_state.actors.registration import RegistrationActor


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Thousands of lines of the log are of no use."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


def test_nothing_is_violated_nearby() -> None:
    """Every state that two events lead to is right, and is found right after a quiet end."""
    found = Search(Limits(depth=2, unread=False)).run(STARTS)
    assert (found.violation, found.finished, found.depth) == (None, True, 2)
    assert found.states == found.quiet_ends - len(STARTS) > 300


def test_a_close_frame_behind_an_unanswered_register(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sabotage is found, with the shortest way to it."""
    monkeypatch.setattr(RegistrationActor, "unanswered", False)
    found = Search(Limits(depth=3, unread=False)).run(STARTS)
    assert found.violation == "a Close frame goes out behind an unanswered register"
    assert found.steps == len(found.trace) - 2 == 2
    assert "asks to register again" in found.trace[1]
    assert "leaves" in found.trace[2]


def test_equivalent_worlds_meet() -> None:
    """Two ways to the same situation, with another number of changes, give the same fingerprint."""
    prints = []
    for detour in ((), ("the program sets busy", "the program sets available")):
        world = STARTS[2].world()
        for label in detour:
            (move,) = [each for each in moves(world) if each.label == label]
            move.do(world)
            world.settle()
        prints.append(fingerprint(world))
    assert prints[0] == prints[1]


def test_each_reason_belongs_to_a_sabotage() -> None:
    """What the explorer calls inexpressible is there."""
    assert set(BY_NAME) <= {mutant.name for mutant in MUTANTS}
    assert set(BY_FILE) <= {mutant.file for mutant in MUTANTS}
