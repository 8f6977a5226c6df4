"""`worker-state storm`: a development server that is killed and comes back slow, and its workers, in one process.

The result is the server's view: a worker is back when the server shows its true status. The bars show what the workers
themselves know.
"""

import logging
import math
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from types import TracebackType
from typing import Self

import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmarks.storm.admission import Limits, SlottedAdmission
from benchmarks.storm_live import free_ports
from worker_state import Config, Manager, State
from worker_state.cli.output import bad_usage, fail
from worker_state.cli.screen import Screen
from worker_state.cli.signals import ending_on_signal
from worker_state.devserver import DevServer, Rooms, serve
from worker_state.manager import run_in_world
from worker_state.protocol.reconnect import ReconnectParameters
from worker_state.world import World

MOST_WORKERS = 2000
"""They share one process and one core."""
STAGES = ("dialling", "waiting", "registered", "proved")
JOB = "job-of-the-storm"
LIVED = 2.0
"""Seconds that the connections live before the storm. The workers take that for long enough."""
TOGETHER = 20
"""Workers that start at the same time."""
EVERY = 0.1
"""Seconds between two looks."""
PRINT_EVERY = 2.0
"""Seconds between two lines where there is no terminal."""
BOUND, SLACK = 3.5, 30.0
"""The storm ends after so many times the shortest return, and so many seconds more."""
FILES_EACH, OTHER_FILES = 2, 64


@dataclass(frozen=True, slots=True)
class Plan:
    """The options, checked."""

    workers: int
    capacity: float
    down: float

    @property
    def shortest(self) -> float:
        """Seconds of the shortest possible return."""
        return self.workers / self.capacity


def files_missing(workers: int) -> str | None:
    """Raise the limit of open files as far as needed, or return what the system does not allow."""
    needed = FILES_EACH * workers + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        return f"{needed} open files, and this system allows {hard}"
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return None


@dataclass
class Victim:
    """The server: killed, and started again with the same rooms and ports."""

    rooms: Rooms = field(default_factory=lambda: Rooms(random=Random()))
    server: DevServer | None = None
    ports: tuple[int, int] = field(default_factory=free_ports)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _over: trio.Event = field(default_factory=trio.Event)

    async def start(self, nursery: trio.Nursery, admission: SlottedAdmission | None = None) -> None:
        """Open the ports."""
        await nursery.start(self._run, admission)

    async def kill(self) -> None:
        """Every connection is reset, nobody listens, and all registrations are forgotten."""
        assert self.server is not None
        self.server.restart()
        self._scope.cancel()
        await self._over.wait()

    async def _run(self, admission: SlottedAdmission | None, *, task_status: trio.TaskStatus[None]) -> None:
        self._scope, self._over = trio.CancelScope(), trio.Event()
        start = partial(serve, ws_port=self.ports[0], http_port=self.ports[1], rooms=self.rooms)
        with self._scope:
            async with trio.open_nursery() as nursery:
                self.server = await nursery.start(partial(start, admission=admission))
                if admission is not None:
                    nursery.start_soon(admission.run)
                task_status.started()
        self._over.set()

    def shows(self, peer_id: str | None, job: str) -> bool:
        """Whether a search finds this worker with this job."""
        peer = self.rooms.peer(peer_id) if peer_id is not None else None
        return peer is not None and peer.metadata["properties"]["current_job_id"] == job


@dataclass
class Crowd:
    """All workers."""

    managers: list[Manager] = field(default_factory=list)

    async def start(self, nursery: trio.Nursery, server: DevServer, count: int) -> None:
        """Start `count` workers, and return when all are proved."""
        config = Config(server.ws_url, server.http_url)
        world = replace(World.real(config), pace=ReconnectParameters(lived=LIVED))
        together = trio.CapacityLimiter(TOGETHER)

        async def start_one() -> None:
            async with together:
                manager: Manager = await nursery.start(partial(run_in_world, config, world))
                self.managers.append(manager)
                await manager.synced()

        async with trio.open_nursery() as starting:
            for _ in range(count):
                starting.start_soon(start_one)

    def begin(self, job: str) -> None:
        """Give every worker a job."""
        for manager in self.managers:
            manager.set_busy(job)

    def stages(self) -> Counter[str]:
        """How many workers see themselves in which stage."""
        return Counter(stage(manager.state) for manager in self.managers)

    def back(self, victim: Victim) -> int:
        """How many are proved and shown with their true status."""
        return sum(manager.state.synced and victim.shows(manager.state.peer_id, JOB) for manager in self.managers)


def stage(state: State) -> str:
    """How far a worker has come on its way back."""
    if state.discoverable_since is not None:
        return "proved"
    if state.registered:
        return "registered"
    return "waiting" if state.connected else "dialling"


def main(workers: int, capacity: float, down: float) -> None:
    """Check the options and run the storm. Raises `typer.Exit` for bad ones, and when workers have not come back."""
    if not 1 <= workers <= MOST_WORKERS:
        raise bad_usage(f"--workers must be 1 to {MOST_WORKERS}, not {workers}.")
    if not 0 < capacity < math.inf:
        raise bad_usage(f"--capacity must be a number above 0, not {capacity:g}.")
    if not 0 <= down < math.inf:
        raise bad_usage(f"--down must be a number of seconds, at least 0, not {down:g}.")
    missing = files_missing(workers)
    if missing is not None:
        raise bad_usage(f"--workers {workers} needs {missing}.")
    sentence = trio.run(run, Plan(workers, capacity, down), Screen())
    if sentence is not None:
        raise fail(sentence)


async def run(plan: Plan, screen: Screen) -> str | None:
    """Run the storm until its end or a signal. Returns what went wrong."""
    logger = logging.getLogger("worker_state")  # each of the workers would log its lost connection
    logger.handlers[:], logger.propagate = [logging.NullHandler()], False
    sentence: str | None = None
    victim = Victim()
    async with ending_on_signal(screen, "Stopping") as scope, trio.open_nursery() as nursery:
        with scope:
            await victim.start(nursery)
            sentence = await _storm(plan, victim, nursery, screen)
        nursery.cancel_scope.cancel()
    return sentence


async def _storm(plan: Plan, victim: Victim, outer: trio.Nursery, screen: Screen) -> str | None:
    assert victim.server is not None
    crowd = Crowd()
    async with trio.open_nursery() as nursery:
        screen.line(f"{plan.workers} workers sign in and register.")
        await crowd.start(nursery, victim.server, plan.workers)
        await trio.sleep(LIVED)
        screen.line(f"All are proved. Now the server is killed, for {plan.down:g} s; meanwhile everybody begins a job.")
        await victim.kill()
        crowd.begin(JOB)
        admission = SlottedAdmission(Limits(plan.capacity, backlog=max(128, plan.workers), at="register"))
        with Bars(plan.workers, screen) as bars:
            with trio.move_on_after(plan.down):
                await bars.follow(crowd)
            screen.line(f"It is back and registers {plan.capacity:g} a second: {plan.shortest:.1f} s at best.")
            returned = trio.current_time()
            await victim.start(outer, admission)
            with trio.move_on_after(BOUND * plan.shortest + SLACK):
                await bars.follow(crowd, until=lambda: crowd.back(victim) == plan.workers)
            took = trio.current_time() - returned
        back = crowd.back(victim)
        if back == plan.workers:
            screen.line(praise(plan, took, admission), "bold")
        nursery.cancel_scope.cancel()
    return None if back == plan.workers else f"Only {back} of {plan.workers} workers were back after {took:.0f} s."


def praise(plan: Plan, took: float, admission: SlottedAdmission) -> str:
    """The line when all are back, after `took` seconds."""
    wasted = (
        f" {admission.slots.dead} registrations were spent on workers that had gone." if admission.slots.dead else ""
    )
    return (
        f"All {plan.workers} workers were back, with their true status, {took:.1f} s after the server:"
        f" {took / plan.shortest:.2f} times the shortest possible.{wasted}"
    )


class Bars:
    """How many workers are in which stage: bars on a terminal, a line now and then anywhere else."""

    def __init__(self, workers: int, screen: Screen) -> None:
        self._workers = workers
        self._screen = screen
        self._printed_at = -math.inf
        self._progress = Progress(
            TextColumn("          {task.description:<10}"),
            BarColumn(40),
            MofNCompleteColumn(),
            console=screen.console,
            transient=True,
            auto_refresh=False,
            disable=not screen.console.is_terminal,
        )
        self._tasks = {name: self._progress.add_task(name, total=workers) for name in STAGES}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    async def follow(self, crowd: Crowd, until: Callable[[], bool] = lambda: False) -> None:
        """Show the workers until the condition is true."""
        while not until():
            self._show(crowd.stages())
            await trio.sleep(EVERY)
        self._show(crowd.stages())

    def _show(self, stages: Counter[str]) -> None:
        for name, task in self._tasks.items():
            self._progress.update(task, completed=stages[name])
        self._progress.refresh()
        if self._progress.disable and trio.current_time() - self._printed_at >= PRINT_EVERY:
            self._printed_at = trio.current_time()
            self._screen.line(", ".join(f"{name} {stages[name]}" for name in STAGES))
