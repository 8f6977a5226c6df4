"""What one cycle costs: dial, register, echo, full status update, close; by worker_state and by hand, in one run.

    python -m benchmarks.cycle [--cycles N] [--repeat N] [--hold N] [--json FILE]

Two comparisons. Without HTTP: the whole manager with its four actors over real sockets, on identities and rooms made
beforehand, against a bare trio-websocket client that sends the very same frames (which is checked on the server). With
HTTP: worker_state as users run it, with sign-in, room creation and deletion, against the bare client with bare httpx.

Figures are CPU time of this process, all threads; the development server runs in another process on another core and
does not count. Each repeat runs a block of cycles of every variant, forwards and backwards by turns; ratios are taken
within a repeat. Memory is what the resident memory of a fresh process grows by for each of many connections that are
held at the same time.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import trio

from benchmarks import clients
from benchmarks.report import Sample, Table, write_json
from benchmarks.server import Seat, Server, pin_client

SEATS = 64
"""Enough that the server has long noticed the end of a seat's connection when the seat's turn comes again."""
MEMORY_REPEAT = 3


@dataclass
class Variant:
    """One way to do a cycle, and what its blocks have cost."""

    name: str
    run: Callable[[], Awaitable[None]]
    share: float = 1.0
    """Of the cycles of a block; less for what takes so long that fewer tell enough."""
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    async def block(self, cycles: int) -> None:
        cycles = max(1, round(cycles * self.share))
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(cycles):
            await self.run()
        self.cpu.append((time.process_time() - cpu) / cycles * 1e3)
        self.wall.append((time.perf_counter() - wall) / cycles * 1e3)


async def interleave(variants: list[Variant], repeat: int, cycles: int) -> None:
    """ABBA: what drifts over the run falls on all of them alike."""
    for variant in variants:
        await variant.block(max(2, cycles // 5))
        variant.cpu.clear()
        variant.wall.clear()
    for number in range(repeat):
        for variant in variants if number % 2 == 0 else reversed(variants):
            await variant.block(cycles)


def socket_variants(server: Server, seats: Iterator[Seat]) -> list[Variant]:
    """Without HTTP."""

    async def worker() -> None:
        async with clients.hold_worker(server.ws_url, server.http_url, next(seats)):
            pass

    async def bare() -> None:
        async with clients.hold_bare(server.ws_url, server.http_url, next(seats)):
            pass

    return [Variant("worker_state", worker), Variant("bare trio-websocket", bare)]


@asynccontextmanager
async def whole_variants(server: Server) -> AsyncIterator[list[Variant]]:
    """With HTTP; the shared client lives as long as this."""
    at = (server.ws_url, server.http_url)
    async with httpx.AsyncClient() as shared:
        yield [
            Variant("worker_state", lambda: clients.whole_worker_cycle(*at)),
            Variant("bare, one httpx client for all", lambda: clients.whole_bare_cycle(*at, shared.post)),
            Variant(
                "bare, a light httpx client per call",
                lambda: clients.whole_bare_cycle(*at, clients.post_by_light_client),
            ),
            Variant(
                "bare, a default httpx client per call",
                lambda: clients.whole_bare_cycle(*at, clients.post_by_new_client),
                share=0.1,
            ),
        ]


async def check_same_frames(server: Server) -> int:
    """Raise unless the server has got the same frames from both, in the same order; returns how many."""
    seen = []
    for hold, seat in zip((clients.hold_worker, clients.hold_bare), server.seats(2), strict=True):
        async with hold(server.ws_url, server.http_url, seat):
            frames = json.dumps(server.frames(seat.username))
        for name, value in asdict(seat).items():
            frames = frames.replace(value, f"<{name}>")
        plain: list[dict[str, Any]] = json.loads(frames)
        for frame in plain:
            frame.pop("payload", None)  # the nonce
        seen.append(plain)
    if seen[0] != seen[1]:
        raise RuntimeError(f"the two clients do not send the same frames:\n{seen[0]}\n{seen[1]}")
    return len(seen[0])


# --- memory -----------------------------------------------------------------------------------------------------------

KINDS = {"worker_state": "worker_state", "bare": "bare trio-websocket"}


def measure_memory(server: Server, count: int, repeat: int) -> dict[str, list[dict[str, float]]]:
    """Per held connection, by kind of client; each measurement in a process of its own."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for number in range(repeat):
        for kind in KINDS if number % 2 == 0 else reversed(KINDS):
            seats = [asdict(seat) for seat in server.seats(count + 1)]
            order = {"ws_url": server.ws_url, "http_url": server.http_url, "seats": seats}
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.held", kind],
                input=json.dumps(order).encode(),
                stdout=subprocess.PIPE,
                check=True,
                timeout=120,
            )
            found[kind].append(json.loads(done.stdout))
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def cpu_table(title: str, variants: list[Variant]) -> Table:
    ours = Sample(tuple(variants[0].cpu))
    rows = []
    for variant in variants:
        cpu, wall = Sample(tuple(variant.cpu)), Sample(tuple(variant.wall))
        ratio = "1" if variant is variants[0] else ours.over(cpu).show()
        rows.append([variant.name, cpu.show(), wall.show(), ratio])
    return Table(title, ["a cycle by", "CPU ms (range)", "wall ms (range)", "worker_state / this"], rows)


def memory_table(count: int, found: dict[str, list[dict[str, float]]]) -> Table:
    names = {
        "kib": "KiB resident",
        "kib_at_peak": "KiB at the peak",
        "objects": "objects of the collector",
        "tasks": "trio tasks",
    }
    rows = []
    for key, name in names.items():
        if not all(key in each for samples in found.values() for each in samples):
            rows.append([name, "not measured", "not measured", ""])
            continue
        ours, bare = (Sample(tuple(each[key] for each in found[kind])) for kind in KINDS)
        rows.append([name, ours.show(1), bare.show(1), ours.over(bare).show()])
    title = f"Memory for each of {count} connections held at the same time, in a fresh process"
    return Table(title, ["for each connection", *KINDS.values(), "ratio"], rows)


def as_json(variants: list[Variant]) -> list[dict[str, Any]]:
    ours = Sample(tuple(variants[0].cpu))
    return [
        {
            "name": variant.name,
            "cpu_ms": Sample(tuple(variant.cpu)).as_json(),
            "wall_ms": Sample(tuple(variant.wall)).as_json(),
            "worker_state_over_this": ours.over(Sample(tuple(variant.cpu))).as_json(),
        }
        for variant in variants
    ]


async def measure(server: Server, cycles: int, repeat: int, hold: int) -> dict[str, Any]:
    count = await check_same_frames(server)
    print(
        f"Both clients send the same {count} frames. Blocks of {cycles} cycles, {repeat} of each variant, interleaved."
    )

    sockets = socket_variants(server, cycle(server.seats(SEATS)))
    await interleave(sockets, repeat, cycles)
    cpu_table("Without HTTP: dial, register, echo, update, close", sockets).show()

    async with whole_variants(server) as whole:
        await interleave(whole, repeat, max(1, cycles // 2))
    cpu_table("With HTTP: sign-in, room creation and deletion as well", whole).show()

    results = {"cycles": cycles, "repeat": repeat, "sockets": as_json(sockets), "whole": as_json(whole)}
    if hold:
        memory = measure_memory(server, hold, min(repeat, MEMORY_REPEAT))
        memory_table(hold, memory).show()
        results["memory"] = {"held": hold, "samples": memory}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cycle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=40, metavar="N", help="cycles in a block (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="blocks per variant (default: %(default)s)")
    parser.add_argument(
        "--hold", type=int, default=200, metavar="N", help="connections for the memory; 0 skips it (default: 200)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    arguments = parser.parse_args()
    if arguments.cycles < 1 or arguments.repeat < 1 or arguments.hold < 0:
        parser.error("--cycles and --repeat must be at least 1, --hold at least 0")
    pin_client()
    with Server() as server:
        results = trio.run(measure, server, arguments.cycles, arguments.repeat, arguments.hold)
    write_json(arguments.json, "cycle", results)


if __name__ == "__main__":
    main()
