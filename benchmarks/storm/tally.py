"""What the clients' process counts: dials by outcome, where everybody is, what it costs, and how late its loop is.

Only counting, and saying it; nothing here dials.
"""

import resource
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.held import memory
from benchmarks.storm.lines import say

EVERY = 0.25
"""Seconds between two lines of figures."""
LAG_EVERY = 0.01
"""Seconds between two looks at how late the loop is."""


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
                "kib": kib["now"] if kib is not None else None,
                "lags": [round(lag, 4) for lag in self.lags],
            }
        )
        self.lags.clear()
