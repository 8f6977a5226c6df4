"""What one cycle costs: dial, register, echo, full status update, close; by worker_state and by hand, in one run.

    python -m benchmarks.cycle [--cycles N] [--repeat N] [--hold N] [--json FILE]

Three comparisons. Without HTTP, plain and then under TLS (where openssl is at hand to make a certificate): the whole
manager with its four actors over real sockets, on identities and rooms made beforehand, against a bare trio-websocket
client and a bare client of asyncio's `websockets` (where that is installed) that send the very same frames, which is
checked on the server. With HTTP: worker_state as users run it, with sign-in, room creation and deletion, against the
bare client with bare httpx.

Figures are CPU time of this process, all threads; the development server runs in another process on another core and
does not count. Each repeat runs a block of cycles of every variant, forwards and backwards by turns; ratios are taken
within a repeat. Memory is what the resident memory of a fresh process grows by for each of many connections that are
held at the same time.
"""

import argparse
import asyncio
import gc
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
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
    run: Callable[[], Coroutine[Any, Any, None]]
    share: float = 1.0
    """Of the cycles of a block; less for what takes so long that fewer tell enough."""
    on_asyncio: bool = False
    """Runs in a loop of asyncio, which takes a thread while trio's waits."""
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    async def block(self, cycles: int) -> None:
        cycles = max(1, round(cycles * self.share))
        gc.collect()
        if self.on_asyncio:
            await trio.to_thread.run_sync(asyncio.run, self._timed(cycles))
        else:
            await self._timed(cycles)

    async def _timed(self, cycles: int) -> None:
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


Hold = Callable[..., AbstractAsyncContextManager[None]]


def socket_variants(url: str, http_url: str, seats: Iterator[Seat], context: ssl.SSLContext | None) -> list[Variant]:
    """Without HTTP."""

    async def once(hold: Hold) -> None:
        async with hold(url, http_url, next(seats), context):
            pass

    return [Variant(name, partial(once, hold), on_asyncio=hold is clients.hold_asyncio) for name, hold in holds()]


def holds() -> list[tuple[str, Hold]]:
    """Who is compared without HTTP."""
    found: list[tuple[str, Hold]] = [("worker_state", clients.hold_worker), ("bare trio-websocket", clients.hold_bare)]
    if find_spec("websockets") is not None:
        found.append(("bare asyncio websockets", clients.hold_asyncio))
    return found


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
    """Raise unless the server has got the same frames from all, in the same order; returns how many."""
    seen: list[list[dict[str, Any]]] = []

    async def look(hold: Hold, seat: Seat) -> None:
        async with hold(server.ws_url, server.http_url, seat):
            frames = json.dumps(server.frames(seat.username))
        for name, value in asdict(seat).items():
            frames = frames.replace(value, f"<{name}>")
        seen.append([{**frame, "payload": None} for frame in json.loads(frames)])  # the payload is the nonce

    for (name, hold), seat in zip(holds(), server.seats(len(holds())), strict=True):
        await Variant(name, partial(look, hold, seat), on_asyncio=hold is clients.hold_asyncio).block(1)
        if seen[-1] != seen[0]:
            raise RuntimeError(f"{name} does not send the same frames:\n{seen[0]}\n{seen[-1]}")
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


# --- TLS --------------------------------------------------------------------------------------------------------------


def make_certificate(folder: Path) -> Path | None:
    """One for 127.0.0.1 that only itself vouches for, with its key in the same file; None without openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout key.pem -out cert.pem"
    name = ["-subj", "/CN=benchmark", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *key.split(), *name], cwd=folder, capture_output=True, check=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


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


async def measure(
    server: Server, context: ssl.SSLContext | None, cycles: int, repeat: int, hold: int
) -> dict[str, Any]:
    count = await check_same_frames(server)
    print(
        f"All clients send the same {count} frames. Blocks of {cycles} cycles, {repeat} of each variant, interleaved."
    )

    seats = cycle(server.seats(SEATS))
    sockets = socket_variants(server.ws_url, server.http_url, seats, None)
    await interleave(sockets, repeat, cycles)
    cpu_table("Without HTTP: dial, register, echo, update, close", sockets).show()

    secured: list[Variant] = []
    if server.wss_url is not None:
        secured = socket_variants(server.wss_url, server.http_url, seats, context)
        await interleave(secured, repeat, cycles)
        cpu_table("The same under TLS", secured).show()

    async with whole_variants(server) as whole:
        await interleave(whole, repeat, max(1, cycles // 2))
    cpu_table("With HTTP: sign-in, room creation and deletion as well", whole).show()

    results: dict[str, Any] = {"cycles": cycles, "repeat": repeat}
    for key, variants in (("sockets", sockets), ("secured", secured), ("whole", whole)):
        results[key] = as_json(variants) if variants else []
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
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        context = ssl.create_default_context(cafile=certificate) if certificate else None
        with Server(certificate) as server:  # which reads it before it answers
            results = trio.run(measure, server, context, arguments.cycles, arguments.repeat, arguments.hold)
    write_json(arguments.json, "cycle", results)


if __name__ == "__main__":
    main()
