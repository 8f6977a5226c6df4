"""When to dial next, and how long to wait for each stage of a dial.

One object for each worker, with a `Random` of its own that is seeded by the operating system: cloned workers must not
draw the same delays (T17). The rule:

- A link that lived and broke is followed by a quick dial.
- While nobody is there, the pauses grow with the time that this has lasted.
- While the server is up but overloaded, each client dials once per window. Windows grow by a factor of 1.4. A client
  keeps its place in the window, so dials are spread evenly, however many workers there are.
- An accepted dial waits long for its answer: a server works off a queue only if those in it are still there.
- A hint of the server's is waited for, and kept over a later one.
- Only an answered registration that lived makes anything short again; a connect never does.

`benchmarks/storm_virtual.py` compares it with every published rule.
"""

import math
from dataclasses import dataclass, fields
from random import Random

from worker_state.protocol.error_policy import Cause

_AWAY = (Cause.REFUSED, Cause.UNREACHABLE)  # nobody is there: asking costs nothing
_FULL = (Cause.NO_ANSWER, Cause.UNACKNOWLEDGED)  # a kernel without room, or a dead path: asking costs next to nothing
_SAYS_FULL = (*_FULL, Cause.SHED)  # nothing else says that others are in trouble too
_TIMED_OUT = (Cause.UNANSWERED, Cause.UNREGISTERED)
_TOLD_EVERYBODY = (1001, 1012, 1013)  # close codes of a server that goes away, restarts, or wants fewer

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each stage of one dial may take, in seconds."""

    connect: float  # from the beginning of the dial to the SYN-ACK
    acknowledge: float  # of our bytes, by the kernel over there: a SYN-ACK alone is not acceptance (storms.md, 3)
    register: float  # from the SYN-ACK to the registration's answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectParameters:
    """Seconds, unless it says otherwise. Chosen on `benchmarks.virtual_storms.TUNED`, tried on those held out."""

    shortest: float = 0.05  # no pause is shorter: whatever goes wrong, a client does not spin
    most: int = 20  # dials in any minute: the fastest ten tries and a storm behind them, and no attack

    blip: float = 0.3  # the first dial after a link that had lived comes within this
    announced: float = 5.0  # the same when the server said that it goes: to everybody at once, and it takes so long
    lived: float = 30.0  # a registration that was answered and lasted for less never really came back

    poll_share: float = 1.0
    """Of the time that nobody has been there: the range of the next pause. A server that was away for a moment is found
    after a moment, by all clients over as long again. A dial at a full queue lives for 15 seconds at most, so the wider
    the first ones are spread, the more are let in. With 0.5, one in eight more needs a second dial."""
    poll_least: float = 0.5
    poll_most: float = 12.0  # a server that was away for long is found this soon; a refusal costs a kernel two packets

    window: float = 3.0
    """The least first window of clients that found the server unable. It is longer after long polls, since the other
    clients come no faster, and at a full queue, where it lasts as long as a dial may take."""
    growth: float = 1.4
    """Each further window ends at so many times the time since the first began. If everybody dials once in each, the
    last is served growth / (1 + ln growth) times later than in the best order, whatever the size of the storm: 1.05.
    With 2 it would be 1.18 and half the dials; with 1.25, 1.02 and half as many again."""
    full_most: float = 20.0
    """The longest pause while a kernel drops us, nobody answers, or something closes without a word: so look a lone
    worker's dead network and a front whose server is away, and both are to be found soon when they are mended. With the
    dial itself, two a minute at a full queue; at a front that closes at once, three."""
    busy_most: float = 75.0
    """The longest pause while something else is answered than we want: each such dial costs a server work. Unless we
    were dropped, both are counted from dial to dial, so that a minute of waiting in vain counts as pause."""

    connect_first: float = 0.4  # for the first dial after a link that had lived; one lost SYN would cost a second
    connect: float = 20.0
    """The kernel sends a SYN again after 1, 2, 3, 4, 5, 7, 11 and 19 s, and each is a try that costs no dial. The next
    would come at 35 s, and while everybody waited for that the server would stand idle."""
    acknowledge: float = 14.0
    """Bytes are sent again after 0.2, 0.6, 1.4, 3.0, 6.2 and 12.6 s. After 15 s a Linux server with a full queue has
    forgotten the handshake and answers RST, which says less than our own time-out."""

    patience: float = 60.0
    """For the answer (`Timing.register`), while nothing says that others are in trouble too. Each time-out doubles it:
    a lone worker that something in between has forgotten waits about as long again as that has lasted, and a million
    that overran a server stop filling its queue faster than it can work it off."""
    patience_in_storm: float = 240.0
    """When the server was away or full, or said so. Each time-out doubles it too. It must exceed the queue, for work
    for clients that have gone is lost (storms.md, 1): a backlog of 4,096 at 17 a second."""
    patience_most: float = 1200.0  # of both. A queue of a million at 833 a second.

    hint_most: float = 300.0  # a longer hint is not slept through: some box in between must not hide a living worker
    hint_share: float = 0.05  # a hint is overrun by up to this share, for others may have got the same …
    hint_least: float = 1.0  # … and by up to this at least: `Retry-After` counts whole seconds

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
    """The pauses and deadlines of one worker. Times are seconds of a clock of the caller's that does not go back."""

    def __init__(self, random: Random, parameters: ReconnectParameters | None = None) -> None:
        self._random = random
        self._parameters = parameters or _USUAL
        self._dials: tuple[float, ...] = ()  # the last ones, as many as a minute may have
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
            # A front that had closed or delayed us for long now says that it is full: its server is back, so the storm
            # and its windows begin here. Once only, for the two may well take turns.
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
        """An echo came back: of no use to this rule, but to others of the benchmarks."""

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
        """We have ended a serving link ourselves, to open another. The pause, in seconds. What was wrong before goes
        on unless the link had lived."""
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
        """Our dials fall on window · place, then on window · growthⁿ⁺ᵖˡᵃᶜᵉ after the trouble began."""
        p = self._parameters
        assert self._busy_since is not None
        age = now - self._busy_since
        most = p.full_most if cause in _FULL or cause is Cause.CLOSED else p.busy_most
        if cause not in _FULL and self._answered_at is None:
            most -= now - self._dialled_at
            if most < p.announced:
                # What delayed us may have let go of everybody at once. By the same pause each time: places drift apart.
                return p.announced * self._place
        if (p.growth - 1.0) * age > most:
            return most * self._random.uniform(0.8, 1.0)  # a bare period might beat in time with another timer
        target = self._window * self._place
        if target < age + p.shortest:
            # Our place in the first window that lies clearly ahead: a clock's error must not make one place two.
            row = math.log(max(1.05 * age, p.shortest) / self._window, p.growth) - self._place
            target = self._window * p.growth ** (max(0, math.floor(row) + 1) + self._place)
        return min(most, target - age)

    def _hinted(self, now: float, cause: Cause, hint: float | None) -> float | None:
        """How long a hint wants us to wait, or None. The first promise counts until it is over: a later one stands
        further back. A server that says the same each time promises nothing; it is obeyed once."""
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
