"""Who is in a room: a fold over the answers to `discover_peers`. Pure.

Times are seconds of the caller's clock, since something was first seen here; "at least" if it was so before.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from worker_state.protocol.frames import Message
from worker_state.redact import Secrets

KEPT = 60.0  # seconds for which a worker that is found no more keeps its row
MOST_GONE = 1000  # such rows: a server may name others with every answer
SHORT, LONG = 8, 40
"""Characters of a peer id: usually enough to tell it from the others, and the most that are shown for that."""
OWN = frozenset({"status", "current_job_id", "pending_job_id", "gpu_model", "gpu_memory_mb", "hostname"})
"""The properties that an `Entry` has by name."""
LARGEST = 2**63  # a number beyond this says nothing about a GPU or a clock, and divides badly


@dataclass(frozen=True, slots=True)
class Entry:
    """What a search says of one worker; None for nothing, or another type. The texts are not printable yet."""

    peer_id: str
    status: str | None = None
    job_id: str | None = None  # the current job, else the pending one
    gpu_model: str | None = None
    gpu_memory_mb: float | None = None
    hostname: str | None = None
    tags: tuple[str, ...] = ()
    connected_at: float | None = None  # when it registered, in seconds of the server's clock since 1970
    others: tuple[tuple[str, int], ...] = ()  # the names of all other properties, each with a hash of its value

    @property
    def doing(self) -> tuple[str | None, str | None]:
        """What `Row.since` is about."""
        return self.status, self.job_id


@dataclass(frozen=True, slots=True)
class Change:
    """A worker's record changed; None before or after: the worker was not found then."""

    at: float
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True, slots=True)
class Row:
    """One worker and its times."""

    entry: Entry
    since: float  # when this status with this job was first seen
    at_least: bool  # it may have been so for longer: its beginning was not seen
    last: Change | None = None
    gone: bool = False  # it is found no more; `last` says since when


@dataclass(frozen=True, slots=True)
class Roster:
    """The workers of a room, by peer id, as they were at `answered_at`."""

    room_id: str = ""
    rows: tuple[Row, ...] = ()
    answered_at: float | None = None
    trouble: str | None = None  # why there is no newer answer

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Those that the last search found."""
        return tuple(row.entry for row in self.rows if not row.gone)


def read_entry(peer_id: str, metadata: object, connected_at: object = None, told: Callable[[str], str] = str) -> Entry:
    """One worker's record, whatever its shape. `told` makes of each text in it what may be shown."""
    record = metadata if isinstance(metadata, dict) else {}
    properties = record.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    tags = record.get("tags")

    def text(name: str) -> str | None:
        value = properties.get(name)
        return told(value) if isinstance(value, str) and value else None

    return Entry(
        told(peer_id),
        status=text("status"),
        job_id=text("current_job_id") or text("pending_job_id"),
        gpu_model=text("gpu_model"),
        gpu_memory_mb=_number(properties.get("gpu_memory_mb")),
        hostname=text("hostname"),
        tags=tuple(told(tag) for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        connected_at=_number(connected_at),
        others=tuple(
            (told(name), hash(json.dumps(properties[name], sort_keys=True))) for name in sorted({*properties} - OWN)
        ),
    )


def differences(before: Entry, after: Entry) -> tuple[str, ...]:
    """What has changed in a record beside the status and the job: the names, by which a worker advertises them."""
    own = ("gpu_model", "gpu_memory_mb", "hostname", "tags")
    changed = {name for name, _ in {*before.others} ^ {*after.others}}
    return (*(name for name in own if getattr(before, name) != getattr(after, name)), *sorted(changed))


def read_answer(message: Message, secrets: Secrets) -> tuple[Entry, ...] | None:
    """The workers in a `peer_list`, by peer id, without these secrets; None when the message is something else."""
    peers = message.get("peers")
    if message.get("type") != "peer_list" or not isinstance(peers, list):
        return None
    entries = (
        read_entry(peer["peer_id"], peer.get("metadata"), peer.get("connected_at"), secrets.redacted)
        for peer in peers
        if isinstance(peer, dict) and isinstance(peer.get("peer_id"), str)
    )
    found = {entry.peer_id: entry for entry in entries}
    return tuple(found[peer_id] for peer_id in sorted(found))


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
    return value if known else None


def answered(roster: Roster, entries: Iterable[Entry], now: float) -> Roster:
    """The roster after an answer that came now."""
    found = {entry.peer_id: entry for entry in entries}
    known = {row.entry.peer_id: row for row in roster.rows}
    looking = roster.answered_at is not None and roster.trouble is None
    rows = []
    for peer_id in sorted(found | known):
        row, entry = known.get(peer_id), found.get(peer_id)
        if entry is not None and (row is None or row.gone):
            rows.append(Row(entry, now, not looking, None if roster.answered_at is None else Change(now, None, entry)))
        elif (row := known[peer_id]).gone:
            rows += [row] if row.last is not None and now - row.last.at < KEPT else []
        else:
            rows.append(row if entry == row.entry else _changed(row, entry, now, looking))
    gone = sorted((row for row in rows if row.gone), key=lambda row: row.last.at if row.last else 0.0, reverse=True)
    surplus = {row.entry.peer_id for row in gone[MOST_GONE:]}
    rows = [row for row in rows if row.entry.peer_id not in surplus]
    return replace(roster, rows=tuple(rows), answered_at=now, trouble=None)


def _changed(row: Row, entry: Entry | None, now: float, looking: bool) -> Row:
    changed = replace(row, entry=entry or row.entry, last=Change(now, row.entry, entry), gone=entry is None)
    return changed if changed.entry.doing == row.entry.doing else replace(changed, since=now, at_least=not looking)


def lost(roster: Roster, why: str) -> Roster:
    """The roster once answers fail to come: it goes on showing what was so at `answered_at`."""
    return replace(roster, trouble=why)


def changes(before: Roster, after: Roster) -> tuple[Change, ...]:
    """Each worker's last change between two rosters, by peer id."""
    old = {row.entry.peer_id: row.last for row in before.rows}
    return tuple(row.last for row in after.rows if row.last is not None and row.last != old.get(row.entry.peer_id))


def id_length(peer_ids: Iterable[str]) -> int:
    """How many characters tell these peer ids apart, from `SHORT` to `LONG`."""
    ids = set(peer_ids)
    return next((n for n in range(SHORT, LONG) if len({each[:n] for each in ids}) == len(ids)), LONG)
