"""Reconnect storms with real processes: N workers, a server that admits C a second, killed, D seconds down, back again.

    python -m benchmarks.storm_live [--scenario NAME…] [--rules NAME…] [--workers N] [--processes P] [--capacity C]
                                    [--backlog B] [--down D] [--ping-every S] [--repeat R] [--json FILE] [--list]
    python -m benchmarks.storm_live --draw FILE… [--to DIRECTORY] [--format svg|png]

The server runs in a process of its own on one core, the workers in P processes on the other. It is the development
server with its real rules and limited admission: slot k comes k / C seconds after it listens again, and admits one.
Each worker has a room of its own, and begins a job while the server is away. What counts is the server's view: a worker
is back when it is registered, its record shows that job, and its echo has come through.

`worker_state` is the real thing, a manager with its four actors for each worker. All other rules drive the same light
client, ours among them (`worker_state/light`), so that only the rule differs; `websockets/library` is the real package
on asyncio. r99 is the time until 99 % were back over the shortest possible time at the measured capacity. Rules take
turns forwards and backwards. A run does not count when the clients' loop or the server was too slow; the table says so.
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import SystemRandom
from typing import Any

import trio

from benchmarks.rules import RULES
from benchmarks.storm.machine import longest_queue, open_files, ports, too_little
from benchmarks.storm.pictures import draw
from benchmarks.storm.progress import Progress
from benchmarks.storm.run import Cores, Plan, blips, cold, storm
from benchmarks.storm.scenarios import SCENARIOS
from benchmarks.storm.tables import kept, sentence, tables, write
from worker_state import Timing

OURS = "worker_state"
LIGHT = f"{OURS}/light"
LIBRARY = "websockets/library"
RUN = {"storm": storm, "blip": blips, "cold": cold}
LIVED = 32.0
"""Seconds: a manager's link that has lived for less is taken for one that never really came back."""
SETTLED = 1.0
"""Seconds: a light client's rule is told that it has lived for an hour."""
PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to dialling sockets: one of them could dial itself while the server is away."""


def names() -> list[str]:
    """All that can be asked for with `--rules`."""
    return [OURS, LIGHT, LIBRARY, *(name for name in RULES if name != OURS)]


def plan(scenario: str, name: str, options: argparse.Namespace) -> Plan:
    """One run as it was asked for."""
    chosen = SCENARIOS[scenario]
    if options.backlog is not None:
        chosen = replace(chosen, limits={**chosen.limits, "backlog": options.backlog})
    kind = {OURS: "managers", LIBRARY: "library"}.get(name, "light") if chosen.kind != "cold" else "cold"
    return Plan(
        scenario=chosen,
        kind=kind,
        rule=OURS if name == LIGHT else name,
        workers=options.workers or chosen.workers,
        capacity=options.capacity,
        backlog=min(longest_queue(), max(4096, options.workers or chosen.workers)),
        down=options.down if options.down is not None else chosen.down or 5.0,
        settle=LIVED if kind == "managers" else SETTLED,
        processes=options.processes,
        ping_every=options.ping_every,
    )


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < 2:
            port = SystemRandom().choice(PORTS)
            try:
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found[0], found[1]


def cores() -> Cores:
    """The last core for the server, the first for the workers and for this process."""
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(available) < 2:
        print("One core only: both sides share it, and the figures are rough.", file=sys.stderr)
        return Cores(None, None)
    os.sched_setaffinity(0, set(available[:-1]))
    return Cores(available[0], available[-1])


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs, in order."""
    at = cores()
    runs: list[dict[str, Any]] = []
    rounds = product(options.scenario, range(options.repeat))
    ordered = [(s, r, name) for s, r in rounds for name in (options.rules if r % 2 == 0 else options.rules[::-1])]
    with Progress(len(ordered)) as progress:
        for scenario, repeat, name in ordered:
            asked = plan(scenario, name, options)
            progress.begins(f"{scenario}, {name}", asked)
            record = await RUN[asked.scenario.kind](asked, at, free_ports(), progress.shows)
            run = {"scenario": scenario, "rule": name, "repeat": repeat, **kept(asked, record)}
            runs.append(run)
            progress.line(sentence(run))
            if options.json is not None:
                write(options.json, runs)
    return runs


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storm_live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def one_of(known: list[str]) -> Callable[[str], str]:
        def parse(text: str) -> str:
            if text not in known:
                raise argparse.ArgumentTypeError(f"no {text!r} here; there are {', '.join(known)}")
            return text

        return parse

    every = [*SCENARIOS, "all"]
    parser.add_argument("--scenario", type=one_of(every), nargs="+", default=["roomy"], metavar="NAME", help="or all")
    parser.add_argument("--rules", type=one_of(names()), nargs="+", default=[OURS], metavar="NAME")
    parser.add_argument("--workers", type=int, metavar="N", help="(default: 2000; 200 for blips)")
    parser.add_argument("--processes", type=int, default=1, metavar="P", help="that share the workers and one core")
    parser.add_argument("--capacity", type=float, default=50.0, metavar="C", help="admissions a second (default: 50)")
    parser.add_argument("--backlog", type=int, metavar="B", help="of the kernel's queue, in place of the scenario's")
    parser.add_argument("--down", type=float, metavar="D", help="seconds, in place of the scenario's (mostly 5)")
    parser.add_argument(
        "--ping-every", type=float, default=Timing().ping_every, metavar="S", help="of the managers (default: theirs)"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="R")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every run")
    parser.add_argument("--list", action="store_true", help="say which scenarios and rules there are")
    parser.add_argument("--draw", type=Path, nargs="+", metavar="FILE", help="draw what was measured; needs matplotlib")
    parser.add_argument("--format", choices=["svg", "png"], default="svg", help="of the pictures")
    parser.add_argument("--to", type=Path, default=Path("benchmarks/results"), metavar="DIRECTORY")
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.list:
        print("scenarios:", *(f"  {each.name:<14} {each.text}" for each in SCENARIOS.values()), sep="\n")
        print("rules:", *(f"  {name}" for name in names()), sep="\n")
        return
    if "all" in options.scenario:
        options.scenario = list(SCENARIOS)
    if options.draw is not None:
        for picture in draw(options.draw, options.to, options.format):
            print(picture)
        return
    if options.rules != [OURS] and any(SCENARIOS[name].kind == "cold" for name in options.scenario):
        parser().error(f"a cold start is measured with --rules {OURS} only")
    whole = [options.repeat, options.processes, 1 if options.workers is None else options.workers]
    if min(whole) < 1 or options.capacity <= 0 or (options.down or 0) < 0 or options.ping_every <= 0:
        parser().error(
            "--workers, --processes, --repeat: at least 1; --capacity, --ping-every: more than 0; --down: not less"
        )
    workers = options.workers or max(SCENARIOS[name].workers for name in options.scenario)
    if options.processes > workers:
        parser().error("--processes must not be more than --workers")
    if missing := too_little(workers, options.processes, files=open_files(), ports=ports()):
        parser().error("; ".join(missing))
    if workers > longest_queue():
        print(f"The kernel's queue is cut to {longest_queue()} (net.core.somaxconn).", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runs = None
    try:
        runs = trio.run(measure, options)
    except* KeyboardInterrupt:
        print("Stopped; all processes were ended.", file=sys.stderr)
    if runs is None:
        sys.exit(130)
    tables(runs)


if __name__ == "__main__":
    main()
