"""One run: a seed becomes a world of workers, a server and faults, and ends with a verdict.

The plan (who, how long, which faults, which end) is drawn first and all of it; then the world runs; the judges look
throughout (`judges`) and above all after the faults have stopped. Nothing here draws from anything but the seed.
"""

import gc
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

import trio
from trio.testing import MockClock

from tests.simulation import judges
from tests.simulation.conns import Conn
from tests.simulation.determinism import determined
from tests.simulation.faults import DOORS
from tests.simulation.floods import FAULTS
from tests.simulation.net import Net
from tests.simulation.overheard import recorded
from tests.simulation.plan import Plan
from tests.simulation.result import Result, Violation
from tests.simulation.server import Server
from tests.simulation.shared import SharedRooms
from tests.simulation.trace import Trace, logging_into
from tests.simulation.worker import Worker, new_config
from worker_state.protocol import events as m


class Simulation:
    """The world of one run, as faults and judges see it."""

    def __init__(self, plan: Plan, clock: MockClock, *, whole_trace: bool) -> None:
        self.plan = plan
        self.trace = Trace(whole=whole_trace)
        self.result = Result(plan, self.trace)
        self.exits = self.result.exits
        self.net = Net(clock)
        self.chance = Random(f"{plan.seed} faults")
        self._chance_of_workers = Random(f"{plan.seed} workers")
        self.server = Server(
            self.net,
            self.trace,
            Random(f"{plan.seed} server"),
            generation=plan.generation,
            token_life=plan.token_life,
        )
        self.server.on_evicted = self.disturbed
        self.server.on_connect = self._connected
        self.shared = SharedRooms(self.server)
        self.server.on_deletion = self.shared.keep
        self.living: dict[str, Worker] = {}
        self.slots: dict[int, Worker] = {}
        self.gone: list[Worker] = []
        self.on_connect: dict[str, Callable[[Conn], None]] = {}
        self.impersonated: set[str] = set()
        self.usurped_at: dict[str, float] = {}
        """When an impostor last registered as this worker."""
        self.exempt: set[str] = set()
        """Workers that cannot be right, since something of theirs stays broken."""
        self.disturbed_at: dict[str, float] = {}
        self.patience: deque[tuple[str, float, float, str]] = deque(maxlen=300)
        self.jumped = 0.0
        """Seconds by which the workers' clock has jumped."""
        self.stopped = 0.0
        """Seconds for which the workers did not run."""
        self.heard: dict[str, list[tuple[float, str]]] = {}
        """By worker: refusals and evictions, and when."""
        self.next_expiry = 0.0
        self._next: dict[str, float] = {}
        self.crowds: set[tuple[str, str]] = set()
        """Neighbours of the workers: their room, and what they are."""
        self.crowded_until: dict[str, float] = {}
        """By room: until when there were any."""
        self.web_troubles = 0
        self.clients = 0
        self.ending = False
        """The faults are over: no worker that leaves is replaced any more; one that could not start tries again."""
        self.closing = False
        """All workers are told to go."""
        self._held: list[Callable[[], None]] = []

    # what faults do

    def hold(self, seconds: float, release: Callable[[], None], whom: str = "") -> None:
        """Something has taken hold of this worker (or all), and is to end after so many seconds, or with all faults."""

        def end() -> None:
            if end in self._held:
                self._held.remove(end)
                release()
                self.disturbed(whom)

        self._held.append(end)
        self.net.after(max(0.0, seconds), end)

    def later(self, seconds: float, whom: str, act: Callable[[], None]) -> None:
        """Part of a fault happens so much later: not at all once the faults are over, unless it releases something."""
        self.hold(seconds, act, whom)

    def release_all(self) -> None:
        """The network and the server work again; in any order."""
        while self._held:
            self.chance.choice(self._held)()

    def rarely(self, name: str, seconds: float) -> bool:
        """Whether this has not happened for so long: it costs much of CPU time."""
        if self.net.now < self._next.get(name, 0.0):
            return False
        self._next[name] = self.net.now + seconds
        return True

    def disturbed(self, whom: str = "") -> None:
        """Up to now this worker (or every one) was kept from being right."""
        self.disturbed_at[whom] = self.net.now

    def patient(self, whom: str, bound: float, why: str) -> None:
        """What has been done to this worker (or all) may take longer to heal, by design."""
        self.patience.append((whom, self.net.now - self.stopped, bound, why))

    def patience_with(self, name: str, disturbed: float) -> tuple[float, str]:
        """How long this worker may take after it was disturbed for the last time, and why."""
        # A pause is over that much later that the workers were stopped for meanwhile.
        asked = [
            (bound, why)
            for whom, at, bound, why in self.patience
            if whom in ("", name) and at + self.stopped + bound > disturbed
        ]
        return max(asked, default=(0.0, ""))

    def stop_workers(self, seconds: float) -> None:
        runs = self.chance.random() < 0.6
        self.note(
            "fault", "the workers' process is stopped for %.1f s, its clock %s", seconds, "runs" if runs else "too"
        )
        for conn in tuple(self.server.desks):
            if conn.client_open and seconds > 40:
                self.net.after(self.chance.uniform(40, 50), conn.server_notices)
        self.net.stop_workers(seconds, their_clock_runs=runs)
        self.stopped += seconds
        if runs:
            self.jumped += seconds
        self.disturbed()

    # whom they find

    def names(self) -> tuple[str, ...]:
        return tuple(self.living)

    def any_worker(self) -> Worker | None:
        return self.living[self.chance.choice(self.names())] if self.living else None

    def conn_of(self, name: str) -> Conn | None:
        """The worker's present connection, if the server knows it too."""
        for conn in reversed(self.server.desks):
            if conn.owner == name and conn.client_open and conn.server_open:
                return conn
        return None

    def any_conn(self) -> Conn | None:
        worker = self.any_worker()
        return None if worker is None else self.conn_of(worker.name)

    def excused(self, worker: Worker) -> bool:
        """Nothing is promised of it at the end: it was told to go, or needs what stays broken."""
        cannot_start = self.plan.end == "web dead" and worker.manager is None
        return worker.name in self.exempt or worker.left_at is not None or cannot_start

    # what is noted

    def note(self, who: str, what: str, *arguments: object) -> None:
        self.trace.note(self.net.now, who, what, *arguments)

    def violate(self, judge: str, who: str, what: str) -> None:
        self.note(who, "VIOLATION (%s): %s", judge, what)
        if len(self.result.violations) < 20:
            self.result.violations.append(Violation(judge, who, what, self.net.now))

    def overhear(self, name: str, note: m.Event) -> None:
        """What a worker's actors tell each other, as far as it matters to the judges."""
        if isinstance(note, m.FrameIgnored) and note.error is not None:
            self.violate("sound", name, repr(note.error))
        if isinstance(note, m.StartLeaving):
            # At this very moment something may still be on its way.
            worker = self.living[name]
            worker.leaving_since = min(worker.leaving_since, trio.current_time())
        if isinstance(note, m.SendFrame) and note.message["type"] == "update_metadata":
            self.living[name].updates_its_record()
        asked = judges.patience_for(note, self.heard.setdefault(name, []), self.net.now)
        if asked is not None:
            self.patient(name, *asked)

    def web_troubled(self) -> bool:
        return bool(self.server.web) or not self.server.resumed.is_set()

    def _connected(self, conn: Conn) -> None:
        watch = self.on_connect.pop(conn.owner, None)
        if watch is not None:
            watch(conn)

    # the run

    async def run(self) -> None:
        plan = self.plan
        async with trio.open_nursery() as nursery:
            nursery.start_soon(judges.watch, self)
            async with trio.open_nursery() as workers:
                for slot in range(len(plan.kinds)):
                    workers.start_soon(self._slot, slot, plan.kinds[slot], plan.programs[slot])
                await self._faults()
                self.ending = True
                if plan.end != "never":
                    self.release_all()
                    self._something_stays_broken()
                    self.disturbed()
                    await judges.settle(self)
                self.closing = True
                for worker in tuple(self.living.values()):
                    worker.leave()
            self.release_all()
            await judges.judge_the_end(self)
            if not plan.faults and "restless" not in plan.programs:
                judges.judge_calm(self)
            nursery.cancel_scope.cancel()

    def _something_stays_broken(self) -> None:
        """Some faults never end; all that does not need what they broke has to work even so."""
        match self.plan.end:
            case "web dead":
                self.server.web.append((self.chance.choice(("refused", "hangs", "500")), ""))
                self.web_troubles += 1
                # Who has yet to be granted something, or soon has to again, cannot do without.
                self.exempt.update(
                    name for name, each in self.living.items() if each.manager is None or not each.web.lasts(900.0)
                )
            case "one cut off" if self.living:
                name = self.chance.choice(self.names())
                self.exempt.add(name)
                self.server.doors.append((self.chance.choice(DOORS), name))
                conn = self.conn_of(name)
                if conn is not None:
                    conn.break_(0.0, 30.0)
            case _:
                pass

    async def _slot(self, slot: int, kind: str, program: str) -> None:
        """A worker, and after it another one, as a supervisor would see to."""
        chance = Random(self._chance_of_workers.getrandbits(64))
        life = 0
        while not self.closing and (not self.ending or self.slots[slot].left_at is None):
            life += 1
            name = f"w{slot}.{life}"
            worker = Worker(self, name, program, new_config(self, name, kind), Random(chance.getrandbits(64)))
            self.living[name] = self.slots[slot] = worker
            began = self.net.now
            await worker.live()
            self.result.worker_seconds += self.net.now - began
            del self.living[name]
            self.gone.append(worker)
            self.disturbed_at.pop(name, None)
            await trio.sleep(chance.uniform(0.5, 3))

    async def _faults(self) -> None:
        plan = self.plan
        end = plan.seconds
        names = plan.faults
        while True:
            pause = self.chance.expovariate(1 / plan.interval) if names else plan.seconds
            await trio.sleep(max(0.0, min(pause, end + self.stopped - self.net.now)))
            if self.net.now >= end + self.stopped:
                return
            name = self.chance.choice(names)
            if self.living and FAULTS[name](self):
                self.trace.faults[name] += 1
                self.result.faults += 1
                self.note("fault", "%s", name)
                self.disturbed()


def simulate(plan: Plan, *, whole_trace: bool = False) -> Result:
    """Run one plan. The same plan gives the same result, and the same trace, in any process."""
    clock = MockClock(autojump_threshold=0)
    with determined(str(plan.seed)), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        simulation: list[Simulation] = []

        async def main() -> None:
            sim = Simulation(plan, clock, whole_trace=whole_trace)
            simulation.append(sim)

            def now() -> float:
                return sim.net.now

            with logging_into(sim.trace, now), recorded(sim.trace, now, sim.overhear):
                await sim.run()

        trio.run(partial(main), clock=clock)
        gc.collect(1)
    (sim,) = simulation
    for warning in warned:
        sim.result.violations.append(Violation("right", "world", f"warning: {warning.message}", -1.0))
    return sim.result
