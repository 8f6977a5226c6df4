"""Credentials are leases: when an ID token or a room is renewed, and when renewing it again is of no use.

Times are in seconds of the caller's clock. Nothing is fetched here.
"""

import base64
import math
from random import Random
from typing import Generic, TypeVar

from worker_state import foreign_json

T = TypeVar("T")

TOKEN_LIFE = 3600.0  # seconds, for an ID token that does not say so itself (protocol.md, A: Cognito's default)
ROOM_LIFE = 7200.0  # seconds from `/create-room`, in both generations of the server (G02)
RENEW_TOKEN = (0.80, 0.85)  # share of its life after which it is renewed; a range, so that many do not at once
RENEW_ROOM = (0.90, 0.92)  # the same for a room of our own: 108 to 110 of 120 minutes (F10)
FRESH_ONES = 2  # so many new ones in a row are tried; each leaves something on the server
FRESH = 60.0  # seconds. Only what is refused while it is younger says that the next one would be refused too.
STALE = 300.0  # seconds after which, even so, one more is tried (F21, F38: the server may be mended)
FIRST_PAUSE = 0.2  # seconds from a refusal to the renewal; the next within an hour wait 1.7 times as long each
HOUR = 3600.0


class Leased(Generic[T]):
    """Something that was granted, runs out, and can be refused."""

    def __init__(self) -> None:
        self.value: T | None = None
        self.due: float = math.inf  # when to renew, if nobody refuses it before
        self._since = -math.inf
        self._refusals = 0  # of fresh ones, in a row
        self._kept = False  # although it was refused
        self._refused_at: list[float] = []

    def __repr__(self) -> str:
        return f"<Leased {'granted' if self.value is not None else 'none'}, due at {self.due:g}>"

    def grant(self, value: T, now: float, renew_after: float = math.inf) -> None:
        """A new one, to be renewed after so many seconds."""
        self.value, self._since, self.due, self._kept = value, now, now + renew_after, False

    def accept(self) -> None:
        """The server has accepted it."""
        self._refusals = 0

    def refuse(self, now: float) -> float | None:
        """It is dropped, and a new one may be had after so many seconds. None: it is kept, since new ones were refused
        too, and only waiting helps. The seconds grow with the refusals of an hour: a server that accepts each one once
        must not get a user a second."""
        fresh = self._kept or now - self._since < FRESH
        self._refusals = self._refusals + 1 if fresh else 1
        self._kept = self._refusals > FRESH_ONES and now - self._since < STALE
        if self._kept:
            return None
        self._refused_at = [*(at for at in self._refused_at if now - at <= HOUR), now]
        self.value, self.due = None, math.inf
        return min(STALE, FIRST_PAUSE * 1.7 ** min(len(self._refused_at) - 1, 50))

    def is_newer_than(self, when: float) -> bool:
        """It was granted after this time: a refusal of what was sent then does not concern it."""
        return self._since > when

    def aged(self, seconds: float) -> None:
        """It has grown older by so many seconds that the caller's clock has not counted."""
        self.due -= seconds


def token_life(id_token: str) -> float:
    """The seconds that a JWT claims to live; an hour if that cannot be read or makes no sense. No signature is checked:
    a wrong claim costs a renewal too early, or a refusal."""
    try:
        body = id_token.split(".")[1]
        claims = foreign_json.read(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        life = float(claims["exp"]) - float(claims["iat"])
    except (ValueError, TypeError, LookupError, OverflowError):
        return TOKEN_LIFE
    return life if 60 <= life <= 86400 else TOKEN_LIFE


def renewal(life: float, share: tuple[float, float], random: Random) -> float:
    """Seconds after which something of this life is renewed."""
    return life * random.uniform(*share)
