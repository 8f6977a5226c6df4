"""What a run of storms keeps and shows: one line of JSON for each run, one table for each scenario."""

import json
import ssl
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Table, surroundings
from benchmarks.storm.record import Record
from benchmarks.storm.run import Plan
from benchmarks.storm.scenarios import SCENARIOS, limits

Run = dict[str, Any]
PLANNED = ("kind", "workers", "processes", "capacity", "down", "settle", "ping_every", "bound")


def kept(asked: Plan, record: Record) -> Run:
    """Everything about one run that is kept."""
    if asked.scenario.kind == "blip":
        return {"plan": {"kind": asked.kind, "workers": asked.workers}, **record.summary_of_cuts()}
    return {
        "plan": {
            **{name: getattr(asked, name) for name in PLANNED},
            "limits": limits(asked.scenario, asked.capacity, asked.backlog),
        },
        **record.summary(),
        **({"ssl_context_ms": round(ssl_context_ms(), 2)} if asked.scenario.kind == "cold" else {}),
        "curve": record.curve(),
        "by_second": record.by_second(),
    }


def ssl_context_ms(times: int = 10) -> float:
    """CPU of one `ssl.create_default_context()` on this machine at this hour: a yardstick that others have, too.

    What a start costs was asked for in milliseconds of a machine on which this takes 18 (faults.md, T26).
    """
    ssl.create_default_context()
    begun = time.process_time()
    for _ in range(times):
        ssl.create_default_context()
    return (time.process_time() - begun) / times * 1e3


def sentence(run: Run) -> str:
    """One line for one run."""
    if "cut" in run:
        return f"{run['scenario']}, {run['rule']}: {run['proved']['back']} of {run['cut']} back, {times_of(run)}"
    if SCENARIOS[run["scenario"]].kind == "cold":
        cost = f"{run['client_cpu_ms_each']:.2f} ms of CPU each"
        return f"{run['scenario']}: {run['back']} there, the last after {run['t100']} s, {cost}"
    ratio = "never" if run["r99"] is None else f"{run['r99']:.3f}"
    void = f"  DOES NOT COUNT: {', '.join(run['void'])}" if run["void"] else ""
    return (
        f"{run['scenario']}, {run['rule']}: {run['back']} of {run['plan']['workers']} back, r99 {ratio},"
        f" {run['dials_each']:.2f} dials each, {run['slots']['dead']} slots for the dead{void}"
    )


def times_of(run: Run) -> str:
    """How long it took."""
    each = (f"{name} after {run[name]['median']:.3f} s, p99 {run[name]['p99']:.3f}" for name in ("true", "proved"))
    return ", ".join(each)


def spread(values: list[float | None], digits: int) -> str:
    """`median (least – most)`; X stands for never."""
    sure = sorted(float("inf") if value is None else value for value in values)
    shown = [f"{each:.{digits}f}" if each < float("inf") else "X" for each in (sure[0], sure[-1])]
    median = statistics.median_low(sure)
    text = f"{median:.{digits}f}" if median < float("inf") else "X"
    return text if len(sure) == 1 else f"{text} ({shown[0]} – {shown[1]})"


def counted(runs: list[Run]) -> str:
    """How many there were, and how many of those do not count."""
    void = sum(bool(run["void"]) for run in runs)
    return f"{len(runs)}, {void} void" if void else f"{len(runs)}"


def processes_of(plan: dict[str, Any]) -> str:
    """Where the workers are."""
    return f"{plan['processes']} process{'es' if plan['processes'] > 1 else ''}"


def tables(runs: list[Run]) -> None:
    """One table for each scenario. CPU is of the workers' processes for each registration, KiB what they have resident
    for each worker, lag the 99th percentile of the slowest loop."""
    for scenario in dict.fromkeys(run["scenario"] for run in runs):
        special = {"blip": _table_of_cuts, "cold": _table_of_starts}.get(SCENARIOS[scenario].kind)
        if special is not None:
            special([run for run in runs if run["scenario"] == scenario])
            continue
        rows = []
        for rule in dict.fromkeys(run["rule"] for run in runs if run["scenario"] == scenario):
            mine = [run for run in runs if (run["scenario"], run["rule"]) == (scenario, rule)]
            good = [run for run in mine if not run["void"]] or mine
            rows.append(
                [
                    rule,
                    spread([run["back"] for run in good], 0),
                    spread([run["r99"] for run in good], 2),
                    spread([run["r100"] for run in good], 2),
                    spread([run["dials_each"] for run in good], 2),
                    spread([run["slots"]["dead"] for run in good], 0),
                    spread([run["client_cpu_ms_per_registration"] for run in good], 1),
                    spread([run["client_resident_kib_each"] for run in good], 0),
                    spread([run["lag_p99"] * 1e3 for run in good], 0),
                    counted(mine),
                ]
            )
        first = next(run for run in runs if run["scenario"] == scenario)["plan"]
        title = (
            f"{scenario}: {SCENARIOS[scenario].text}; {first['workers']} workers in {processes_of(first)},"
            f" {first['capacity']:g} a second,"
            f" {first['down']:g} s down, backlog {first['limits']['backlog']}, a ping every {first['ping_every']:g} s"
        )
        columns = ["rule", "back", "r99", "r100", "dials each", "dead slots", "CPU ms", "KiB", "lag ms", "runs"]
        Table(title, columns, rows).show()


def _table_of_cuts(runs: list[Run]) -> None:
    rows = []
    for rule in dict.fromkeys(run["rule"] for run in runs):
        mine = [run for run in runs if run["rule"] == rule]
        good = [run for run in mine if not run["void"]] or mine
        times = [
            spread([run[step][share] for run in good], 3) for step in ("true", "proved") for share in ("median", "p99")
        ]
        rows.append([rule, spread([run["proved"]["back"] for run in good], 0), *times, counted(mine)])
    columns = ["rule", "back", "true: median", "p99", "proved: median", "p99", "runs"]
    Table(f"One link cut, {runs[0]['cut']} times: seconds until back in the server's eyes", columns, rows).show()


def _table_of_starts(runs: list[Run]) -> None:
    keys = {"back": 0, "t99": 1, "t100": 1, "dials_each": 2, "client_cpu_ms_each": 2}
    row = [
        runs[0]["rule"],
        *(spread([run[key] for run in runs], digits) for key, digits in keys.items()),
        spread([run["client_cpu_ms_each"] / run["ssl_context_ms"] for run in runs], 3),
        counted(runs),
    ]
    first = runs[0]["plan"]
    columns = ["rule", "there", "99 % s", "all s", "dials each", "CPU ms each", "of an SSL context", "runs"]
    Table(
        f"{runs[0]['scenario']}: {first['workers']} workers started at once in {processes_of(first)}", columns, [row]
    ).show()


def write(path: Path, runs: list[Run]) -> None:
    """One line for each run: the figures are many, and nobody reads them by eye."""
    lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)
    head = json.dumps({"benchmark": "storm_live", "surroundings": surroundings()})
    path.write_text(f'{head[:-1]}, "runs": [\n{lines}\n]}}\n', "utf-8")
