"""What ONE worker costs in a process of its own, beside a client by hand that sends the same frames.

    python -m benchmarks.one [--before SRC] [--repeat R] [--settle S] [--idle S] [--changes N] [--reconnects N]
                             [--live S] [--json FILE]

Each repeat starts fresh processes side by side, against the development server in one more: a worker of this checkout,
a client that uses trio-websocket and httpx by hand (`benchmarks.one_client`), and with `--before` a worker of an older
checkout, named by its `src`. All are registered and idle first, until the frequent proofs of a new registration are
over; their resident memory and the CPU of an idle stretch are taken then. After that, one after the other: status
changes, each waited for, and connections that the server resets. "True again" is when the server has accepted the
registration with the true status and an echo has come back. The client by hand dials again at once; a worker waits up
to 0.3 s first. CPU is that of the process, all threads. Ratios and differences are taken within a repeat.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.held import memory
from benchmarks.report import Sample, Table, write_json
from benchmarks.server import Server, end, pin_client

ROOT = Path(__file__).parents[1]
OURS, BEFORE, BARE = "worker_state", "before", "bare"
PROVED = 90.0
"""Seconds after which a worker has sent every kind of proof at least once."""


@dataclass(frozen=True)
class Figure:
    """A row of the table: what is measured, how it is set against the bare client, and what it may be at most."""

    name: str
    digits: int
    ratio: bool = False
    goal: float | None = None

    def against(self, ours: Sample, bare: Sample) -> Sample:
        if self.ratio:
            return ours.over(bare)
        return Sample(tuple(mine - theirs for mine, theirs in zip(ours.values, bare.values, strict=True)))

    def judged(self, against: Sample) -> str:
        """The goal, and whether the median reaches it."""
        if self.goal is None:
            return ""
        goal = f"at most {self.goal:g} times" if self.ratio else f"at most {self.goal:g} more"
        return f"{goal}: {'reached' if against.median <= self.goal else 'MISSED'}"


FIGURES = {
    "memory": Figure("MiB resident", 1, goal=4.0),
    "idle": Figure("CPU s of an idle hour", 2, goal=0.6),
    "frames": Figure("messages sent in an idle hour", 0),
    "change": Figure("CPU ms of a status change", 2, ratio=True),
    "reconnect": Figure("CPU ms of a reconnect", 2, ratio=True, goal=1.9),
    "back": Figure("s from a cut to true again", 3),
}


class Client:
    """One measured process, for as long as the context lasts. It is registered when the constructor returns."""

    def __init__(self, server: Server, kind: str, source: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.one_client", kind, server.ws_url, server.http_url]
        env = os.environ | {"PYTHONPATH": str(source)}
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ready = self.answer()
        self.peer_id: str = ready["peer_id"]
        if kind != BARE and not Path(ready["source"]).is_relative_to(source):
            raise RuntimeError(f"worker_state was imported from {ready['source']}, not from {source}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end(self._process)

    def send(self, do: str, **arguments: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a measured process has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def cpu(self) -> float:
        """Seconds that the command has taken."""
        return float(self.answer()["cpu"])

    def resident(self) -> dict[str, float]:
        """MiB, where the system tells them."""
        found = memory(self._process.pid)
        return {} if found is None else {"memory": found["now"] / 1024}


def measure(server: Server, sources: Mapping[str, Path], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All figures of all clients, once."""
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(Client(server, BARE if name == BARE else OURS, source))
            for name, source in sources.items()
        }
        time.sleep(options.settle)
        sent = {name: len(server.frames(client.peer_id)) for name, client in clients.items()}
        for client in clients.values():
            client.send("idle", seconds=options.idle)
        hours = options.idle / 3600
        found = {name: {"idle": client.cpu() / hours} for name, client in clients.items()}
        for name, client in clients.items():
            found[name]["frames"] = (len(server.frames(client.peer_id)) - sent[name]) / hours
            found[name] |= client.resident()
        for name, client in clients.items():
            client.send("change", count=options.changes)
            found[name]["change"] = client.cpu() / options.changes * 1e3
        cuts: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
        for _ in range(options.reconnects):
            time.sleep(options.live)
            for name, client in clients.items():
                cuts[name].append(cut(server, client))
        for name, each in cuts.items():
            found[name]["reconnect"] = statistics.median(cpu for cpu, _ in each) * 1e3
            found[name]["back"] = statistics.median(seconds for _, seconds in each)
        check_same_frames(server, clients, every=options.settle + options.idle >= PROVED)
    return found


def cut(server: Server, client: Client) -> tuple[float, float]:
    """Seconds of CPU, and from the cut until the client is back."""
    client.send("reconnect")
    client.answer()
    began = time.perf_counter()
    server.cut(client.peer_id)
    cpu = client.cpu()
    return cpu, time.perf_counter() - began


def check_same_frames(server: Server, clients: Mapping[str, Client], *, every: bool) -> None:
    """Raise unless our worker and the bare client have begun with the same frames; with `every`, unless all frames that
    either has sent are such as the other has sent, too."""
    ours, bare = (distinct(server.frames(clients[name].peer_id)) for name in (OURS, BARE))
    if ours[:2] != bare[:2]:
        raise RuntimeError(f"they begin with different frames:\n{ours[:2]}\n{bare[:2]}")
    if every and set(ours) != set(bare):
        raise RuntimeError(f"only one of them has sent these frames: {sorted(set(ours) ^ set(bare))}")


def distinct(frames: list[dict[str, Any]]) -> list[str]:
    """The frames without what is a client's own, each once, in the order of their first use."""
    register = next(frame for frame in frames if frame["type"] == "register")
    texts = []
    for frame in frames:
        text = json.dumps(frame | {"payload": None}, sort_keys=True)
        for name in ("peer_id", "room_id", "token", "id_token"):
            text = text.replace(register[name], f"<{name}>")
        texts.append(text)
    return list(dict.fromkeys(texts))


Found = dict[str, dict[str, Sample]]
"""By client and figure."""


def table(found: Found, options: argparse.Namespace) -> Table:
    names = list(found)
    others = [name for name in names if name != BARE]
    rows = []
    for key, figure in FIGURES.items():
        if not all(key in figures for figures in found.values()):
            continue
        samples = {name: figures[key] for name, figures in found.items()}
        against = {name: figure.against(samples[name], samples[BARE]) for name in others}
        compared = [("× " if figure.ratio else "") + against[name].show(figure.digits) for name in others]
        rows.append(
            [
                figure.name,
                *(samples[name].show(figure.digits) for name in names),
                *compared,
                figure.judged(against[OURS]),
            ]
        )
    title = f"One worker in one process, {options.idle:g} s idle, medians of {options.repeat} (range)"
    return Table(title, ["", *names, *(f"{name} against {BARE}" for name in others), f"goal of {OURS}"], rows)


def as_json(found: Found) -> dict[str, Any]:
    return {
        name: {
            key: sample.as_json() | {"against_bare": FIGURES[key].against(sample, found[BARE][key]).as_json()}
            for key, sample in figures.items()
        }
        for name, figures in found.items()
    }


def run(options: argparse.Namespace) -> Found:
    """All repeats; who begins changes with each."""
    sources = {OURS: options.src, **({BEFORE: options.before} if options.before else {}), BARE: options.src}
    runs = []
    for number in range(options.repeat):
        if sys.stderr.isatty():
            print(f"{number + 1} of {options.repeat}", file=sys.stderr, flush=True)
        order = list(sources) if number % 2 == 0 else list(reversed(sources))
        with Server() as server:
            runs.append(measure(server, {name: sources[name] for name in order}, options))
    return {
        name: {key: Sample(tuple(each[name][key] for each in runs)) for key in FIGURES if key in runs[0][name]}
        for name in sources
    }


def source(text: str) -> Path:
    """A folder from which worker_state can be imported."""
    path = Path(text).resolve()
    if not (path / "worker_state" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"there is no worker_state in {text}")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.one", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--src", type=source, default=ROOT / "src", metavar="SRC", help="what is measured (default: ours)"
    )
    parser.add_argument("--before", type=source, metavar="SRC", help="the src of an older checkout, measured as well")
    parser.add_argument("--repeat", type=int, default=3, metavar="R")
    parser.add_argument("--settle", type=float, default=65.0, metavar="S", help="seconds before (default: 65)")
    parser.add_argument("--idle", type=float, default=300.0, metavar="S", help="seconds of idling (default: 300)")
    parser.add_argument("--changes", type=int, default=400, metavar="N", help="status changes (default: 400)")
    parser.add_argument("--reconnects", type=int, default=5, metavar="N", help="cuts (default: 5)")
    parser.add_argument(
        "--live", type=float, default=31.0, metavar="S", help="seconds before each cut; below 30 a worker waits longer"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    options = parser.parse_args()
    if min(options.repeat, options.changes, options.reconnects) < 1 or min(options.settle, options.live) < 0:
        parser.error("--repeat, --changes and --reconnects must be at least 1, --settle and --live at least 0")
    if options.idle <= 0:
        parser.error("--idle must be more than 0")
    options.changes += options.changes % 2  # each worker ends as available as it began
    pin_client()
    found = run(options)
    table(found, options).show()
    sizes = {name: getattr(options, name) for name in ("settle", "idle", "changes", "reconnects", "live")}
    write_json(options.json, "one", {**sizes, "clients": as_json(found)})


if __name__ == "__main__":
    main()
