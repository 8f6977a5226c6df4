"""Proving and repairing: when to send the next echo, when it is useless to, and how fast to repair what others write.

Pure: time and chance are arguments, in seconds of whatever clock the caller uses.
"""

import math
from enum import Enum
from random import Random

AFTER_REGISTRATION = (2.0, 5.0, 10.0, 20.0, 35.0, 55.0)
"""Seconds after the registration's answer, beside the one at once: a dying old connection evicts the new registration
up to 50 s later (faults.md, F01)."""
STEADY = (20.0, 29.0)
"""Seconds between proofs from then on. What somebody else has written is back within 30 s, answers included (G03)."""
ROOM_RATE = 50.0  # proofs a second that all workers of a room may cost its server together
AIM = 0.8 * ROOM_RATE
"""What is aimed at: after a restart the rounds of all workers begin together, and their peaks must keep to the rate."""
EARLY_UP_TO = 50
"""Workers in a room that still send the early echoes: these are hardly spread, so that a larger room whose workers have
all come back at once would send more than the rate. There the steady ones, which come soon enough, have to do."""
REMEMBERED = 0.9
"""The share of a room's size that is remembered over a registration: after a restart the first ones back are told of an
empty room, and would prove themselves as if it stayed so."""
MISSES = 2  # answers in a row that may be lost before the registration is called forgotten
AGAIN = 5  # of so many proofs one is tried by an echo all the same where echoes were refused: every two minutes
TICK = 5.0  # seconds between looks at the clock: how soon after a suspend it is noticed
OVERSLEPT = 2.0
"""Seconds. Waking later than this says that we were stopped, not that the peer is dead (faults.md, T15)."""


JITTER = (0.9, 1.1)
"""What the times after a registration are multiplied with, so that workers who came together do not ask together."""


def stretch(peers: int) -> float:
    """How many times longer than usual the steady pauses are in a room of so many others: `ROOM_RATE` is kept."""
    return max(1.0, (peers + 1) / (AIM * STEADY[0]))


def longest_unproved(peers: int) -> float:
    """Seconds from one echo to the next, at most, while every one of them is answered."""
    return STEADY[1] * stretch(peers)


def longest_unconfirmed(peers: int) -> float:
    """Seconds from one full update (or the registration) to the next, at most, while every one of them is answered."""
    return max(AFTER_REGISTRATION[-1] * JITTER[1], longest_unproved(peers))


class Proof(Enum):
    """What is sent to prove a registration."""

    ECHO = "an echo"
    LOOK = "an echo, and a look at the record"
    FULL = "an echo, a look at the record, and all of the record again"


class Schedule:
    """The times of one registration's proofs. Made anew with each registration."""

    __slots__ = (
        "_early",
        "_first",
        "_random",
        "_stretch",
        "due",
    )

    def __init__(self, random: Random, now: float, peers: int) -> None:
        self._random = random
        self._stretch = stretch(peers)
        early = AFTER_REGISTRATION if peers < EARLY_UP_TO else ()
        self._early = [now + at * random.uniform(*JITTER) for at in early]
        self._first = True
        self.due = now  # when the next proof is to be sent; at once to begin with, since `synced()` waits for it

    def sent(self, now: float) -> Proof:
        """A proof is sent: moves `due` on, and says what belongs to it."""
        first, self._first = self._first, False
        self._early = [at for at in self._early if at > now]
        shortest, longest = STEADY
        if self._early:
            self.due = self._early.pop(0)
        elif first:
            # Anywhere in the stretch: all of a room may have registered just now.
            self.due = now + self._random.uniform(0.1, 1.0) * longest * self._stretch
        else:
            self.due = now + self._random.uniform(shortest, longest) * self._stretch
            return Proof.FULL
        # The registration has carried the whole record a moment ago; from then on others may have written in it (G03).
        return Proof.ECHO if first else Proof.LOOK

    def hurry(self, now: float) -> None:
        """Something makes the present proof doubtful (a lost answer, a clock that jumped): prove at once."""
        self.due = now


def crowd(before: int, told: int) -> int:
    """How many others to reckon with in the room, from the size reckoned with before and what the answer has told."""
    return max(told, int(before * REMEMBERED))


class Misses:
    """What was sent and not answered, in a row."""

    __slots__ = ("_noticed_at", "count")

    def __init__(self) -> None:
        self.count = 0
        self._noticed_at = -math.inf

    @property
    def too_many(self) -> bool:
        """The registration is to be called forgotten."""
        return self.count >= MISSES

    def add(self, sent: float, now: float) -> None:
        """There is no answer to what was sent then. What was sent before a miss was noticed was lost with it, and is no
        second one."""
        if sent >= self._noticed_at:
            self.count, self._noticed_at = self.count + 1, now


class SuspendDetector:
    """The machine's sleeping, seen by two clocks of which only one goes on meanwhile."""

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead: float | None = None

    def since(self, now: float, awake: float) -> float:
        """Seconds slept since this was last asked, from trio's clock and the one that counts them."""
        before, self._ahead = self._ahead, awake - now
        return 0.0 if before is None else self._ahead - before


class EchoRefusals:
    """Whether the server refuses messages to oneself, which only an error of an unknown kind can tell."""

    __slots__ = (
        "_counted",
        "_left_out",
        "_suspected",
    )

    def __init__(self) -> None:
        self._suspected = False
        self._counted = 0
        self._left_out = 0

    @property
    def in_force(self) -> bool:
        """Echoes are of no use here: the answers to full updates have to do."""
        return self._counted >= MISSES

    def worth_an_echo(self) -> bool:
        """Whether the next proof is an echo: while refusals are in force one in a while, for what looked like a refusal
        may have been a server in trouble."""
        self._left_out = (self._left_out + 1) % AGAIN if self.in_force else 0
        return self._left_out == 0

    def disproved(self) -> None:
        """An echo came back: they are not refused, or no more."""
        self._suspected = False
        self._counted = 0

    def suspect(self) -> None:
        """An error that may refuse it came while an echo was under way."""
        self._suspected = True

    def count(self) -> bool:
        """An echo did not come back: was it refused? A second time in a row puts the refusal in force."""
        refused, self._suspected = self._suspected, False
        self._counted = self._counted + 1 if refused else 0
        return refused

    def proved(self) -> None:
        """A proof came, so what was suspected was something else. In force it stays: then the proof was no echo."""
        self._suspected = False
        if not self.in_force:
            self._counted = 0


class RepairPauses:
    """How fast differences are repaired: something that rewrites the record again and again is not met with a loop."""

    __slots__ = (
        "_found",
        "until",
    )

    FIRST = 1.0
    LONGEST = 10.0

    def __init__(self) -> None:
        self._found = 0
        self.until = 0.0  # no repair before this

    def found(self, now: float) -> None:
        """A difference was found: the next repair is paused for a second, doubled each time, up to ten."""
        if self._found:
            self.until = now + min(self.LONGEST, self.FIRST * 2.0 ** (self._found - 1))
        self._found = min(self._found + 1, 20)

    def none(self) -> None:
        """A look found none."""
        self._found = 0
