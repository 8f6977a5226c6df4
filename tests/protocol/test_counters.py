"""The counts as a fold over what the actors say."""

from typing import Any

import pytest

from tests.protocol.test_state import NOTES, OPENED, PROVED, registered
from worker_state.protocol import counters as c
from worker_state.protocol import events as m
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.state import State, fold
from worker_state.protocol.status import Busy


def counted(*notes: m.Event, began: float = 0.0) -> c.Counters:
    counts, state = c.Counters(), State(unregistered_since=began)
    for note in notes:
        counts.add(note, state)
        state = fold(state, note, 9.0)
    return counts


@pytest.mark.parametrize(
    ("note", "series"),
    [
        (OPENED, c.CONNECTED),
        *((m.DialFailed(DialFailure(cause), 1.0), (c.DIALS, cause.name.lower())) for cause in Cause),
        (registered(), c.ACCEPTED),
        (m.RegistrationRejected("why"), c.REFUSED),
        (m.DropLink(1, "the patience is over", Cause.UNREGISTERED), c.UNANSWERED),
        (m.StatusConfirmed(0, 1.0), c.CONFIRMED),
        (m.UpdateFailed(drifted=True), c.DRIFTED),
        (m.UpdateFailed(drifted=False), c.MISSED),
    ],
)
def test_counted(note: m.Event, series: c.Series) -> None:
    """Each of these is counted once, under its own label and no other."""
    counts = counted(note, note)
    assert counts.of(series) == 2
    shown = {family: dict(counts.labels(family)) for family in (c.DIALS, c.REGISTRATIONS, c.UPDATES)}
    assert shown[series[0]][series[1]] == 2
    assert sum(sum(labels.values()) for labels in shown.values()) == 2


@pytest.mark.parametrize("note", [m.DropLink(1, "a new room"), m.ChangeStatus(1, Busy("j")), m.SignalDropped()])
def test_not_counted(note: m.Event) -> None:
    """What the snapshot counts, or nobody asks for, is not counted here."""
    assert not any(
        number for family in (c.DIALS, c.REGISTRATIONS, c.UPDATES) for _, number in counted(note).labels(family)
    )


def test_labels_are_a_closed_set() -> None:
    """No note, whatever its text, brings a label that was not there before."""
    before = [label for family in (c.DIALS, c.REGISTRATIONS, c.UPDATES) for label, _ in c.Counters().labels(family)]
    counts = counted(*NOTES, m.DialFailed(DialFailure(Cause.REJECTED, "its text", 503, "7"), 1.0))
    after = [label for family in (c.DIALS, c.REGISTRATIONS, c.UPDATES) for label, _ in counts.labels(family)]
    assert after == before


def test_pause() -> None:
    """The pause is that of the last dial or link, and over with the next link."""
    failed = m.DialFailed(DialFailure(Cause.REFUSED), 2.5)
    assert counted().pause == 0.0
    assert counted(failed).pause == 2.5
    assert counted(failed, OPENED).pause == 0.0
    assert counted(OPENED, m.LinkLost(1, Closed(), 0.3)).pause == 0.3
    assert counted(OPENED, m.LinkLost(1, Closed(), None)).pause == 0.0


def test_time_to_register() -> None:
    """The time to register runs from the start or the loss to the acceptance, and not for one that replaces another."""
    counts = counted(*PROVED, registered(at=8.0), m.LinkLost(1, Closed(), 0.3), OPENED, registered(at=9.3), began=3.0)
    assert counts.seconds == pytest.approx((5.0 - 3.0) + (9.3 - 9.0))
    by_bound = dict(zip((*c.BOUNDS, None), counts.times(), strict=True))
    assert (by_bound[0.25], by_bound[0.5], by_bound[1.0], by_bound[2.5], by_bound[None]) == (0, 1, 1, 2, 2)
    again = counted(registered(at=2.0), m.LinkLost(1, Closed(), 0.3), OPENED, registered(at=10.5), began=0.0)
    assert again.times()[-1] == 2
    assert again.times()[c.BOUNDS.index(2.5)] == 2


@pytest.mark.parametrize(("seconds", "bound"), [(0.1, 0.1), (600.0, 600.0), (1e6, None)])
def test_bounds(seconds: float, bound: Any) -> None:
    """A class takes what is as long as its upper end; the last takes everything."""
    counts = counted(registered(at=seconds))
    by_bound = dict(zip((*c.BOUNDS, None), counts.times(), strict=True))
    assert min(key if key is not None else 1e9 for key, number in by_bound.items() if number) == (bound or 1e9)
