"""`worker-state watch`, the part that runs: one look, a live screen, or a line for each change."""

import json
import logging
from enum import Enum, auto

import trio
import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker_state.cli import rows
from worker_state.cli.refusal import ExitCode, refuse
from worker_state.cli.screen import Screen, show_log
from worker_state.cli.settings import warn
from worker_state.cli.stopping import cancel_on_signal
from worker_state.cli.story import STATUS_STYLES
from worker_state.core.config import Config
from worker_state.core.errors import ObservationFailed
from worker_state.tools.observer import Outside, open_roster
from worker_state.tools.roster import Roster, Row, changes, id_length
from worker_state.watched import Watched

TICK = 1.0
"""Seconds between two drawings of the live screen when nothing has changed but the time."""
BESIDE = 8
"""Lines of the live screen that are no rows."""
WIDE = 110
"""Columns of a terminal that has room for everything. A narrower one names the room's last change below the table."""
NARROW = 70
"""Columns below which a table shows who, what, for how long, and not `rows.SPARE`: half a word is none."""
FIXED = ("worker", "status", "memory", "for")
"""What is never cut off: the rest gives way."""
UNBOUNDED = 10_000
"""Columns of a table that goes into a pipe or a file: nothing is cut off."""


class Form(Enum):
    """What is printed."""

    JSON = auto()
    TABLE = auto()
    ONGOING = auto()

    @classmethod
    def of(cls, once: bool, as_json: bool) -> "Form":
        """What the two options ask for."""
        return cls.ONGOING if not once else cls.JSON if as_json else cls.TABLE


async def look(config: Config, every: float, form: Form, outside: Outside | None = None) -> None:
    """Watch until Ctrl-C, or look once; raises `typer.Exit` when the server does not let us."""
    screen = Screen(logging.INFO if form is Form.ONGOING else logging.WARNING)
    show_log(screen, lambda _, text: warn(f"{text}."))
    leaving = trio.CancelScope()
    screen.on_gone = leaving.cancel
    failure = None if form is Form.ONGOING else "Stopped before there was an answer."
    async with trio.open_nursery() as nursery:
        await nursery.start(cancel_on_signal, leaving, screen, "Leaving")
        try:
            with leaving:
                async with open_roster(config, every=every, outside=outside) as rosters:
                    failure = None
                    await _show(rosters, every, form, screen)
        except ObservationFailed as error:
            failure = f"{error}."
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise refuse(failure[:1].upper() + failure[1:], ExitCode.STARTUP_FAILED)
    if screen.left_something:
        raise typer.Exit(ExitCode.LEFT_SOMETHING)


async def _show(rosters: Watched[Roster], every: float, form: Form, screen: Screen) -> None:
    console = screen.console
    if form is Form.JSON:
        screen.plain(json.dumps(rows.document(rosters.value), indent=2))
    elif form is Form.TABLE:
        _print_table(rosters.value, screen)
    elif console.is_terminal and not console.is_dumb_terminal and console.color_system is not None:
        await _draw(rosters, every, console)
    else:
        await _tell(rosters, screen)


def _print_table(roster: Roster, screen: Screen) -> None:
    console = screen.console
    screen.plain(rows.summary(roster))
    if roster.rows:
        now = roster.answered_at or 0.0
        if not console.is_terminal:
            console.width = UNBOUNDED
        # What one look cannot know is left out: for how long, and what has changed.
        headings = [heading for heading in _headings(console.width) if heading not in ("for", "last change")]
        table = _table(roster.rows, roster.rows, now, headings)
        table.padding = (0, 2, 0, 0)
        with console.capture() as captured:
            console.print(table)
        screen.plain("\n".join(line.rstrip() for line in captured.get().splitlines()))


async def _draw(rosters: Watched[Roster], every: float, console: Console) -> None:
    """A screen that is drawn anew whenever something is known, and every second, for the times go on."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            roster = rosters.value
            live.update(view(roster, trio.current_time(), every, *console.size), refresh=True)
            with trio.move_on_after(TICK):
                await rosters.wait_for(lambda newer, drawn=roster: newer is not drawn)  # type: ignore[misc]


def view(roster: Roster, now: float, every: float, width: int, height: int) -> RenderableType:
    """The live screen: a headline, the workers as far as the height allows, and how many more there are."""
    age = rows.old_since(roster, now, every)
    # An old view stands still: its times are those of its last answer.
    shown_at = now if age is None else roster.answered_at or 0.0
    parts: list[RenderableType] = [] if age is None else [Text(rows.staleness(roster, age), "bold red")]
    parts.append(Text(rows.summary(roster), "bold"))
    fitting = roster.rows[: max(1, height - BESIDE)]
    if fitting:
        table = _table(fitting, roster.rows, shown_at, _headings(width))
        table.box = box.SIMPLE_HEAD
        table.row_styles = ["dim"] if age is not None else []
        parts.append(table)
    if len(fitting) < len(roster.rows):
        parts.append(Text(f"… and {len(roster.rows) - len(fitting)} more (a taller window shows them)", "dim"))
    if width < WIDE and (latest := rows.latest(roster, shown_at)) is not None:
        parts.append(Text(latest, "dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _headings(width: int) -> list[str]:
    spare = () if width >= WIDE else rows.SPARE if width < NARROW else ("last change",)
    return [heading for heading in rows.HEADINGS if heading not in spare]


def _table(some: tuple[Row, ...], everybody: tuple[Row, ...], now: float, headings: list[str]) -> Table:
    # A column that is empty for everybody only takes room away.
    hosts = any(row.entry.hostname for row in everybody)
    used = [heading for heading in headings if heading != "host" or hosts]
    length = id_length(row.entry.peer_id for row in everybody)
    lines = [dict(zip(rows.HEADINGS, rows.cells(row, now, length), strict=True)) for row in some]
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold")
    for heading in used:
        # rich takes room away from columns that may be wrapped; what stands in them is cut off instead.
        table.add_column(Text(heading, no_wrap=True), no_wrap=heading in FIXED)
    for row, line in zip(some, lines, strict=True):
        table.add_row(*(_cell(line[heading], _style(row, heading)) for heading in used))
    return table


def _cell(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _style(row: Row, heading: str) -> str:
    if row.gone:
        return "red"
    return STATUS_STYLES.get(row.entry.status or "", "red") if heading == "status" else ""


async def _tell(rosters: Watched[Roster], screen: Screen) -> None:
    """A line for each worker that is there, and then one for each change."""
    known = rosters.value
    said: set[str] = set()  # why there are no answers: each reason once, as long as it lasts
    screen.line(rows.summary(known))
    for row in known.rows:
        screen.line("  ".join(text for text in rows.cells(row, row.since, _length(known))[:6] if text != "-"))
    async for roster in rosters:
        if roster.trouble is not None and roster.trouble not in said:
            screen.line((rows.still_lost if said else rows.lost)(roster.trouble), "red")
            said.add(roster.trouble)
        if roster.trouble is None and known.trouble is not None:
            said.clear()
            away = (roster.answered_at or 0.0) - (known.answered_at or 0.0)
            screen.line(f"answers again, after {rows.duration(away)}", "green")
        for change in changes(known, roster):
            entry = change.after or change.before
            if entry is not None:
                screen.line(f"{rows.name(entry, _length(roster))}  {rows.change(change)}")
        known = roster


def _length(roster: Roster) -> int:
    return id_length(row.entry.peer_id for row in roster.rows)
