"""A signaling server in a thread, a room on it, and a client in that room that follows the jobs of many workers."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from anyio.from_thread import BlockingPortal, start_blocking_portal

from worker_state import Disconnected
from worker_state.testing import Client, SocketKit, on_sockets

PATIENCE = 30.0  # seconds


class ServedRoom:
    """What the server and the client see, and where the workers find them."""

    def __init__(self, portal: BlockingPortal, kit: SocketKit, client: Client, given: dict[str, str]) -> None:
        self.environment: dict[str, str] = {
            "SLEAP_RTC_SIGNALING_WS": kit.websocket_url,
            "SLEAP_RTC_SIGNALING_HTTP": kit.http_url,
            "WORKER_STATE_ROOM_ID": given["room_id"],
            "WORKER_STATE_ROOM_TOKEN": given["room_token"],
        }
        self.heard: dict[str, list[str]] = defaultdict(list)
        """What the client was told by each worker, by its peer id: the types, oldest first."""
        self._portal, self._kit, self._client, self._room_id = portal, kit, client, given["room_id"]

    async def listen(self) -> None:
        with suppress(Disconnected):
            while True:
                message = await self._client.receive("peer_message")
                self.heard[message["from_peer_id"]].append(message["payload"]["type"])

    def offer(self, worker: str, **content: object) -> None:
        """Begin a job, as a client does."""
        self._portal.call(lambda: self._client.offer(worker, **content))

    def workers(self, tag: str) -> dict[str, str]:
        """The workers with this tag that the room has, by peer id: each with its status."""
        peers = self._portal.call(lambda: dict(self._kit.rooms.peers(self._room_id)))
        records = {peer_id: peer.metadata for peer_id, peer in peers.items() if peer_id != self._client.peer_id}
        return {peer_id: record["properties"]["status"] for peer_id, record in records.items() if tag in record["tags"]}

    def identities(self) -> set[str]:
        """Those that the server has, but the client's."""
        users = self._portal.call(lambda: set(self._kit.rooms.users))
        return users - {self._client.peer_id}


@contextmanager
def served_room() -> Iterator[ServedRoom]:
    """The server while the block lasts."""
    with (
        start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(on_sockets()) as kit,
    ):
        given = portal.call(kit.given_room)
        with portal.wrap_async_context_manager(kit.client(given["room_id"])) as client:
            room = ServedRoom(portal, kit, client, given)
            listening = portal.start_task_soon(room.listen)
            yield room
        listening.result(PATIENCE)
