"""What every client sends, in one place: the same registration, with the true status, and the same echo."""

from dataclasses import dataclass
from typing import Any

from benchmarks.clients import CAPABILITIES, TAGS
from benchmarks.server import Seat


@dataclass
class Truth:
    """What a client is doing just now."""

    job: str | None = None

    def record(self) -> dict[str, Any]:
        status = "available" if self.job is None else "busy"
        properties = {**CAPABILITIES, "status": status, "current_job_id": self.job, "pending_job_id": None}
        return {"tags": TAGS, "properties": properties}


def register(seat: Seat, truth: Truth) -> dict[str, Any]:
    return {
        "type": "register",
        "peer_id": seat.username,
        "room_id": seat.room_id,
        "token": seat.token,
        "id_token": seat.id_token,
        "role": "worker",
        "metadata": truth.record(),
    }


def update(seat: Seat, truth: Truth) -> dict[str, Any]:
    return {"type": "update_metadata", "peer_id": seat.username, "metadata": truth.record()}


def echo(seat: Seat) -> dict[str, Any]:
    name = seat.username
    return {"type": "peer_message", "from_peer_id": name, "to_peer_id": name, "payload": {"echo": name}}
