"""Small fleets in virtual time: from one worker to two hundred, at a server that could take all of them in no time.

What storms of thousands ask of a rule is to come one after the other; what these ask is to find the server again soon.
Each cell is a number of workers, a capacity, what a dial meets while the server is away, and an outage that is drawn
anew for each try, by 30 % more or less, so that no fixed schedule meets the return by luck; all rules get the same.

"Late" are the seconds from the return until 99 % are registered, less the shortest possible. Dials are counted while
the server is away, for each worker in a minute; those of an outage of less than a minute are those of one. A rule with
more than 40 of them hammers, and one that leaves a worker out for a quarter of an hour loses it: neither is compared
in that cell.
"""

import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from rich.console import Console
from rich.progress import track

from benchmarks.queues import Storm, run
from benchmarks.report import Table, percentile
from benchmarks.rules import OURS, RESETS, RULES

Front = Literal["refuses", "closes", "502", "503", "silent", "holds"]

OUTAGES = (1, 5, 15, 60, 240, 600, 900)
FRONTS: tuple[Front, ...] = ("refuses", "closes", "502", "503", "silent", "holds")
CAPACITIES = (50, 1_000)
TRIES = {1: 100, 10: 20, 50: 6, 200: 3}
"""Runs of each cell, by the number of workers: what many do at once says by itself how they are spread."""
VARIED = 0.3
"""By which share an outage is longer or shorter, at most."""
HAMMER = 40
"""More dials a minute than this, and a rule is no longer polite."""
CLEARLY = 0.5
"""Seconds by which a rule is ahead before that counts."""

CELLS: dict[str, Storm] = {
    f"{workers} at {capacity:,}, {front}, D {down}": Storm(
        workers=workers, capacity=capacity, down=down, backlog=128, front=front
    )
    for workers in TRIES
    for front in FRONTS
    for down in OUTAGES
    for capacity in CAPACITIES
}


@dataclass(frozen=True, slots=True)
class Job:
    """One rule in one cell."""

    cell: str
    storm: Storm
    rule: str
    tries: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it."""

    job: Job
    late: tuple[float, ...]
    """Seconds, try by try; inf: somebody was lost. They end with the first try that hammers."""
    dials: float
    """While the server is away: of each worker in a minute."""

    @property
    def hammers(self) -> bool:
        return self.dials > HAMMER

    @property
    def loses(self) -> bool:
        return math.inf in self.late

    @property
    def compared(self) -> bool:
        return not self.hammers and not self.loses

    @property
    def mean(self) -> float:
        return statistics.fmean(self.late)

    @property
    def most(self) -> float:
        """The 95th percentile."""
        return percentile(self.late, 0.95)


def outage(cell: str, usual: float, number: int) -> float:
    """Of one try. The first is drawn, the others follow in steps of the golden ratio, so that few are enough."""
    turn = (Random(cell).random() + number * (math.sqrt(5) - 1) / 2) % 1.0
    return usual * (1.0 + VARIED * (2.0 * turn - 1.0))


def measure(job: Job) -> Figures:
    """In whichever process."""
    late, knocked = [], []
    for number in range(job.tries):
        storm = replace(job.storm, down=outage(job.cell, job.storm.down, number))
        minutes = max(1.0, storm.down / 60)
        # Enough to tell a hammer, which is not worth the time that its dials take.
        limit = math.ceil(2 * HAMMER * (minutes + 1))
        outcome = run(storm, RULES[job.rule], seed=number, resets=job.rule in RESETS, most_dials=limit)
        late.append(outcome.seconds_99 - storm.ideal(0.99))
        knocked.append(outcome.knocks * storm.down / 60 / minutes)
        if knocked[-1] > 2 * HAMMER:
            break
    return Figures(job, tuple(late), statistics.fmean(knocked))


def measure_all(jobs: Sequence[Job], processes: int) -> list[Figures]:
    """All of them, with a bar."""

    def shown(done: Iterable[Figures]) -> list[Figures]:
        quiet = not sys.stderr.isatty()
        return list(track(done, "small fleets", len(jobs), console=Console(stderr=True), disable=quiet))

    if processes == 1:
        return shown(map(measure, jobs))
    with ProcessPoolExecutor(processes) as pool:
        return shown(pool.map(measure, jobs, chunksize=8))


def planned(rules: Sequence[str], texts: Sequence[str], times: int, workers: int | None) -> list[Job]:
    """Each rule in each cell whose name contains one of these texts; so many times as often as usual."""
    return [
        Job(cell, storm, rule, times * TRIES[storm.workers])
        for cell, storm in CELLS.items()
        if any(text in cell for text in texts) and workers in (None, storm.workers)
        for rule in rules
    ]


# --- tables -----------------------------------------------------------------------------------------------------------


def show(found: list[Figures], rules: Sequence[str]) -> None:
    by_rule(found, rules).show()
    by_front(found, rules).show()
    if OURS in rules:
        ours_by_outage(found).show()
        if len(rules) > 1:
            ahead(found).show()


def by_rule(found: list[Figures], rules: Sequence[str]) -> Table:
    """All rules. Each is set beside ours in the cells in which both are compared."""
    ours = {each.job.cell: each for each in found if each.job.rule == OURS and each.compared}
    rows = []
    for rule in rules:
        cells = [each for each in found if each.job.rule == rule]
        fair = [each for each in cells if each.compared]
        both = [each for each in fair if each.job.cell in ours]
        there = [ours[each.job.cell] for each in both]
        rows.append(
            (
                -len(fair),
                [
                    rule,
                    str(len(fair)),
                    str(sum(each.hammers for each in cells)),
                    str(sum(each.loses and not each.hammers for each in cells)),
                    _mean(each.mean for each in fair),
                    _mean(each.most for each in fair),
                    _mean(each.mean for each in there),
                    str(sum(mine.mean - each.mean > CLEARLY for each, mine in zip(both, there, strict=True))),
                    str(sum(each.mean - mine.mean > CLEARLY for each, mine in zip(both, there, strict=True))),
                    _mean(each.dials for each in fair),
                ],
            )
        )
    rows.sort(key=lambda row: (row[1][0] != OURS, row[0], float(row[1][4].replace("-", "inf"))))
    columns = ["rule", "compared", "hammers", "loses", "late s", "95 %", "ours there", "ahead", "behind", "dials / min"]
    return Table(f"Small fleets, {_cells(found)} cells: means", columns, [row for _, row in rows])


def by_front(found: list[Figures], rules: Sequence[str]) -> Table:
    """Where a rule hammers or loses somebody the number of cells that are left stands behind."""
    rows = []
    for rule in rules:
        row = [rule]
        for front in FRONTS:
            cells = [each for each in found if each.job.rule == rule and each.job.storm.front == front]
            fair = [each.mean for each in cells if each.compared]
            row.append(_mean(fair) + (f" ({len(fair)})" if len(fair) < len(cells) else ""))
        rows.append(row)
    return Table("Small fleets: mean seconds late, by what a dial meets", ["rule", *FRONTS], rows)


def ours_by_outage(found: list[Figures]) -> Table:
    """Ours alone: mean / 95th percentile, both capacities together."""
    rows = []
    for workers in TRIES:
        for front in FRONTS:
            row = [f"{workers}, {front}"]
            for down in OUTAGES:
                late = [
                    time
                    for each in found
                    if each.job.rule == OURS
                    and (each.job.storm.workers, each.job.storm.front, each.job.storm.down) == (workers, front, down)
                    for time in each.late
                ]
                row.append(f"{_seconds(statistics.fmean(late))} / {_seconds(percentile(late, 0.95))}" if late else "")
            if any(row[1:]):
                rows.append(row)
    return Table(f"{OURS}: seconds late, mean / 95 %, by outage", ["workers", *(f"{s} s" for s in OUTAGES)], rows)


def ahead(found: list[Figures]) -> Table:
    """Every cell in which a rule that does not hammer is clearly ahead of ours, with the best of those."""
    rows = []
    for mine in found:
        if mine.job.rule != OURS:
            continue
        others = [each for each in found if each.job.cell == mine.job.cell and each.job.rule != OURS and each.compared]
        before = sorted((each for each in others if mine.mean - each.mean > CLEARLY), key=lambda each: each.mean)
        if before:
            best = before[0]
            rows.append(
                [
                    mine.job.cell,
                    _both(mine),
                    best.job.rule,
                    _both(best),
                    _seconds(mine.mean - best.mean),
                    str(len(before)),
                ]
            )
    columns = ["cell", "ours", "the best", "late s", "ahead by", "rules ahead"]
    return Table(f"Cells where a rule is ahead by more than {CLEARLY} s: {len(rows)} of {_cells(found)}", columns, rows)


def as_json(found: list[Figures]) -> list[dict[str, Any]]:
    """Seconds; null for never."""
    return [
        {
            "cell": each.job.cell,
            **{name: getattr(each.job.storm, name) for name in ("workers", "capacity", "front", "down")},
            "rule": each.job.rule,
            "tries": len(each.late),
            "mean": None if each.loses else round(each.mean, 3),
            "p95": None if each.most == math.inf else round(each.most, 3),
            "dials": round(each.dials, 2),
            "hammers": each.hammers,
            "loses": each.loses,
        }
        for each in found
    ]


def _cells(found: list[Figures]) -> int:
    return len({each.job.cell for each in found})


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < math.inf else "X"


def _both(each: Figures) -> str:
    return f"{_seconds(each.mean)} / {_seconds(each.most)}"


def _mean(values: Iterable[float]) -> str:
    values = list(values)
    return f"{statistics.fmean(values):.2f}" if values else "-"
