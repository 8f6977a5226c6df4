"""What a worker registers with (its ID token and its room, or an API key), and which HTTP call fetches the next of it.

Only the registration actor uses it. Times are in seconds of the caller's clock.
"""

import math
from random import Random
from typing import Any

from worker_state.config import Config
from worker_state.protocol import error_policy, events, frames, http_api, lease
from worker_state.protocol.probe import OVERSLEPT
from worker_state.protocol.registration_backoff import asked_for, doubled

MISSING, RENEWING = (2.0, 20.0), (10.0, 600.0)
"""Seconds: the first and the longest pause between HTTP calls that fail. Without credentials nobody finds the worker;
those that are only due for renewal go on being used."""


class Credentials:
    """Everything in a `register` beside the record. One HTTP call at a time fetches what is missing or runs out."""

    def __init__(self, config: Config, random: Random) -> None:
        self.id_token: lease.Leased[str] = lease.Leased()
        self.room: lease.Leased[http_api.Room] = lease.Leased()
        self._by_key = config.key_credentials
        self._own_room = config.creates_room
        self._random = random
        self._ahead: float | None = None  # of a clock that goes on while the machine sleeps, before ours
        self._next_room: tuple[http_api.Room, float] | None = None  # and when it was created
        self._calling = False  # an HTTP call is under way
        self._failures = 0  # of HTTP calls in a row
        self._not_before = -math.inf  # no HTTP call before this
        if config.api_key is None and config.room_id is not None and config.room_token is not None:
            self.room.grant(http_api.Room(config.room_id, config.room_token), 0.0)

    @property
    def complete(self) -> bool:
        """There is all that a `register` needs."""
        return bool(self._by_key) or (self.id_token.value is not None and self.room.value is not None)

    def names(self, room_id: str) -> bool:
        """Whether an answer that names this room can be meant for us."""
        return self.room.value is None or self.room.value.room_id == room_id

    def register(self, peer_id: str, record: frames.Message, *, admin: bool | None = None) -> frames.Message:
        """The full `register`; they have to be complete. `admin`: None leaves the election alone."""
        election: dict[str, Any] = {} if admin is None else {"is_admin": admin}
        if self._by_key:
            return frames.register(peer_id, record, **(self._by_key | election))
        room, id_token = self.room.value, self.id_token.value
        assert room is not None
        assert id_token is not None
        given = {"room_id": room.room_id, "token": room.token, "id_token": id_token}
        return frames.register(peer_id, record, **(given | election))

    def accept(self) -> None:
        """The server has accepted them."""
        self.id_token.accept()
        self.room.accept()

    def refuse(self, what: error_policy.Lease, now: float) -> float | None:
        """A `register` was refused for this: seconds until a new one is fetched; None: only waiting helps."""
        pause = self._leased(what).refuse(now)
        if pause is None:
            return None
        self._not_before = now + self._random.uniform(0.5, 1.0) * pause
        return self._not_before - now

    def renewed_since(self, when: float, what: error_policy.Lease) -> bool:
        """This was renewed after that time: a refusal of what was sent then does not concern it."""
        return self._leased(what).is_newer_than(when)

    def _leased(self, what: error_policy.Lease) -> lease.Leased[Any]:
        return self.id_token if what is error_policy.Lease.IDENTITY else self.room

    def due(self, *, idle: bool) -> float:
        """When the next HTTP call is to be made: at once for what is missing, in time for what runs out; a room is
        replaced only while the worker is idle."""
        if self._calling or self._by_key:
            return math.inf
        if self.id_token.value is None or self._room_is_missing:
            return self._not_before
        replaces_room = self._own_room and idle and self._next_room is None
        due = min(self.id_token.due, self.room.due) if replaces_room else self.id_token.due
        return max(due, self._not_before)

    def next_call(self, now: float) -> events.RequestIdentity | events.RequestRoom:
        """The call that is due; it is under way from now on. A missing room comes before the renewal of a token, which
        still works, and whose renewal may fail for long (F16)."""
        self._calling = True
        id_token = self.id_token.value
        if id_token is None or (now >= self.id_token.due and not self._room_is_missing):
            return events.RequestIdentity()
        return events.RequestRoom(id_token)

    def signed_in(self, id_token: str, now: float) -> None:
        """A sign-in has succeeded."""
        self._calling, self._failures = False, 0
        life = lease.token_life(id_token)
        self.id_token.grant(id_token, now, lease.renewal(life, lease.RENEW_TOKEN, self._random))

    def room_created(self, room: http_api.Room, now: float) -> None:
        """There is a new room, to be moved into with `move`."""
        self._calling, self._failures = False, 0
        self._next_room = room, now

    def call_failed(self, now: float, hint: float | None, *, token_refused: bool = False) -> None:
        """The call has brought nothing. `hint`: seconds that the server asks to wait."""
        self._calling = False
        pause = self.id_token.refuse(now) if token_refused else None
        if pause is None:
            pause = doubled(*(RENEWING if self.complete else MISSING), times=self._failures)
            self._failures += 1
        self._not_before = now + max(self._random.uniform(0.5, 1.0) * pause, asked_for(hint, self._random))

    def move(self, *, in_use: bool) -> bool:
        """Take the next room if there is one: at once when there is no other, but not while a client counts on the
        worker in this one."""
        if self._next_room is None or (self.room.value is not None and in_use):
            return False
        (room, since), self._next_room = self._next_room, None
        self.room.grant(room, since, lease.renewal(lease.ROOM_LIFE, lease.RENEW_ROOM, self._random))
        return True

    def look_at_the_clock(self, ahead: float) -> None:
        """A clock that goes on while the machine sleeps, as the server's does, is so far ahead of the caller's: both
        leases have grown older by what that has grown (T18). Call it before anything new is granted."""
        slept = 0.0 if self._ahead is None else ahead - self._ahead
        if self._ahead is None or slept < 0 or slept >= OVERSLEPT:  # less may be the clocks' own doing
            self._ahead = ahead
            self.id_token.aged(max(0.0, slept))
            self.room.aged(max(0.0, slept))

    @property
    def _room_is_missing(self) -> bool:
        return self._own_room and self.room.value is None
