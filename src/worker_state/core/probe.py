"""When to prove again that the worker is discoverable: the schedule of the echoes, and nothing else.

A dying old connection evicts the new registration up to 50 s later (FAULTS F01), so proofs are dense at first; after
that they go on for ever, jittered, and thin out in large rooms so that the room as a whole stays under a fixed rate.
"""

from random import Random

AFTER_REGISTRATION = (2.0, 5.0, 10.0, 20.0, 35.0, 55.0)
"""Seconds after the registration's answer, beside the one at once."""

STEADY = (20.0, 30.0)
"""Seconds between proofs from then on."""

ROOM_RATE = 50.0
"""Proofs a second that all workers of a room may cost its server together."""


class Schedule:
    """The times of one registration's echoes. Made anew with each registration."""

    def __init__(self, random: Random, now: float, peers: int) -> None:
        self._random = random
        self._stretch = max(1.0, (peers + 1) / (ROOM_RATE * STEADY[0]))
        self._early = [now + at * random.uniform(0.9, 1.1) for at in AFTER_REGISTRATION] if self._stretch == 1.0 else []
        self.due = now
        """When the next echo is to be sent; at once to begin with, since `synced()` waits for it."""

    def sent(self, now: float) -> bool:
        """An echo was sent: moves `due` on. True when it was a steady one, which a full update goes with."""
        self._early = [at for at in self._early if at > now]
        if self._early:
            self.due = self._early.pop(0)
            return False
        self.due = now + self._random.uniform(*STEADY) * self._stretch
        return True

    def hurry(self, now: float) -> None:
        """Something makes the present proof doubtful (the clock jumped): prove at once."""
        self.due = now
