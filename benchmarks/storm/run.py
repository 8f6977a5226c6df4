"""One storm from beginning to end: start both sides, wait until all are registered, kill the server, bring it back.

The parent decides nothing but when; the figures are the server's and the clients' own.
"""

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from benchmarks.storm.lines import Process, process
from benchmarks.storm.record import PROVED, Record
from benchmarks.storm.scenarios import UP_FOR, Scenario, limits
from benchmarks.storm.seats import make_seats
from worker_state import Timing

HOST = "127.0.0.1"
JOB = "job-of-the-storm"
"""What everybody begins while the server is away, and what its record has to show."""
TOGETHER = 32
"""Clients that register at the same time before the storm, in all processes: the server sets the pace."""
START_WITHIN = 180.0
"""Seconds for all of them …"""
SLOWEST_START = 25.0
"""… or as many as it takes at so many registrations a second."""
FAST = 2000.0
"""Admissions a second before a storm whose server is not started anew."""
CUT_EVERY = 0.1
"""Seconds between two cuts: a blip is over when the next but five begins, and nobody has to share anything."""
AFTERWARDS = 1.5
"""Seconds watched after the last one is back, so that whoever is lost again is seen."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    scenario: Scenario
    kind: str
    """Of client: "light", "managers", "library", or "cold" for managers without seats."""
    rule: str
    workers: int
    capacity: float
    backlog: int
    down: float
    settle: float
    """Seconds that the links live before the storm."""
    bound: float = 3.5
    """The run ends so many ideal times after the server's return, whoever is back by then …"""
    at_least: float = 60.0
    """… but not before so many seconds."""
    stuck: float = 45.0
    """It ends before that when nobody has come back for so many seconds: the server is busy with the dead."""
    seed: int = 0
    processes: int = 1
    """That share the workers, all of them on one core."""
    ping_every: float = Timing().ping_every
    """Of managers with seats. Ten thousand links that ping every 8 s are more than a core does beside a storm."""

    @property
    def ideal(self) -> float:
        """Seconds: the shortest time that is possible."""
        return self.workers / self.capacity


@dataclass(frozen=True)
class Cores:
    """Where the two sides run; None where that cannot be chosen."""

    clients: int | None
    server: int | None


@dataclass(frozen=True)
class Clients:
    """The processes that share the workers."""

    processes: list[Process]

    async def tell(self, line: object) -> None:
        """The same to each: a worker that is meant alone is in one of them."""
        for each in self.processes:
            await each.tell(line)


@dataclass
class Stage:
    """The processes of one run, which all end with it, and what they say."""

    record: Record
    order: dict[str, Any]
    cores: Cores
    stack: AsyncExitStack

    async def server(self, job: str | None, admission: dict[str, Any] | None) -> Process:
        """A server that is ready to open."""
        order = {**self.order, "job": job, "limits": admission, "core": self.cores.server}
        return await self.stack.enter_async_context(process("benchmarks.storm.server", order, self.record.new_server()))

    async def clients(self, plan: Plan) -> Clients:
        """All workers, each of which begins to dial at once."""
        order = {
            **self.order,
            "kind": plan.kind,
            "rule": plan.rule,
            "processes": plan.processes,
            "ping_every": plan.ping_every,
            "together": max(1, TOGETHER // plan.processes),
            "core": self.cores.clients,
        }
        shares = [
            process("benchmarks.storm.clients", {**order, "number": number}, self.record.new_clients())
            for number in range(plan.processes)
        ]
        return Clients([await self.stack.enter_async_context(share) for share in shares])

    async def all_proved(self, workers: int) -> None:
        await self.record.until(lambda: self.record.standing(PROVED) >= workers)


Show = Callable[[Record], None]


@asynccontextmanager
async def staged(plan: Plan, cores: Cores, ports: tuple[int, int], show: Show) -> AsyncIterator[Stage]:
    """Room for the processes of one run."""
    ws_port, http_port = ports
    record = Record(plan.workers, plan.capacity, lag_matters=plan.scenario.kind != "cold")
    order = {
        "host": HOST,
        "ws_port": ws_port,
        "http_port": http_port,
        "ws_url": f"ws://{HOST}:{ws_port}",
        "http_url": f"http://{HOST}:{http_port}",
        "workers": plan.workers,
        "seed": plan.seed,
        "now": time.time(),
    }
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nursery.start_soon(_report, show, record)
        yield Stage(record, order, cores, stack)
        nursery.cancel_scope.cancel()


async def storm(plan: Plan, cores: Cores, ports: tuple[int, int], show: Show) -> Record:
    """Measure one storm; bounded in time."""
    admission = limits(plan.scenario, plan.capacity, plan.backlog)
    async with staged(plan, cores, ports, show) as stage:
        record = stage.record
        first, clients = await _settled(
            stage, plan, None if not plan.scenario.stopped else {**admission, "capacity": FAST}
        )
        count = 0 if plan.scenario.stopped else plan.scenario.flaps + 1
        returns = [await stage.server(JOB, admission) for _ in range(count)]
        await trio.sleep(plan.settle)
        record.phase = "down"
        if plan.scenario.stopped:
            await _stop(plan, record, first, clients, admission)
        else:
            await _replace(plan, record, first, returns, clients)
        record.phase = "returning"
        with trio.move_on_after(max(plan.at_least, plan.bound * plan.ideal)):
            await _all_back_or_stuck(plan, record)
        await trio.sleep(AFTERWARDS)
    return record


async def _all_back_or_stuck(plan: Plan, record: Record) -> None:
    most, since = 0, trio.current_time()
    while (back := record.standing(PROVED)) < plan.workers and trio.current_time() - since < plan.stuck:
        if back > most:
            most, since = back, trio.current_time()
        await trio.sleep(0.1)


async def blips(plan: Plan, cores: Cores, ports: tuple[int, int], show: Show) -> Record:
    """Cut each worker's link once, one after the other, while the server and all others are well."""
    async with staged(plan, cores, ports, show) as stage:
        record = stage.record
        server, clients = await _settled(stage, plan, None)
        await trio.sleep(plan.settle)
        record.phase = "cutting"
        seats = make_seats(plan.workers, seed=plan.seed, now=stage.order["now"])
        for number, seat in enumerate(seats):
            job = f"{JOB}-{number}"
            cut = await server.ask("cut", [seat.username, job], key="cut")
            record.cuts[seat.username] = cut["cut"]
            await clients.tell(["status", [job, number]])
            await trio.sleep(CUT_EVERY)
        with trio.move_on_after(plan.at_least):
            await stage.all_proved(plan.workers)
        await trio.sleep(AFTERWARDS)
    return record


async def cold(plan: Plan, cores: Cores, ports: tuple[int, int], show: Show) -> Record:
    """Start all workers in the same moment, with sign-in and room; the server is as fast as it can, or limited."""
    admission = limits(plan.scenario, plan.capacity, plan.backlog) if plan.scenario.limits else None
    async with staged(plan, cores, ports, show) as stage:
        record = stage.record
        server = await stage.server(None, admission)
        opened = (await server.ask("open", key="open"))["open"]
        record.phase = "starting"
        clients = await stage.clients(plan)
        await trio.sleep(1.0)
        record.goes(opened)
        record.returns(time.monotonic())
        await clients.tell(["go", None])
        with trio.move_on_after(max(plan.at_least, plan.bound * plan.ideal)):
            await stage.all_proved(plan.workers)
        await trio.sleep(0.5)
    return record


async def _settled(stage: Stage, plan: Plan, admission: dict[str, Any] | None) -> tuple[Process, Clients]:
    """A server, and all workers registered there."""
    server = await stage.server(None, admission)
    await server.ask("open", key="open")
    stage.record.phase = "starting"
    clients = await stage.clients(plan)
    with trio.fail_after(max(START_WITHIN, plan.workers / SLOWEST_START)):
        await stage.all_proved(plan.workers)
    stage.record.phase = "settling"
    await clients.tell(["settle", None])
    return server, clients


async def _replace(plan: Plan, record: Record, first: Process, returns: list[Process], clients: Clients) -> None:
    server = first
    if plan.scenario.goodbye:
        await server.ask("goodbye", key="goodbye")
    for number, following in enumerate(returns):
        await server.kill()
        record.goes(time.monotonic())
        if number == 0:
            await clients.tell(["status", [JOB, None]])
        if plan.scenario.front is not None:
            await following.ask("front", plan.scenario.front, key="front")
        await trio.sleep(plan.down)
        record.returns((await following.ask("open", key="open"))["open"])
        server = following
        if following is not returns[-1]:
            await trio.sleep(UP_FOR)


async def _stop(plan: Plan, record: Record, server: Process, clients: Clients, admission: dict[str, Any]) -> None:
    await server.ask("limit", [admission, JOB], key="limited")
    server.signal(signal.SIGSTOP)
    record.goes(time.monotonic())
    await clients.tell(["status", [JOB, None]])
    await trio.sleep(plan.down)
    server.signal(signal.SIGCONT)
    record.returns(time.monotonic())


async def _report(show: Show, record: Record) -> None:
    while True:
        show(record)
        await trio.sleep(0.25)
