"""Backoff: the pauses before registering again on a link that is up."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from worker_state.protocol.registration_backoff import (
    EVICTED,
    HINT_MOST,
    LONGEST_REFUSED,
    RegistrationBackoff,
    asked_for,
)


@given(seed=st.integers(), first=st.floats(min_value=0.01, max_value=10))
def test_pauses_after_refusals_grow(seed: int, first: float) -> None:
    """Each pause is drawn from the upper half of its range, which doubles up to half a minute and is never 0."""
    holds = RegistrationBackoff(Random(seed))
    for count in range(40):
        longest = min(LONGEST_REFUSED, first * 2.0 ** min(count, 20))
        assert 0 < longest / 2 <= holds.refused(first) <= longest


@given(seed=st.integers())
def test_pauses_after_evictions_grow(seed: int) -> None:
    """The same after evictions, from a tenth of a second up to two minutes: two may share an identity for ever."""
    holds = RegistrationBackoff(Random(seed))
    first, longest = EVICTED
    for count in range(40):
        span = min(longest, first * 2.0 ** min(count, 20))
        assert 0 < span / 2 <= holds.evicted(0.0, lived=1.0) <= span


def test_a_registration_that_lived() -> None:
    """A registration that lived for over two minutes makes the next pause short again."""
    holds = RegistrationBackoff(Random(1))
    for _ in range(10):
        holds.evicted(0.0, lived=5.0)
    assert holds.evicted(0.0, lived=120.0) > 10

    assert holds.evicted(0.0, lived=121.0) <= 0.1


def test_evictions_of_the_last_hour() -> None:
    """Evictions are counted over one hour."""
    holds, counts = RegistrationBackoff(Random(1)), []
    for at in (0.0, 10.0, 3600.0, 3605.0, 9000.0):
        holds.evicted(at, lived=0.0)
        counts.append(holds.evictions)
    assert counts == [1, 2, 3, 3, 1]


def test_refusals_and_evictions_do_not_add_up() -> None:
    """Pauses after refusals make no pause after an eviction longer, and an acceptance makes them short again."""
    holds = RegistrationBackoff(Random(1))
    for _ in range(10):
        holds.refused(5.0)
    assert holds.evicted(0.0, lived=1.0) <= 0.1

    holds.accepted()
    assert holds.refused(5.0) <= 5.0


def test_evictions_that_have_nothing_to_do_with_each_other() -> None:
    """A link that dies every few minutes evicts each new registration half a minute later: no quarrel."""
    holds = RegistrationBackoff(Random(1))
    for at in range(0, 20 * 393, 393):
        assert holds.evicted(float(at), lived=30.0) <= 0.1
    pauses = [holds.evicted(float(at), lived=30.0) for at in range(8000, 8000 + 20 * 300, 300)]
    assert pauses[-1] >= 60.0


@given(seed=st.integers(), hint=st.floats(min_value=0, max_value=1e9))
def test_a_hint_is_waited_for(seed: int, hint: float) -> None:
    """What the server asks for is overrun a little, bounded, and nothing without a hint."""
    assert asked_for(None, Random(seed)) == 0.0
    assert min(hint, HINT_MOST) <= asked_for(hint, Random(seed)) <= min(hint, HINT_MOST) + 15.0
