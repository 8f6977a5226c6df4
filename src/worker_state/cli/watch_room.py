"""`worker-state watch` while it runs: one look, a live screen, or a line for each change, for people or for programs.

Records are other programs' texts: `_cut` and `shown` make them printable.
"""

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import trio
import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker_state.cli.output import ExitCode, fail, settle
from worker_state.cli.screen import STATUS_STYLES, Screen, duration
from worker_state.cli.shared_options import warn
from worker_state.cli.signals import ending_on_signal
from worker_state.config import Config
from worker_state.errors import ObservationFailed
from worker_state.redact import shown
from worker_state.tools.observer import open_roster
from worker_state.tools.roster import Change, Entry, Roster, Row, changes, differences, id_length
from worker_state.watched import Watched

TICK = 1.0  # seconds between two drawings of an unchanged view: its times go on
LATE = 3.0  # seconds by which an answer may be late before the view counts as old
OTHER_LINES = 8  # lines of the live screen beside its rows
WIDE, NARROW = 110, 70
"""Columns. Below the first the last change stands under the table, below the second host and memory are left out."""
UNBOUNDED = 10_000  # columns of a table that goes into a pipe or a file
LONGEST = 40  # characters in a cell
MOST_LINES = 100  # of changes in one answer: strangers who come and go by the thousand must not hold the leaving
WHOLE = ("worker", "status", "memory", "for")  # cells that are never cut off
TIMES = ("for", "last change")  # cells that one look cannot fill

Kind = Literal["watching", "present", "appeared", "changed", "gone", "more_changes", "silent", "answered"]


@dataclass(frozen=True, slots=True)
class Happening:
    """One line: `text` for people; for programs an object with the event and the fields."""

    event: Kind
    text: str
    fields: Mapping[str, Any]
    style: str = ""


class _Screen(Screen):
    def record(self, record: logging.LogRecord, text: str) -> None:
        warn(f"{text}.")


async def watch(config: Config, every: float, *, once: bool = False, as_json: bool = False) -> None:
    """Watch until Ctrl-C, or look once. Raises `typer.Exit` if the server refuses."""
    screen = _Screen(logging.WARNING if once or as_json else logging.INFO)
    screen.show_log()
    console = screen.console
    live = console.is_terminal and not console.is_dumb_terminal and console.color_system is not None
    failure = "Stopped before there was an answer." if once else None
    result: str | None = None
    async with ending_on_signal(screen, "Leaving", for_reader=not once) as scope:
        try:
            with scope:
                async with open_roster(config, every=every) as rosters:
                    failure = None
                    if once:
                        result = _look(rosters.value, console, as_json)
                    elif live and not as_json:
                        await _draw(rosters, every, console)
                    else:
                        await print_changes(rosters, screen, as_json=as_json)
        except ObservationFailed as error:
            failure = f"{error}."
    if failure is not None:
        raise fail(failure[:1].upper() + failure[1:])
    if result is not None:
        screen.plain(result)
        settle(None)  # nothing else runs any more, and a pager may read as slowly as its reader
    if screen.identities_left:
        raise typer.Exit(ExitCode.LEFT_SOMETHING)


def _look(roster: Roster, console: Console, as_json: bool) -> str:
    if as_json:
        return json.dumps(document(roster), indent=2)
    if not roster.rows:
        return summary(roster)
    if not console.is_terminal:
        console.width = UNBOUNDED
    table = _table(roster.rows, roster, roster.answered_at or 0.0, {*_left_out(console.width), *TIMES})
    table.padding = (0, 2, 0, 0)
    with console.capture() as captured:
        console.print(table)
    return "\n".join([summary(roster), *(line.rstrip() for line in captured.get().splitlines())])


async def _draw(rosters: Watched[Roster], every: float, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            roster = rosters.value
            live.update(view(roster, trio.current_time(), every, *console.size), refresh=True)
            with trio.move_on_after(TICK):
                await rosters.wait_for(lambda newer, drawn=roster: newer is not drawn)  # type: ignore[misc]


def view(roster: Roster, now: float, every: float, width: int, height: int) -> RenderableType:
    """The live screen: a headline, the workers that fit, and how many do not. Times in an old view stand still."""
    age = old_since(roster, now, every)
    at = now if age is None else roster.answered_at or 0.0
    parts: list[RenderableType] = [] if age is None else [Text(staleness(roster, age), "bold red")]
    parts.append(Text(summary(roster), "bold"))
    fitting = roster.rows[: max(1, height - OTHER_LINES)]
    if fitting:
        table = _table(fitting, roster, at, _left_out(width))
        table.box = box.SIMPLE_HEAD
        table.row_styles = ["dim"] if age is not None else []
        parts.append(table)
    if len(fitting) < len(roster.rows):
        parts.append(Text(f"… and {len(roster.rows) - len(fitting)} more (a taller window shows them)", "dim"))
    if width < WIDE and (last := latest(roster, at)) is not None:
        parts.append(_cell(last, "dim"))
    return Group(*parts)


def _left_out(width: int) -> tuple[str, ...]:
    return () if width >= WIDE else ("last change",) if width >= NARROW else ("host", "memory", "last change")


def _table(rows: tuple[Row, ...], roster: Roster, now: float, left_out: Collection[str]) -> Table:
    some_host = any(row.entry.hostname for row in roster.rows)
    length = length_of_names(roster)
    drawn = [(row, cells(row, now, length)) for row in rows]
    headings = [each for each in drawn[0][1] if each not in left_out and (some_host or each != "host")]
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold")
    for heading in headings:
        # rich narrows columns that it may wrap; `_cell` then cuts them off.
        table.add_column(Text(heading, no_wrap=True), no_wrap=heading in WHOLE)
    for row, texts in drawn:
        style = "red" if row.gone else ""
        styles = {"status": style or STATUS_STYLES.get(row.entry.status or "", "red")}
        table.add_row(*(_cell(texts[heading], styles.get(heading, style)) for heading in headings))
    return table


def _cell(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


async def print_changes(rosters: Watched[Roster], screen: Screen, *, as_json: bool = False) -> None:
    """Print a line for each worker, then one for each change and for each reason of a silence."""

    def show(happening: Happening) -> None:
        if as_json:
            about = {"event": happening.event, "room_id": known.room_id, **happening.fields}
            screen.plain(json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **about}))
        else:
            screen.line(happening.text, happening.style)

    known = rosters.value
    reasons: set[str] = set()  # told during this silence
    for each in found(known):
        show(each)
    async for roster in rosters:
        for each in happenings(known, roster, reasons):
            show(each)
        known = roster


def found(roster: Roster) -> Iterator[Happening]:
    """What the first look shows."""
    yield Happening("watching", summary(roster), {"count": len(roster.entries)})
    length = length_of_names(roster)
    for row in roster.rows:
        texts = cells(row, row.since, length)
        line = "  ".join(text for heading, text in texts.items() if heading not in TIMES and text != "-")
        yield Happening("present", line, record(row.entry))


def happenings(known: Roster, roster: Roster, reasons: set[str]) -> Iterator[Happening]:
    """What is new in a roster. `reasons` of the present silence were told already."""
    if roster.trouble is not None and roster.trouble not in reasons:
        again = "still nothing new" if reasons else "no answers any more"
        reasons.add(roster.trouble)
        text = f"{again}: {shown(roster.trouble)}; trying again"
        yield Happening("silent", text, {"reason": roster.trouble}, "red")
    if roster.trouble is None and known.trouble is not None:
        reasons.clear()
        away = (roster.answered_at or 0.0) - (known.answered_at or 0.0)
        yield Happening("answered", f"answers again, after {duration(away)}", {"seconds": round(away, 3)}, "green")
    new, length = changes(known, roster), length_of_names(roster)
    for each in new[:MOST_LINES]:
        if (entry := each.after or each.before) is not None:
            kind: Kind = "gone" if each.after is None else "appeared" if each.before is None else "changed"
            yield Happening(kind, f"{_cut(entry.peer_id, length)}  {change(each)}", record(entry))
    if (more := len(new) - MOST_LINES) > 0:
        yield Happening("more_changes", f"and {more} more changes", {"count": more})


def old_since(roster: Roster, now: float, every: float) -> float | None:
    """The age of the view in seconds if it should have been renewed; None while it is fresh."""
    age = now - (roster.answered_at or 0.0)
    return age if roster.trouble is not None or age > every + LATE else None


def summary(roster: Roster) -> str:
    """ "Room 1a2b3c4d: 3 workers, 2 available, 1 busy"."""
    counts = Counter(status(entry) for entry in roster.entries)
    total = len(roster.entries)
    parts = [f"{total} worker{'' if total == 1 else 's'}", *(f"{counts[word]} {word}" for word in sorted(counts))]
    return f"Room {_cut(roster.room_id)}: {', '.join(parts)}"


def staleness(roster: Roster, age: float) -> str:
    """The headline of an old view."""
    why = "the server is late" if roster.trouble is None else shown(roster.trouble)
    return f"OLD: nothing new for {duration(age)} ({why}). What follows is what was so then; trying again."


def cells(row: Row, now: float, length: int) -> dict[str, str]:
    """One row by its headings; peer ids have `length` characters."""
    entry, ago = row.entry, duration(now - row.since)
    return {
        "worker": _cut(entry.peer_id, length),
        "host": _cut(entry.hostname or "-"),
        "status": "gone" if row.gone else status(entry),
        "job": _cut(entry.job_id or "-"),
        "gpu": _cut(entry.gpu_model or "-"),
        "memory": memory(entry.gpu_memory_mb),
        "for": "-" if row.gone else f"≥ {ago}" if row.at_least else ago,
        "last change": "-" if row.last is None else f"{duration(now - row.last.at)} ago: {change(row.last)}",
    }


def length_of_names(roster: Roster) -> int:
    """How many characters tell the peer ids apart."""
    return id_length(row.entry.peer_id for row in roster.rows)


def status(entry: Entry) -> str:
    """The status, and that it has no tags, without which no client finds it."""
    word = "unknown" if entry.status is None else _cut(entry.status)
    return word if entry.tags else f"{word} (no tags)"


def change(change: Change) -> str:
    """ "available → busy"."""
    before, after = change.before, change.after
    if after is None:
        return "gone"
    job = "" if after.job_id is None else f", job {_cut(after.job_id)}"
    if before is None:
        return f"appeared, {status(after)}{job}"
    if before.doing != after.doing or bool(before.tags) != bool(after.tags):
        return f"{status(before)} → {status(after)}{job}"
    if before.connected_at != after.connected_at:
        return "registered again"
    return f"new record: {_cut(', '.join(differences(before, after)))}"


def latest(roster: Roster, now: float) -> str | None:
    """The last change in the room, or None."""
    changed = [(row.last, row.entry) for row in roster.rows if row.last is not None]
    if not changed:
        return None
    last, entry = max(changed, key=lambda each: each[0].at)
    name = _cut(entry.peer_id, length_of_names(roster))
    return f"last change, {duration(now - last.at)} ago: {name} {change(last)}"


def memory(mebibytes: float | None) -> str:
    """ "24 GiB" or "512 MiB"; `gpu_memory_mb` counts mebibytes."""
    if mebibytes is None:
        return "-"
    return f"{mebibytes:.3g} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.3g} GiB"


def document(roster: Roster) -> dict[str, Any]:
    """What `--once --json` prints: workers by peer id."""
    workers = list(map(record, roster.entries))
    return {"room_id": roster.room_id, "count": len(workers), "workers": workers}


def record(entry: Entry) -> dict[str, Any]:
    """A worker for programs, null for what is unknown."""
    copied = ("peer_id", "status", "job_id", "gpu_model", "gpu_memory_mb", "hostname")
    known = {field: getattr(entry, field) for field in copied}
    return known | {"tags": list(entry.tags), "registered_at": _date(entry.connected_at)}


def _date(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # beyond the last year
        return None


def _cut(text: str, limit: int = LONGEST) -> str:
    return shown(text[:limit])
