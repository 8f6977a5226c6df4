"""From one peer to another: peer messages, WebRTC signals, the frames of the workers' mesh.

Pure. It trusts the shapes that it is given, as the real server does (see `search`).
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator
from dataclasses import dataclass

from worker_state.devserver.effects import Effect, Message, Send, error
from worker_state.devserver.registry import Peer, Registry

#: Handed to `target` as they are.
SIGNALS = ("offer", "answer", "candidate", "quit")

#: Frame type -> (type under which it is handed to `target_peer_id`, the one field that is handed on).
MESH = {
    "mesh_connect": ("mesh_offer", "offer"),
    "mesh_answer": ("mesh_answer", "answer"),
    "ice_candidate": ("ice_candidate", "candidate"),
}


@dataclass(frozen=True)
class Relays:
    registry: Registry
    alive: Container[Hashable]

    def peer_message(self, connection: Hashable, message: Message) -> Iterator[Effect]:
        """Delivered without an answer to whoever is listed under that id in the same room, the sender too."""
        sender, target = message.get("from_peer_id"), message.get("to_peer_id")
        if not (sender and target and message.get("payload")):
            yield error(connection, "INVALID_MESSAGE", "Missing required fields: from_peer_id, to_peer_id, payload")
            return
        room_id = self.registry.room_of(sender)
        if room_id is None:
            yield error(connection, "NOT_IN_ROOM", "Sender not in any room")
            return
        if self.registry.room_of(target) != room_id:
            yield error(connection, "PEER_NOT_IN_ROOM", f"Target peer {target} not in same room")
            return
        handed_on = {name: message[name] for name in ("type", "from_peer_id", "to_peer_id", "payload")}
        peer = self.registry.peers(room_id)[target]
        if peer.connection in self.alive:
            yield Send(peer.connection, handed_on)
        else:
            yield error(connection, "DELIVERY_FAILED", f"Failed to deliver message to {target}")

    def signal(self, message: Message) -> Iterator[Effect]:
        """Handed on as it is, or silently dropped."""
        sender = message.get("sender") or message.get("from_peer_id")
        target = message.get("target") or message.get("to_peer_id")
        if sender and target:
            peer = self._neighbour(self.registry.room_of(sender), target)
            if peer is not None and peer.connection in self.alive:
                yield Send(peer.connection, message)

    def mesh(self, connection: Hashable, message: Message) -> Iterator[Effect]:
        kind, content = MESH[message["type"]]
        sender, target = message.get("from_peer_id"), message.get("target_peer_id")
        if not (sender and target and message.get(content)):
            missing = f"Missing required fields: from_peer_id, target_peer_id, {content}"
            yield error(connection, "INVALID_MESSAGE", missing)
            return
        room_id = self.registry.room_of(sender)
        if room_id is None:
            yield error(connection, "NOT_IN_ROOM", "Sender not in any room")
            return
        peer = self._neighbour(room_id, target)
        if peer is not None and peer.connection in self.alive:
            yield Send(peer.connection, {"type": kind, "from_peer_id": sender, content: message[content]})
        elif kind != "ice_candidate":  # candidates arrive late by nature, and nobody is told
            yield Send(connection, {"type": "error", "code": "PEER_NOT_FOUND", "reason": "peer_not_found"})

    def _neighbour(self, room_id: str | None, peer_id: str) -> Peer | None:
        return None if room_id is None else self.registry.peers(room_id).get(peer_id)
