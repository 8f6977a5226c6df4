"""What a worker registers with: its ID token and its room, or an API key, and when the next of them has to be fetched.

Pure. Which call fetches what, and what a refusal leads to, is the registration actor's business.
"""

import math
from random import Random

from worker_state.config import Config
from worker_state.protocol import frames, http_api, lease
from worker_state.protocol.probe import OVERSLEPT


class Credentials:
    """Everything that stands in a `register` beside the record."""

    __slots__ = ("_ahead", "_api_key", "_next_room", "_own_room", "id_token", "room")

    def __init__(self, config: Config) -> None:
        self.id_token: lease.Leased[str] = lease.Leased()
        self.room: lease.Leased[http_api.Room] = lease.Leased()
        self._api_key = config.api_key
        self._own_room = config.creates_room
        self._ahead: float | None = None
        self._next_room: tuple[http_api.Room, float] | None = None
        if config.room_id is not None and config.room_token is not None:
            self.room.grant(http_api.Room(config.room_id, config.room_token), 0.0)

    @property
    def complete(self) -> bool:
        """There is all that a `register` needs."""
        return self._api_key is not None or (self.id_token.value is not None and self.room.value is not None)

    def grant_token(self, id_token: str, now: float, random: Random) -> None:
        """A new ID token, to be renewed at 80 % of the life that it claims."""
        life = lease.token_life(id_token)
        self.id_token.grant(id_token, now, lease.renewal(life, lease.RENEW_TOKEN, random))

    def offer_room(self, room: http_api.Room, now: float) -> None:
        """A new room of our own is there, to be moved into with `move`."""
        self._next_room = room, now

    def move(self, random: Random, *, engaged: bool) -> bool:
        """Take the next room if there is one: at once when no other is left, but not under the eyes of a client who has
        been promised the worker in this one. It is to be replaced before its two hours are over."""
        if self._next_room is None or (self.room.value is not None and engaged):
            return False
        (room, since), self._next_room = self._next_room, None
        self.room.grant(room, since, lease.renewal(lease.ROOM_LIFE, lease.RENEW_ROOM, random))
        return True

    def accept(self) -> None:
        """The server has taken them."""
        self.id_token.accept()
        self.room.accept()

    def look_at_the_clock(self, ahead: float) -> None:
        """A clock that goes on while the machine sleeps, as the server's does, is so far ahead of the caller's: what is
        held now has grown older by what that has grown (T18). To be called before anything new is granted."""
        slept = 0.0 if self._ahead is None else ahead - self._ahead
        if self._ahead is None or slept < 0 or slept >= OVERSLEPT:  # less may be the clocks' own doing
            self._ahead = ahead
            self.id_token.aged(max(0.0, slept))
            self.room.aged(max(0.0, slept))

    def due(self, *, idle: bool) -> float:
        """When something has to be fetched: at once what is missing, in time what runs out, the room only when idle."""
        if self._api_key is not None:
            return math.inf
        if self.id_token.value is None:
            return -math.inf
        due = self.id_token.due
        if self._own_room and self.room.value is None:
            return -math.inf
        return min(due, self.room.due) if self._own_room and idle and self._next_room is None else due

    def token_is_due(self, now: float) -> bool:
        """What has to be fetched is an ID token; else it is a room. A missing room comes first: the token that is only
        due for renewal still works, and its renewal may fail for long (faults.md, F16)."""
        room_is_missing = self._own_room and self.room.value is None
        return self.id_token.value is None or (now >= self.id_token.due and not room_is_missing)

    def names(self, room_id: str) -> bool:
        """Whether an answer that names this room can be meant for us."""
        return self.room.value is None or self.room.value.room_id == room_id

    def register(self, peer_id: str, record: frames.Message) -> frames.Message:
        """The full `register`; they have to be complete."""
        if self._api_key is not None:
            return frames.register_by_key(peer_id, self._api_key, record)
        assert self.room.value is not None
        assert self.id_token.value is not None
        return frames.register(peer_id, self.room.value.room_id, self.room.value.token, self.id_token.value, record)
