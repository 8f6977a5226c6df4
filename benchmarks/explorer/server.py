"""The server's side: the development server's real rules, and a connection for each wire that leads to them."""

import json
from dataclasses import replace
from random import Random
from typing import Any

from benchmarks.explorer.models import CLOSE, Wire
from worker_state.devserver.model import Close, Effect, Peer, Room, Send
from worker_state.devserver.rules import Rooms

WALL = 1_799_000_000.0  # the server's clock minus the worker's
TOKEN_LIFE = 3600.0
HIJACKER, VANDAL, PASSER_BY = "hijacker", "vandal", "passer-by"  # connections of strangers


class Server:
    """Rooms, and the wires whose ends the server has not noticed. `now` is the worker's clock."""

    def __init__(self, random: Random, now: float) -> None:
        self.rooms = Rooms(random=random, token_life=TOKEN_LIFE)
        self.wires: list[Wire] = []
        self.hijacked = False  # a stranger's connection has registered as the worker, and is open
        self.written_by_worker = True  # what is stored; False: a stranger has written last
        self.deleted_rooms: list[str] = []  # by `/delete-peer`
        stranger = self.rooms.sign_in(now + WALL).body
        assert isinstance(stranger, dict)
        self.stranger_token = stranger["id_token"]
        self.strangers = list(self.rooms.users)

    def give_room(self, room_id: str, token: str | None) -> None:
        """A room that somebody else has created."""
        self.rooms._registry.rows[room_id] = Room(room_id, token, None)

    # frames

    def handle(self, wire: Wire, now: float, how: str = "") -> None:
        """Handle the next frame of this wire: `how` is "swallowed", "refused" or "refused late" for a `register`."""
        text = wire.up.pop(0)
        if text == CLOSE:
            self.forget(wire)
            if wire.here:
                wire.down.append(1000)
        elif how != "swallowed":
            if how:
                self.rooms.fail_store(registered=how == "refused late")
            self._perform(self.rooms.receive(wire.name, text, now + WALL))
            self.rooms.fail_store(0)
            self.written_by_worker = self.written_by_worker or '"register"' in text or '"update_metadata"' in text

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            wire = next((each for each in self.wires if each.name == effect.connection), None)
            if wire is None or not wire.here:
                continue
            match effect:
                case Send(_, message):
                    wire.down.append(json.dumps(message))
                case Close(_, code):
                    self.forget(wire)
                    wire.down.append(code)

    def forget(self, wire: Wire) -> None:
        """The server knows that this wire is over. What it has not read of it is lost."""
        wire.there = False
        wire.up.clear()
        self.rooms.gone(wire.name)
        self.tidy()

    def tidy(self) -> None:
        """Drop the wires that nobody holds any more."""
        self.wires = [wire for wire in self.wires if wire.here or wire.there]

    def restart(self) -> None:
        """All connections are gone, and all registrations; users and rooms stay."""
        for wire in self.wires:
            wire.there = False
            wire.up.clear()
        self.hijacked = False
        self.rooms.forget_peers()

    def deafen(self, wire: Wire) -> None:
        """The backend of this wire is dead; what is in front of it answers pings."""
        wire.deaf = True
        wire.up.clear()
        wire.down.clear()
        self.rooms.gone(wire.name)

    # strangers

    def _says(self, connection: str, message: dict[str, Any], now: float) -> None:
        self._perform(self.rooms.receive(connection, json.dumps(message), now + WALL))

    def evict(self, peer_id: str, now: float) -> None:
        """Somebody without credentials registers under this id, is refused, and goes (F04)."""
        self._says(PASSER_BY, {"type": "register", "peer_id": peer_id}, now)
        self.rooms.gone(PASSER_BY)

    def hijack(self, peer_id: str, room_id: str, token: str | None, now: float) -> None:
        """A member of the room registers under this id (F06), and stays."""
        message = {"type": "register", "peer_id": peer_id, "room_id": room_id, "token": token}
        self._says(HIJACKER, {**message, "id_token": self.stranger_token, "metadata": {}}, now)
        self.hijacked, self.written_by_worker = True, False

    def unhijack(self) -> None:
        """That stranger goes; with it goes whoever is registered under the id now (docs/reference/protocol.md, 3)."""
        self.hijacked = False
        self.rooms.gone(HIJACKER)

    def rewrite(self, peer_id: str, now: float) -> None:
        """Somebody changes the worker's record (F07)."""
        metadata = {"tags": ["theirs"], "properties": {"status": "maintenance"}}
        self._says(VANDAL, {"type": "update_metadata", "peer_id": peer_id, "metadata": metadata}, now)
        self.rooms.gone(VANDAL)
        self.written_by_worker = False

    @property
    def sign_ins(self) -> int:
        """How many there were, the stranger's included."""
        return len(self.rooms._identities._expiry)

    # credentials and HTTP. The rules have no way to age what they have granted.

    def expire_tokens(self, now: float) -> None:
        """Every ID token but the stranger's is too old from now on."""
        expiry = self.rooms._identities._expiry
        expiry.update({token: now + WALL - 1.0 for token in expiry if token != self.stranger_token})

    def token_is_good(self, token: str, now: float) -> bool:
        """Whether this ID token would be accepted."""
        return self.rooms._identities.refusal(token, now + WALL) is None

    def expire_room(self, room_id: str, now: float) -> None:
        """This room is too old from now on."""
        rows = self.rooms._registry.rows
        rows[room_id] = replace(rows[room_id], expires_at=now + WALL - 1.0)

    def restore_room(self, room_id: str) -> None:
        """Somebody has mended this room."""
        rows = self.rooms._registry.rows
        rows[room_id] = replace(rows[room_id], expires_at=None)

    def room_is_good(self, room_id: str, now: float) -> bool:
        """Whether clients can enter this room."""
        row = self.rooms.rooms.get(room_id)
        return row is not None and not row.expired(now + WALL)

    def delete(self, username: str, now: float) -> None:
        """`/delete-peer`."""
        before = set(self.rooms.rooms)
        self.rooms.delete_peer({"peer_id": username}, now + WALL)
        self.deleted_rooms += before - set(self.rooms.rooms)

    def entry(self, peer_id: str) -> Peer | None:
        """The registration under this id."""
        return self.rooms.peer(peer_id)
