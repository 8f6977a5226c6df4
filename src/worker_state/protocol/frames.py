"""Every frame of the protocol: ONE constructor for each that we send, ONE reader for all that we get.

A frame is read as what it is, never as what to do about it. `read` never raises, whatever the network sends.
"""

import json
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from worker_state import foreign_json
from worker_state.protocol import echo as echo_payload
from worker_state.redact import Secrets

Message = dict[str, Any]  # one JSON object, as it stands in a text frame

OURS = frozenset({"register", "update_metadata"})  # types that `send_signal` refuses
SIGNED = frozenset({"discover_peers", "peer_message"})
"""Types whose sender the server looks up by what they say: a wrong one earns NOT_IN_ROOM (protocol.md, B)."""

WITH_RECORDS = ("registered_auth", "metadata_updated", "peer_list")
"""Types that carry what any peer of the room has written into its record, or into ours."""

TOKEN_ID = "_token_id"

_ANSWER = re.compile(r'\s*\{\s*"type"\s*:\s*"registered_auth"')
"""How servers begin the answer to a `register`, which tells of everybody in the room. No client's message begins so."""

LONGEST = 2**20  # characters of a message that is no answer to a `register`: servers take no longer ones from clients
MOST_VALUES = 400_000  # in one message: the answer to a `register` has so many at 8 MiB. Reading them takes some 80 ms.
MOST_CONTAINERS = 50_000  # lists and objects in what answers no `register`: each costs the loop as five values do
EACH_VALUE = 256  # bytes that a value takes beside its text, at most: a dict of its own, with one entry


def register(peer_id: str, record: Message, role: str = "worker", **more: str | bool) -> Message:
    """A full registration: with `room_id`, `token` and `id_token`, or with an `api_key` (v3.0), which names the room;
    account keys come with a `room_id`. `is_admin` takes part in the room's election. The record is built in
    `record.py`."""
    return {"type": "register", "peer_id": peer_id, **more, "role": role, "metadata": record}


def update_metadata(peer_id: str, record: Message) -> Message:
    """The whole record again, or a look at it."""
    return {"type": "update_metadata", "peer_id": peer_id, "metadata": record}


def echo(peer_id: str, nonce: str) -> Message:
    """A message to ourselves: coming back, it proves that we are listed and that clients reach this socket."""
    return {
        "type": "peer_message",
        "from_peer_id": peer_id,
        "to_peer_id": peer_id,
        "payload": echo_payload.payload(nonce),
    }


def discover_workers(peer_id: str, **more: Any) -> Message:
    """A search for every worker in the room, also for those whose tags were erased: no client would find them. `more`:
    further filters, as a client has them."""
    return {"type": "discover_peers", "from_peer_id": peer_id, "filters": {"role": "worker", **more}}


def encode(message: Mapping[str, Any]) -> str:
    """A frame's text: one JSON object, ASCII. Raises `TypeError` or `ValueError` for what JSON cannot say."""
    return json.dumps(message, allow_nan=False, separators=(",", ":"))


def encode_signal(message: Mapping[str, Any]) -> str:
    """The same for a message of the program. Raises `ValueError`, too, for one at which a server closes the connection:
    nobody would find the worker then."""
    try:
        text = encode(dict(message))
    except RecursionError:
        raise ValueError("a signal must not be nested so deeply") from None
    if len(text) > LONGEST:
        raise ValueError(f"a signal must not be longer than {LONGEST} bytes, this one has {len(text)}")
    return text


@dataclass(frozen=True, slots=True)
class Around:
    """What the answer to a `register` says of the world around, for the worker's other parts. Never shown."""

    peer_list: tuple[str, ...] = field(default=(), repr=False)  # ids of the others in the room
    ice_servers: tuple[Message, ...] = field(default=(), repr=False)  # v3.0; with credentials of TURN servers
    mesh_ice_servers: tuple[Message, ...] = field(default=(), repr=False)
    admin_peer_id: str | None = field(default=None, repr=False)
    peer_metadata: Mapping[str, Message] = field(default_factory=dict, repr=False)  # of the others, by peer id


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
    """`metadata_updated`: what the server has stored for this peer now; anybody may have written it."""

    peer_id: str
    metadata: Message = field(repr=False)


@dataclass(frozen=True, slots=True)
class RegisterError:
    """An error without a code: how a `register` is refused."""

    reason: str  # can be shown
    typed: bool  # it has a "type", which distinguishes the room's "Invalid token" from the identity's
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
    """`{"type": "ping"}`: a sign of life; an answer would only earn an error frame (F29)."""


@dataclass(frozen=True, slots=True)
class OtherMessage:
    """A message for another part of the worker, or of an unknown type: passed on untouched."""

    message: Message = field(repr=False)


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something that no conforming server sends. `why` never repeats it, for it may contain a secret."""

    why: str


TOO_LONG = "a message that is too long, and no answer to a register"

Frame = RegistrationAccepted | MetadataUpdated | RegisterError | NotInRoom | Echo | Ping | OtherMessage | Malformed


def footprint(text: str | bytes) -> int:
    """Bytes of memory that a message of this text takes once it is read, at most."""
    if isinstance(text, bytes):
        return len(text)
    letters = 4 * len(text) if "\\u" in text else sys.getsizeof(text)  # an escaped one can make all the others wide
    return letters + EACH_VALUE * (text.count(",") + foreign_json.containers(text))


def read(text: str | bytes, secrets: Secrets, longest: int = LONGEST) -> Frame:
    """What a frame is. Never raises, whatever it is given. What of it may be shown is without `secrets`; messages for
    the worker's other parts are as they came. `longest`: characters of what answers no `register`."""
    if isinstance(text, bytes):
        return Malformed("a binary frame")
    is_long = len(text) > longest
    if is_long and '"registered_auth"' not in text:  # before it is read, for that may take a second (faults.md, T16)
        return Malformed(TOO_LONG)
    if text.count(",") > MOST_VALUES:
        return Malformed(f"JSON with more than {MOST_VALUES} values")
    if foreign_json.containers(text) > MOST_CONTAINERS and not _ANSWER.match(text):
        return Malformed(f"JSON with more than {MOST_CONTAINERS} lists and objects")
    frame = _read(text, secrets)
    return frame if isinstance(frame, RegistrationAccepted | Malformed) or not is_long else Malformed(TOO_LONG)


def _read(text: str, secrets: Secrets) -> Frame:
    try:
        return _frame(_message(text), secrets)
    except foreign_json.Excessive as error:
        return Malformed(f"JSON, {error}")
    except ValueError:
        return Malformed("no JSON")
    except Exception as error:  # noqa: BLE001 - a frame costs itself at worst (faults.md, G11)
        return Malformed(f"a frame that cannot be read: {type(error).__name__}")


def _message(text: str) -> Any:
    try:
        return foreign_json.read(text)
    except foreign_json.Excessive:
        if any(f'"{kind}"' in text for kind in WITH_RECORDS):
            with suppress(ValueError):
                # In a neighbour's record it must not keep us from reading that we are registered (faults.md, G11).
                cut = foreign_json.read_cut(text)
                if isinstance(cut, dict) and cut.get("type") in WITH_RECORDS:
                    return cut
        raise


def _frame(message: Any, secrets: Secrets) -> Frame:
    match message:
        case {"type": "registered_auth", "peer_id": str(peer), "room_id": str(room), "token": str() | None as token}:
            if secrets.hold(room) or (not secrets.know(token) and Secrets(token).hold(room)):
                return Malformed("a registered_auth whose room_id repeats a secret")
            return RegistrationAccepted(peer, room, token, len(_list(message, "peer_list")), _read_around(message))
        case {"type": "registered_auth"}:
            return Malformed("a registered_auth without peer_id, room_id or token")
        case {"type": "metadata_updated", "peer_id": str(peer_id), "metadata": dict(stored)}:
            return MetadataUpdated(peer_id, stored)
        case {"type": "metadata_updated"}:
            return Malformed("a metadata_updated without peer_id or metadata")
        case {"type": "error", "code": "NOT_IN_ROOM" as code}:
            return NotInRoom(code, message)  # PEER_NOT_FOUND may be about the target of another part's message
        case {"type": "error", "code": code} if code is not None:
            return OtherMessage(message)  # no `register` is refused with a code (G04)
        case {"type": "error", "reason": str(reason)}:
            return RegisterError(secrets.shown(reason), True, message)
        case {"type": "ping"}:
            return Ping()
        case {"type": "peer_message", "payload": {echo_payload.KEY: nonce}}:
            return _read_echo(message, nonce)
        case {"type": str()}:
            return OtherMessage(message)
        case {"type": _}:
            return Malformed("a message whose type is no text")
        case {"error": str(reason)}:
            return RegisterError(secrets.shown(reason), False, message)
        case dict():
            return Malformed("a message without a type")
        case _:
            return Malformed("JSON, but no object")


def _read_around(message: Message) -> Around:
    # Interned, since all workers of a process that share a room get the same ids.
    peers = tuple(sys.intern(peer) for peer in _list(message, "peer_list") if isinstance(peer, str))
    ice, mesh = (
        tuple(server for server in _list(message, key) if isinstance(server, dict))
        for key in ("ice_servers", "mesh_ice_servers")
    )
    admin, records = message.get("admin_peer_id"), message.get("peer_metadata")
    admin = admin if isinstance(admin, str) else None
    metadata = {
        sys.intern(peer): {name: value for name, value in record.items() if name != TOKEN_ID}
        for peer, record in (records if isinstance(records, dict) else {}).items()
        if isinstance(record, dict)
    }
    if not (peers or ice or mesh or admin or metadata):
        return NOTHING_AROUND
    return Around(peers, ice, mesh, admin, MappingProxyType(metadata))


def _list(message: Message, key: str) -> list[Any]:
    value = message.get(key)
    return value if isinstance(value, list) else []


def _read_echo(message: Message, nonce: object) -> Echo | Malformed:
    sender = message.get("from_peer_id")
    if not isinstance(sender, str) or not isinstance(nonce, str):
        return Malformed("an echo without sender or nonce")
    return Echo(sender, nonce)
