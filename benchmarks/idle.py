"""What an idle worker costs: memory in a process of many, and CPU for each hour in which nothing happens.

    python -m benchmarks.idle [--workers N…] [--repeat R] [--settle S] [--watch S] [--json FILE]

Each measurement is a fresh process that opens so many connections to the development server on another core, waits
until their first minute is over (a new registration is proved more often), and then watches itself. Four kinds, in
turns: worker_state with its four actors, on identities made beforehand; a bare trio-websocket client that is
registered; the same with a ping every 8 s, which is the least that notices a dead link; and one trio task that waits at
a socket. Memory is what the resident memory has grown by since before the first of them, for each.
"""

import argparse
import gc
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import trio
from trio_websocket import open_websocket_url

from benchmarks.clients import CAPABILITIES, SeatedHttp
from benchmarks.held import settled
from benchmarks.report import Sample, Table, write_json
from benchmarks.server import Seat, Server, pin_client
from benchmarks.storm.frames import Truth, echo, register
from worker_state import Config, Manager
from worker_state.manager import run_in_world
from worker_state.world import World

PING_EVERY = 8.0
"""Seconds, as worker_state does when it hears nothing else."""
TOGETHER = 32
"""Connections that are opened at the same time."""
FILES_BESIDE = 64
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: aWRsZWlkbGVpZGxlaWRsZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


# --- the four kinds: each is held until it is cancelled ---------------------------------------------------------------


async def hold_manager(nursery: trio.Nursery, ws_url: str, http_url: str, seat: Seat) -> None:
    """worker_state, proved once."""
    config = Config(ws_url, http_url, room_id=seat.room_id, room_token=seat.token, capabilities=CAPABILITIES)
    world = replace(World.real(config), http=SeatedHttp(seat))
    manager: Manager = await nursery.start(run_in_world, config, world)
    await manager.synced()


async def hold_bare(nursery: trio.Nursery, ws_url: str, http_url: str, seat: Seat) -> None:
    """A plain trio-websocket connection, registered and proved once."""
    await nursery.start(_registered, ws_url, seat, None)


async def hold_pinged(nursery: trio.Nursery, ws_url: str, http_url: str, seat: Seat) -> None:
    """The same, and it would notice its link's death."""
    await nursery.start(_registered, ws_url, seat, PING_EVERY)


async def hold_socket(nursery: trio.Nursery, ws_url: str, http_url: str, seat: Seat) -> None:
    """A socket on which the server is spoken to no more."""
    await nursery.start(_waiting, ws_url)


async def _registered(
    ws_url: str, seat: Seat, ping_every: float | None, *, task_status: "trio.TaskStatus[None]"
) -> None:
    async with open_websocket_url(ws_url) as socket:
        for frame in (register(seat, Truth()), echo(seat)):
            await socket.send_message(json.dumps(frame))
            await socket.get_message()
        task_status.started()
        while ping_every is not None:
            await trio.sleep(ping_every)
            await socket.ping()
        await trio.sleep_forever()


async def _waiting(ws_url: str, *, task_status: "trio.TaskStatus[None]") -> None:
    host, _, port = ws_url.removeprefix("ws://").partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    await stream.send_all(UPGRADE)
    await stream.receive_some()
    task_status.started()
    await stream.receive_some()


Hold = Callable[[trio.Nursery, str, str, Seat], Awaitable[None]]

KINDS: dict[str, Hold] = {
    "worker_state": hold_manager,
    "bare trio-websocket": hold_bare,
    "the same, pinging": hold_pinged,
    "a task at a socket": hold_socket,
}


# --- the process that is measured -------------------------------------------------------------------------------------


async def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Open one that is forgotten again, for everything that is made only once; then all others, and watch them."""
    hold = KINDS[order["kind"]]
    at = order["ws_url"], order["http_url"]
    first, *seats = (Seat(**seat) for seat in order["seats"])
    async with trio.open_nursery() as nursery:
        await hold(nursery, *at, first)
        nursery.cancel_scope.cancel()
    before, objects_before, tasks_before = settled()
    gc.disable()  # a collection looks at all of them; that is what opening ten thousand would be spent on
    async with trio.open_nursery() as nursery:
        together = trio.CapacityLimiter(TOGETHER)

        async def start(seat: Seat) -> None:
            async with together:
                await hold(nursery, *at, seat)

        began = time.process_time()
        async with trio.open_nursery() as opening:
            for seat in seats:
                opening.start_soon(start, seat)
        opened = time.process_time() - began
        await trio.sleep(order["settle"])
        gc.enable()
        held, objects, tasks = settled()
        gc.freeze()
        began, since = time.process_time(), time.monotonic()
        await trio.sleep(order["watch"])
        used, seconds = time.process_time() - began, time.monotonic() - since
        each = len(seats)
        result = {
            "objects": (objects - objects_before) / each,
            "tasks": (tasks - tasks_before - 1) / each,
            "opening_cpu_ms": opened / each * 1e3,
            "cpu_s_per_hour": used / seconds * 3600 / each,
        }
        if before is not None and held is not None:
            result["kib"] = (held["now"] - before["now"]) / each
        print(json.dumps(result), flush=True)
        os._exit(0)  # ten thousand farewells are measured by nobody


def measure_here() -> None:
    """What the process does that `main` starts: read the order, measure, print."""
    logging.getLogger("worker_state").handlers = [logging.NullHandler()]
    logging.getLogger("worker_state").propagate = False
    trio.run(measure, json.load(sys.stdin))


# --- the comparison ---------------------------------------------------------------------------------------------------


def compare(server: Server, options: argparse.Namespace) -> dict[int, dict[str, list[dict[str, float]]]]:
    """All kinds at all sizes, forwards and backwards by turns."""
    found: dict[int, dict[str, list[dict[str, float]]]] = {}
    for count in options.workers:
        samples = found[count] = {kind: [] for kind in KINDS}
        for number in range(options.repeat):
            for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                print(f"{count} × {kind}, {number + 1} of {options.repeat}", file=sys.stderr, flush=True)
                samples[kind].append(measure_in_process(server, kind, count, options.settle, options.watch))
    return found


def measure_in_process(server: Server, kind: str, count: int, settle: float, watch: float) -> dict[str, float]:
    order = {
        "kind": kind,
        "ws_url": server.ws_url,
        "http_url": server.http_url,
        "seats": [asdict(seat) for seat in server.seats(count + 1)],
        "settle": settle,
        "watch": watch,
    }
    done = subprocess.run(
        [sys.executable, "-c", "from benchmarks.idle import measure_here; measure_here()"],
        input=json.dumps(order).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120 + settle + watch + count * 0.1,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def table(count: int, samples: dict[str, list[dict[str, float]]]) -> Table:
    columns = {
        "kib": ("KiB", 1),
        "cpu_s_per_hour": ("CPU s an hour", 2),
        "tasks": ("tasks", 0),
        "objects": ("objects", 0),
    }
    rows = []
    for kind, figures in samples.items():
        cells = [
            Sample(tuple(each[key] for each in figures)).show(digits) if all(key in each for each in figures) else "?"
            for key, (_, digits) in columns.items()
        ]
        ours = samples["worker_state"]
        ratio = "?"
        if all("kib" in each for each in ours):
            ratio = (
                Sample(tuple(each["kib"] for each in ours)).over(Sample(tuple(each["kib"] for each in figures))).show()
            )
        rows.append([kind, *cells, ratio])
    heads = ["each of them", *(name for name, _ in columns.values()), "worker_state's KiB / this"]
    return Table(f"{count} idle in one process", heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.idle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1000], metavar="N", help="(default: 1000)")
    parser.add_argument("--repeat", type=int, default=1, metavar="R")
    parser.add_argument("--settle", type=float, default=65.0, metavar="S", help="seconds before (default: 65)")
    parser.add_argument("--watch", type=float, default=60.0, metavar="S", help="seconds watched (default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    options = parser.parse_args()
    if min(*options.workers, options.repeat) < 1 or options.settle < 0 or options.watch <= 0:
        parser.error("--workers and --repeat must be at least 1, --settle at least 0, --watch more than 0")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if max(options.workers) + FILES_BESIDE > hard:
        parser.error(f"{max(options.workers)} workers need more open files than the {hard} that this system allows")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, max(options.workers) + FILES_BESIDE), hard))
    pin_client()
    with Server() as server:
        found = compare(server, options)
    for count, samples in found.items():
        table(count, samples).show()
    write_json(options.json, "idle", {"settle": options.settle, "watch": options.watch, "kinds": found})


if __name__ == "__main__":
    main()
