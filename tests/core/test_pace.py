"""The pauses between dials: never none, growing, bounded, never in step with another worker's."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.core.pace import Pace, PaceParameters
from worker_state.core.verdict import Cause, hint

SEEDS = range(200)
PARAMETERS = PaceParameters()

happenings = st.lists(st.none() | st.floats(min_value=0, max_value=1e6), max_size=60)


class Top(Random):
    """A die that always shows its highest face, so that a range can be read from one draw."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def tell(pace: Pace, happening: float | None) -> float:
    return pace.failed(Cause.UNANSWERED) if happening is None else pace.lost(happening)


@given(seed=st.integers(), happenings=happenings)
def test_bounds(seed: int, happenings: list[float | None]) -> None:
    """Whatever happens, a pause is longer than 0 and at most the cap."""
    pace = Pace(Random(seed))
    for happening in happenings:
        assert 0 < tell(pace, happening) <= PARAMETERS.cap


def test_growth() -> None:
    """The range doubles with each failed dial, from half a second to half a minute, and stays there."""
    pace = Pace(Top(1))
    assert [pace.failed(Cause.UNANSWERED) for _ in range(10)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_thousands_of_failures() -> None:
    """A server that is away for a month costs two to four dials a minute, and no overflow."""
    pace = Pace(Random(1))
    assert all(15 <= pause <= 30 for pause in [pace.failed(Cause.UNANSWERED) for _ in range(5_000)][7:])


@pytest.mark.parametrize("failures_before", [0, 1, 3, 20])
def test_jitter(failures_before: int) -> None:
    """Each pause is drawn from the upper half of its range, from all of it."""
    span = min(30.0, 0.5 * 2**failures_before)
    drawn = []
    for seed in SEEDS:
        pace = Pace(Random(seed))
        for _ in range(failures_before):
            pace.failed(Cause.UNANSWERED)
        drawn.append(pace.failed(Cause.UNANSWERED))
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
    assert [
        pace.failed(Cause.UNANSWERED),
        pace.failed(Cause.UNANSWERED),
        pace.lost(registered_for),
        pace.failed(Cause.UNANSWERED),
    ] == [0.5, 1, 2, 4]


@pytest.mark.parametrize("registered_for", [30.0, 86_400.0])
def test_reset(registered_for: float) -> None:
    """Only a link that was registered for 30 s makes the pauses short again."""
    pace = Pace(Top(1))
    for _ in range(9):
        pace.failed(Cause.UNANSWERED)
    assert [pace.lost(registered_for), pace.failed(Cause.UNANSWERED), pace.failed(Cause.UNANSWERED)] == [0.3, 0.5, 1]


def test_accept_then_close() -> None:
    """A server that accepts and closes at once is not hammered: fifty links cost over twelve minutes."""
    pace = Pace(Random(1))
    assert sum(pace.lost(0.5) for _ in range(50)) > 12 * 60


def test_two_seeds() -> None:
    """Two workers with different seeds do not dial together."""
    one, other = Pace(Random(1)), Pace(Random(2))
    assert not {one.failed(Cause.UNANSWERED) for _ in range(20)} & {other.failed(Cause.UNANSWERED) for _ in range(20)}


def test_same_seed() -> None:
    """The same seed gives the same pauses, so that a simulation can be repeated."""
    one, other = Pace(Random(7)), Pace(Random(7))
    assert [one.failed(Cause.UNANSWERED) for _ in range(20)] == [other.failed(Cause.UNANSWERED) for _ in range(20)]


def test_parameters() -> None:
    """Every number of the rule can be given."""
    pace = Pace(Top(1), PaceParameters(blip=1, first=2, cap=5, lived=10))
    assert [
        pace.failed(Cause.UNANSWERED),
        pace.failed(Cause.UNANSWERED),
        pace.failed(Cause.UNANSWERED),
        pace.lost(9),
        pace.lost(10),
        pace.failed(Cause.UNANSWERED),
    ] == [
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
    pace.failed(Cause.UNANSWERED)
    pace.lost(0)
    assert repr(pace) == "<Pace after 2 failures>"


@pytest.mark.parametrize("cause", [Cause.REFUSED, Cause.UNREACHABLE])
def test_nobody_there(cause: Cause) -> None:
    """While nobody is there at all, the pauses stay at most 12 s: asking costs nobody anything."""
    pace = Pace(Top(1))
    assert [pace.failed(cause) for _ in range(8)] == [0.5, 1, 2, 4, 8, 12, 12, 12]


@given(seed=st.integers(), seconds=st.floats(min_value=0, max_value=1e6))
def test_hint(seed: int, seconds: float) -> None:
    """A hint of the server's is waited for and somewhat more, spread, and two minutes at most."""
    wanted = min(seconds, 120.0)
    pause = Pace(Random(seed)).failed(Cause.REJECTED, seconds)
    assert wanted <= pause <= max(0.5, wanted + max(0.25, 0.1 * wanted))


@pytest.mark.parametrize("nonsense", [-1.0, float("nan"), float("inf")])
def test_nonsense_for_a_hint(nonsense: float) -> None:
    """A hint that is no time is none."""
    assert Pace(Top(1)).failed(Cause.REJECTED, nonsense) == 0.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-1", None), ("", None), (None, None), ("1.5", None), ("٣", None), ("Wed, 21 Oct", None)],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    """A `Retry-After` is read when it is a number of seconds."""
    assert hint(text) == seconds


def test_moved() -> None:
    """A link that we ended ourselves to move is followed by a quick dial, and what failed before is not forgotten."""
    pace = Pace(Top(1))
    pace.failed(Cause.CLOSED)
    pace.failed(Cause.CLOSED)
    assert pace.moved() == 0.3
    assert pace.failed(Cause.CLOSED) == 2
