"""What a worker advertises (tags, capabilities, status), built and compared in this one place.

`register` and every `update_metadata` carry it. `frames.py` puts it into a frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from worker_state.advertised import thawed
from worker_state.protocol.frames import Message
from worker_state.protocol.status import Busy, Reserved, Truth, word


def build_record(tags: Sequence[str], capabilities: Mapping[str, Any], truth: Truth) -> Message:
    """The whole record: the tags always, since an update without them erases them."""
    return {"tags": list(tags), "properties": {**thawed(capabilities), **status_properties(truth)}}


def status_properties(truth: Truth) -> dict[str, str | None]:
    """The three properties of a status. The server merges and never removes one, so a null is explicit."""
    return {
        "status": word(truth).value,
        "current_job_id": truth.job_id if isinstance(truth, Busy) else None,
        "pending_job_id": truth.job_id if isinstance(truth, Reserved) else None,
    }


def look(record: Message) -> Message:
    """The least record that an update changes nothing with: its answer shows what the server has stored, ours or forged
    (F07). The tags have to be in it (F08), and one property, as in a step recorded from the real server."""
    return {"tags": record["tags"], "properties": {"pending_job_id": record["properties"]["pending_job_id"]}}


def differences(stored: Message, wanted: Message) -> tuple[str, ...]:
    """The names of what is ours and stored otherwise. Extra tags and properties do not count: the server unites tags
    and merges properties, so nothing extra could be removed (F09)."""
    tags, properties = stored.get("tags"), stored.get("properties")
    found = [] if isinstance(tags, list) and all(tag in tags for tag in wanted["tags"]) else ["tags"]
    kept = properties if isinstance(properties, dict) else {}
    for name, value in wanted["properties"].items():
        if name not in kept or not _same(kept[name], thawed(value)):
            found.append(name)
    return tuple(found)


def _same(stored: Any, wanted: Any) -> bool:
    """Whether clients see the same. Python finds `true` and 1 equal; 1 and 1.0 are, for a store may change that."""
    match wanted:
        case bool():
            return stored is wanted
        case dict():
            alike = isinstance(stored, dict) and stored.keys() == wanted.keys()
            return alike and all(_same(stored[name], each) for name, each in wanted.items())
        case list():
            return isinstance(stored, list) and len(stored) == len(wanted) and all(map(_same, stored, wanted))
    return bool(stored == wanted) and not isinstance(stored, bool)
