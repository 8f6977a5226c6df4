"""How a snapshot reads: what the worker does, and what the world sees of it.

Pure text, and a function of the snapshot alone, so that a line never depends on which snapshots were skipped before.
"""

from worker_state.core.state import State
from worker_state.core.wire import Message
from worker_state.core.words import shown
from worker_state.logs import About

STATUS_STYLES = {"available": "green", "reserved": "yellow", "busy": "blue", "maintenance": "magenta"}


def doing(state: State) -> str:
    """The local truth: "busy with job 17"."""
    job = shown(state.job_id or "")
    match state.status.value:
        case "reserved":
            return f"reserved for job {job}"
        case "busy":
            return f"busy with job {job}"
        case status:
            return status


def seen(state: State) -> str:
    """What clients can find of it: from "not connected" to "discoverable"."""
    if not state.connected:
        return "not connected, dialling again"
    if not state.registered:
        return "connected, not registered yet"
    if state.discoverable_since is None:
        return "registered, not yet proved"
    if not state.confirmed:
        return "not confirmed by the server yet"
    return "discoverable"


def sentence(state: State) -> str:
    """One line for a person."""
    return f"{doing(state):<28}  {seen(state)}"


def about(state: State) -> About:
    """The same for a program."""
    return About("state", {"status": state.status.value, "job_id": state.job_id, "seen": seen(state)})


def style(state: State) -> str:
    """The colour of that line: the status while clients can find the worker, red while they cannot."""
    return STATUS_STYLES[state.status.value] if state.registered else "red"


def signal(message: Message) -> str:
    """A message for the worker's other parts: its type and its sender, and never what it carries."""
    return f"{_word(message.get('type'))} from {_word(_sender(message))}"


def received(message: Message) -> About:
    """The same for a program."""
    return About("received", {"type": _word(message.get("type")), "sender": _word(_sender(message))})


def _sender(message: Message) -> object:
    return next((message[key] for key in ("sender", "from_peer_id", "from") if message.get(key)), None)


def _word(value: object) -> str:
    """A stranger chose this text: one printable line, not endless, whatever it is."""
    return shown(value, limit=80) if isinstance(value, str) else "somebody"
