"""How a room's roster reads: cells, changes, ages, and the JSON document. Makes text from strangers printable."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from worker_state.redact import shown
from worker_state.tools.roster import Change, Entry, Roster, Row, id_length

LONGEST = 40  # characters in a cell
LATE = 3.0  # seconds by which an answer may be late before the view counts as old
HEADINGS = ("worker", "host", "status", "job", "gpu", "memory", "for", "last change")


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


def cells(row: Row, now: float, length: int) -> tuple[str, ...]:
    """One row under `HEADINGS`; peer ids have `length` characters."""
    entry, ago = row.entry, duration(now - row.since)
    return (
        name(entry, length),
        _cut(entry.hostname or "-"),
        "gone" if row.gone else status(entry),
        _cut(entry.job_id or "-"),
        _cut(entry.gpu_model or "-"),
        memory(entry.gpu_memory_mb),
        "-" if row.gone else f"≥ {ago}" if row.at_least else ago,
        "-" if row.last is None else f"{duration(now - row.last.at)} ago: {change(row.last)}",
    )


def length_of_names(roster: Roster) -> int:
    """How many characters tell the peer ids apart."""
    return id_length(row.entry.peer_id for row in roster.rows)


def name(entry: Entry, length: int) -> str:
    """The beginning of the peer id."""
    return _cut(entry.peer_id, length)


def lost(why: str, *, still: bool = False) -> str:
    """The line about a server that does not answer; `still`: it did not before, for another reason."""
    return f"{'still nothing new' if still else 'no answers any more'}: {shown(why)}; trying again"


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
    return "registered again" if before.connected_at != after.connected_at else "new record"


def latest(roster: Roster, now: float) -> str | None:
    """The last change in the room, or None."""
    changed = [(row.last.at, row.entry, row.last) for row in roster.rows if row.last is not None]
    if not changed:
        return None
    at, entry, last = max(changed, key=lambda each: each[0])
    return f"last change, {duration(now - at)} ago: {name(entry, length_of_names(roster))} {change(last)}"


def memory(mebibytes: float | None) -> str:
    """ "24 GiB" or "512 MiB"; `gpu_memory_mb` counts mebibytes."""
    if mebibytes is None:
        return "-"
    return f"{mebibytes:.3g} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.3g} GiB"


def duration(seconds: float) -> str:
    """Rounded down: "12 s", "3 min", "2 h 5 min", "4 d 1 h"."""
    s = max(0, int(seconds))
    if s < 3600:
        return f"{s} s" if s < 60 else f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60} min" if s < 86400 else f"{s // 86400} d {s % 86400 // 3600} h"


def document(roster: Roster) -> dict[str, Any]:
    """What `--once --json` prints: workers by peer id, null for what is unknown."""
    copied = ("peer_id", "status", "job_id", "gpu_model", "gpu_memory_mb", "hostname")
    workers = [
        {field: getattr(entry, field) for field in copied}
        | {"tags": list(entry.tags), "registered_at": _date(entry.connected_at)}
        for entry in roster.entries
    ]
    return {"room_id": roster.room_id, "count": len(workers), "workers": workers}


def _date(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # beyond the last year
        return None


def _cut(text: str, limit: int = LONGEST) -> str:
    return shown(text[:limit])
