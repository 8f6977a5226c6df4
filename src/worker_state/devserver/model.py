"""The server's memory without its rules: rooms and registered peers; and what the rules answer with. Pure.

Room rows live in a store of their own and survive a restart of the server; registrations do not. What may carry tokens
is never part of a `repr`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: JSON = field(repr=False)

    @classmethod
    def unprocessable(cls, kind: str, where: list[JSON], message: str, given: JSON) -> "Reply":
        """The 422 of a request that does not have the declared shape."""
        return cls(422, {"detail": [{"type": kind, "loc": where, "msg": message, "input": given}]})


@dataclass(frozen=True)
class Send:
    connection: Hashable
    message: Message = field(repr=False)


@dataclass(frozen=True)
class Close:
    connection: Hashable
    code: int
    reason: str


Effect: TypeAlias = Send | Close  # on a connection


@dataclass(frozen=True)
class Room:
    """A row of the room store. A room without an expiry lives for ever."""

    room_id: str
    token: str | None = field(repr=False)
    expires_at: float | None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now > self.expires_at


@dataclass(frozen=True)
class Peer:
    """A registration. `connection` is where frames for this peer go, whether or not it is still alive."""

    connection: Hashable
    role: Any
    metadata: Any = field(repr=False)
    connected_at: float
    since: float = 0.0  # when it began to be in this status with this job; for the page only


class Registry:
    def __init__(self) -> None:
        self.rows: dict[str, Room] = {}
        self.fails_late: bool = False
        self.failures: int = 0  # accesses to the rows that will fail; late: after the registration
        self.admins: dict[str, str] = {}
        # Two tables, because they can disagree: a peer that registers in two rooms is a ghost in the first.
        self._peers: dict[str, dict[str, Peer]] = {}
        self._room_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._room_of)

    def fails(self, *, late: bool = False) -> bool:
        """Does the store fail now?"""
        failing = self.failures > 0 and late == self.fails_late
        self.failures -= failing
        return failing

    def room_of(self, peer_id: Any) -> str | None:
        return self._room_of.get(peer_id)

    def peers(self, room_id: str) -> Mapping[str, Peer]:
        """The registrations of this room, by peer id."""
        return self._peers.get(room_id, {})

    def occupied(self) -> list[str]:
        """The rooms that have registrations, in order."""
        return sorted(self._peers)

    def enlist(self, peer_id: str, room_id: str, peer: Peer) -> None:
        self._peers.setdefault(room_id, {})[peer_id] = peer
        self._room_of[peer_id] = room_id

    def unlist(self, peer_id: str) -> str | None:
        """Remove the peer; return the room that it was in."""
        room_id = self._room_of.pop(peer_id, None)
        if room_id is not None:
            del self._peers[room_id][peer_id]
            if not self._peers[room_id]:
                del self._peers[room_id]
        return room_id

    def forget_peers(self) -> None:
        for table in self._peers, self._room_of, self.admins:
            table.clear()
