"""May this `register` come in, and into which room? The order of the questions is the real server's.

Pure: no trio, no logging, no clock, no global random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from worker_state.devserver.effects import Message
from worker_state.devserver.identities import ApiKey, Identities
from worker_state.devserver.registry import Room

Generation: TypeAlias = Literal["v2", "v3"]


def refused(reason: str) -> Message:
    """The error of a `register`."""
    return {"type": "error", "reason": reason}


#: A bad identity is refused without a type; the same words with a type mean the token of the room.
BAD_IDENTITY: Message = {"error": "Invalid token"}
STORE_FAILED = refused("DynamoDB error")


@dataclass(frozen=True)
class Admitted:
    peer_id: str
    room_id: str
    metadata: Any


@dataclass(frozen=True)
class Doorkeeper:
    generation: Generation
    identities: Identities
    api_keys: Mapping[str, ApiKey]
    rows: Mapping[str, Room]
    store_fails: Callable[[], bool]

    def admit(self, message: Message, now: float) -> Admitted | Message:
        """Who comes in; or the answer to who does not."""
        if self.generation == "v3":
            api_key = message.get("api_key")
            if api_key and api_key.startswith("slp_"):
                return self._by_api_key(api_key, message, now)
            if message.get("jwt"):
                return refused("JWT public key not configured")
            if not message.get("id_token"):
                return refused("No authentication provided. Use api_key, jwt, or id_token.")
        return self._by_id_token(message, now)

    def _by_id_token(self, message: Message, now: float) -> Admitted | Message:
        if not all(message.get(name) for name in ("peer_id", "room_id", "token", "id_token")):
            return refused("Missing required fields during registration.")
        if self.identities.refusal(message["id_token"], now) is not None:
            return BAD_IDENTITY
        peer_id, room_id = message["peer_id"], message["room_id"]
        if not isinstance(peer_id, str) or not isinstance(room_id, str) or self.store_fails():
            return STORE_FAILED
        room = self.rows.get(room_id)
        if room is None:
            return refused("Room not found")
        if message["token"] != room.token:
            return refused("Invalid token")
        if room.expired(now):
            return refused("Room expired")
        return Admitted(peer_id, room_id, message.get("metadata", {}))

    def _by_api_key(self, api_key: str, message: Message, now: float) -> Admitted | Message:
        key = self.api_keys.get(api_key)
        if key is None:
            return refused("Invalid API key")
        refusal = key.refusal(now)
        if refusal is not None:
            return refused(refusal)
        peer_id = message.get("peer_id") or f"worker-{key.worker_name}-{self.identities.new_uuid()[:4]}"
        metadata = message.get("metadata", {})
        if not isinstance(peer_id, str) or not isinstance(metadata, dict) or self.store_fails():
            return refused("API key validation failed")
        room = self.rows.get(key.room_id)
        if room is None:
            return refused("Room not found")
        if room.expired(now):
            return refused("Room expired")
        # Yes: every peer of the room gets to see the keys of all the others.
        stamped = {**metadata, "_worker_name": key.worker_name, "_token_id": api_key}
        return Admitted(peer_id, key.room_id, stamped)
