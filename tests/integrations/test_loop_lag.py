"""How late the loop is, from when a task woke."""

from worker_state.integrations.health.server import MEASURE_EVERY as EVERY
from worker_state.integrations.health.server import REMEMBERED, Lag


def test_in_time() -> None:
    """A task that wakes when it asked to is not late, and asks again for the next time."""
    lag = Lag(100.0)
    lag.woke(100.0 + EVERY)
    assert lag.due == 100.0 + 2 * EVERY
    assert lag.worst(100.0 + EVERY) == 0.0


def test_late() -> None:
    """A late waking counts for as long as a probe's period, and then not any more."""
    lag = Lag(100.0)
    lag.woke(107.0)
    assert lag.worst(107.0) == 7.0 - EVERY
    for tick in range(1, 100):
        now = 107.0 + tick * EVERY
        lag.woke(now)
        assert lag.worst(now) == (7.0 - EVERY if now <= 107.0 + REMEMBERED else 0.0)


def test_not_over_yet() -> None:
    """A delay counts while it lasts, for whoever is served before the task that measures."""
    assert Lag(100.0).worst(103.0) == 3.0 - EVERY
