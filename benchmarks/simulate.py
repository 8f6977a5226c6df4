"""The long run of the simulation: many seeds, bounded in time, with every violation replayable by one command.

`--seeds N --first S --jobs J --minutes M`, `--json FILE`; `--seed S --trace` replays one. Exit 1: something was
violated; exit 2: nothing was, but in so many seeds a fault or a branch of
recovery never happened.
"""

import json
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.simulation.coverage import missing
from tests.simulation.plan import draw
from tests.simulation.runs import Outcome, Tally, replay_command, run_seed, share
from tests.simulation.world import simulate

ENOUGH = 500
"""Seeds in which everything has to have happened; fewer may miss a rare branch by chance."""


def replay(seed: int, *, trace: bool, who: str | None) -> int:
    """One seed again, with its whole timeline if wanted."""
    plan = draw(seed)
    print(plan)
    result = simulate(plan, whole_trace=trace)
    if trace:
        print("\n".join(result.trace.lines(who)))
    for each in result.violations:
        print(f"VIOLATION {each.judge}: {each.who} at {each.at:.3f} s: {each.what}")
    if not result.violations:
        print(f"nothing violated; {result.faults} faults took hold")
    return 1 if result.violations else 0


def run_all(first: int, count: int, jobs: int, minutes: float, console: Console) -> Tally:
    """The seeds in order, as many as the time allows."""
    tally, end = Tally(), time.monotonic() + 60 * minutes
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ProcessPoolExecutor(jobs, max_tasks_per_child=200) as pool:
        bar = progress.add_task("seeds", total=count)
        upcoming = iter(range(first, first + count))
        under_way: set[Future[Outcome]] = set()
        while True:
            while len(under_way) < 2 * jobs and time.monotonic() < end and (seed := next(upcoming, None)) is not None:
                under_way.add(pool.submit(run_seed, seed))
            if not under_way:
                return tally
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                tally.add(outcome)
                progress.advance(bar)
                progress.update(bar, description=f"{tally.took_hold} faults, {len(tally.failed)} seeds failed")
                for each in outcome.violations[:2]:
                    console.print(f"seed {outcome.seed}: {each.judge}: {each.who}: {each.what}", markup=False)


def report(tally: Tally, console: Console) -> None:
    """The figures, the violations, and what never happened."""
    hours = tally.worker_seconds / 3600
    table = Table("what", "figure", title="simulation")
    table.add_row("seeds", f"{tally.seeds}")
    table.add_row("faults that took hold", f"{tally.took_hold}")
    table.add_row("faults per CPU second", f"{tally.took_hold / max(tally.cpu, 1e-9):.0f}")
    table.add_row("simulated worker hours", f"{hours:.1f}")
    for name, values in (
        ("healed", tally.healed),
        ("healed, pauses asked for", tally.healed_slowly),
        ("exits", tally.exits),
    ):
        figures = f"{share(values, 0.5):.2f} / {share(values, 0.99):.2f} / {share(values, 1.0):.2f} s ({len(values)})"
        table.add_row(f"{name}: median / 99 % / longest", figures)
    console.print(table)
    kinds = Table("fault", "times", title="faults by kind")
    for name, times in tally.faults.most_common():
        kinds.add_row(name, str(times))
    console.print(kinds)
    if tally.failed:
        console.print(tally.complaint(), markup=False, highlight=False)


def as_json(tally: Tally) -> str:
    """The same for machines."""
    figures = {
        "seeds": tally.seeds,
        "faults": tally.took_hold,
        "cpu_seconds": round(tally.cpu, 2),
        "worker_hours": round(tally.worker_seconds / 3600, 2),
        "by_kind": dict(sorted(tally.faults.items())),
        "branches": dict(sorted(tally.branches.items())),
        "healed": {str(part): share(tally.healed, part) for part in (0.5, 0.99, 1.0)} | {"count": len(tally.healed)},
        "healed_slowly": {str(part): share(tally.healed_slowly, part) for part in (0.5, 0.99, 1.0)}
        | {"count": len(tally.healed_slowly)},
        "violations": [
            {
                "seed": outcome.seed,
                "judge": each.judge,
                "who": each.who,
                "what": each.what,
                "again": replay_command(outcome.seed),
            }
            for outcome in tally.failed
            for each in outcome.violations
        ],
        "never_happened": missing(tally.faults, tally.branches, long=True),
    }
    return json.dumps(figures, indent=2)


def main(
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 1000,
    first: Annotated[int, typer.Option(help="The first seed.")] = 1,
    jobs: Annotated[int, typer.Option(help="Processes at once.")] = 1,
    minutes: Annotated[float, typer.Option(help="No seed is begun after so many minutes.")] = 10.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replay this one seed.")] = None,
    trace: Annotated[bool, typer.Option(help="Show the whole timeline of the replayed seed.")] = False,
    who: Annotated[str | None, typer.Option(help="Only what concerns this worker (w0.1, say).")] = None,
) -> None:
    """Run many seeds, or replay one."""
    if seed is not None:
        raise typer.Exit(replay(seed, trace=trace, who=who))
    console = Console(stderr=True)
    tally = run_all(first, seeds, jobs, minutes, console)
    report(tally, console)
    if json_file is not None:
        json_file.write_text(as_json(tally) + "\n")
    never = missing(tally.faults, tally.branches, long=True)
    for name in never:
        console.print(f"never happened: {name}", markup=False)
    raise typer.Exit(1 if tally.failed else 2 if never and seeds >= ENOUGH else 0)


if __name__ == "__main__":
    typer.run(main)
