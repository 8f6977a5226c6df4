"""What the signaling server does with each frame and each HTTP call, quirks of the real one included. Pure.

Frames come in as text, times in seconds since 1970; what has to happen on the network comes out as a list of effects.
Shapes are trusted where the real server trusts them, see `MISSHAPEN`. `identities` checks who may register.
"""

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any, get_args

from worker_state.devserver.identities import RECORDED_API_KEYS, STORE_FAILED, Admitted, ApiKey, Generation, Identities
from worker_state.devserver.model import JSON, Close, Effect, Message, Peer, Registry, Reply, Room, Send
from worker_state.tools.roster import read_entry

ROOM_LIFE = 2 * 3600.0

MISSHAPEN = (AttributeError, KeyError, TypeError, ValueError, RecursionError)
"""What a handler that trusts its input raises. The real server then closes the connection with 1000."""
MESH = {
    "mesh_connect": ("mesh_offer", "offer"),
    "mesh_answer": ("mesh_answer", "answer"),
    "ice_candidate": ("ice_candidate", "candidate"),
}
"""Frame type -> (type under which it is handed to `target_peer_id`, the one field that is handed on)."""


class Rooms:
    def __init__(
        self,
        *,
        random: Random,
        generation: Generation = "v2",
        token_life: float = 3600.0,
        room_life: float = ROOM_LIFE,
        api_keys: Mapping[str, ApiKey] | None = None,
    ) -> None:
        if generation not in get_args(Generation):
            raise ValueError(f"generation must be 'v2' or 'v3', not {generation!r}")
        if not token_life > 0:
            raise ValueError(f"token_life must be more than 0 seconds, not {token_life!r}")
        self._generation = generation
        self._room_life = room_life
        self._registry = Registry()
        keys = dict(RECORDED_API_KEYS if api_keys is None else api_keys) if generation == "v3" else {}
        # API keys are given out for rooms that exist.
        given_out = {key.room_id for key in keys.values() if key.room_id is not None}
        self._registry.rows.update((room_id, Room(room_id, None, None)) for room_id in given_out)
        self._identities = Identities(random, token_life, generation, keys, self._registry)
        self._bound: dict[Hashable, tuple[str | None, str | None]] = {}
        """For each live connection the peer id of the last `register` that it sent, and of the one before."""
        # For tests and the page.
        self.users: Mapping[str, float] = self._identities.users
        self.rooms: Mapping[str, Room] = self._registry.rows
        self.api_keys: Mapping[str, ApiKey] = keys

    def peers(self, room_id: str) -> Mapping[str, Peer]:
        """The registrations of this room, by peer id."""
        return self._registry.peers(room_id)

    def occupied(self) -> list[str]:
        """The rooms that have registrations, in order."""
        return self._registry.occupied()

    def peer(self, peer_id: str) -> Peer | None:
        """The registration of this peer, wherever it is."""
        room_id = self._registry.room_of(peer_id)
        return None if room_id is None else self.peers(room_id).get(peer_id)

    def peer_of(self, connection: Hashable) -> str | None:
        """The peer that will be removed when this connection dies."""
        return self._bound.get(connection, (None, None))[0]

    # Faults.

    def fail_store(self, times: int = 1, *, registered: bool = False) -> None:
        """The next `times` registers get "DynamoDB error"; with `registered` they take effect even so."""
        self._registry.failures, self._registry.fails_late = times, registered

    def stale_keys(self, stale: bool = True) -> None:
        """While stale, every ID token is refused, however fresh."""
        self._identities.keys_stale = stale

    def forget_peers(self) -> None:
        """What a restart does: registrations are gone; users and rooms are kept elsewhere and stay."""
        self._registry.forget_peers()
        self._bound.clear()

    # HTTP.

    def sign_in(self, now: float) -> Reply:
        username, token = self._identities.sign_in(now)
        return Reply(200, {"id_token": token, "username": username})

    def create_room(self, authorization: str | None, now: float) -> Reply:
        if authorization is None:
            return Reply.unprocessable("missing", ["header", "authorization"], "Field required", None)
        refusal = self._identities.refusal(authorization.removeprefix("Bearer "), now)
        if refusal is not None:
            return Reply(401, {"detail": f"Token verification failed: {refusal}"})
        room_id, token = self._identities.new_uuid()[:8], self._identities.new_uuid()[:6]
        self._registry.rows[room_id] = Room(room_id, token, expires_at=int(now + self._room_life))
        return Reply(200, {"room_id": room_id, "token": token})

    def delete_peer(self, body: JSON, now: float) -> Reply:
        """Delete the user, and with the last registered peer of a room the room. No token is asked for."""
        if body is None:
            return Reply.unprocessable("missing", ["body"], "Field required", None)
        if not isinstance(body, dict):
            return Reply.unprocessable("dict_type", ["body"], "Input should be a valid dictionary", body)
        if "peer_id" not in body:
            return Reply.unprocessable("missing", ["body", "peer_id"], "Field required", body)
        peer_id = body["peer_id"]
        if not isinstance(peer_id, str):
            return Reply.unprocessable("string_type", ["body", "peer_id"], "Input should be a valid string", peer_id)
        self._identities.users.pop(peer_id, None)
        room_id = self._registry.unlist(peer_id)
        if room_id is None:
            return Reply(200, {"status": "peer deleted from Cognito (already removed from room)"})
        if not self.peers(room_id):
            self._registry.rows.pop(room_id, None)
        room_status = "active" if self.peers(room_id) else "deleted"
        return Reply(200, {"status": f"peer deleted successfully. Room status: {room_status}"})

    # WebSocket.

    def receive(self, connection: Hashable, text: str | bytes, now: float) -> list[Effect]:
        """One frame of a connection. Frames have to come one at a time and in order."""
        self._bound.setdefault(connection, (None, None))
        effects: list[Effect] = []
        try:
            for effect in self._handle(connection, text, now):
                effects.append(effect)  # noqa: PERF402 - what was sent before a handler raised has been sent
        except MISSHAPEN:
            effects.append(Close(connection, 1000, ""))
        return effects

    def unanswered(self, connection: Hashable) -> None:
        """The answer to a `register` met a Close frame: the server forgets which peer this socket registered.

        The entry stays, bound to a dead socket, and nothing will ever remove it: a ghost.
        """
        before = self._bound.get(connection, (None, None))[1]
        self._bound[connection] = before, before

    def gone(self, connection: Hashable) -> None:
        """The server has noticed that a socket is dead; no other peer is informed.

        The peer listed under the socket's peer id is removed, even if a newer socket has registered it.
        """
        peer_id, _ = self._bound.pop(connection, (None, None))
        room_id = None if peer_id is None else self._registry.unlist(peer_id)
        if room_id is not None and (self._registry.admins.get(room_id) == peer_id or not self.peers(room_id)):
            self._registry.admins.pop(room_id, None)

    def _handle(self, connection: Hashable, text: str | bytes, now: float) -> Iterator[Effect]:
        try:
            message = json.loads(text)
        except json.JSONDecodeError:
            yield _error(connection, "INVALID_JSON", "Invalid JSON format")
            return
        match message.get("type"):
            case "register":
                yield from self._register(connection, message, now)
                # Refused or not: the close of this socket removes the peer that has that id.
                peer_id = message.get("peer_id")
                self._bound[connection] = peer_id if isinstance(peer_id, str) else None, self.peer_of(connection)
            case "update_metadata":
                yield from self._update_metadata(connection, message, now)
            case "discover_peers":
                yield from self._discover_peers(connection, message)
            case "peer_message":
                yield from self._peer_message(connection, message)
            case "offer" | "answer" | "candidate" | "quit":
                yield from self._signal(message)
            case str(kind) if kind in MESH:
                yield from self._mesh(connection, message)
            case unknown:
                yield _error(connection, "UNKNOWN_MESSAGE_TYPE", f"Unknown message type: {unknown}")

    def _register(self, connection: Hashable, message: Message, now: float) -> Iterator[Effect]:
        admitted = self._identities.admit(message, now)
        if not isinstance(admitted, Admitted):
            yield Send(connection, admitted)
            return
        peer_id, room_id = admitted.peer_id, admitted.room_id
        since = _since(self.peers(room_id).get(peer_id), admitted.metadata, now)
        peer = Peer(connection, message.get("role", "peer"), admitted.metadata, connected_at=now, since=since)
        self._registry.enlist(peer_id, room_id, peer)
        if self._registry.fails(late=True):
            yield Send(connection, STORE_FAILED)
            return
        admins = self._registry.admins
        if message.get("is_admin") and (current := admins.setdefault(room_id, peer_id)) != peer_id:
            yield Send(connection, {"type": "admin_conflict", "room_id": room_id, "current_admin": current})
        others = {other: peer.metadata for other, peer in self.peers(room_id).items() if other != peer_id}
        answer = {
            "type": "registered_auth",
            "room_id": room_id,
            "token": message.get("token"),
            "peer_id": peer_id,
            "admin_peer_id": admins.get(room_id),
            "peer_list": list(others),
            "peer_metadata": others,
        }
        if self._generation == "v3":
            answer |= {"ice_servers": [], "mesh_ice_servers": []}
        yield Send(connection, answer)

    def _update_metadata(self, connection: Hashable, message: Message, now: float) -> Iterator[Effect]:
        """Any peer may update any other, and only the sender gets an answer."""
        peer_id, update = message.get("peer_id"), message.get("metadata")
        if not peer_id or not update:
            yield _error(connection, "INVALID_MESSAGE", "Missing required fields: peer_id, metadata")
            return
        room_id = self._registry.room_of(peer_id)
        if room_id is None:
            yield _error(connection, "NOT_IN_ROOM", "Peer not in any room")
            return
        peer = self.peers(room_id)[peer_id]
        metadata = merged(peer.metadata, update)
        self._registry.enlist(peer_id, room_id, replace(peer, metadata=metadata, since=_since(peer, metadata, now)))
        yield Send(connection, {"type": "metadata_updated", "peer_id": peer_id, "metadata": metadata})

    def _discover_peers(self, connection: Hashable, message: Message) -> Iterator[Effect]:
        seeker, filters = message.get("from_peer_id"), message.get("filters", {})
        room_id = self._registry.room_of(seeker)
        if room_id is None:
            yield _error(connection, "NOT_IN_ROOM", "Peer not registered in any room")
            return
        found = [
            {"peer_id": peer_id, "role": peer.role, "metadata": peer.metadata, "connected_at": peer.connected_at}
            for peer_id, peer in self.peers(room_id).items()
            if peer_id != seeker and matches(filters, role=peer.role, metadata=peer.metadata)
        ]
        yield Send(connection, {"type": "peer_list", "to_peer_id": seeker, "peers": found, "count": len(found)})

    def _peer_message(self, connection: Hashable, message: Message) -> Iterator[Effect]:
        """Delivered without an answer to the peer of that id in the same room, which may be the sender."""
        sender, target = message.get("from_peer_id"), message.get("to_peer_id")
        if not (sender and target and message.get("payload")):
            yield _error(connection, "INVALID_MESSAGE", "Missing required fields: from_peer_id, to_peer_id, payload")
        elif (room_id := self._registry.room_of(sender)) is None:
            yield _error(connection, "NOT_IN_ROOM", "Sender not in any room")
        elif self._registry.room_of(target) != room_id:
            yield _error(connection, "PEER_NOT_IN_ROOM", f"Target peer {target} not in same room")
        elif (to := self._reachable(room_id, target)) is None:
            yield _error(connection, "DELIVERY_FAILED", f"Failed to deliver message to {target}")
        else:
            yield Send(to, {name: message[name] for name in ("type", "from_peer_id", "to_peer_id", "payload")})

    def _signal(self, message: Message) -> Iterator[Effect]:
        """Handed on as it is, or silently dropped."""
        sender = message.get("sender") or message.get("from_peer_id")
        target = message.get("target") or message.get("to_peer_id")
        if sender and target and (to := self._reachable(self._registry.room_of(sender), target)) is not None:
            yield Send(to, message)

    def _mesh(self, connection: Hashable, message: Message) -> Iterator[Effect]:
        kind, content = MESH[message["type"]]
        sender, target = message.get("from_peer_id"), message.get("target_peer_id")
        if not (sender and target and message.get(content)):
            missing = f"Missing required fields: from_peer_id, target_peer_id, {content}"
            yield _error(connection, "INVALID_MESSAGE", missing)
        elif (room_id := self._registry.room_of(sender)) is None:
            yield _error(connection, "NOT_IN_ROOM", "Sender not in any room")
        elif (to := self._reachable(room_id, target)) is not None:
            yield Send(to, {"type": kind, "from_peer_id": sender, content: message[content]})
        elif kind != "ice_candidate":  # candidates arrive late by nature: no error
            yield Send(connection, {"type": "error", "code": "PEER_NOT_FOUND", "reason": "peer_not_found"})

    def _reachable(self, room_id: str | None, peer_id: str) -> Hashable | None:
        """The peer's connection, if it is alive."""
        peer = None if room_id is None else self.peers(room_id).get(peer_id)
        return peer.connection if peer is not None and peer.connection in self._bound else None


def _error(connection: Hashable, code: str, message: str) -> Send:
    """The error of everything but a `register`."""
    return Send(connection, {"type": "error", "code": code, "message": message})


def _since(before: Peer | None, metadata: Any, now: float) -> float:
    """Since when a peer has had the status and job of this record."""
    if before is None or read_entry("", before.metadata).doing != read_entry("", metadata).doing:
        return now
    return before.since


def merged(old: Any, update: Any) -> Any:
    """What is stored after an update: tags united, properties merged, and anything not mentioned is lost."""
    new = update
    if "tags" in update:
        # The order is arbitrary on the real server.
        new = {**new, "tags": list(dict.fromkeys([*old.get("tags", []), *update["tags"]]))}
    if "properties" in update:
        new = {**new, "properties": {**old.get("properties", {}), **update["properties"]}}
    return new


def matches(filters: Any, *, role: Any, metadata: Any) -> bool:
    """Role equal, one tag shared, every property as asked; what is not asked for matches."""
    if "role" in filters and role != filters["role"]:
        return False
    if "tags" in filters and not set(metadata.get("tags", [])) & set(filters["tags"]):
        return False
    if "properties" in filters:
        properties = metadata.get("properties", {})
        return all(_satisfies(properties.get(key), asked) for key, asked in filters["properties"].items())
    return True


def _satisfies(value: Any, asked: Any) -> bool:
    if not isinstance(asked, dict):
        return bool(value == asked)
    if "$gte" in asked and (value is None or value < asked["$gte"]):
        return False
    if "$lte" in asked and (value is None or value > asked["$lte"]):
        return False
    return not ("$eq" in asked and value != asked["$eq"])
