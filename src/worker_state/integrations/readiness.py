"""Whether clients find the worker with its true status: decided from the snapshot and the time. Pure.

Arguments are times of trio's clock, in seconds; JSON has ages. The session string is left out; the snapshot's other
texts come without secrets (`redact.py`).
"""

from dataclasses import dataclass
from typing import Any

from worker_state.config import Timing
from worker_state.protocol.probe import longest_unconfirmed, longest_unproved
from worker_state.protocol.state import State, ages
from worker_state.redact import shown

ANSWER = Timing().answer
"""Seconds that an answer may take beyond the probe's period; a server slower than that confirms nothing in time."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether clients find this worker with its true status, as far as the server has confirmed it."""

    ready: bool
    reason: str  # in words, for a person
    since: float  # ready: since when clients can find it. Else: since when they cannot, or it is not known.


def assess(state: State, now: float) -> Readiness:
    """Ready only while registration and true status were confirmed within the last probe period."""
    if state.registered_since is None:
        return Readiness(False, f"not registered: {state.trouble or 'starting'}", state.unregistered_since or 0.0)
    if not state.confirmed:
        why = f"the server has not confirmed the status {state.status.value}"
        return Readiness(False, why, state.unconfirmed_since or 0.0)
    if state.discoverable_since is None:
        return Readiness(False, "registered, and no echo has proved it yet", state.registered_since)
    unproved_from = (state.proved_at or 0.0) + longest_unproved(state.expected_peers) + ANSWER
    unconfirmed_from = (state.confirmed_at or 0.0) + longest_unconfirmed(state.expected_peers) + ANSWER
    if now >= unproved_from:
        return Readiness(False, "registered, and the next proof of it is overdue", unproved_from)
    if now >= unconfirmed_from:
        return Readiness(False, "registered, and the next confirmation of the status is overdue", unconfirmed_from)
    return Readiness(True, "discoverable", state.discoverable_since)


def line(state: State, now: float) -> str:
    """Status and readiness in one line: "busy (job 17), discoverable"."""
    job = f" (job {shown(state.job_id)})" if state.job_id is not None else ""
    return f"{state.status.value}{job}, {shown(assess(state, now).reason)}"


def account(state: State, now: float) -> dict[str, Any]:
    """The snapshot as JSON values, readiness included. Ages in seconds, null for what is not the case."""
    readiness = assess(state, now)
    seconds = {name: None if age is None else round(age, 3) for name, age in ages(state, now).items()}
    return {
        "status": state.status.value,
        "job_id": state.job_id,
        "status_seconds": seconds["status"],
        "ready": readiness.ready,
        "reason": readiness.reason,
        "reason_seconds": round(max(0.0, now - readiness.since), 3),
        "draining": state.draining,
        "connected": state.connected,
        "link": state.epoch,
        "registered_seconds": seconds["registered"],
        "discoverable_seconds": seconds["discoverable"],
        "proved_seconds": seconds["proved"],
        "confirmed_seconds": seconds["confirmed"],
        "unconfirmed_seconds": seconds["unconfirmed"],
        "peer_id": state.peer_id,
        "room_id": state.room_id,
        "peers": state.peers,
        "peers_seconds": seconds["peers"],
        "evictions": state.evictions,
        "trouble": state.trouble,
        "signals_dropped": state.signals_dropped,
        "frames_ignored": state.frames_ignored,
    }


def last_acknowledged(state: State) -> float | None:
    """When the server last answered something of ours (a registration, an update, an echo); None: never."""
    return max((at for at in (state.confirmed_at, state.proved_at) if at is not None), default=None)
