"""Users, ID tokens, API keys, and which `register` they admit. What Cognito does for the real server. Pure."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias
from uuid import UUID

from worker_state.devserver.model import Message, Registry, Room

Generation: TypeAlias = Literal["v2", "v3"]


def refused(reason: str) -> Message:
    """The error of a `register`."""
    return {"type": "error", "reason": reason}


BAD_IDENTITY: Message = {"error": "Invalid token"}  # without a type; with one, the same words mean the room's token
STORE_FAILED = refused("DynamoDB error")


@dataclass(frozen=True)
class ApiKey:
    """What is stored under an API key. The key itself is the secret, and only ever a mapping's key. An account key has
    no room of its own (None): each `register` names one."""

    room_id: str | None
    """The room that the key opens."""
    worker_name: str = "worker"
    """What the server calls who comes with it."""
    revoked: bool = False
    """The key is refused."""
    expires_at: float | None = None
    """Seconds since 1970 from which on it is refused; None: never."""

    def refusal(self, now: float) -> str | None:
        """Why this key is no good, or None: it is."""
        if self.revoked:
            return "Token revoked"
        return "Token expired" if self.expires_at is not None and now > self.expires_at else None


RECORDED_API_KEYS: Mapping[str, ApiKey] = {
    "slp_good": ApiKey(room_id="0badcafe"),
    "slp_revoked": ApiKey(room_id="0badcafe", revoked=True),
    "slp_expired": ApiKey(room_id="0badcafe", expires_at=0.0),
}
"""The keys of the recorded exchanges: one that works, and one for each way not to."""


@dataclass(frozen=True)
class Admitted:
    """A `register` that is not refused."""

    peer_id: str
    room_id: str
    metadata: Any


@dataclass(eq=False, repr=False)
class Identities:
    """Signs users in, checks their tokens, and admits registrations. The order of the checks is the real server's.

    A token outlives its user: like a signed JWT it is good until it expires, even if the user is deleted.
    """

    random: Random
    token_life: float
    generation: Generation
    api_keys: dict[str, ApiKey]
    registry: Registry
    users: dict[str, float] = field(default_factory=dict)  # when each one signed in, by name
    keys_stale: bool = False
    _expiry: dict[str, float] = field(default_factory=dict)

    def sign_in(self, now: float) -> tuple[str, str]:
        """Create a user; return the name and an ID token."""
        name, expires_at = self.new_uuid(), now + self.token_life
        claims = {"sub": name, "cognito:username": name, "token_use": "id", "iat": int(now), "exp": int(expires_at)}
        header = {"alg": "RS256", "typ": "JWT", "kid": "devserver"}
        # Nothing is signed: the last part only makes the token unguessable.
        parts = (json.dumps(header).encode(), json.dumps(claims).encode(), self.random.randbytes(32))
        token = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        self.users[name] = now
        self._expiry[token] = expires_at
        return name, token

    def refusal(self, token: object, now: float) -> str | None:
        """Why this ID token is no good, or None: it is."""
        if not isinstance(token, str) or token.count(".") != 2:
            return "Not enough segments"
        if self.keys_stale or token not in self._expiry:
            return "Signature verification failed."
        return "Signature has expired." if now > self._expiry[token] else None

    def new_uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def admit(self, message: Message, now: float) -> Admitted | Message:
        """Who registers in which room, or the error of this `register`."""
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
        if self.refusal(message["id_token"], now) is not None:
            return BAD_IDENTITY
        peer_id, room_id = message["peer_id"], message["room_id"]
        if not isinstance(peer_id, str) or not isinstance(room_id, str) or self.registry.fails():
            return STORE_FAILED
        room = self.registry.rows.get(room_id)
        if room is not None and message["token"] != room.token:
            return refused("Invalid token")
        return self._into(room, now) or Admitted(peer_id, room_id, message.get("metadata", {}))

    def _by_api_key(self, api_key: str, message: Message, now: float) -> Admitted | Message:
        key = self.api_keys.get(api_key)
        if key is None:
            return refused("Invalid API key")
        if (refusal := key.refusal(now)) is not None:
            return refused(refusal)
        peer_id = message.get("peer_id") or f"worker-{key.worker_name}-{self.new_uuid()[:4]}"
        metadata = message.get("metadata", {})
        if not isinstance(peer_id, str) or not isinstance(metadata, dict) or self.registry.fails():
            return refused("API key validation failed")
        # Indeed: the real server shows every peer of the room the keys of all others.
        stamped = {**metadata, "_worker_name": key.worker_name, "_token_id": api_key}
        room_id = message.get("room_id") if key.room_id is None else key.room_id
        if not isinstance(room_id, str):
            return refused("Missing required fields during registration.")
        return self._into(self.registry.rows.get(room_id), now) or Admitted(peer_id, room_id, stamped)

    def _into(self, room: Room | None, now: float) -> Message | None:
        """The error of a room that is not there (any more)."""
        if room is None:
            return refused("Room not found")
        return refused("Room expired") if room.expired(now) else None
