"""What has happened to one worker so far, counted event by event for the metrics.

What the snapshot already counts (evictions, dropped signals) is not counted here. The names are a closed set: no text
of the server's becomes one.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from worker_state.protocol import events
from worker_state.protocol.error_policy import Cause
from worker_state.protocol.state import State

Series = tuple[str, str]  # a family of counts, and a label in it

DIALS, REGISTRATIONS, UPDATES = "dials", "registrations", "status_updates"
CONNECTED: Series = (DIALS, "connected")
FAILED: dict[Cause, Series] = {cause: (DIALS, cause.name.lower()) for cause in Cause}
ACCEPTED: Series = (REGISTRATIONS, "accepted")
REFUSED: Series = (REGISTRATIONS, "refused")
UNANSWERED: Series = (REGISTRATIONS, "unanswered")
CONFIRMED: Series = (UPDATES, "confirmed")
DRIFTED: Series = (UPDATES, "drifted")
MISSED: Series = (UPDATES, "unanswered")
SERIES = (CONNECTED, *FAILED.values(), ACCEPTED, REFUSED, UNANSWERED, CONFIRMED, DRIFTED, MISSED)

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 35.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds. Upper ends of the classes of times to register: a blip, what is promised (35 and 60), and a storm."""


class Counters:
    """The counts of one worker. Read them with `labels`, `of`, `times` and the fields."""

    def __init__(self) -> None:
        self._tally: Counter[Series] = Counter()
        self._classes = [0] * (len(BOUNDS) + 1)
        self.seconds: float = 0.0  # all times to register together
        self.pause: float = 0.0  # the pause before the next dial, in seconds; 0 while there is a link

    def add(self, event: events.Event, before: State) -> None:
        """Count this event; `before` is the snapshot that does not know of it yet."""
        match event:
            case events.StatusConfirmed():
                self._tally[CONFIRMED] += 1
            case events.UpdateFailed(drifted):
                self._tally[DRIFTED if drifted else MISSED] += 1
            case events.LinkOpened():
                self._tally[CONNECTED] += 1
                self.pause = 0.0
            case events.DialFailed(failure, pause):
                self._tally[FAILED[failure.cause]] += 1
                self.pause = pause
            case events.LinkLost(_, _, pause):
                self.pause = pause or 0.0
            case events.WorkerRegistered(at=at):
                self._tally[ACCEPTED] += 1
                self._add_time(before.unregistered_since, at)
            case events.RegistrationRejected():
                self._tally[REFUSED] += 1
            case events.DropLink(_, _, Cause.UNREGISTERED):
                self._tally[UNANSWERED] += 1

    def _add_time(self, since: float | None, at: float) -> None:
        """A registration that replaces another (None) took no time: there was one all along."""
        if since is not None:
            self.seconds += at - since
            self._classes[bisect_left(BOUNDS, at - since)] += 1

    def labels(self, family: str) -> Iterator[tuple[str, int]]:
        """Every label of this family with its count, those that never happened too."""
        return ((label, self._tally[name, label]) for name, label in SERIES if name == family)

    def of(self, series: Series) -> int:
        """How often this has happened."""
        return self._tally[series]

    def times(self) -> list[int]:
        """How many registrations took up to each of `BOUNDS`, and at the end how many there were."""
        return list(accumulate(self._classes))
