"""How a roster reads: the words of its cells, its changes and its age, and the document for scripts.

Pure text. Everything that a server or a stranger wrote is made printable here.
"""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from worker_state.core.words import shown
from worker_state.tools.roster import Change, Entry, Roster, Row, id_length

LONGEST = 40
"""Characters of anything in a cell."""
LATE = 3.0
"""Seconds after which an answer that is due makes the view an old one."""
SPARE = ("host", "memory", "last change")
"""What a narrow terminal goes without first."""
HEADINGS = ("worker", "host", "status", "job", "gpu", "memory", "for", "last change")


def old_since(roster: Roster, now: float, every: float) -> float | None:
    """Seconds for which there should have been a newer answer and was none; None while the view is fresh."""
    age = now - (roster.answered_at or 0.0)
    return age if roster.trouble is not None or age > every + LATE else None


def summary(roster: Roster) -> str:
    """ "Room 1a2b3c4d: 3 workers, 2 available, 1 busy"."""
    entries = roster.entries
    counts = Counter(status(entry) for entry in entries)
    number = f"{len(entries)} worker{'' if len(entries) == 1 else 's'}"
    return f"Room {_cut(roster.room_id)}: " + ", ".join(
        [number, *(f"{counts[word]} {word}" for word in sorted(counts))]
    )


def staleness(roster: Roster, age: float) -> str:
    """What is said while the view is old."""
    why = "the server is late" if roster.trouble is None else shown(roster.trouble)
    return f"OLD: nothing new for {duration(age)} ({why}). What follows is what was so then; trying again."


def cells(row: Row, now: float, length: int) -> tuple[str, ...]:
    """One row under `HEADINGS`; `length` as `tools.roster.id_length` says."""
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


def name(entry: Entry, length: int) -> str:
    """The beginning of the peer id; `length` as `tools.roster.id_length` says."""
    return _cut(entry.peer_id, length)


def lost(why: str) -> str:
    """The line about a server that answers no more."""
    return f"no answers any more: {shown(why)}; trying again"


def still_lost(why: str) -> str:
    """The line about a server that goes on answering nothing, now for another reason."""
    return f"still nothing new: {shown(why)}; trying again"


def status(entry: Entry) -> str:
    """The status as a word, and what keeps clients from finding the worker in spite of it."""
    word = "unknown" if entry.status is None else _cut(entry.status)
    return word if entry.tags else f"{word} (no tags)"


def change(change: Change) -> str:
    """What became of a worker: "available → busy"."""
    before, after = change.before, change.after
    if after is None:
        return "gone"
    if before is None:
        return f"appeared, {status(after)}{_job(after)}"
    if before.doing != after.doing or bool(before.tags) != bool(after.tags):
        return f"{status(before)} → {status(after)}{_job(after)}"
    return "registered again" if before.connected_at != after.connected_at else "new record"


def latest(roster: Roster, now: float) -> str | None:
    """The last change that was seen of anybody, or None."""
    seen = [(row.last.at, row.entry, row.last) for row in roster.rows if row.last is not None]
    if not seen:
        return None
    at, entry, last = max(seen, key=lambda each: each[0])
    length = id_length(row.entry.peer_id for row in roster.rows)
    return f"last change, {duration(now - at)} ago: {name(entry, length)} {change(last)}"


def _job(entry: Entry) -> str:
    return "" if entry.job_id is None else f", job {_cut(entry.job_id)}"


def memory(megabytes: float | None) -> str:
    """ "24 GiB", "512 MiB" (the field counts in MiB, whatever it is called)."""
    if megabytes is None:
        return "-"
    return f"{megabytes:.3g} MiB" if megabytes < 1000 else f"{megabytes / 1024:.3g} GiB"


def duration(seconds: float) -> str:
    """Rounded down: "12 s", "3 min", "2 h 5 min", "4 d 1 h"."""
    s = max(0, int(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"


def document(roster: Roster) -> dict[str, Any]:
    """What `--once --json` prints: fields in this order, workers by peer id, null for what is not known."""
    return {
        "room_id": roster.room_id,
        "count": len(roster.entries),
        "workers": [
            {
                "peer_id": entry.peer_id,
                "status": entry.status,
                "job_id": entry.job_id,
                "gpu_model": entry.gpu_model,
                "gpu_memory_mb": entry.gpu_memory_mb,
                "hostname": entry.hostname,
                "tags": list(entry.tags),
                "registered_at": _date(entry.connected_at),
            }
            for entry in roster.entries
        ],
    }


def _date(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None  # no year has this number


def _cut(text: str, limit: int = LONGEST) -> str:
    return shown(text if len(text) <= limit else text[:limit])
