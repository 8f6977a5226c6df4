"""A reconnect storm in virtual time: one server with a queue, and up to a million workers that follow a rule.

Nothing of any rule is known here: when somebody dials, and how long a stage is waited for, is only what the `Rule`
objects say, the same that a live worker asks. What is modelled is the rest of the world, as a Linux server shows it:

- Admission: slot k comes at the return plus k / capacity and takes the head of a queue. A slot that finds nobody is
  lost, and so is one that finds a client that has given up, however it went.
- A full accept queue drops the SYN, which the client's kernel sends again after 1, 2, 3, 4, 5, 7, 11, 19 and 35 s. A
  SYN that is answered is not accepted yet: if the queue has filled up when the handshake ends, the client's bytes
  stay unacknowledged and are sent again after 0.2, 0.6, 1.4 … s. A client that gives up then is forgotten if it sends
  RST; after a FIN its kernel goes on, and what enters the queue in the end is dead.
- A server that sheds answers 503 at once, without a slot.
- A rule may wait longer for a kept dial than for the next one (`Deadlines.register` over `upgrade`): then one dial that
  is not answered keeps its place, and those beside it cost a slot each. In storms that flap none is kept.

Since the slots are absolute and the queue is first come, first served, the moment at which somebody will be served is
known when he enters: the queue is two numbers, and the events are the dials and what kernels send again.
"""

import gc
import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Literal

from benchmarks.rules import Rule
from worker_state.protocol.error_policy import Cause
from worker_state.protocol.reconnect import Deadlines

SYN_AGAIN = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0, 19.0, 35.0)
"""Seconds after the first SYN (Linux 6.5 and later: `tcp_syn_linear_timeouts` is 4)."""
SYN_LAST = 67.0
"""Seconds after which the kernel itself gives the dial up."""
BYTES_AGAIN = (0.2, 0.6, 1.4, 3.0, 6.2, 12.6, 25.4, 51.0)
"""Seconds after the first bytes; a closed socket's kernel gives up after about that long as well."""
HELD = 60.0
"""Seconds after which a front closes what it could not hand on (nginx: `proxy_connect_timeout`)."""
TICKS = 64
"""Buckets of the calendar in a second."""

_STAGES = 64
_DIAL, _ACK, _BYTES, _ZOMBIE, _LOST = 0, 16, 17, 32, 48
"""What an event is: a dial or, 1 to 9, a SYN sent again; the handshake's end; bytes sent again; those of a closed
socket sent again; the server has died under a registered worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """One scenario. Times in seconds; 0 is the server's (last) return."""

    workers: int
    capacity: float
    """Registrations a second."""
    down: float = 5.0
    backlog: int | None = None
    """Of the accept queue; None: everybody is accepted, and waits for the answer to his `register`."""
    room: int | None = None
    """So many may wait; whoever comes beyond that gets a 503."""
    retry_after: float | Literal["ticket"] | None = None
    """What the 503 says: nothing, the same to everybody, or to each the time of a slot of his own."""
    service: float = 0.0
    """How long an admission takes until it is answered; others go on meanwhile."""
    front: Literal["refuses", "silent", "closes", "502", "503", "holds", "stopped"] = "refuses"
    """What a dial meets while the server is away. "silent": no SYN gets through; "closes": it is accepted, upgraded and
    closed; "502", "503": a front answers that at once; "holds": it is accepted, and closed after a minute; "stopped":
    it is accepted while there is room, and served after the return."""
    flaps: tuple[tuple[float, float], ...] = ()
    """Before the return: so many seconds up, so many down, and so on."""
    code: int = 1006
    """With which the links end."""
    spread: float = 0.0
    """Seconds over which the workers notice that their links have ended, or are started."""
    first_start: bool = False
    """Nobody was registered before: all are started by a scheduler at once."""
    clocks: float = 0.0
    """By which share the clients' clocks are too fast or too slow, at most."""
    rtt: float = 0.002

    def ideal(self, share: float = 1.0) -> float:
        """The shortest time in which so many of them can be registered."""
        return share * self.workers / self.capacity + self.service


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run has shown."""

    back: int
    """Workers registered within the horizon."""
    never: int
    seconds_99: float
    """From the return until 99 % were registered; inf: never."""
    seconds_all: float
    dials: float
    """After the return, for each registration."""
    knocks: float
    """Dials of each worker in a minute, before the return."""
    dead: int
    """Slots spent on clients that had given up."""
    shed: int
    peak: float
    """The most dials in a second after the return, over the capacity."""
    hammered: bool
    """Stopped, because there were too many dials to go on."""
    curve: tuple[int, ...]
    """Registered, second by second."""
    dialled: tuple[int, ...]
    """Dials after the return, second by second."""

    def r99(self, storm: Storm) -> float:
        """1 is the limit of physics."""
        return self.seconds_99 / storm.ideal(0.99)


Show = Callable[[int, int], None]
"""Told now and then how many are registered, and of how many."""


def run(
    storm: Storm,
    rule: Callable[[Random], Rule],
    *,
    seed: int = 0,
    resets: bool = True,
    horizon: float | None = None,
    most_dials: int = 400,
    progress: Show = lambda done, of: None,
) -> Outcome:
    """Let it happen. `resets`: who gives up sends RST, not FIN. `horizon`: seconds after the return; `most_dials`: for
    each worker on average, then the run ends."""
    gc.disable()  # millions of tuples and not one cycle: looking for those takes a third of the time
    try:
        return _Run(
            storm, rule, seed, resets, horizon or max(900.0, 8.0 * storm.ideal()), most_dials, progress
        ).outcome()
    finally:
        gc.enable()


class _Run:
    """Internal time is positive: the return is at `self.start`."""

    def __init__(
        self,
        storm: Storm,
        rule: Callable[[Random], Rule],
        seed: int,
        resets: bool,
        horizon: float,
        most_dials: int,
        progress: Show,
    ) -> None:
        self.storm = storm
        self.resets = resets
        self.progress = progress
        self.left = most_dials * storm.workers
        chance = Random(seed)
        self.rules: Sequence[Rule] = [rule(chance) for _ in range(storm.workers)]
        self.start = 1.0 + storm.down + sum(up + down for up, down in storm.flaps)
        self.end = self.start + horizon
        # The times at which the server comes and goes, before it comes for good.
        self.turns = [self.start]
        for up, down in reversed(storm.flaps):
            self.turns[:0] = [self.turns[0] - down - up, self.turns[0] - down]
        self.rates = [1.0 + chance.uniform(-storm.clocks, storm.clocks) for _ in self.rules]
        self.began = [0.0] * storm.workers
        self.synack = [0.0] * storm.workers
        self.limits = [Deadlines(0.0, 0.0, 0.0, 0.0)] * storm.workers
        self.done = array("d", [math.inf]) * storm.workers
        self.kept = array("d", [-math.inf]) * storm.workers  # until when an unanswered dial is kept beside the next
        self.registered = 0
        self.dead = self.shed = self.dials = self.knocks = 0
        self.dialled: list[int] = []
        # The queue: the number of the last slot that is taken, counted from the last return.
        self.opened, self.closes, self.last, self.promised = self._opening(self.start), math.inf, -1, 0
        self.room = storm.backlog + 1 if storm.backlog is not None else None
        # The calendar: buckets by tick, a heap of the ticks, and what comes into the present tick late.
        self.buckets: dict[int, list[tuple[float, int]]] = {}
        self.ticks: list[int] = []
        self.late: list[tuple[float, int]] = []
        self.tick = -1
        for i, each in enumerate(self.rules):
            at = 1.0 + chance.uniform(0.0, storm.spread)
            if storm.first_start:
                self._at(self.start + at - 1.0, i * _STAGES)
            else:
                cause = Cause.SILENT if storm.front == "stopped" else Cause.CLOSED
                rate = self.rates[i]
                each.dialling((at - 4000.0) * rate)
                each.answered((at - 3999.9) * rate)
                self._at(at + each.lost(at * rate, cause, storm.code) / rate, i * _STAGES)

    def _opening(self, time: float) -> float:
        """When the server opened that is up at this time, or will be up next."""
        turn = bisect_right(self.turns, time)
        return self.turns[turn - 1 if turn % 2 else min(turn, len(self.turns) - 1)]

    def _at(self, time: float, event: int) -> None:
        if time >= self.end:
            return
        tick = int(time * TICKS)
        if tick <= self.tick:
            heappush(self.late, (time, event))
        elif (bucket := self.buckets.get(tick)) is not None:
            bucket.append((time, event))
        else:
            self.buckets[tick] = [(time, event)]
            heappush(self.ticks, tick)

    def outcome(self) -> Outcome:
        buckets, ticks, late = self.buckets, self.ticks, self.late
        workers = self.storm.workers
        while ticks and self.registered < workers and self.left > 0:
            self.tick = heappop(ticks)
            bucket = buckets.pop(self.tick)
            bucket.sort()
            for time, event in bucket:
                while late and late[0][0] < time:
                    self._happen(*heappop(late))
                self._happen(time, event)
            while late:
                self._happen(*heappop(late))
            if not self.tick % TICKS:
                self.progress(self.registered, workers)
        return self._result()

    def _result(self) -> Outcome:
        times = sorted(time - self.start for time in self.done if time < math.inf)
        back, workers = len(times), self.storm.workers
        enough = math.ceil(0.99 * workers)
        seconds = math.ceil(times[-1]) + 1 if times else 1
        curve = [0] * seconds
        for time in times:
            curve[max(0, math.ceil(time))] += 1
        for second in range(1, seconds):
            curve[second] += curve[second - 1]
        return Outcome(
            back=back,
            never=workers - back,
            seconds_99=times[enough - 1] if back >= enough else math.inf,
            seconds_all=times[-1] if back == workers else math.inf,
            dials=self.dials / max(1, back),
            knocks=self.knocks / workers * 60 / (self.start - 1.0) if self.start > 1.0 else 0.0,
            dead=self.dead,
            shed=self.shed,
            peak=max(self.dialled, default=0) / self.storm.capacity,
            hammered=self.left <= 0,
            curve=tuple(curve),
            dialled=tuple(self.dialled),
        )

    # --- the workers --------------------------------------------------------------------------------------------------

    def _happen(self, time: float, event: int) -> None:
        stage = event % _STAGES
        i = event // _STAGES
        if self.done[i] <= time and not _ZOMBIE <= stage < _LOST:
            return  # this was under way beside a dial that was kept, and has been answered
        if stage == _DIAL:
            self._dial(time, i)
        elif stage < _ACK:
            self._syn(time, i, stage)
        elif stage == _ACK:
            if self.room is None:
                self._arrive(time, i)
            elif self._full(time):
                self._unacknowledged(time, i, 0)
            else:
                self._enter(time, i)
        elif stage < _ZOMBIE:
            if self._full(time):
                self._unacknowledged(time, i, stage - _BYTES + 1)
            else:
                self._enter(time, i)
        elif stage < _LOST:
            self._zombie(time, stage - _ZOMBIE)
        else:
            rate = self.rates[i]
            self._at(time + self.rules[i].lost(time * rate, Cause.CLOSED, self.storm.code) / rate, i * _STAGES)

    def _fail(self, time: float, i: int, cause: Cause, hint: float | None = None) -> None:
        rate = self.rates[i]
        self._at(time + self.rules[i].failed(time * rate, cause, hint) / rate, i * _STAGES)

    def _dial(self, time: float, i: int) -> None:
        rate = self.rates[i]
        rule = self.rules[i]
        limits = self.limits[i] = rule.dialling(time * rate)
        storm = self.storm
        self.left -= 1
        self.began[i] = time
        if time < self.start:
            self.knocks += 1
        else:
            self.dials += 1
            second = int(time - self.start)
            while len(self.dialled) <= second:
                self.dialled.append(0)
            self.dialled[second] += 1
        up = self._is_up(time) if storm.flaps else time >= self.start
        if not up and storm.front == "silent":
            self._syn(time, i, 0)
            return
        if not up and storm.front != "stopped":
            now = time + 2 * storm.rtt
            if storm.front == "refuses":
                pause = rule.failed(now * rate, Cause.REFUSED)
            elif storm.front == "closes":
                pause = rule.lost(now * rate, Cause.CLOSED, 1006)
            elif storm.front in ("502", "503"):
                pause = rule.failed(now * rate, Cause.SHED)
            elif limits.upgrade / rate > HELD:
                now = time + HELD
                pause = rule.failed(now * rate, Cause.CLOSED)
            else:
                now = time + limits.upgrade / rate
                if self._may_keep(now, i):
                    self.kept[i] = time + HELD
                pause = rule.failed(now * rate, Cause.UNANSWERED)
            self._at(now + pause / rate, i * _STAGES)
            return
        if self.room is None:
            self._arrive(time + storm.rtt, i)
        else:
            self._syn(time, i, 0)

    def _syn(self, time: float, i: int, tries: int) -> None:
        """The kernel's SYN number `tries` arrives, or is lost on the way."""
        front = self.storm.front
        up = self._is_up(time)
        if not up and front not in ("stopped", "silent"):
            self._fail(time + self.storm.rtt, i, Cause.REFUSED)
        elif (up or front == "stopped") and not self._full(time):
            self.synack[i] = time + self.storm.rtt
            self._at(time + self.storm.rtt, i * _STAGES + _ACK)
        else:
            limit = min(SYN_LAST, self.limits[i].connect / self.rates[i])
            if tries < len(SYN_AGAIN) and SYN_AGAIN[tries] < limit:
                self._at(self.began[i] + SYN_AGAIN[tries], i * _STAGES + tries + 1)
            else:
                self._fail(self.began[i] + limit, i, Cause.NO_ANSWER)

    def _unacknowledged(self, time: float, i: int, tries: int) -> None:
        """The client believes in a connection that is not in the queue; its bytes went out `tries` times too often."""
        if not self._is_up(time) and self.storm.front != "stopped":
            self._fail(time, i, Cause.CLOSED)
            return
        watched, patience = self.limits[i].acknowledge, self.limits[i].upgrade
        limit = min(watched, patience) / self.rates[i]
        if tries < len(BYTES_AGAIN) and BYTES_AGAIN[tries] < limit:
            self._at(self.synack[i] + BYTES_AGAIN[tries], i * _STAGES + _BYTES + tries)
            return
        self._fail(self.synack[i] + limit, i, Cause.UNACKNOWLEDGED if watched <= patience else Cause.UNANSWERED)
        if not self.resets and tries < len(BYTES_AGAIN):
            self._at(self.synack[i] + BYTES_AGAIN[tries], i * _STAGES + _ZOMBIE + tries)

    def _zombie(self, time: float, tries: int) -> None:
        """A closed socket whose kernel still wants to deliver: it takes a place if there is one."""
        if not self._full(time):
            self._take(time)
            self.dead += 1
        elif tries + 1 < len(BYTES_AGAIN):
            self._at(time + BYTES_AGAIN[tries + 1] - BYTES_AGAIN[tries], _ZOMBIE + tries + 1)

    def _arrive(self, time: float, i: int) -> None:
        """At a server that accepts everybody, though it may send him away."""
        self.synack[i] = time
        storm = self.storm
        if storm.room is None or self._waiting(time) < storm.room:
            self._enter(time, i)
            return
        self.shed += 1
        hint = storm.retry_after
        if hint == "ticket":
            self.promised = max(self.promised, self.last) + 1
            hint = float(math.ceil(self.opened + self.promised / storm.capacity - time))
        self._fail(time + storm.rtt, i, Cause.SHED, hint)

    def _enter(self, time: float, i: int) -> None:
        """Take a place in the queue. What becomes of it is known at once."""
        storm = self.storm
        slot, limits, rate = self._take(time), self.limits[i], self.rates[i]
        answer = slot + storm.service + storm.rtt / 2
        gone, cause = self.synack[i] + limits.register / rate, Cause.UNREGISTERED
        if storm.backlog is not None and slot > (another := self.synack[i] + limits.upgrade / rate):
            first = self.done[i] == math.inf and not storm.flaps
            if first and self._may_keep(another, i) and answer <= min(gone, self.closes):
                self.kept[i] = answer
                self._register(answer, i)
                self._fail(another, i, Cause.UNANSWERED)
                return
            gone, cause = another, Cause.UNANSWERED
        if self.done[i] < math.inf:  # by a dial that was kept, which stands before this one
            self.dead += 1
            self._fail(gone, i, cause)
        elif answer <= gone and answer <= self.closes:
            self._register(answer, i)
        elif gone < self.closes:
            self.dead += 1
            self._fail(gone, i, cause)
        else:
            self._fail(self.closes, i, Cause.CLOSED)

    def _may_keep(self, time: float, i: int) -> bool:
        """Whether a dial that is not answered yet is kept from this time on."""
        return self.limits[i].register > self.limits[i].upgrade and self.kept[i] <= time

    def _register(self, answer: float, i: int) -> None:
        self.rules[i].answered(answer * self.rates[i])
        if self.closes < math.inf:
            self._at(self.closes, i * _STAGES + _LOST)
        elif answer < self.end:
            self.done[i] = answer
            self.registered += 1

    # --- the server ---------------------------------------------------------------------------------------------------

    def _is_up(self, time: float) -> bool:
        """Whether the process is there; looks at its queue afresh when it has come back."""
        if time >= self.start:
            up, opened, closes = True, self.start, math.inf
        else:
            turn = bisect_right(self.turns, time)
            up = turn % 2 == 1
            opened = self.turns[turn - 1] if up else self.opened
            closes = self.turns[turn] if up else self.closes
        if up and (opened != self.opened or closes != self.closes):
            self.opened, self.closes, self.last, self.promised = opened, closes, -1, 0
        return up

    def _waiting(self, time: float) -> int:
        return self.last - int((time - self.opened) * self.storm.capacity) if time > self.opened else self.last + 1

    def _full(self, time: float) -> bool:
        return self.room is not None and self._waiting(time) >= self.room

    def _take(self, time: float) -> float:
        """The next free slot is taken; returns when it comes."""
        free = int((time - self.opened) * self.storm.capacity) + 1 if time > self.opened else 0
        self.last = max(self.last + 1, free)
        return self.opened + self.last / self.storm.capacity
