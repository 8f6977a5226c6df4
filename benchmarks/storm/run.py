"""One storm from beginning to end: start both sides, wait until all are registered, kill the server, bring it back.

The parent decides nothing but when; the figures are the server's and the clients' own.
"""

import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import trio

from benchmarks.storm.lines import Process, process
from benchmarks.storm.record import PROVED, Record
from benchmarks.storm.scenarios import UP_FOR, Scenario, limits

HOST = "127.0.0.1"
JOB = "job-of-the-storm"
"""What everybody begins while the server is away, and what its record has to show."""
TOGETHER = 32
"""Clients that register at the same time before the storm."""
START_WITHIN = 180.0
"""Seconds for all of them."""
FAST = 2000.0
"""Admissions a second before a storm whose server is not started anew."""
AFTERWARDS = 1.5
"""Seconds watched after the last one is back, so that whoever is lost again is seen."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    scenario: Scenario
    kind: str
    """Of client: "light", "managers" or "library"."""
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
    seed: int = 0

    @property
    def ideal(self) -> float:
        """Seconds: the shortest time that is possible."""
        return self.workers / self.capacity


@dataclass(frozen=True)
class Cores:
    """Where the two sides run; None where that cannot be chosen."""

    clients: int | None
    server: int | None


Show = Callable[[Record], None]


async def storm(plan: Plan, cores: Cores, ws_port: int, http_port: int, show: Show) -> Record:
    """Measure one storm; bounded in time, and all processes are ended."""
    record = Record(workers=plan.workers, capacity=plan.capacity)
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
    gate = limits(plan.scenario, plan.capacity, plan.backlog)
    before = {"capacity": FAST, "backlog": plan.backlog} if plan.scenario.stopped else None
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:

        async def server(job: str | None, its_limits: dict[str, Any] | None) -> Process:
            of_server = {**order, "job": job, "limits": its_limits, "core": cores.server}
            return await stack.enter_async_context(process("benchmarks.storm.server", of_server, record.new_server()))

        nursery.start_soon(_report, show, record)
        first = await server(None, before)
        await first.ask("open", key="open")
        of_clients = {**order, "kind": plan.kind, "rule": plan.rule, "together": TOGETHER, "core": cores.clients}
        clients = await stack.enter_async_context(process("benchmarks.storm.clients", of_clients, record.of_clients))
        record.phase = "starting"
        with trio.fail_after(START_WITHIN):
            await record.until(lambda: record.standing(PROVED) == plan.workers)
        record.phase = "settling"
        count = 0 if plan.scenario.stopped else plan.scenario.flaps + 1
        returns = [await server(JOB, gate) for _ in range(count)]
        await trio.sleep(plan.settle)
        record.phase = "down"
        if plan.scenario.stopped:
            await _stop(plan, record, first, clients, gate)
        else:
            await _replace(plan, record, first, returns, clients)
        record.phase = "returning"
        with trio.move_on_after(max(plan.at_least, plan.bound * plan.ideal)):
            await record.until(lambda: record.standing(PROVED) == plan.workers)
        await trio.sleep(AFTERWARDS)
        nursery.cancel_scope.cancel()
    return record


async def _replace(plan: Plan, record: Record, first: Process, returns: list[Process], clients: Process) -> None:
    server = first
    if plan.scenario.goodbye:
        await server.ask("goodbye", key="goodbye")
    for number, following in enumerate(returns):
        await server.kill()
        record.goes(time.monotonic())
        if number == 0:
            await clients.tell(["status", JOB])
        if plan.scenario.front is not None:
            await following.ask("front", plan.scenario.front, key="front")
        await trio.sleep(plan.down)
        record.returns((await following.ask("open", key="open"))["open"])
        server = following
        if following is not returns[-1]:
            await trio.sleep(UP_FOR)


async def _stop(plan: Plan, record: Record, server: Process, clients: Process, gate: dict[str, Any]) -> None:
    await server.ask("limit", [gate, JOB], key="limited")
    server.signal(signal.SIGSTOP)
    record.goes(time.monotonic())
    await clients.tell(["status", JOB])
    await trio.sleep(plan.down)
    server.signal(signal.SIGCONT)
    record.returns(time.monotonic())


async def _report(show: Show, record: Record) -> None:
    while True:
        show(record)
        await trio.sleep(0.25)
