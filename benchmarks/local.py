"""The local calls never wait: how long `set_busy` and its kin take with the link up, down and stuck, and what piles up.

    python -m benchmarks.local [--calls N] [--json FILE]

A worker runs against a development server in another process, three times: with the link *up*; *down*, when the server
is gone and its port refuses; and *stuck*, when the server has stopped reading and the worker's other parts have filled
the socket, so that frames of ours wait in the outbox. In each state the calls are made one at a time, with one
checkpoint after each, as a busy worker would; and then all in one burst without any checkpoint, as no worker should.

Latencies are wall time, for waiting is what must not happen. The system may take the core away at any moment, and
Python's collector may begin in any call; so beside the slowest call stands how much of it was CPU time of its thread,
and how much of that the collector's. How deep the inboxes and the outbox get is sampled
after every call, held to a bound (the exit code is 1 when one is broken), and followed until all are empty again.
"""

import argparse
import gc
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.clients import seated_worker
from benchmarks.report import Table, write_json
from benchmarks.server import Server, pin_client
from worker_state import Manager

STATES = ("up", "down", "stuck")
CALLS: dict[str, Callable[[Manager, str], None]] = {
    "set_reserved": Manager.set_reserved,
    "set_busy": Manager.set_busy,
    "set_available": lambda manager, _: manager.set_available(),
    "reregister": lambda manager, _: manager.reregister(),
}
"""In the order in which they are made, so that each of them changes something."""
ONE_AT_A_TIME_BOUND = 16
"""Notes in a inbox. Whoever reads it runs at every checkpoint, so there is one call in it, and what has come in."""
OUTBOX_BOUND = 12
"""Frames of ours that wait for the socket. Normally a `register`, an `update_metadata` and an echo at most; when
`reregister` is called again and again, a registration begins while the frames of those before it still wait."""
PADDING = "x" * 2**18
PATIENCE = 20.0
"""Seconds, for everything that is waited for."""


class LogCounter(logging.Handler):
    """Counts what would have been logged, and prints nothing."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1


@dataclass
class Depths:
    """The most that was ever waiting, by inbox."""

    most: dict[str, int] = field(default_factory=dict)

    def sample(self, manager: Manager) -> None:
        for name, depth in depths(manager).items():
            self.most[name] = max(depth, self.most.get(name, 0))

    @property
    def inbox(self) -> int:
        return max(depth for name, depth in self.most.items() if name != "outbox")


def depths(manager: Manager) -> dict[str, int]:
    """What is waiting now: events by actor, and frames in the outbox while there is a link."""
    found = dict(manager.backlog)
    link = manager._supervisor.link
    if link is not None:
        # The outbox belongs to the object that serves the link; the right to send on it is a method of that.
        served = getattr(link.send, "__self__")  # noqa: B009 - a plain function as far as its type says
        found["outbox"] = len(served._unsent)
    return found


class Collector:
    """Adds up the time that Python's garbage collector takes."""

    def __init__(self) -> None:
        self.taken = 0
        self._since = 0
        gc.callbacks.append(self._hear)

    def _hear(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._since = time.thread_time_ns()
        else:
            self.taken += time.thread_time_ns() - self._since


COLLECTOR = Collector()


@dataclass
class Latencies:
    """Nanoseconds for each call, in order: wall, CPU of this thread, and what of that was the collector's."""

    wall: list[int] = field(default_factory=list)
    cpu: list[int] = field(default_factory=list)
    collector: list[int] = field(default_factory=list)

    def time(self, call: Callable[[], None]) -> None:
        collector, wall, cpu = COLLECTOR.taken, time.perf_counter_ns(), time.thread_time_ns()
        call()
        self.cpu.append(time.thread_time_ns() - cpu)
        self.wall.append(time.perf_counter_ns() - wall)
        self.collector.append(COLLECTOR.taken - collector)

    def figures(self) -> dict[str, float]:
        """Microseconds."""
        slowest = max(range(len(self.wall)), key=self.wall.__getitem__)
        return {
            "median": quantile(self.wall, 0.5) / 1e3,
            "p99.9": quantile(self.wall, 0.999) / 1e3,
            "max": self.wall[slowest] / 1e3,
            "max_cpu": self.cpu[slowest] / 1e3,
            "max_collector": self.collector[slowest] / 1e3,
        }


def quantile(values: list[int], share: float) -> int:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered)))]


async def one_at_a_time(manager: Manager, count: int) -> tuple[dict[str, Latencies], Depths]:
    """A checkpoint after every call."""
    latencies, reached = {name: Latencies() for name in CALLS}, Depths()
    for number in range(count // len(CALLS)):
        for name, call in CALLS.items():
            latencies[name].time(partial(call, manager, f"job-{number}"))
            reached.sample(manager)
            await trio.lowlevel.checkpoint()
    return latencies, reached


async def burst(manager: Manager, count: int) -> tuple[Latencies, Depths, dict[str, float]]:
    """No checkpoint until the last call is made; then how everything is worked off."""
    latencies, reached = Latencies(), Depths()
    for number in range(count // len(CALLS)):
        for call in CALLS.values():
            latencies.time(partial(call, manager, f"job-{number}"))
    reached.sample(manager)
    wall, cpu, passes, longest = time.perf_counter(), time.thread_time(), 0, 0.0
    with trio.fail_after(PATIENCE):
        while any(depth for name, depth in depths(manager).items() if name != "outbox"):
            before = time.perf_counter()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.perf_counter() - before)
            passes += 1
            reached.sample(manager)
    drained = {
        "wall_ms": (time.perf_counter() - wall) * 1e3,
        "cpu_ms": (time.thread_time() - cpu) * 1e3,
        "longest_pause_ms": longest * 1e3,
        "passes": passes,
    }
    return latencies, reached, drained


# --- the three states of the link -------------------------------------------------------------------------------------


async def bring_into(state: str, manager: Manager, server: Server) -> str:
    """Returns in words what was done."""
    if state == "down":
        server.stop()
        with trio.fail_after(PATIENCE):
            async for snapshot in manager.states:
                if not snapshot.connected:
                    break
        return "the server is gone, its port refuses"
    if state == "stuck":
        assert manager.state.peer_id is not None
        server.freeze(manager.state.peer_id)
        taken = await fill_socket(manager)
        return f"the server reads nothing; the socket has swallowed {taken // 2**10} KiB and takes no more"
    return "the server answers"


async def fill_socket(manager: Manager) -> int:
    """Send as another part of the worker until a frame is stuck half-way; returns the bytes that were taken over."""
    taken = 0
    with trio.fail_after(PATIENCE):
        while True:
            with trio.move_on_after(0.3) as scope:
                await manager.send_signal({"type": "candidate", "target": "nobody", "padding": PADDING})
            if scope.cancelled_caught:
                return taken
            taken += len(PADDING)


@contextmanager
def counted_log() -> Iterator[LogCounter]:
    """The log of worker_state, counted and kept off the terminal."""
    log, counter = logging.getLogger("worker_state"), LogCounter()
    log.addHandler(counter)
    log.propagate = False
    try:
        yield counter
    finally:
        log.propagate = True
        log.removeHandler(counter)


async def measure_state(state: str, count: int) -> dict[str, Any]:
    with Server() as server, counted_log() as counter:
        left_at = 0.0
        async with seated_worker(server.ws_url, server.http_url, server.seats(1)[0]) as manager:
            with trio.fail_after(PATIENCE):
                await manager.synced()
            what = await bring_into(state, manager, server)
            single, single_depths = await one_at_a_time(manager, count)
            counter.lines = 0
            together, burst_depths, drained = await burst(manager, count)
            lines = counter.lines
            if state == "up":
                with trio.fail_after(PATIENCE):
                    await manager.synced()
            single_depths.sample(manager)
            left_at = trio.current_time()
        return {
            "what": what,
            "one_at_a_time": {
                "calls": {name: latencies.figures() for name, latencies in single.items()},
                "depths": single_depths.most,
                "bound": ONE_AT_A_TIME_BOUND,
            },
            "burst": {
                "calls": together.figures(),
                "depths": burst_depths.most,
                # Every call may leave one note in every inbox, and nobody has had a chance to read it.
                "bound": len(together.wall) + ONE_AT_A_TIME_BOUND,
                "drained": drained,
                "log_lines": lines,
            },
            "outbox_bound": OUTBOX_BOUND,
            "leaves_in_s": trio.current_time() - left_at,
        }


def clock_alone(count: int) -> dict[str, float]:
    """What timing nothing at all costs: to be taken off in the mind."""
    latencies = Latencies()
    for _ in range(count):
        latencies.time(lambda: None)
    return latencies.figures()


# --- what is printed --------------------------------------------------------------------------------------------------

LATENCY_COLUMNS = ("median µs", "p99.9 µs", "max µs", "of that CPU", "of that collector")


def cells(figures: dict[str, float]) -> list[str]:
    return [f"{figures[name]:.1f}" for name in ("median", "p99.9", "max", "max_cpu", "max_collector")]


def call_table(results: dict[str, dict[str, Any]], nothing: dict[str, float], count: int) -> Table:
    rows = [["(the clock alone)", "", *cells(nothing)]]
    for state, result in results.items():
        for name, figures in result["one_at_a_time"]["calls"].items():
            rows.append([state, name, *cells(figures)])
    title = f"One at a time: {count} calls with the link in each state, one checkpoint after each"
    return Table(title, ("link", "call", *LATENCY_COLUMNS), rows)


def burst_table(results: dict[str, dict[str, Any]], count: int) -> Table:
    rows = [[state, *cells(result["burst"]["calls"])] for state, result in results.items()]
    return Table(f"In one burst: {count} calls without a checkpoint", ("link", *LATENCY_COLUMNS), rows)


def depth_table(results: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for state, result in results.items():
        for name, how in (("one_at_a_time", "one at a time"), ("burst", "burst")):
            most = result[name]["depths"]
            inboxes = [str(most[box]) for box in ("registration", "status", "connection", "cleanup")]
            rows.append([f"{state}, {how}", *inboxes, str(result[name]["bound"]), str(most.get("outbox", "-"))])
    columns = ("link", "registration", "status", "connection", "cleanup", "bound", f"outbox (bound {OUTBOX_BOUND})")
    return Table("The most that was waiting", columns, rows)


def drain_table(results: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for state, result in results.items():
        drained = result["burst"]["drained"]
        figures = [f"{drained[name]:.1f}" for name in ("wall_ms", "cpu_ms", "longest_pause_ms")]
        lines = str(result["burst"]["log_lines"])
        rows.append([state, *figures, str(drained["passes"]), lines, f"{result['leaves_in_s']:.2f}"])
    columns = ("link", "empty after ms", "CPU ms", "longest pause ms", "checkpoints", "log lines", "worker leaves in s")
    return Table("After the burst, until every inbox is empty", columns, rows)


def broken_bounds(results: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    for state, result in results.items():
        for how in ("one_at_a_time", "burst"):
            reached, bound = Depths(result[how]["depths"]), result[how]["bound"]
            if reached.inbox > bound:
                found.append(f"link {state}, {how}: {reached.inbox} notes in a inbox, the bound is {bound}")
            if reached.most.get("outbox", 0) > OUTBOX_BOUND:
                found.append(f"link {state}, {how}: {reached.most['outbox']} frames in the outbox")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.local", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--calls", type=int, default=10_000, metavar="N", help="in each state and each way (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    arguments = parser.parse_args()
    if arguments.calls < len(CALLS):
        parser.error(f"--calls must be at least {len(CALLS)}")
    count = arguments.calls // len(CALLS) * len(CALLS)
    pin_client()
    results: dict[str, dict[str, Any]] = {}
    for state in STATES:
        results[state] = trio.run(measure_state, state, count)
        print(f"link {state}: {results[state]['what']}")
    nothing = clock_alone(count)
    for table in (
        call_table(results, nothing, count),
        burst_table(results, count),
        depth_table(results),
        drain_table(results),
    ):
        table.show()
    broken = broken_bounds(results)
    print("\n" + ("\n".join(f"BROKEN: {each}" for each in broken) or "All depths are within their bounds."))
    write_json(arguments.json, "local", {"calls": count, "clock_alone": nothing, "states": results, "broken": broken})
    if broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
