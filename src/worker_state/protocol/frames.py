"""Every frame of the protocol: ONE constructor for each that we send, ONE reader for all that we get.

Nothing in here knows what to do about a frame; it only says what it is. Whatever the network sends becomes a value:
`read` and its kin never raise. Keep out: sockets, retries, clocks.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker_state.protocol.status import Truth, properties

Message = dict[str, Any]  # one JSON object, as it stands in a text frame

ECHO_KEY = "worker_state_echo"  # the one key in the payload of a `peer_message` to ourselves; its value is the nonce


# --- what we send -----------------------------------------------------------------------------------------------------


def metadata(tags: Sequence[str], capabilities: Mapping[str, Any], truth: Truth) -> Message:
    """The whole record of a worker: the tags always (an update without them erases them), every null explicit."""
    return {"tags": list(tags), "properties": {**capabilities, **properties(truth)}}


def register(peer_id: str, room_id: str, token: str, id_token: str, record: Message, role: str = "worker") -> Message:
    """A full registration with a room and an ID token (both generations of the server)."""
    return {
        "type": "register",
        "peer_id": peer_id,
        "room_id": room_id,
        "token": token,
        "id_token": id_token,
        "role": role,
        "metadata": record,
    }


def register_by_key(peer_id: str, api_key: str, record: Message, role: str = "worker") -> Message:
    """A full registration with an API key (v3.0): the room comes back in the answer."""
    return {"type": "register", "peer_id": peer_id, "api_key": api_key, "role": role, "metadata": record}


def update_metadata(peer_id: str, record: Message) -> Message:
    """The whole record again, in place of what the server has."""
    return {"type": "update_metadata", "peer_id": peer_id, "metadata": record}


def look(peer_id: str, record: Message) -> Message:
    """The least update that changes nothing: its answer shows what the server has stored, ours or forged (F07).

    The tags have to be in it (F08), and one property, as in the recorded step "the worker's next probe shows it".
    """
    pending = {"pending_job_id": record["properties"]["pending_job_id"]}
    return update_metadata(peer_id, {"tags": record["tags"], "properties": pending})


def echo(peer_id: str, nonce: str) -> Message:
    """A message to ourselves: coming back, it proves that we are listed and that clients reach this very socket."""
    return {
        "type": "peer_message",
        "from_peer_id": peer_id,
        "to_peer_id": peer_id,
        "payload": {ECHO_KEY: nonce},
    }


def discover_workers(peer_id: str) -> Message:
    """A search for every worker in the room, also for those whose tags were erased: no client would find them."""
    return {"type": "discover_peers", "from_peer_id": peer_id, "filters": {"role": "worker"}}


def secrets(message: Message) -> tuple[str, ...]:
    """What must not be repeated of a `register`, should the server do so."""
    return tuple(str(message[name]) for name in ("token", "id_token", "api_key") if name in message)


OURS = frozenset({"register", "update_metadata"})
"""The types that only worker_state itself may send; `send_signal` refuses them."""

SIGNED = frozenset({"discover_peers", "peer_message"})
"""The types whose sender the server looks up by what they say: a wrong one earns NOT_IN_ROOM (protocol.md, B)."""


def encode(message: Mapping[str, Any]) -> str:
    """A frame's text: one JSON object, ASCII. Raises `TypeError` or `ValueError` for what JSON cannot say."""
    return json.dumps(message, allow_nan=False, separators=(",", ":"))


# --- what we get: frames ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Around:
    """What the answer to a `register` says of the world around: for the worker's other parts, and never shown."""

    peer_list: tuple[str, ...] = field(default=(), repr=False)  # who else was in the room
    ice_servers: tuple[Message, ...] = field(default=(), repr=False)
    """As the server gave them (v3.0), credentials of TURN servers included."""
    mesh_ice_servers: tuple[Message, ...] = field(default=(), repr=False)


NOTHING_AROUND = Around()


@dataclass(frozen=True, slots=True)
class RegistrationAccepted:
    """`registered_auth`. Only what is ours is kept: v3.0 puts other workers' API keys beside it (protocol.md, 8)."""

    peer_id: str
    room_id: str
    token: str | None = field(repr=False)
    peers: int  # how many others are in the room
    around: Around = NOTHING_AROUND


@dataclass(frozen=True, slots=True)
class MetadataUpdated:
    """`metadata_updated`: what the server has stored for this peer now, whoever wrote it."""

    peer_id: str
    metadata: Message = field(repr=False)


@dataclass(frozen=True, slots=True)
class RegisterError:
    """An error without a code, which an answer to `register` that is no acceptance is. `typed` tells the room's
    "Invalid token" from the identity's."""

    reason: str
    typed: bool
    message: Message = field(default_factory=dict, repr=False, compare=False)  # as it came


@dataclass(frozen=True, slots=True)
class NotInRoom:
    """The server does not have us in any room (or not under this id): the registration is gone."""

    code: str
    message: Message = field(default_factory=dict, repr=False, compare=False)  # as it came


@dataclass(frozen=True, slots=True)
class Echo:
    """A message of ours to ourselves has come back."""

    sender: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Ping:
    """`{"type": "ping"}`: a sign of life; an answer would only earn an error frame (faults.md, F29)."""


@dataclass(frozen=True, slots=True)
class OtherMessage:
    """A message for another part of the worker, or of an unknown type: handed on untouched."""

    message: Message = field(repr=False)


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something that no conforming server sends. `why` never repeats it, for it may contain a secret."""

    why: str


Frame = RegistrationAccepted | MetadataUpdated | RegisterError | NotInRoom | Echo | Ping | OtherMessage | Malformed


def read(text: str | bytes) -> Frame:
    """What a frame is. Never raises, whatever it is given."""
    if isinstance(text, bytes):
        return Malformed("a binary frame")
    message = _parse(text)
    if not isinstance(message, dict):
        return message if isinstance(message, Malformed) else Malformed("JSON, but no object")
    match message:
        case {"type": "registered_auth"}:
            return _read_accepted(message)
        case {"type": "metadata_updated", "peer_id": str(peer_id), "metadata": dict(stored)}:
            return MetadataUpdated(peer_id, stored)
        case {"type": "metadata_updated"}:
            return Malformed("a metadata_updated without peer_id or metadata")
        case {"type": "error", "code": "NOT_IN_ROOM" as code}:
            return NotInRoom(code, message)  # PEER_NOT_FOUND may be about the target of another part's message
        case {"type": "error", "code": code} if code is not None:
            return OtherMessage(message)  # no `register` is refused with a code (faults.md, G04)
        case {"type": "error", "reason": str(reason)}:
            return RegisterError(reason, True, message)
        case {"type": "ping"}:
            return Ping()
        case {"type": "peer_message", "payload": dict(payload)} if ECHO_KEY in payload:
            return _read_echo(message, payload[ECHO_KEY])
        case {"type": str()}:
            return OtherMessage(message)
        case {"type": _}:
            return Malformed("a message whose type is no text")
        case {"error": str(reason)}:
            return RegisterError(reason, False, message)
        case _:
            return Malformed("a message without a type")


def _parse(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_nothing)
    except RecursionError:
        return Malformed("JSON, nested too deeply")
    except ValueError:
        return Malformed("no JSON")


def _nothing(constant: str) -> None:
    """NaN and the infinities are no JSON, but the server hands on what any peer wrote (T16): refused, one in a
    neighbour's record would keep us from reading that we are registered. So they are what they are in browsers."""


def _read_accepted(message: Message) -> RegistrationAccepted | Malformed:
    match message:
        case {"peer_id": str(peer_id), "room_id": str(room_id), "token": str() | None as token}:
            around = _read_around(message)
            count = len(message["peer_list"]) if isinstance(message.get("peer_list"), list) else 0
            return RegistrationAccepted(peer_id, room_id, token, count, around)
        case _:
            return Malformed("a registered_auth without peer_id, room_id or token")


def _read_around(message: Message) -> Around:
    peers, ice, mesh = (message.get(key) for key in ("peer_list", "ice_servers", "mesh_ice_servers"))
    if not (peers or ice or mesh):
        return NOTHING_AROUND
    # Interned, since all workers of a process that share a room are told the same ids.
    known = tuple(sys.intern(peer) for peer in peers if isinstance(peer, str)) if isinstance(peers, list) else ()
    return Around(known, _objects(ice), _objects(mesh))


def _objects(value: object) -> tuple[Message, ...]:
    return tuple(each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def _read_echo(message: Message, nonce: object) -> Echo | Malformed:
    sender = message.get("from_peer_id")
    if not isinstance(sender, str) or not isinstance(nonce, str):
        return Malformed("an echo without sender or nonce")
    return Echo(sender, nonce)


def differences(stored: Message, wanted: Message) -> tuple[str, ...]:
    """The names of what is ours and is stored otherwise; other people's extra tags and properties do not count.

    The server unites tags and merges properties, so nothing extra could be removed (faults.md, F09).
    """
    tags, properties_ = stored.get("tags"), stored.get("properties")
    found = [] if isinstance(tags, list) and all(tag in tags for tag in wanted["tags"]) else ["tags"]
    kept = properties_ if isinstance(properties_, dict) else {}
    for name, value in wanted["properties"].items():
        expected = list(value) if isinstance(value, tuple) else value
        if name not in kept or kept[name] != expected:
            found.append(name)
    return tuple(found)
