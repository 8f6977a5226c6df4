"""How a worker's state and its messages read. A line depends on one snapshot alone: snapshots may be skipped."""

from worker_state.logs import About
from worker_state.protocol.frames import Message
from worker_state.protocol.state import State
from worker_state.redact import shown

STATUS_STYLES = {"available": "green", "reserved": "yellow", "busy": "blue", "maintenance": "magenta"}


def doing(state: State) -> str:
    """What the worker does: "busy with job 17"."""
    words = {"reserved": "reserved for job", "busy": "busy with job"}
    status = state.status.value
    return f"{words[status]} {shown(state.job_id or '')}" if status in words else status


def visible(state: State) -> str:
    """What clients can see of it, from "not connected" to "discoverable"."""
    if not state.connected:
        return "not connected, dialling again"
    if not state.registered:
        return "connected, not registered yet"
    if state.discoverable_since is None:
        return "registered, not yet proved"
    return "discoverable" if state.confirmed else "not confirmed by the server yet"


def sentence(state: State) -> str:
    """Both in one line."""
    return f"{doing(state):<28}  {visible(state)}"


def about(state: State) -> About:
    """The same as an event."""
    return About("state", {"status": state.status.value, "job_id": state.job_id, "seen": visible(state)})


def style(state: State) -> str:
    """The colour of the line: that of the status, or red while clients cannot find the worker."""
    return STATUS_STYLES[state.status.value] if state.registered else "red"


def received(message: Message) -> tuple[str, About]:
    """A client's message as text and as an event: type and sender, printable, never its content."""
    sender = next((message[key] for key in ("sender", "from_peer_id", "from") if message.get(key)), None)
    fields = {"type": _word(message.get("type")), "sender": _word(sender)}
    return f"{fields['type']} from {fields['sender']}", About("received", {**fields})


def _word(value: object) -> str:
    return shown(value, limit=80) if isinstance(value, str) else "somebody"
