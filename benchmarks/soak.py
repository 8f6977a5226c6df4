"""What stays behind after many reconnects and status changes in one process: tasks, descriptors, memory, objects.

    python -m benchmarks.soak [--cycles N] [--changes N] [--shown N] [--minutes N] [--json FILE]

One worker over real sockets against the development server in another process. A cycle: the server resets the
connection, the worker dials, registers and proves itself again, and its status changes some twenty times; most of the
changes follow each other at once, so that only the newest is sent, and of the others each is waited for until the
server has confirmed it. The pauses between dials are cut to nothing, everything else is as users run it.

The figures are taken when the worker is at rest, after a collection. Growth is the slope of a straight line through
them (least squares), without the first one, by which not everything has been made that is made only once. The objects
rise and fall by some thousand: trio lets up to 1,000 deadlines that nobody waits for any more lie until it sweeps.
"""

import argparse
import gc
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from random import SystemRandom

import trio

from benchmarks.held import memory
from benchmarks.report import Table, write_json
from benchmarks.server import end
from worker_state import Config, Manager
from worker_state.devserver import DevServer, serve
from worker_state.manager import run_in_world
from worker_state.protocol.reconnect import ReconnectParameters
from worker_state.world import World

EVERY = 1000
"""Cycles between two rows of figures, at most."""
ROWS = 10
"""Rows at least, however few the cycles are."""
STUCK = 60.0
"""Seconds for one cycle: a worker that needs more will not come back."""
DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True)
class Figures:
    """What one process holds, after so many cycles."""

    cycles: int
    changes: int
    tasks: int
    descriptors: int | None
    resident_kib: float | None
    objects: int

    @classmethod
    def now(cls, cycles: int, changes: int) -> "Figures":
        gc.collect()
        resident = memory()
        return cls(
            cycles,
            changes,
            tasks=trio.lowlevel.current_statistics().tasks_living,
            # One of them is the listing itself.
            descriptors=len(os.listdir(DESCRIPTORS)) - 1 if DESCRIPTORS.exists() else None,
            resident_kib=None if resident is None else resident["now"],
            objects=len(gc.get_objects()),
        )


NAMES = {"tasks": "trio tasks", "descriptors": "descriptors", "resident_kib": "KiB resident", "objects": "objects"}


def growth(rows: list[Figures]) -> dict[str, float | None]:
    """By how much each figure grows in 1,000 cycles."""
    return {name: _slope([(row.cycles, getattr(row, name)) for row in rows[1:]]) for name in NAMES}


def _slope(points: list[tuple[int, float | None]]) -> float | None:
    known = [(x, y) for x, y in points if y is not None]
    if len({x for x, _ in known}) < 2:
        return None
    return statistics.linear_regression(*zip(*known, strict=True)).slope * 1000


AT_ONCE = ReconnectParameters(shortest=0.0005, blip=0.0005, lived=0.0001, most=10**6)
"""Every link counts as one that had lived, and the next follows at once."""


class NoPauses(SystemRandom):
    """Chance that draws every pause as next to nothing. A pause comes from the upper half of a range, nothing else
    does."""

    def uniform(self, a: float, b: float) -> float:
        drawn = super().uniform(a, b)
        return min(drawn, 0.0005) if math.isclose(b, 2 * a) else drawn


@dataclass
class Work:
    """How much is to be done, and by when."""

    cycles: int
    changes: int
    shown: int
    until: float

    def due(self, cycle: int) -> int:
        """Changes in this cycle, the first one being 0, so that all of them come to the sum that was asked for."""
        return self.changes * (cycle + 1) // self.cycles - self.changes * cycle // self.cycles


class Soak:
    """One worker, through all its cycles."""

    def __init__(self, manager: Manager, server: "Server", work: Work) -> None:
        self._manager = manager
        self._server = server
        self._work = work
        self.cycles = 0
        self.changes = 0
        self.confirmed = 0
        self.slowest = 0.0
        """Seconds of the slowest cycle."""
        self.rows: list[Figures] = []

    async def run(self, progress: "Progress") -> None:
        every = max(1, min(EVERY, self._work.cycles // ROWS))
        await self._manager.synced()
        self._note()
        while self.cycles < self._work.cycles and time.monotonic() < self._work.until:
            began = time.monotonic()
            with trio.fail_after(STUCK):
                await self._cycle()
            self.slowest = max(self.slowest, time.monotonic() - began)
            progress.advance()
            if self.cycles % every == 0:
                self._note()
        if self.rows[-1].cycles != self.cycles:
            self._note()

    def _note(self) -> None:
        self.rows.append(Figures.now(self.cycles, self.changes))

    async def _cycle(self) -> None:
        manager, epoch = self._manager, self._manager.state.epoch
        self._server.cut()
        async for state in manager.states:
            if state.epoch > epoch:
                break
        await manager.synced()
        due = self._work.due(self.cycles)
        for number in range(due):
            self._change()
            if number >= due - self._work.shown:
                await manager.synced()
                self.confirmed += 1
        await manager.synced()
        self.cycles += 1

    def _change(self) -> None:
        manager, job_id = self._manager, f"job-{self.changes // 4}"
        match self.changes % 4:
            case 0:
                manager.set_reserved(job_id)
            case 1:
                manager.set_busy(job_id)
            case 2:
                manager.set_available()
            case _:
                manager.set_maintenance()
        self.changes += 1


async def soak(server: "Server", work: Work) -> Soak:
    """From the start of the worker to its end."""
    config = Config(server.ws_url, server.http_url, show_session_string=False)
    world = replace(World.real(config), random=NoPauses(), pace=AT_ONCE)
    async with trio.open_nursery() as nursery:
        manager: Manager = await nursery.start(partial(run_in_world, config, world))
        done = Soak(manager, server, work)
        with showing_progress(work.cycles) as progress:
            await done.run(progress)
        nursery.cancel_scope.cancel()
    return done


# --- the server, in a process of its own ------------------------------------------------------------------------------


class Server:
    """The other process. It resets every connection when a line comes, and ends with its standard input."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak", "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        addresses = json.loads(self._process.stdout.readline())
        self.ws_url: str = addresses["ws_url"]
        self.http_url: str = addresses["http_url"]

    def cut(self) -> None:
        """Takes effect soon; nothing is waited for."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        end(self._process)


@contextmanager
def server_process() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop()


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        server: DevServer = await nursery.start(serve)
        print(json.dumps({"ws_url": server.ws_url, "http_url": server.http_url}), flush=True)
        async with _standard_input() as lines:
            async for chunk in lines:
                if b"\n" in chunk:
                    server.cut()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _standard_input() -> AsyncIterator[trio.lowlevel.FdStream]:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        yield stream


# --- what is shown ----------------------------------------------------------------------------------------------------


class Progress:
    """A bar on a terminal, nothing elsewhere."""

    def advance(self) -> None:
        """One cycle is done."""


@contextmanager
def showing_progress(cycles: int) -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("cycles"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=cycles)

        class Shown(Progress):
            def advance(self) -> None:
                bar.advance(task)

        yield Shown()


def table(rows: list[Figures]) -> Table:
    names = ["after cycles", "status changes", *NAMES.values()]
    lines = [[_shown(getattr(row, each.name)) for each in fields(row)] for row in rows]
    slopes = ["growth per 1,000", "", *(_shown(slope, signed=True) for slope in growth(rows).values())]
    return Table("What the process holds", names, [*lines, slopes])


def _shown(figure: float | None, *, signed: bool = False) -> str:
    if figure is None:
        return "not known"
    return f"{figure:+,.2f}" if signed else f"{figure:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=10_000, metavar="N", help="reconnects (default: %(default)s)")
    parser.add_argument(
        "--changes", type=int, default=200_000, metavar="N", help="status changes in all (default: %(default)s)"
    )
    parser.add_argument(
        "--shown",
        type=int,
        default=1,
        metavar="N",
        help="of the changes of a cycle, so many are waited for until the server has confirmed them, a tenth of a"
        " second each; the others follow each other at once (default: %(default)s)",
    )
    parser.add_argument("--minutes", type=float, default=12.0, metavar="N", help="stop after these (default: 12)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(_serve)
        return
    if arguments.cycles < 1 or arguments.changes < 0 or arguments.shown < 0 or arguments.minutes <= 0:
        parser.error("--cycles must be at least 1, --changes and --shown at least 0, --minutes more than 0")
    logging.disable(logging.CRITICAL)  # a line for each of the lost connections
    began = time.monotonic()
    work = Work(arguments.cycles, arguments.changes, arguments.shown, began + arguments.minutes * 60)
    with server_process() as server:
        done = trio.run(soak, server, work)
    seconds = time.monotonic() - began
    print(
        f"{done.cycles:,} reconnects and {done.changes:,} status changes in {seconds:,.0f} s, {done.confirmed:,} of"
        f" them waited for until the server had confirmed them; the slowest cycle took {done.slowest * 1e3:,.0f} ms."
    )
    if done.cycles < work.cycles:
        print(f"The time was up {work.cycles - done.cycles:,} cycles before the end.")
    table(done.rows).show()
    write_json(
        arguments.json,
        "soak",
        {
            "asked": {"cycles": work.cycles, "changes": work.changes},
            "cycles": done.cycles,
            "changes": done.changes,
            "confirmed_one_by_one": done.confirmed,
            "seconds": seconds,
            "slowest_cycle_ms": done.slowest * 1e3,
            "rows": [asdict(row) for row in done.rows],
            "growth_per_1000_cycles": growth(done.rows),
        },
    )


if __name__ == "__main__":
    main()
