"""Proving and repairing a registration: echoes, looks, lost and late answers. Only the status actor uses it.

Times are in seconds of the caller's clock.
"""

import math
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from worker_state.protocol.frames import Message
from worker_state.protocol.record import differences
from worker_state.protocol.registration_backoff import doubled

AFTER_REGISTRATION = (2.0, 5.0, 10.0, 20.0, 35.0, 55.0)
"""Seconds from the registration's answer to the early echoes, beside the one at once: a dying old connection evicts the
new registration up to 50 s later (F01)."""
JITTER = (0.9, 1.1)  # these times are multiplied with it, so that workers who came together do not ask together
STEADY = (20.0, 29.0)
"""Seconds between proofs from then on. What somebody else has written is back within 30 s, answers included (G03)."""
ROOM_RATE = 50.0  # proofs a second that all workers of a room may cost their server together
AIM = 0.8 * ROOM_RATE  # after a restart the rounds of all workers begin together, and their peaks must keep to the rate
EARLY_UP_TO = 50
"""Workers in a room that still send the early echoes. These are hardly spread: if all of a larger room came back at
once, they would exceed the rate. There the steady ones come soon enough."""
REMEMBERED = 0.9
"""Share of a room's size that is remembered over a registration: after a restart the first ones back find an empty
room."""
UPDATES_APART = 0.1  # seconds between two updates, and between two registrations that were asked for (G16)
MISSES = 2  # answers in a row that may be lost before the registration is called forgotten
TICK = 5.0  # seconds between looks at the clock: how soon after a suspend it is noticed
OVERSLEPT = 2.0  # seconds. Waking later than this says that we were stopped, not that the peer is dead (T15).
MOST_LATE = 8  # updates whose late acks are recognized: a server that answers none must not fill the memory


def expected_peers(before: int, answered: int) -> int:
    """How many others to expect in the room, from the number expected before and that of the registration's answer."""
    return max(answered, int(before * REMEMBERED))


def longest_unproved(peers: int) -> float:
    """Seconds from one echo to the next, at most, while every one of them is answered."""
    return STEADY[1] * _slowdown(peers)


def longest_unconfirmed(peers: int) -> float:
    """Seconds from one full update (or the registration) to the next, at most, while every one of them is answered."""
    return max(AFTER_REGISTRATION[-1] * JITTER[1], longest_unproved(peers))


def _slowdown(peers: int) -> float:
    """How many times longer the steady pauses are in a room of so many others, so that it keeps to its rate."""
    return max(1.0, (peers + 1) / (AIM * STEADY[0]))


class Proof(Enum):
    """What is sent to prove a registration."""

    ECHO = "an echo"
    LOOK = "an echo, and a look at the record"
    FULL = "an echo, a look at the record, and all of the record again"


class Schedule:
    """The times of one registration's proofs. Made anew with each registration."""

    def __init__(self, random: Random, now: float, peers: int) -> None:
        self._random = random
        self._slowdown = _slowdown(peers)
        early = AFTER_REGISTRATION if peers < EARLY_UP_TO else ()
        self._early = [now + at * random.uniform(*JITTER) for at in early]
        self._first = True
        self.due: float = now  # when the next proof is to be sent; the first at once, since `synced()` waits for it

    def sent(self, now: float) -> Proof:
        """A proof is sent: moves `due` on, and says what belongs to it."""
        first, self._first = self._first, False
        self._early = [at for at in self._early if at > now]
        shortest, longest = STEADY
        if self._early:
            self.due = self._early.pop(0)
        elif first:
            # Anywhere in the first pause: all of a room may have registered just now.
            self.due = now + self._random.uniform(0.1, 1.0) * longest * self._slowdown
        else:
            self.due = now + self._random.uniform(shortest, longest) * self._slowdown
            return Proof.FULL
        # The registration has carried the whole record a moment ago; from then on others may have written in it (G03).
        return Proof.ECHO if first else Proof.LOOK

    def hurry(self, now: float) -> None:
        """A lost answer or a clock that jumped makes the present proof doubtful: prove at once."""
        self.due = now


class LateAcks:
    """Remembers updates that timed out, or that belong to an earlier registration on the same link, so that a late ack
    is not taken for the ack of the current update.

    There are no correlation ids, but the server answers in order, and each ack shows all that is stored. So a late one
    is known by its content: it confirms nothing, and it disproves nothing.
    """

    def __init__(self) -> None:
        self._records: list[Message] = []

    def add(self, record: Message) -> None:
        """The ack of an update that said this is not waited for any longer."""
        self._records = [*self._records[1 - MOST_LATE :], record]

    def settles(self, stored: Message, *, fits: bool) -> bool:
        """Whether this ack is a late one. `fits`: it may as well be that of the current update."""
        late = next((n for n, record in enumerate(self._records) if not differences(stored, record)), None)
        if fits:
            # Of two updates that said the same the first is answered first, and the other's ack is still to come.
            del self._records[:late]  # or all: answers come in order, so none of these is still to come
            return False
        if late is not None:
            del self._records[: late + 1]
        return late is not None


class MissedAnswers:
    """What was sent and not answered, in a row."""

    def __init__(self) -> None:
        self.count: int = 0
        self._noticed_at = -math.inf

    @property
    def too_many(self) -> bool:
        """The registration is to be called forgotten."""
        return self.count >= MISSES

    def add(self, sent: float, now: float) -> None:
        """What was sent then is unanswered; it is no second miss if it was sent before the last one was noticed."""
        if sent >= self._noticed_at:
            self.count, self._noticed_at = self.count + 1, now


@dataclass(slots=True)
class Update:
    """The one `update_metadata` under way. A look changes nothing: it asks what the server has stored."""

    revision: int
    record: Message
    answer_by: float
    is_look: bool


@dataclass(slots=True)
class Registered:
    """What the status actor knows of one accepted registration. Each makes it anew, so nothing old is taken for new."""

    epoch: int  # the link of the registration
    peer_id: str
    schedule: Schedule
    confirmed: int | None  # the revision that the server has stored; None: it was seen to have stored something else
    written: int  # the revision of the last registration or update
    late_acks: LateAcks
    update: Update | None = None
    look_due: bool = False
    full_due: bool = False
    nonce: str | None = None  # the echo under way
    echo_at: float = -math.inf  # when it was sent
    echo_by: float = math.inf
    misses: MissedAnswers = field(default_factory=MissedAnswers)


class SuspendDetector:
    """Sees that the machine was suspended by two clocks, of which only one goes on meanwhile."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    def since(self, now: float, awake: float) -> float:
        """Seconds slept since this was last asked, from trio's clock and the one that counts them."""
        before, self._ahead = self._ahead, awake - now
        return 0.0 if before is None else self._ahead - before


class RepairPauses:
    """How fast differences are repaired: something that rewrites the record again and again is not met with a loop."""

    FIRST, LONGEST = 1.0, 10.0  # seconds

    def __init__(self) -> None:
        self._found = 0
        self.until: float = 0.0  # no repair before this

    def found(self, now: float) -> None:
        """A difference was found: the first is repaired at once, the next after pauses that double."""
        if self._found:
            self.until = now + doubled(self.FIRST, self.LONGEST, times=self._found - 1)
        self._found += 1

    def none(self) -> None:
        """A look found none."""
        self._found = 0
