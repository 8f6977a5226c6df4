"""The pauses between dials: never none, growing, bounded, never in step with another worker's."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.core.pace import Pace, PaceParameters

SEEDS = range(200)
PARAMETERS = PaceParameters()

happenings = st.lists(st.none() | st.floats(min_value=0, max_value=1e6), max_size=60)


class Top(Random):
    """A die that always shows its highest face, so that a range can be read from one draw."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def tell(pace: Pace, happening: float | None) -> float:
    return pace.failed() if happening is None else pace.lost(happening)


@given(seed=st.integers(), happenings=happenings)
def test_bounds(seed: int, happenings: list[float | None]) -> None:
    """Whatever happens, a pause is longer than 0 and at most the cap."""
    pace = Pace(Random(seed))
    for happening in happenings:
        assert 0 < tell(pace, happening) <= PARAMETERS.cap


def test_growth() -> None:
    """The range doubles with each failed dial, from half a second to a minute, and stays there."""
    pace = Pace(Top(1))
    assert [pace.failed() for _ in range(10)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_thousands_of_failures() -> None:
    """A server that is away for a month costs a pause of half a minute to a minute each time, and no overflow."""
    pace = Pace(Random(1))
    assert all(30 <= pause <= 60 for pause in [pace.failed() for _ in range(5_000)][7:])


@pytest.mark.parametrize("failures_before", [0, 1, 3, 20])
def test_jitter(failures_before: int) -> None:
    """Each pause is drawn from the upper half of its range, from all of it."""
    span = min(60.0, 0.5 * 2**failures_before)
    drawn = []
    for seed in SEEDS:
        pace = Pace(Random(seed))
        for _ in range(failures_before):
            pace.failed()
        drawn.append(pace.failed())
    assert all(span / 2 <= pause <= span for pause in drawn)
    assert min(drawn) < span * 0.55
    assert max(drawn) > span * 0.95


def test_blip() -> None:
    """After a link that had lived, the first try comes within 0.3 s."""
    drawn = [Pace(Random(seed)).lost(30.0) for seed in SEEDS]
    assert all(0.15 <= pause <= 0.3 for pause in drawn)
    assert max(drawn) - min(drawn) > 0.1


@pytest.mark.parametrize("registered_for", [0.0, 0.1, 29.9])
def test_short_link(registered_for: float) -> None:
    """A link that was never registered, or for less than 30 s, counts as a failed dial."""
    pace = Pace(Top(1))
    assert [pace.failed(), pace.failed(), pace.lost(registered_for), pace.failed()] == [0.5, 1, 2, 4]


@pytest.mark.parametrize("registered_for", [30.0, 86_400.0])
def test_reset(registered_for: float) -> None:
    """Only a link that was registered for 30 s makes the pauses short again."""
    pace = Pace(Top(1))
    for _ in range(9):
        pace.failed()
    assert [pace.lost(registered_for), pace.failed(), pace.failed()] == [0.3, 0.5, 1]


def test_accept_then_close() -> None:
    """A server that accepts and closes at once is not hammered: fifty links cost over half an hour."""
    pace = Pace(Random(1))
    assert sum(pace.lost(0.5) for _ in range(50)) > 20 * 60


def test_two_seeds() -> None:
    """Two workers with different seeds do not dial together."""
    one, other = Pace(Random(1)), Pace(Random(2))
    assert not {one.failed() for _ in range(20)} & {other.failed() for _ in range(20)}


def test_same_seed() -> None:
    """The same seed gives the same pauses, so that a simulation can be repeated."""
    one, other = Pace(Random(7)), Pace(Random(7))
    assert [one.failed() for _ in range(20)] == [other.failed() for _ in range(20)]


def test_parameters() -> None:
    """Every number of the rule can be given."""
    pace = Pace(Top(1), PaceParameters(blip=1, first=2, cap=5, lived=10))
    assert [pace.failed(), pace.failed(), pace.failed(), pace.lost(9), pace.lost(10), pace.failed()] == [
        2,
        4,
        5,
        5,
        1,
        2,
    ]


def test_repr() -> None:
    """The repr says how many failures there have been."""
    pace = Pace(Random(1))
    pace.failed()
    pace.lost(0)
    assert repr(pace) == "<Pace after 2 failures>"
