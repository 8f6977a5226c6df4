"""When to dial next, and how long to wait for each stage of a dial.

One object for each worker, with a `Random` of its own that is seeded by the operating system: cloned workers must not
draw the same delays (T17). Absence is no reason to spread out, contention is (storms.md, 8):

    serving --- lost ---> quick dial --- failed ---> polling <---> spreading --- answered, lived 30 s ---> serving

- *Polling*: perhaps nobody is there. Asking costs next to nothing, so a worker spends its dials of a minute evenly.
- *Spreading*: the server is there and has too much to do. Each client dials once per window, at its own place in it,
  and windows grow by a factor of 1.4: dials are spread evenly, however many clients there are.

| what happened | the next dial |
|---|---|
| a link that had lived was lost | within 0.3 s; within 5 s if the server said that it goes |
| refused; no such host; closed at once; not the server we want | polling |
| no SYN-ACK; HTTP 503 and its like | polling (so look a dead path and a front); spreading once the server was heard |
| no answer to the upgrade | beside this one, which is kept: after 2 to 10 s, or 60 s if anything else was met |
| the same, after a link that had gone silent | beside it, after 20 s: it may be in the queue of a stopped server |
| our bytes are not acknowledged; an answered link did not live | spreading |
| the server says when to come (`Retry-After`) | then and a bit later; of several promises the first |

The server *was heard* when its kernel has answered (refused us, or dropped our bytes behind a SYN-ACK), or when it said
that it goes. A kept dial keeps its place in a queue: a server works one off only if those in it are still there. Only
an answered registration that lived makes anything short again; a connect never does.

`benchmarks/storm_virtual.py` compares it with every published rule.
"""

import math
from dataclasses import dataclass, fields
from random import Random

from worker_state.protocol.error_policy import Cause

_ABSENT = frozenset({Cause.REFUSED, Cause.UNREACHABLE, Cause.REJECTED, Cause.GARBAGE, Cause.TLS})
_MAYBE_ABSENT = frozenset({Cause.NO_ANSWER, Cause.SHED})  # a dead path or a front, unless the server was heard
_HEARD = frozenset({Cause.REFUSED, Cause.UNACKNOWLEDGED})  # only the kernel of the server's machine says so
_FULL = frozenset({Cause.NO_ANSWER, Cause.UNACKNOWLEDGED})  # a kernel without room: asking costs next to nothing
_SAYS_FULL = _FULL | {Cause.SHED}  # nothing else says that others are in trouble too
_TOLD_EVERYBODY = (1001, 1012, 1013)  # close codes of a server that goes away, restarts, or wants fewer

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each stage of one dial may take, in seconds."""

    connect: float  # from the beginning of the dial to the SYN-ACK
    acknowledge: float  # of our bytes, by the kernel over there: a SYN-ACK alone is not acceptance (storms.md, 3)
    upgrade: float  # from the SYN-ACK to the upgrade's answer; then the next dial is made, beside this one
    register: float  # from the open link to the registration's answer; a dial that is kept waits for so long, too


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectParameters:
    """Seconds, unless it says otherwise. How they were chosen: benchmarks/results, "The rule"."""

    shortest: float = 0.05  # no pause is shorter: whatever goes wrong, a client does not spin
    most: int = 30  # dials in any minute

    blip: float = 0.3  # the first dial after a link that had lived comes within this
    announced: float = 5.0  # the same when the server said that it goes: to everybody at once, and it takes so long
    lived: float = 30.0  # a registration that was answered and lasted for less never really came back

    poll_first: float = 0.5  # between the first polls
    poll_share: float = 0.18
    """Of the time that the trouble has lasted: the next poll, until what is left of the minute's dials is spread evenly
    over the minute. A server that was away for a moment is found after a moment."""
    poll_jitter: float = 0.03  # share by which a poll comes earlier or later; more leaves gaps in which nobody asks
    rest: float = 0.4  # the longest pause after a dial that was itself as long as a poll

    window: float = 3.0
    """The least first window. It is longer after a long absence, up to `window_most`, and at a full queue, where it
    lasts as long as a dial may take."""
    window_most: float = 12.0
    growth: float = 1.4
    """Each further window ends at so many times the time since the first began. If everybody dials once in each, the
    last is served growth / (1 + ln growth) times later than in the best order, whatever the size of the storm: 1.05.
    With 2 it would be 1.18 and half the dials; with 1.25, 1.02 and half as many again."""
    full_most: float = 14.0  # the longest pause while a kernel drops us, or something closes without a word
    busy_most: float = 75.0
    """The longest pause while something else is answered than we want: each such dial costs a server work. Unless we
    were dropped, both are counted from dial to dial, so that a minute of waiting in vain counts as pause."""

    connect_first: float = 0.4  # for the first dial after a link that had lived; one lost SYN would cost a second
    connect: float = 5.3
    """The kernel sends a SYN again after 1, 2, 3, 4, 5, 7 and 11 s, and each is a try that costs no dial."""
    connect_heard: float = 12.9  # once the server was heard: its queue is full, and a further dial may be one too many
    acknowledge: float = 6.5
    """Bytes are sent again after 0.2, 0.6, 1.4, 3.0, 6.2 and 12.6 s: a further dial finds a free place sooner."""

    held: float = 5.0  # a dial that is closed without a word after so long was held
    held_first: float = 2.0
    """For the upgrade's answer, while nothing but waiting was met: so looks a front whose server is away. `held_share`
    of the time that it has lasted, and at least this, for the server is found by asking again …"""
    held_share: float = 0.05
    held_most: float = 10.0  # … but a queue of so many seconds must not be filled faster than it is worked off
    held_silent: float = 20.0
    """The same after a link that had gone silent: so looks a server that is stopped, and all who find that out do so
    within a ping's period. Nobody asks again before each of them has a place, or the server first works off dials that
    were given up."""
    patience: float = 60.0  # for the upgrade's answer, once anything else was met: then it is a queue
    longest: float = 1200.0
    """For the answer of the upgrade that is kept, and of the `register`. A server works for nobody if its clients have
    gone (storms.md, 1), and a swallowed `register` is found by the frame behind it (storms.md, 9)."""

    hint_most: float = 60.0  # a longer hint is not slept through: some box in between must not hide a living worker
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
            ("window", "window_most"),
            ("window", "full_most"),
            ("full_most", "busy_most"),
            ("connect_first", "connect"),
            ("connect", "connect_heard"),
            ("held_first", "held_most"),
            ("patience", "longest"),
        ):
            if getattr(self, less) > getattr(self, more):
                raise ValueError(f"{less} must not exceed {more}")

    @classmethod
    def patient(cls, seconds: float) -> "ReconnectParameters":
        """With this patience in place of the usual one, and the longest in proportion."""
        usual = cls()
        return cls(patience=seconds, longest=seconds * usual.longest / usual.patience)


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
        self._only_held = False  # a first start knows nothing

    def _begin(self, now: float, *, heard: bool = False, silent: bool = False) -> None:
        """Whatever was wrong is over, and something new begins."""
        self._since = now
        self._after_silence = silent
        self._only_held = True  # every dial so far has waited for its upgrade in vain
        self._server_heard = heard
        self._busy_since: float | None = None  # when the windows began
        self._said_full = False
        self._window = 0.0
        self._place = 0.0
        self._hint: float | None = None
        self._promised_at = -math.inf

    def __repr__(self) -> str:
        if self._answered_at is not None:
            return f"<ReconnectPolicy: answered at {self._answered_at:.1f}>"
        busy = "" if self._busy_since is None else f", spreading since {self._busy_since:.1f}"
        heard = ", the server was heard" if self._server_heard else ""
        since = "nothing yet" if self._since == math.inf else f"in trouble since {self._since:.1f}"
        return f"<ReconnectPolicy: {since}{busy}{heard}>"

    def dialling(self, now: float) -> Deadlines:
        """A dial begins. How long its stages may take."""
        p = self._parameters
        self._dials = (*self._dials, now)[-int(p.most) :]
        self._dialled_at = now
        self._answered_at = None
        self._since = min(self._since, now)
        held = min(p.held_most, max(p.held_first, p.held_share * (now - self._since)))
        return Deadlines(
            connect=p.connect_first if self._quick else p.connect_heard if self._server_heard else p.connect,
            acknowledge=p.acknowledge,
            upgrade=min(p.held_silent if self._after_silence else held, p.patience) if self._only_held else p.patience,
            register=p.longest,
        )

    def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
        """A dial, or a link on which no registration was answered, has ended. The pause, in seconds."""
        quick, self._quick = self._quick, False
        closed = cause is Cause.CLOSED and self._answered_at is None
        held = cause is Cause.UNANSWERED or (closed and now - self._dialled_at > self._parameters.held)
        self._only_held = self._only_held and held
        self._server_heard = self._server_heard or cause in _HEARD
        pause = self._hinted(now, cause, hint)
        if pause is not None:
            return self._polite(now, pause)
        if cause is Cause.REFUSED:
            self._busy_since, self._said_full = None, False
        if quick and cause is Cause.NO_ANSWER:
            return self._polite(now, 0.0)
        if held:
            absent = self._only_held
        else:
            absent = closed or cause in _ABSENT or (cause in _MAYBE_ABSENT and not self._server_heard)
        return self._polite(now, self._until_next_poll(now) if absent else self._until_our_place(now, cause))

    def answered(self, now: float) -> None:
        """The server has acknowledged the registration. That makes nothing short yet: it has to live."""
        if self._answered_at is None:
            self._answered_at = now

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        """An open link has ended. The pause, in seconds: as after a failed dial when it never really came back."""
        p = self._parameters
        told = code in _TOLD_EVERYBODY
        if self._answered_at is None or now - self._answered_at < p.lived:
            self._server_heard = self._server_heard or told
            return self.failed(now, cause, hint)
        self._begin(now, heard=told, silent=cause is Cause.SILENT)
        self._quick = True
        pause = self._hinted(now, cause, hint)
        if pause is None:
            pause = self._random.uniform(0.0, p.announced if told else p.blip)
        return self._polite(now, pause)

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

    def _until_next_poll(self, now: float) -> float:
        """Polls are counted from dial to dial."""
        p = self._parameters
        recent = [each for each in self._dials if each > now - MINUTE and each >= self._since]
        begun = recent[0] if recent else now
        even = max((begun + MINUTE - now) / (p.most - len(recent) + 1), MINUTE / p.most)
        poll = max(p.poll_first, min(p.poll_share * (now - self._since), even))
        rest = p.rest * self._random.uniform(0.2, 1.0)
        dialled = now - self._dialled_at
        poll *= self._random.uniform(1.0 - p.poll_jitter, 1.0 + p.poll_jitter)
        return max(poll - dialled, rest if dialled > p.poll_first else 0.0)

    def _until_our_place(self, now: float, cause: Cause) -> float:
        """Our dials fall on window · place, then on window · growthⁿ⁺ᵖˡᵃᶜᵉ after the trouble began."""
        p = self._parameters
        if self._busy_since is None or (cause in _SAYS_FULL and not self._said_full):
            # A front that had closed or delayed us for long now says that it is full: its server is back, so the storm
            # and its windows begin here. Once only, for the two may well take turns.
            self._busy_since = self._dialled_at
            least = p.connect_heard if cause in _FULL else p.window
            self._window = max(least, min(p.window_most, now - self._since))
            self._place = self._random.random()
        self._said_full = self._said_full or cause in _SAYS_FULL
        age, dialled = now - self._busy_since, now - self._dialled_at
        most = p.full_most if cause in _FULL or cause is Cause.CLOSED else p.busy_most
        if cause not in _FULL and self._answered_at is None:
            most -= dialled
            if most < p.announced < dialled:
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
        if self._promised_at <= now:
            if cause is Cause.SHED and hint == self._hint:
                return None
            self._hint = hint
            self._promised_at = now + overrun(hint, self._random, p)
        pause = self._promised_at - now
        return pause if pause <= p.hint_most else p.hint_most * self._random.uniform(0.5, 1.0)
