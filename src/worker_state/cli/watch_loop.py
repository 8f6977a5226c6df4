"""`worker-state watch` while it runs: one look, a live screen, or a line for each change."""

import json
import logging
from typing import Literal

import trio
import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker_state.cli import roster_text
from worker_state.cli.errors import ExitCode, fail
from worker_state.cli.options import warn
from worker_state.cli.screen import Screen
from worker_state.cli.signals import ending_on_signal
from worker_state.cli.state_text import STATUS_STYLES
from worker_state.config import Config
from worker_state.errors import ObservationFailed
from worker_state.tools.observer import open_roster
from worker_state.tools.roster import Roster, Row, changes
from worker_state.watched import Watched

TICK = 1.0  # seconds between two drawings of an unchanged view: its times go on
OTHER_LINES = 8  # lines of the live screen beside its rows
WIDE, NARROW = 110, 70
"""Columns. Below the first the last change stands under the table, below the second host and memory are left out."""
WHOLE = ("worker", "status", "memory", "for")  # cells that are never cut off
UNBOUNDED = 10_000  # columns of a table that goes into a pipe or a file


Form = Literal["json", "table", "changes"]


class _Screen(Screen):
    def record(self, record: logging.LogRecord, text: str) -> None:
        warn(f"{text}.")


async def watch(config: Config, every: float, form: Form) -> None:
    """Watch until Ctrl-C, or look once. Raises `typer.Exit` if the server refuses."""
    screen = _Screen(logging.INFO if form == "changes" else logging.WARNING)
    screen.show_log()
    failure = None if form == "changes" else "Stopped before there was an answer."
    async with ending_on_signal(screen, "Leaving") as scope:
        try:
            with scope:
                async with open_roster(config, every=every) as rosters:
                    failure = None
                    await _show(rosters, every, form, screen)
        except ObservationFailed as error:
            failure = f"{error}."
    if failure is not None:
        raise fail(failure[:1].upper() + failure[1:])
    if screen.left_something:
        raise typer.Exit(ExitCode.LEFT_SOMETHING)


async def _show(rosters: Watched[Roster], every: float, form: Form, screen: Screen) -> None:
    console = screen.console
    if form == "json":
        screen.plain(json.dumps(roster_text.document(rosters.value), indent=2))
    elif form == "table":
        _print_table(rosters.value, screen)
    elif console.is_terminal and not console.is_dumb_terminal and console.color_system is not None:
        await _draw(rosters, every, console)
    else:
        await print_changes(rosters, screen)


def _print_table(roster: Roster, screen: Screen) -> None:
    console = screen.console
    screen.plain(roster_text.summary(roster))
    if roster.rows:
        if not console.is_terminal:
            console.width = UNBOUNDED
        # One look knows no durations and no changes.
        headings = [heading for heading in _headings(console.width) if heading not in ("for", "last change")]
        table = _table(roster.rows, roster, roster.answered_at or 0.0, headings)
        table.padding = (0, 2, 0, 0)
        with console.capture() as captured:
            console.print(table)
        screen.plain("\n".join(line.rstrip() for line in captured.get().splitlines()))


async def _draw(rosters: Watched[Roster], every: float, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            roster = rosters.value
            live.update(view(roster, trio.current_time(), every, *console.size), refresh=True)
            with trio.move_on_after(TICK):
                await rosters.wait_for(lambda newer, drawn=roster: newer is not drawn)  # type: ignore[misc]


def view(roster: Roster, now: float, every: float, width: int, height: int) -> RenderableType:
    """The live screen: a headline, the workers that fit, and how many do not. Times in an old view stand still."""
    age = roster_text.old_since(roster, now, every)
    at = now if age is None else roster.answered_at or 0.0
    parts: list[RenderableType] = [] if age is None else [Text(roster_text.staleness(roster, age), "bold red")]
    parts.append(Text(roster_text.summary(roster), "bold"))
    fitting = roster.rows[: max(1, height - OTHER_LINES)]
    if fitting:
        table = _table(fitting, roster, at, _headings(width))
        table.box = box.SIMPLE_HEAD
        table.row_styles = ["dim"] if age is not None else []
        parts.append(table)
    if len(fitting) < len(roster.rows):
        parts.append(Text(f"… and {len(roster.rows) - len(fitting)} more (a taller window shows them)", "dim"))
    if width < WIDE and (latest := roster_text.latest(roster, at)) is not None:
        parts.append(_cell(latest, "dim"))
    return Group(*parts)


def _headings(width: int) -> list[str]:
    spare = () if width >= WIDE else ("host", "memory", "last change") if width < NARROW else ("last change",)
    return [heading for heading in roster_text.HEADINGS if heading not in spare]


def _table(rows: tuple[Row, ...], roster: Roster, now: float, headings: list[str]) -> Table:
    if not any(row.entry.hostname for row in roster.rows):
        headings = [heading for heading in headings if heading != "host"]
    length = roster_text.length_of_names(roster)
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold")
    for heading in headings:
        # rich narrows columns that it may wrap; `_cell` then cuts them off.
        table.add_column(Text(heading, no_wrap=True), no_wrap=heading in WHOLE)
    for row in rows:
        cells = dict(zip(roster_text.HEADINGS, roster_text.cells(row, now, length), strict=True))
        style = "red" if row.gone else ""
        styles = {"status": style or STATUS_STYLES.get(row.entry.status or "", "red")}
        table.add_row(*(_cell(cells[heading], styles.get(heading, style)) for heading in headings))
    return table


def _cell(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


async def print_changes(rosters: Watched[Roster], screen: Screen) -> None:
    """Print a line for each worker, then one for each change and for each reason of a silence."""
    known = rosters.value
    reasons: set[str] = set()  # printed during this silence
    screen.line(roster_text.summary(known))
    for row in known.rows:
        cells = roster_text.cells(row, row.since, roster_text.length_of_names(known))[:6]
        screen.line("  ".join(text for text in cells if text != "-"))
    async for roster in rosters:
        if roster.trouble is not None and roster.trouble not in reasons:
            screen.line(roster_text.lost(roster.trouble, still=bool(reasons)), "red")
            reasons.add(roster.trouble)
        if roster.trouble is None and known.trouble is not None:
            reasons.clear()
            away = (roster.answered_at or 0.0) - (known.answered_at or 0.0)
            screen.line(f"answers again, after {roster_text.duration(away)}", "green")
        for change in changes(known, roster):
            if (entry := change.after or change.before) is not None:
                name = roster_text.name(entry, roster_text.length_of_names(roster))
                screen.line(f"{name}  {roster_text.change(change)}")
        known = roster
