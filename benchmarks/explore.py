"""Every order of events for one worker and its server, up to a depth: does what must hold always hold?

`--depth N --troubles N --minutes M` bound the search, `--every N` the quiet ends. `--sabotages` tries each sabotage of
`benchmarks/mutants.py`, `--sabotage NAME` those whose name contains this. What is real in there and what a model, says
`benchmarks/explorer`. Exit 1: something was violated, or a sabotage was not found.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.explorer.sabotages import calm_complaint, find, inexpressible
from benchmarks.explorer.search import STARTS, Found, Limits, Search
from benchmarks.mutants import MUTANTS, copies


def report(found: Found, console: Console) -> None:
    """The figures, and the way to a violation."""
    table = Table("what", "figure", title="explored")
    how = "all of it" if found.finished else "all of it, and a part of the next"
    table.add_row("depth", f"{found.depth} ({how})")
    table.add_row("states", f"{found.states}")
    table.add_row("states by depth", " ".join(map(str, found.by_depth)))
    table.add_row("transitions", f"{found.transitions}")
    table.add_row("quiet ends", f"{found.quiet_ends}, the longest of {found.longest:.0f} s")
    table.add_row("CPU seconds", f"{found.seconds:.0f}")
    console.print(table)
    for line in found.trace:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if found.violation is None:
        console.print("nothing violated")


def try_sabotages(only: str, console: Console) -> bool:
    """Whether each of them was found that can be expressed."""
    table = Table("sabotage", "found", "steps", "by what", title="sabotages")
    missed = 0
    chosen = tuple(mutant for mutant in MUTANTS if only in mutant.name)
    for mutant in chosen:
        if (why := inexpressible(mutant)) is not None:
            table.add_row(mutant.name, "[dim]not expressed[/]", "", f"[dim]{why}[/]")
    for mutant, copy in copies(tuple(mutant for mutant in chosen if inexpressible(mutant) is None)):
        found = None if copy is None else find(copy)
        missed += found is None
        if found is None:
            table.add_row(mutant.name, "[red]no[/]", "", "its text is not in the source" if copy is None else "")
        else:
            table.add_row(
                mutant.name, f"[green]in {found.seconds:.0f} s[/]", f"{found.steps}", escape(str(found.violation))
            )
        console.print(f"{mutant.name}: {'no' if found is None else 'found'}", markup=False)
        for line in found.trace if found is not None and only else ():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    return not missed


def main(
    depth: Annotated[int, typer.Option(help="Events on one way, at most.")] = 30,
    troubles: Annotated[int, typer.Option(help="… of which so many do not happen by themselves.")] = 2,
    minutes: Annotated[float, typer.Option(help="Minutes of CPU, at most.")] = 9.0,
    every: Annotated[int, typer.Option(help="A quiet end from each so many states.")] = 1,
    unread: Annotated[bool, typer.Option(help="Let events come before the actors have read the one before.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    sabotages: Annotated[bool, typer.Option("--sabotages", help="Try every sabotage instead.")] = False,
    sabotage: Annotated[str, typer.Option(help="Try those whose name contains this, and show their traces.")] = "",
) -> None:
    """Explore, or try the sabotages."""
    logging.disable(logging.CRITICAL)
    console = Console(stderr=True)
    if sabotages or sabotage:
        raise typer.Exit(0 if try_sabotages(sabotage, console) else 1)
    limits = Limits(depth=depth, troubles=troubles, seconds=60 * minutes, unread=unread, every=every)
    with console.status("a calm run") as status:
        search = Search(limits, lambda found: status.update(f"depth {found.depth}, {found.states} states"))
        found = calm_complaint() or search.run(STARTS)
    report(found, console)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(found), indent=2) + "\n")
    raise typer.Exit(1 if found.violation is not None else 0)


if __name__ == "__main__":
    typer.run(main)
