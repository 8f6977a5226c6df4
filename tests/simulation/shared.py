"""The rooms that are not a worker's own: somebody outside looks after them, and lets others in."""

from dataclasses import replace

from tests.simulation.server import KEY, KEY_ROOM, Server
from worker_state.devserver.model import Message


class SharedRooms:
    """One room that members are given, and on v3.0 the room of the API key. They have no end."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.lost: set[str] = set()
        """Those that a fault has taken away for a while."""
        rooms, rows = server.rooms, server.rooms._registry.rows
        made = rooms.create_room(f"Bearer {self._id_token()}", server.wall).body
        assert isinstance(made, dict)
        self.given = str(made["room_id"]), str(made["token"])
        rows[self.given[0]] = replace(rows[self.given[0]], expires_at=None)
        self._kept = {room_id: row for room_id, row in rows.items() if room_id in (self.given[0], KEY_ROOM)}

    def __contains__(self, room_id: str) -> bool:
        return room_id in self._kept

    def keep(self) -> None:
        """The last one to leave deletes the room, and somebody makes it again for those who come."""
        for room_id, row in self._kept.items():
            if room_id not in self.lost:
                self._server.rooms._registry.rows.setdefault(room_id, row)

    def admission(self, peer_id: str, room_id: str | None = None, role: str = "worker") -> Message:
        """What a member of this room (or of the one that the peer is in) sends to register under a peer id."""
        rooms = self._server.rooms
        row = rooms.rooms.get(room_id or rooms._registry.room_of(peer_id) or "")
        metadata = {"tags": ["x"], "properties": {}}
        frame: Message = {"type": "register", "peer_id": peer_id, "role": role, "metadata": metadata}
        if row is None or row.token is None:
            return frame | {"api_key": KEY}
        return frame | {"room_id": row.room_id, "token": row.token, "id_token": self._id_token()}

    def _id_token(self) -> str:
        """Of a user who is not the workers', and not counted among theirs."""
        rooms = self._server.rooms
        identity = rooms.sign_in(self._server.wall).body
        assert isinstance(identity, dict)
        rooms._identities.users.pop(str(identity["username"]))
        return str(identity["id_token"])
