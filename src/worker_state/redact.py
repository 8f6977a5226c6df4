"""Makes the server's words fit for a log, a terminal or an exception: without secrets, and on one line."""

import json
import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "[secret]"
_PUBLIC = (
    "type peer_id room_id role metadata tags properties status current_job_id pending_job_id from_peer_id to_peer_id "
    "sender target payload job_id code reason message error count peers filters connected_at admin_peer_id "
    "current_admin peer_list peer_metadata is_admin ice_servers mesh_ice_servers gpu_memory_mb gpu_model cuda_version "
    "hostname sleap_version max_concurrent_jobs supported_models supported_job_types"
)
_SHOWN = frozenset(_PUBLIC.split())
"""Members of a frame that are shown. Any other may be a token, a key, or open a peer connection."""
_TEXTS = frozenset({"reason", "message", "error", "code"})
_TOKENS = re.compile(r"slp_[\w-]+|eyJ[\w.=-]+")  # how API keys and ID tokens look


def redacted(text: str, secrets: Iterable[str | None]) -> str:
    """Text of the server's without these secrets, and without what looks like one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN)
    return _TOKENS.sub(HIDDEN, text)


def shown(text: str, limit: int = 200) -> str:
    """Text of the server's as one line without control characters, cut off after `limit` characters."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown_frame(text: str | bytes, secrets: Iterable[str]) -> str:
    """A frame as one line of JSON, in which only what is known to be public has its value. What is no message is told
    by its length."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("type", message.get("error")), str):
        return f"{len(text)} {'bytes' if isinstance(text, bytes) else 'characters'} that are no message"
    return shown(redacted(json.dumps(_without_secrets(message)), secrets), 1000)


def _without_secrets(value: Any, levels: int = 8) -> Any:
    if levels == 0:
        return "…"
    if isinstance(value, dict):
        # Records stand under the names of their owners, texts for people are texts, and no number is a secret.
        known = {
            name: each
            for name, each in value.items()
            if isinstance(each, dict | bool | int | float | None)
            or (name in _SHOWN and (name not in _TEXTS or isinstance(each, str)))
        }
        return {name: _without_secrets(known[name], levels - 1) if name in known else "[hidden]" for name in value}
    if isinstance(value, list):
        return [_without_secrets(each, levels - 1) for each in value]
    return value
