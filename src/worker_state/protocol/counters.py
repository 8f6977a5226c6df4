"""What has happened to one worker so far, counted event by event: what metrics are made of.

Pure: it is told each event with the snapshot of before, and knows no clock. Only what the snapshot does not hold is
counted here (evictions, dropped signals and times of acknowledgements are the snapshot's). The names are a closed set;
no text of the server's becomes one.
"""

from collections.abc import Iterator

from worker_state.protocol import events as m
from worker_state.protocol.error_policy import Cause
from worker_state.protocol.state import State

Series = tuple[str, str]  # A family of counts and the one of its labels that is meant

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
    """The counts of one worker. Read them with `labels`, `times` and the fields."""

    __slots__ = ("_classes", "_tally", "pause", "seconds")

    def __init__(self) -> None:
        self._tally: dict[Series, int] = {}
        self._classes = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0  # all times to register together
        self.pause = 0.0  # the pause before the next dial, in seconds; 0 while there is a link

    def add(self, event: m.Event, before: State) -> None:
        """Count this event; `before` is the snapshot that does not know of it yet."""
        match event:
            case m.StatusConfirmed():
                self._count(CONFIRMED)
            case m.UpdateFailed(drifted):
                self._count(DRIFTED if drifted else MISSED)
            case m.LinkOpened():
                self._count(CONNECTED)
                self.pause = 0.0
            case m.DialFailed(failure, pause):
                self._count(FAILED[failure.cause])
                self.pause = pause
            case m.LinkLost(_, _, pause):
                self.pause = pause or 0.0
            case m.WorkerRegistered():
                self._count(ACCEPTED)
                if before.unregistered_since is not None:
                    self._observe(event.at - before.unregistered_since)
            case m.RegistrationRejected():
                self._count(REFUSED)
            case m.DropLink(_, _, Cause.UNREGISTERED):
                self._count(UNANSWERED)
            case _:
                pass

    def labels(self, family: str) -> Iterator[tuple[str, int]]:
        """Every label of this family with its count, those that never happened too."""
        return ((label, self._tally.get((name, label), 0)) for name, label in SERIES if name == family)

    def of(self, series: Series) -> int:
        """How often this has happened."""
        return self._tally.get(series, 0)

    def times(self) -> list[int]:
        """How many registrations took up to each of `BOUNDS`, and at the end how many there were."""
        total, sums = 0, []
        for number in self._classes:
            total += number
            sums.append(total)
        return sums

    def _count(self, series: Series) -> None:
        self._tally[series] = self._tally.get(series, 0) + 1

    def _observe(self, seconds: float) -> None:
        self.seconds += seconds
        self._classes[sum(seconds > bound for bound in BOUNDS)] += 1
