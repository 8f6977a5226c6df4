"""What one peer sends to another: peer messages, WebRTC signals, the frames of the workers' mesh. Pure.

It trusts the shapes that it is given, as the real server does (see `rules.MISSHAPEN`).
"""

from collections.abc import Container, Hashable, Iterator

from worker_state.devserver.effects import Effect, Message, Send, error
from worker_state.devserver.registry import Registry

#: Handed to `target` as they are.
SIGNALS = ("offer", "answer", "candidate", "quit")

#: Frame type -> (type under which it is handed to `target_peer_id`, the one field that is handed on).
MESH = {
    "mesh_connect": ("mesh_offer", "offer"),
    "mesh_answer": ("mesh_answer", "answer"),
    "ice_candidate": ("ice_candidate", "candidate"),
}


class Relay:
    def __init__(self, registry: Registry, alive: Container[Hashable]) -> None:
        self._registry = registry
        self._alive = alive

    def peer_message(self, connection: Hashable, message: Message) -> Iterator[Effect]:
        """Delivered without an answer to the peer of that id in the same room, which may be the sender."""
        sender, target = message.get("from_peer_id"), message.get("to_peer_id")
        if not (sender and target and message.get("payload")):
            yield error(connection, "INVALID_MESSAGE", "Missing required fields: from_peer_id, to_peer_id, payload")
        elif (room_id := self._registry.room_of(sender)) is None:
            yield error(connection, "NOT_IN_ROOM", "Sender not in any room")
        elif self._registry.room_of(target) != room_id:
            yield error(connection, "PEER_NOT_IN_ROOM", f"Target peer {target} not in same room")
        elif (to := self._reachable(room_id, target)) is None:
            yield error(connection, "DELIVERY_FAILED", f"Failed to deliver message to {target}")
        else:
            yield Send(to, {name: message[name] for name in ("type", "from_peer_id", "to_peer_id", "payload")})

    def signal(self, message: Message) -> Iterator[Effect]:
        """Handed on as it is, or silently dropped."""
        sender = message.get("sender") or message.get("from_peer_id")
        target = message.get("target") or message.get("to_peer_id")
        if sender and target and (to := self._reachable(self._registry.room_of(sender), target)) is not None:
            yield Send(to, message)

    def mesh(self, connection: Hashable, message: Message) -> Iterator[Effect]:
        kind, content = MESH[message["type"]]
        sender, target = message.get("from_peer_id"), message.get("target_peer_id")
        if not (sender and target and message.get(content)):
            missing = f"Missing required fields: from_peer_id, target_peer_id, {content}"
            yield error(connection, "INVALID_MESSAGE", missing)
        elif (room_id := self._registry.room_of(sender)) is None:
            yield error(connection, "NOT_IN_ROOM", "Sender not in any room")
        elif (to := self._reachable(room_id, target)) is not None:
            yield Send(to, {"type": kind, "from_peer_id": sender, content: message[content]})
        elif kind != "ice_candidate":  # candidates arrive late by nature: no error
            yield Send(connection, {"type": "error", "code": "PEER_NOT_FOUND", "reason": "peer_not_found"})

    def _reachable(self, room_id: str | None, peer_id: str) -> Hashable | None:
        """The peer's connection, if it is alive."""
        peer = None if room_id is None else self._registry.peers(room_id).get(peer_id)
        return peer.connection if peer is not None and peer.connection in self._alive else None
