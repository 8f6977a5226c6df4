"""Who may come in: users, their ID tokens, API keys. What Cognito does for the real server.

Pure: no trio, no logging, no clock, no global random.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class User:
    username: str
    created_at: float


@dataclass(frozen=True)
class ApiKey:
    """What is stored under an API key. The key itself is the secret, and only ever a mapping's key."""

    room_id: str
    worker_name: str = "worker"
    revoked: bool = False
    expires_at: float | None = None

    def refusal(self, now: float) -> str | None:
        if self.revoked:
            return "Token revoked"
        if self.expires_at is not None and now > self.expires_at:
            return "Token expired"
        return None


#: The keys of the recorded exchanges: one that works, and one for each way not to.
RECORDED_API_KEYS: Mapping[str, ApiKey] = {
    "slp_good": ApiKey(room_id="0badcafe"),
    "slp_revoked": ApiKey(room_id="0badcafe", revoked=True),
    "slp_expired": ApiKey(room_id="0badcafe", expires_at=0.0),
}


@dataclass
class Identities:
    """Signs users in and judges their tokens.

    A token outlives its user: like a signed JWT it is good until it expires, even if the user is deleted.
    """

    random: Random = field(repr=False)
    token_life: float
    users: dict[str, User] = field(default_factory=dict)
    keys_stale: bool = False
    _expiry: dict[str, float] = field(default_factory=dict, repr=False)

    def sign_in(self, now: float) -> tuple[str, str]:
        """Creates a user; returns the name and an ID token."""
        username = self.new_uuid()
        expires_at = now + self.token_life
        token = self._jwt(
            {
                "sub": username,
                "cognito:username": username,
                "token_use": "id",
                "iat": int(now),
                "exp": int(expires_at),
            }
        )
        self.users[username] = User(username, created_at=now)
        self._expiry[token] = expires_at
        return username, token

    def refusal(self, token: object, now: float) -> str | None:
        """Why this ID token is no good, or None: it is."""
        if not isinstance(token, str) or token.count(".") != 2:
            return "Not enough segments"
        if self.keys_stale or token not in self._expiry:
            return "Signature verification failed."
        if now > self._expiry[token]:
            return "Signature has expired."
        return None

    def new_uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def _jwt(self, claims: dict[str, Any]) -> str:
        header = {"alg": "RS256", "typ": "JWT", "kid": "devserver"}
        # Nothing is signed: the last part only has to be there, and to make the token unguessable.
        parts = (json.dumps(header).encode(), json.dumps(claims).encode(), self.random.randbytes(32))
        return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
