"""What importing worker_state for a worker costs, and whose share that is.

    python -m benchmarks.importtime [--repeat N] [--json FILE]

Runs `from worker_state import run_state_manager` in fresh interpreters under `python -X importtime`, several times,
with the byte code already compiled. *Own* adds up what the modules of a package take themselves and is additive; *with
what it pulls in* is the first import of a package with everything that it was the first to need, so that of two
packages which share something only the first one shows it. The whole is also measured without the tracing, as CPU
time of a process that imports this less that of one that imports nothing.

Warns when something was imported that only the command line or the development server needs.
"""

import argparse
import re
import resource
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.report import Sample, Table, write_json

OURS = "worker_state"
STATEMENT = f"from {OURS} import run_state_manager"
UNWANTED = ("typer", "click", "rich", "worker_state.devserver", "worker_state.cli", "asyncio")
"""What a worker never needs. (httpx imports click and rich for a command of its own, where click is installed.)"""
LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)")
STANDARD = "the rest of the standard library"


@dataclass(frozen=True)
class Module:
    """One line of the trace; times in microseconds."""

    name: str
    own: int
    total: int

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def traced() -> list[Module]:
    """Everything that one worker has imported; modules of the interpreter's own start do not count."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", STATEMENT], stderr=subprocess.PIPE, check=True, timeout=60
    )
    found_modules = loaded()
    modules: list[Module] = []
    ours = False
    for line in done.stderr.decode().splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        own, total, indent, name = found.groups()
        modules.append(Module(name, int(own), int(total)))
        # A module's line comes after those of all that it imports; outermost ones begin without an indent. What comes
        # after ours is what it loads when it is asked for.
        ours = ours or name == OURS
        if not indent and not ours:
            modules.clear()
    # What is only tried for, and is not there, has a line as well.
    return [module for module in modules if module.name in found_modules]


@cache
def loaded() -> frozenset[str]:
    """The names of all modules that are there after the import."""
    statement = f"import sys; {STATEMENT}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", statement], stdout=subprocess.PIPE, check=True, timeout=60)
    return frozenset(done.stdout.decode().split())


def cpu_of(statement: str) -> float:
    """Milliseconds of CPU, user and system, of one interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3


def own_shares(modules: list[Module]) -> Counter[str]:
    """Microseconds by package; the standard library in one, but for ssl, which is worth a line."""
    shares: Counter[str] = Counter()
    for module in modules:
        package = module.package.lstrip("_") if module.package in ("ssl", "_ssl") else module.package
        known = package != "ssl" and package in sys.stdlib_module_names
        shares[STANDARD if known else package] += module.own
    return shares


def report(runs: list[list[Module]]) -> tuple[Table, dict[str, Any]]:
    shares = [own_shares(modules) for modules in runs]
    packages = sorted(
        {name for share in shares for name in share},
        key=lambda name: -statistics.median(share[name] for share in shares),
    )
    whole = Sample(tuple(sum(share.values()) / 1e3 for share in shares))
    rows = [["everything", whole.show(), "100 %", ""]]
    figures: dict[str, Any] = {}
    for package in packages:
        own = Sample(tuple(share[package] / 1e3 for share in shares))
        firsts = [module.total / 1e3 for modules in runs for module in modules if module.name == package]
        pulled = Sample(tuple(firsts)) if firsts else None
        name = f"{package} (ours)" if package == OURS else package
        rows.append([name, own.show(), f"{own.median / whole.median:.0%}", pulled.show() if pulled else ""])
        figures[package] = {"own_ms": own.as_json(), "pulled_in_ms": pulled.as_json() if pulled else None}
    title = f"{STATEMENT}, {len(runs[0])} modules, traced by the interpreter"
    table = Table(title, ("package", "own ms (range)", "share", "with what it pulls in, ms"), rows)
    return table, {"modules": len(runs[0]), "total_ms": whole.as_json(), "packages": figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeat", type=int, default=9, metavar="N", help="interpreters to start (default: 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error("--repeat must be at least 1")
    traced()  # compiles what is not compiled yet
    runs, cpu = [], []
    for number in range(arguments.repeat):
        runs.append(traced())
        statements = ["pass", STATEMENT]
        costs = {each: cpu_of(each) for each in (statements if number % 2 == 0 else reversed(statements))}
        cpu.append(costs[statements[1]] - costs[statements[0]])
    table, figures = report(runs)
    table.show()
    untraced = Sample(tuple(cpu))
    print(f"\nWithout the tracing: {untraced.show(1)} ms of CPU.")
    found = [name for name in UNWANTED if name in loaded()]
    for name in found:
        print(f"WARNING: {name} was imported, which a worker does not need.")
    if not found:
        print(f"Not imported, as it should be: {', '.join(UNWANTED)}.")
    write_json(arguments.json, "importtime", {**figures, "untraced_cpu_ms": untraced.as_json(), "unwanted": found})


if __name__ == "__main__":
    main()
