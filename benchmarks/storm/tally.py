"""What the clients' process counts: dials by outcome, where everybody is, what it costs, and how late its loop is.

Only counting, and saying it; nothing here dials.
"""

import gc
import resource
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.held import memory
from benchmarks.storm.lines import kept_waiting, say

EVERY = 0.25
"""Seconds between two lines of figures."""
LAG_EVERY = 0.01
"""Seconds between two looks at how late the loop is."""

Client = TypeVar("Client")


def meant(clients: Mapping[int, Client], who: int | None) -> list[Client]:
    """All of this process; or the one with this number, if it is here."""
    return [client for number, client in clients.items() if who in (None, number)]


def settle() -> None:
    """Everybody is there: what lives now is left alone by the collector, which goes on with what comes.

    Thousands of workers in one process share a heap whose collection takes half a second. No single worker has that.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@dataclass
class Tally:
    """Counted since the beginning; the parent takes differences."""

    dials: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """How dials have ended that gave no registration, by cause; "registered" for those that did."""
    registered: int = 0
    """Clients that believe to be registered now."""
    lags: list[float] = field(default_factory=list)
    """Seconds by which the loop was late, since the last line."""

    def speak(self) -> None:
        """One line of figures."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        kib = memory()
        say(
            {
                "at": time.monotonic(),
                "dials": self.dials,
                "outcomes": self.outcomes,
                "registered": self.registered,
                "cpu": used.ru_utime + used.ru_stime,
                "waited": kept_waiting(),
                "kib": kib["now"] if kib is not None else None,
                "lags": [round(lag, 4) for lag in self.lags],
            }
        )
        self.lags.clear()
