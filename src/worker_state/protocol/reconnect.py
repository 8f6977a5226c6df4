"""When to dial next, and how long to wait for each stage of a dial. Never sleeps, never reads a clock, never touches a
socket: it is told what happened, and when, and asks nobody.

One object for each worker, with a `Random` of its own that is seeded by the operating system: cloned workers must not
draw the same delays (T17). The rule, in six sentences. A link that had lived is followed by a quick dial, for
somebody has pulled a cable. While nobody is there, ask at a pace that follows how long that has lasted already. When
somebody is there who cannot serve us, everybody dials once in each stretch of time that is two fifths as long as all
before, at a place in it that he has drawn once: dials are spread evenly, however many workers there are, and never
stop short of the last. Who has been accepted waits for long, because a server works off a queue only if those in it
are still there. A hint of the server's is a promise: it is waited for, and kept over a later one. Only an answered
registration that lived makes anything short again; a connect never does.

What that reaches, against every published rule, is `benchmarks/storm_virtual.py`.
"""

import math
from dataclasses import dataclass, fields
from random import Random

from worker_state.protocol.error_policy import Cause

_AWAY = (Cause.REFUSED, Cause.UNREACHABLE)  # nobody is there: asking costs nobody anything
_FULL = (Cause.NO_ANSWER, Cause.UNACKNOWLEDGED)
"""A kernel that drops what it has no room for, or a path that is dead: asking costs next to nothing."""
_SAYS_FULL = (*_FULL, Cause.SHED)
"""Somebody is there who has no room for us: nothing else tells that others are in trouble too."""
_TIMED_OUT = (Cause.UNANSWERED, Cause.UNREGISTERED)
_TOLD_EVERYBODY = (1001, 1012, 1013)  # close codes of a server that goes away, restarts, or wants fewer

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each stage of one dial may take, in seconds."""

    connect: float  # from the beginning of the dial to the SYN-ACK
    acknowledge: float
    """For the kernel over there to acknowledge bytes of ours. A SYN-ACK alone is not acceptance (storms.md, 3)."""
    register: float  # from the SYN-ACK to the registration's answer: the patience


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectParameters:
    """Seconds, unless something else is said. Chosen on `benchmarks.virtual_storms.TUNED`, tried on those held out."""

    shortest: float = 0.05  # no pause is shorter: whatever goes wrong here or there, a client does not spin
    most: int = 20  # dials in any minute. Enough for the fastest ten tries and a storm behind them, and no attack.

    blip: float = 0.3
    """The first dial after a link that had lived comes within this: a pulled cable costs a client nothing."""
    announced: float = 5.0
    """The same when the server said that it goes: everybody was told at once, and nobody is back in less."""
    lived: float = 30.0  # A registration that was answered and then held for less than this never really came back

    poll_share: float = 1.0
    """Of the time that nobody has been there: the range of the next pause. Who was away for a moment is found after a
    moment, and by all others over as long again: a dial at a full queue lives for fifteen seconds at most, so the wider
    the first ones are spread, the more of them are let in. With a half, one in eight more needs a second one."""
    poll_least: float = 0.5
    poll_most: float = 12.0
    """A server that was away for long is found this soon, by everybody; a refusal costs a kernel two packets."""

    window: float = 3.0
    """The first stretch over which everybody spreads who found the server unable: at least so long, or as the range of
    the polls by then, for the others come no faster; and at a full queue as long as a dial may take."""
    growth: float = 1.4
    """Each further stretch ends at so many times the time since the first. If everybody dials once in each, the last
    is served growth / (1 + ln growth) times later than in the best order, whatever the size of the storm: 1.05. With
    2 it would be 1.18 and half the dials; with 1.25, 1.02 and half as many again."""
    full_most: float = 20.0
    """The longest pause while a kernel drops us, or nobody answers, or somebody closes without a word: a lone worker's
    dead network looks like the first, a front whose server is away like the last, and both are to be found again soon
    when they are mended. With the dial itself, two a minute at a full queue; at a front that closes at once, three."""
    busy_most: float = 75.0
    """The longest pause while somebody answers, and not what we want: each such dial costs a server work. Where we were
    not dropped, either is counted from one dial to the next: who was held in vain for a minute has paused for it."""

    connect_first: float = 0.4
    """For the first dial after a link that had lived, and then once more at once: one lost SYN would cost a second."""
    connect: float = 20.0
    """The kernel sends a SYN again after 1, 2, 3, 4, 5, 7, 11 and 19 s, and each is a try that costs no dial; the next
    would come at 35 s, and while everybody waited for that the server would stand idle."""
    acknowledge: float = 14.0
    """Bytes are sent again after 0.2, 0.6, 1.4, 3.0, 6.2 and 12.6 s. After 15 s a Linux server with a full queue has
    forgotten the handshake and says RST to it, which would tell us less than our own giving up."""

    patience: float = 60.0
    """For the answer (`Timing.register`), while nothing says that others are in trouble too. Each time-out doubles it,
    as in a storm: a lone worker whom something in between has forgotten waits about as long again as that has lasted,
    and a million who overran a server that takes everybody stop filling its queue faster than it can work it off."""
    patience_in_storm: float = 240.0
    """When it is known that not we alone are in trouble: the server was away, full, or said so. It must exceed the
    queue, for a server that works for clients who have gone works for nobody (storms.md, 1): a backlog of 4,096 at 17 a
    second. Each time-out doubles it too."""
    patience_most: float = 1200.0  # either ends here. A queue of a million at 833 a second.

    hint_most: float = 300.0
    """A longer hint is not slept through but looked after on the way: one answer of some box in between must not hide a
    living worker for a quarter of an hour."""
    hint_share: float = 0.05  # A hint is overrun by up to this share, for others may have got the same
    hint_least: float = 1.0
    """By up to this at least: `Retry-After` counts whole seconds, so a slot's second is known, not the slot."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"{each.name} must be a positive number")
        if self.most != int(self.most) or self.most < 2:
            raise ValueError("most must be a whole number, at least 2")
        if self.growth <= 1.01:
            raise ValueError("growth must be more than 1.01, or the pauses do not grow")
        for less, more in (
            ("shortest", "blip"),
            ("poll_least", "poll_most"),
            ("window", "full_most"),
            ("full_most", "busy_most"),
            ("connect_first", "connect"),
            ("patience", "patience_in_storm"),
            ("patience_in_storm", "patience_most"),
        ):
            if getattr(self, less) > getattr(self, more):
                raise ValueError(f"{less} must not exceed {more}")

    @classmethod
    def patient(cls, seconds: float) -> "ReconnectParameters":
        """With this patience in place of the usual one, and the longer ones in proportion."""
        usual = cls()
        return cls(
            patience=seconds,
            patience_in_storm=seconds * usual.patience_in_storm / usual.patience,
            patience_most=seconds * usual.patience_most / usual.patience,
        )


_USUAL = ReconnectParameters()


def overrun(hint: float, random: Random, parameters: ReconnectParameters = _USUAL) -> float:
    """The seconds of a hint and some more."""
    p = parameters
    return hint + random.uniform(0.0, max(p.hint_least, p.hint_share * hint))


class ReconnectPolicy:
    """The pauses and deadlines of one worker. Times are seconds of one clock of the caller's that does not go back."""

    __slots__ = (
        "_answered_at",
        "_busy_since",
        "_dialled_at",
        "_dials",
        "_hint",
        "_parameters",
        "_place",
        "_promised_at",
        "_quick",
        "_random",
        "_said_full",
        "_since",
        "_storm",
        "_time_outs",
        "_window",
    )

    def __init__(self, random: Random, parameters: ReconnectParameters | None = None) -> None:
        self._random = random
        self._parameters = parameters or _USUAL
        self._dials: tuple[float, ...] = ()
        """The last ones, as many as a minute may have. (A deque of one weighs 0.7 KiB, in every idle worker.)"""
        self._dialled_at = 0.0
        self._answered_at: float | None = None
        self._quick = False
        self._begin(math.inf)  # the first dial will have been earlier

    def _begin(self, now: float) -> None:
        """Whatever was wrong is over, and something new begins."""
        self._since = now
        self._busy_since: float | None = None
        self._said_full = False
        self._window = 0.0
        self._place = 0.0
        self._storm = False
        self._time_outs = 0
        self._hint: float | None = None
        self._promised_at = -math.inf

    def __repr__(self) -> str:
        if self._answered_at is not None:
            return f"<ReconnectPolicy: answered at {self._answered_at:.1f}>"
        busy = "" if self._busy_since is None else f", nobody able since {self._busy_since:.1f}"
        storm = ", in a storm" if self._storm else ""
        since = "nothing yet" if self._since == math.inf else f"in trouble since {self._since:.1f}"
        return f"<ReconnectPolicy: {since}{busy}{storm}>"

    def dialling(self, now: float) -> Deadlines:
        """A dial begins. How long its stages may take."""
        p = self._parameters
        self._dials = (*self._dials, now)[-int(p.most) :]
        self._dialled_at = now
        self._answered_at = None
        self._since = min(self._since, now)
        patience = p.patience_in_storm if self._storm else p.patience
        return Deadlines(
            connect=p.connect_first if self._quick else p.connect,
            acknowledge=p.acknowledge,
            register=min(p.patience_most, patience * 2.0 ** min(self._time_outs, 30)),
        )

    def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
        """A dial, or a link on which no registration was answered, has ended. The pause, in seconds."""
        quick, self._quick = self._quick, False
        wait = self._hinted(now, cause, hint)
        if wait is not None:
            return self._polite(now, wait)
        if cause in _AWAY:
            if cause is Cause.REFUSED:
                self._storm = True
                self._busy_since = None
                self._said_full = False
            return self._polite(now, self._random.uniform(0.5, 1.0) * self._poll(now))
        begins, says_full = self._busy_since is None, cause in _SAYS_FULL
        if begins or (says_full and not self._said_full):
            # Who has closed or held us for long, and says now that he is full, has a server behind him that has come
            # back: its storm begins here, and the stretches with it. Once only, for the two may well take turns.
            p = self._parameters
            self._busy_since = self._dialled_at
            self._window = max(p.connect if cause in _FULL else p.window, self._poll(now))
            self._place = self._random.random()
        if cause in _TIMED_OUT:
            self._time_outs += 1
        elif says_full:
            self._storm = self._said_full = True
        if quick and cause is Cause.NO_ANSWER:
            return self._polite(now, 0.0)
        return self._polite(now, self._until_our_place(now, cause))

    def answered(self, now: float) -> None:
        """The server has acknowledged the registration. That makes nothing short yet: it has to live."""
        if self._answered_at is None:
            self._answered_at = now

    def proved(self, now: float) -> None:
        """An echo came back. Nothing hangs on it here: who is answered and held for long enough has come back."""

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        """An open link has ended. The pause, in seconds: as after a failed dial when it never really came back."""
        p = self._parameters
        if self._answered_at is None or now - self._answered_at < p.lived:
            return self.failed(now, cause, hint)
        self._begin(now)
        self._quick = True
        wait = self._hinted(now, cause, hint)
        if wait is not None:
            return self._polite(now, wait)
        self._storm = code in _TOLD_EVERYBODY
        return self._polite(now, self._random.uniform(0.0, p.announced if self._storm else p.blip))

    def moved(self, now: float) -> float:
        """We have ended a serving link ourselves, to open another. The pause, in seconds. What was wrong before that
        link is over if it had lived, and else goes on."""
        if self._answered_at is not None and now - self._answered_at >= self._parameters.lived:
            self._begin(now)
        return self._polite(now, self._random.uniform(0.0, self._parameters.blip))

    def _polite(self, now: float, pause: float) -> float:
        p = self._parameters
        if len(self._dials) == p.most:
            pause = max(pause, self._dials[0] + MINUTE - now)
        return max(pause, p.shortest)

    def _poll(self, now: float) -> float:
        p = self._parameters
        return min(p.poll_most, max(p.poll_least, p.poll_share * (now - self._since)))

    def _until_our_place(self, now: float, cause: Cause) -> float:
        """Everybody's dials fall on window · place, then on window · growthⁿ⁺ᵖˡᵃᶜᵉ after the trouble began."""
        p = self._parameters
        assert self._busy_since is not None
        age = now - self._busy_since
        most = p.full_most if cause in _FULL or cause is Cause.CLOSED else p.busy_most
        if cause not in _FULL and self._answered_at is None:
            most -= now - self._dialled_at
            if most < p.announced:
                # Who held us may have let go of everybody at once. By the same pause each time: the places drift apart.
                return p.announced * self._place
        if (p.growth - 1.0) * age > most:
            return most * self._random.uniform(0.8, 1.0)  # a bare period might beat in time with somebody's timer
        target = self._window * self._place
        if target < age + p.shortest:
            # Our place in the first stretch that lies clearly ahead: a clock's error must not make one place two.
            row = math.log(max(1.05 * age, p.shortest) / self._window, p.growth) - self._place
            target = self._window * p.growth ** (max(0, math.floor(row) + 1) + self._place)
        return min(most, target - age)

    def _hinted(self, now: float, cause: Cause, hint: float | None) -> float | None:
        """How long a hint wants us to wait, or None. The promise that was made first counts until it is over: a later
        one stands further back. Whoever says the same to everybody promises nothing; he is obeyed once."""
        if hint is None or not 0.0 <= hint < math.inf:
            return None
        p = self._parameters
        self._storm = True
        if self._promised_at <= now:
            if cause is Cause.SHED and hint == self._hint:
                return None
            self._hint = hint
            self._promised_at = now + overrun(hint, self._random, p)
        wait = self._promised_at - now
        return wait if wait <= p.hint_most else p.hint_most * self._random.uniform(0.5, 1.0)
