"""Reconnect storms in virtual time: our rule and the published ones, from a thousand workers to a million.

    python -m benchmarks.storm_virtual [--quick] [--rules NAME…] [--scenario TEXT…] [--sets NAME…] [--workers N]
                                       [--seeds N] [--alone N] [--jobs J] [--curves] [--json FILE]

The `Rule` objects are the very ones that a live worker asks; server, kernels and network are `benchmarks.queues`, the
storms `benchmarks.virtual_storms`: those that our parameters were tuned on, and those held out. Without options ours
goes through all storms of up to 200,000 workers, and every rule through those of up to 5,000; a few minutes. `--sets
large` is a million workers, which takes minutes for each storm; `--sets small` are the fleets of one worker to two
hundred, which have rules and tables of their own (`benchmarks.small_fleets`), and `--workers` picks among those.
`--scenario` picks the storms whose names contain the text, `--workers` puts another number of workers into those, with
the capacity grown alike.

r99 is the time from the server's return until 99 % are registered, over the shortest possible; "late" the difference
in seconds; "dials" those after the return for each registration; "dead" the slots spent on clients that had given up;
"peak" the most dials in a second over the capacity. `X`: never reached. One worker alone is measured as well: how long
after the trouble's end it is registered again, the median and the 99th percentile of many tries.
"""

import argparse
import math
import os
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import small_fleets
from benchmarks.queues import Outcome, Show, Storm, run
from benchmarks.report import Table, percentile, write_json
from benchmarks.rules import ABLATIONS, OURS, PEERS, RESETS, RULES
from benchmarks.virtual_storms import FRESH, FRONTS, HELD_OUT, LARGE, LARGEST, NEW, SHORT, SMALL, TUNED, UNSEEN

SETS = {
    "tuned": TUNED,
    "fronts": FRONTS,
    "held out": HELD_OUT,
    "fresh": FRESH,
    "unseen": UNSEEN,
    "new": NEW,
    "short": SHORT,
    "large": LARGE,
}
SMALL_FLEETS = "small"
USUAL = ("tuned", "held out", "short")
QUICK = ("queue 128, 2,000 at 100", "all accepted, 3,000 at 100", "503, 2,000 at 50", "front closes, 2,000 at 50, D 60")
QUICK_RULES = (OURS, "full jitter 20", "websockets", "today's worker", "ours without patience")
MOST_DIALS = 400
"""For each worker on average; a rule that needs more is a hammer, and its run ends there."""

MOST_DIALS_ALONE = 20_000

ALONE: dict[str, Storm] = {
    "cable": Storm(workers=1, capacity=1_000, down=0),
    "refused 5 s": Storm(workers=1, capacity=1_000, down=5),
    "refused 60 s": Storm(workers=1, capacity=1_000, down=60),
    "refused 600 s": Storm(workers=1, capacity=1_000, down=600),
    "silent 5 s": Storm(workers=1, capacity=1_000, down=5, front="silent"),
    "silent 600 s": Storm(workers=1, capacity=1_000, down=600, front="silent"),
    "closed 600 s": Storm(workers=1, capacity=1_000, down=600, front="closes"),
}
"""What one worker may go through, with a server that is otherwise idle."""


@dataclass(frozen=True, slots=True)
class Job:
    """One rule in one storm."""

    which: str
    scenario: str
    storm: Storm
    rule: str
    seed: int


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it."""

    job: Job
    outcome: Outcome

    @property
    def r99(self) -> float:
        return self.outcome.r99(self.job.storm)


def simulate(job: Job, show: Show = lambda done, of: None) -> Done:
    """In whichever process."""
    most = MOST_DIALS if job.storm.workers > 1 else MOST_DIALS_ALONE
    resets = job.rule in RESETS
    return Done(job, run(job.storm, RULES[job.rule], seed=job.seed, resets=resets, most_dials=most, progress=show))


def simulate_all(jobs: list[Job], processes: int) -> list[Done]:
    """All of them, with a bar; the largest first, so that none is left over at the end."""
    jobs = sorted(jobs, key=lambda job: -job.storm.workers)
    done: list[Done] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        whole = progress.add_task("storms", total=len(jobs))
        for each in _done_by_one(jobs, progress) if processes == 1 else _done_by_many(jobs, processes):
            done.append(each)
            progress.advance(whole)
    return done


def _done_by_one(jobs: list[Job], progress: Progress) -> Iterator[Done]:
    bar = progress.add_task("")

    def show(registered: int, workers: int) -> None:
        progress.update(bar, completed=registered, total=workers)

    for job in jobs:
        progress.update(bar, description=f"{job.rule}: {job.scenario}", completed=0, total=job.storm.workers)
        yield simulate(job, show)


def _done_by_many(jobs: list[Job], processes: int) -> Iterator[Done]:
    with ProcessPoolExecutor(processes) as pool:
        for future in as_completed([pool.submit(simulate, job) for job in jobs]):
            yield future.result()


# --- tables -----------------------------------------------------------------------------------------------------------


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < math.inf else "X"


def seconds(value: float) -> str:
    return f"{value:.1f}" if value < math.inf else "X"


def by_storm(done: list[Done], rule: str, which: str) -> Table:
    """One rule, storm by storm; medians over the seeds."""
    rows = []
    found = [each for each in done if each.job.rule == rule and each.job.which == which]
    for scenario in [name for name in SETS[which] if any(each.job.scenario == name for each in found)]:
        runs = [each for each in found if each.job.scenario == scenario]
        storm, middle = runs[0].job.storm, statistics.median
        rows.append(
            [
                scenario,
                seconds(storm.ideal()),
                str(max(each.outcome.never for each in runs)),
                ratio(middle(each.r99 for each in runs)),
                seconds(middle(each.outcome.seconds_99 - storm.ideal(0.99) for each in runs)),
                ratio(middle(each.outcome.dials for each in runs)),
                f"{middle(each.outcome.dead for each in runs):.0f}",
                f"{middle(each.outcome.peak for each in runs):.0f}",
            ]
        )
    columns = [f"{rule}, storms {which}", "N/C s", "never back", "r99", "late s", "dials", "dead", "peak / C"]
    return Table(f"{rule}: storms {which}", columns, rows)


def by_rule(done: list[Done], rules: list[str]) -> Table:
    """All rules in the same storms; without the short ones, where a ratio says little."""
    rows = []
    done = [each for each in done if each.job.which != "short"]
    common = set[tuple[str, int]].intersection(
        *({(each.job.scenario, each.job.seed) for each in done if each.job.rule == rule} for rule in rules)
    )
    for rule in rules:
        runs = [each for each in done if each.job.rule == rule and (each.job.scenario, each.job.seed) in common]
        ratios = [each.r99 for each in runs]
        workers = sum(each.job.storm.workers for each in runs)
        dials = [math.inf if each.outcome.hammered else each.outcome.dials for each in runs]
        rows.append(
            [
                rule,
                str(sum(each.r99 == math.inf for each in runs)),
                f"{100 * sum(each.outcome.never for each in runs) / workers:.1f}",
                ratio(statistics.median(ratios)),
                ratio(max(ratios)),
                ratio(statistics.median(dials)),
                ratio(max(dials)),
                f"{100 * sum(each.outcome.dead for each in runs) / workers:.0f}",
                f"{statistics.median(each.outcome.peak for each in runs):.0f}",
            ]
        )
    rows.sort(key=lambda row: (row[0] != OURS, row[0] in ABLATIONS, int(row[1]), float(row[3].replace("X", "inf"))))
    columns = ["rule", "X", "never back %", "r99", "worst", "dials", "most", "dead slots %", "peak / C"]
    return Table(f"All rules in the same {len(common)} storms: medians, and the worst", columns, rows)


def alone(done: list[Done], rules: list[str]) -> Table:
    """One worker: median / 99th percentile of the seconds from the trouble's end to the registration."""
    rows = []
    for rule in rules:
        row = [rule]
        for trouble in ALONE:
            digits = ratio if trouble == "cable" else seconds
            row.append(" / ".join(digits(value) for value in median_and_99(done, rule, trouble)))
        rows.append(row)
    return Table("One worker alone: seconds after the trouble's end, median / 99 %", ["rule", *ALONE], rows)


def median_and_99(done: list[Done], rule: str, trouble: str) -> tuple[float, float]:
    """Of one rule's many tries at one trouble."""
    times = [each.outcome.seconds_all for each in done if (each.job.rule, each.job.scenario) == (rule, trouble)]
    return percentile(times, 0.5), percentile(times, 0.99)


def verdict(done: list[Done]) -> Table:
    """Ours, in one line for each set."""
    rows = []
    for which in SETS:
        runs = [each for each in done if each.job.rule == OURS and each.job.which == which]
        if not runs:
            continue
        ratios = [each.r99 for each in runs]
        worst = max(runs, key=lambda each: each.r99)
        rows.append(
            [
                which,
                str(len(runs)),
                str(sum(each.outcome.never for each in runs)),
                ratio(statistics.median(ratios)),
                ratio(worst.r99),
                worst.job.scenario,
                ratio(statistics.median(each.outcome.dials for each in runs)),
                ratio(max(each.outcome.dials for each in runs)),
            ]
        )
    columns = ["storms", "runs", "never back", "r99", "worst", "in", "dials", "most"]
    return Table(f"{OURS} in short", columns, rows)


# --- what to run ------------------------------------------------------------------------------------------------------


def planned(options: argparse.Namespace) -> list[Job]:
    jobs = []
    for which in (name for name in options.sets if name != SMALL_FLEETS):
        for scenario, usual in SETS[which].items():
            if not any(text in scenario for text in options.scenario):
                continue
            storm = usual
            if options.workers:
                share = options.workers / usual.workers
                storm = replace(usual, workers=options.workers, capacity=usual.capacity * share)
            for rule in options.rules:
                if options.asked or storm.workers <= (LARGEST if rule == OURS else SMALL):
                    jobs += [Job(which, scenario, storm, rule, seed) for seed in range(options.seeds)]
    if options.alone:
        jobs += [
            Job("alone", trouble, storm, rule, seed)
            for trouble, storm in ALONE.items()
            for rule in options.rules
            for seed in range(options.alone)
        ]
    return jobs


def planned_small(options: argparse.Namespace) -> list[small_fleets.Job]:
    if SMALL_FLEETS not in options.sets:
        return []
    return small_fleets.planned(options.small_rules, options.scenario, options.seeds, options.workers)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storm_virtual",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a few rules in a few small storms: seconds")
    parser.add_argument("--rules", nargs="+", metavar="NAME", help=f"only these, of: {', '.join(RULES)}")
    parser.add_argument("--scenario", nargs="+", metavar="TEXT", help="only storms whose names contain one of these")
    parser.add_argument(
        "--sets",
        nargs="+",
        metavar="NAME",
        help=f"of: {', '.join((*SETS, SMALL_FLEETS))} (default: {', '.join(USUAL)})",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="so many in each storm, with a capacity to match")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each (default: %(default)s)")
    parser.add_argument("--alone", type=int, metavar="N", help="tries of one worker alone (default: 200; 0: none)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes (default: cores)")
    parser.add_argument("--curves", action="store_true", help="registrations and dials by the second in the JSON, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    options = parser.parse_args(arguments)
    # Whoever names storms, rules or sets has asked for the large ones as well.
    options.asked = bool(options.sets or options.scenario or options.workers)
    options.small_rules = options.rules or [OURS, *PEERS]
    options.rules = options.rules or list(QUICK_RULES if options.quick else RULES)
    options.sets = options.sets or list(USUAL)
    options.scenario = options.scenario or list(QUICK if options.quick else ("",))
    if options.alone is None:
        options.alone = 0 if options.asked else 20 if options.quick else 200
    for given, known in ((options.rules, RULES), (options.sets, (*SETS, SMALL_FLEETS))):
        for name in given:
            if name not in known:
                parser.error(f"there is no {name!r}; there are: {', '.join(known)}")
    if options.seeds < 1 or options.jobs < 1 or options.alone < 0 or (options.workers or 1) < 1:
        parser.error("--seeds, --jobs and --workers must be at least 1, --alone at least 0")
    if not planned(options) and not planned_small(options):
        parser.error("no storm has such a name")
    return options


def as_json(done: list[Done], curves: bool) -> list[dict[str, Any]]:
    found = []
    for each in done:
        job, outcome = each.job, asdict(each.outcome)
        if not curves:
            del outcome["curve"], outcome["dialled"]
        figures = {name: None if value == math.inf else value for name, value in outcome.items()}
        r99 = None if each.r99 == math.inf else each.r99
        found.append(
            {"set": job.which, "scenario": job.scenario, "storm": asdict(job.storm), "rule": job.rule, "seed": job.seed}
            | {"r99": r99, **figures}
        )
    return found


def alone_as_json(done: list[Done], rules: list[str]) -> list[dict[str, Any]]:
    """Seconds; null for never."""
    found = []
    for rule, trouble in product(rules, ALONE):
        median, most = (None if value == math.inf else value for value in median_and_99(done, rule, trouble))
        found.append({"rule": rule, "trouble": trouble, "median": median, "p99": most})
    return found


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    small = small_fleets.measure_all(planned_small(options), options.jobs)
    done = simulate_all(planned(options), options.jobs)
    storms = [each for each in done if each.job.which != "alone"]
    singles = [each for each in done if each.job.which == "alone"]
    for rule in options.rules:
        if rule == OURS or len(options.rules) <= 2:
            for which in options.sets:
                if any(each.job.rule == rule and each.job.which == which for each in storms):
                    by_storm(storms, rule, which).show()
    if len(options.rules) > 1 and any(each.job.which != "short" for each in storms):
        by_rule(storms, options.rules).show()
    if options.alone:
        alone(singles, options.rules).show()
    if OURS in options.rules and storms:
        verdict(storms).show()
    if small:
        small_fleets.show(small, options.small_rules)
    singly = alone_as_json(singles, options.rules) if options.alone else []
    results = {"runs": as_json(storms, options.curves), "alone": singly}
    if small:
        results["small"] = small_fleets.as_json(small)
    write_json(options.json, "storm_virtual", results)


if __name__ == "__main__":
    main()
