"""A client of the workers: what a person with a job uses, without the person."""

import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from worker_state import foreign_json
from worker_state.errors import Disconnected
from worker_state.protocol.frames import Message

TAG = "sleap-rtc"

Send = Callable[[str], Awaitable[object]]
Receive = Callable[[], Awaitable[str | bytes]]


class Client:
    """An independent peer in the workers' room. What waits raises `Disconnected` when its connection is over.

    No function takes a timeout: put `trio.fail_after` around what may wait for ever.
    """

    def __init__(self, peer_id: str, send: Send, receive: Receive) -> None:
        self.peer_id = peer_id
        """Its name on the server; empty for one that has not registered."""
        self._send = send
        self._receive = receive
        self._passed: deque[Message] = deque()  # what a search has read that was not its answer

    async def send(self, message: Message) -> None:
        """Send one frame as it is."""
        await self._send(json.dumps(message))

    async def receive(self, *types: str) -> Message:
        """The next frame of one of these types, or of any if you name none; what comes before it is dropped."""
        while True:
            message = self._passed.popleft() if self._passed else await self._read()
            if not types or message.get("type") in types:
                return message

    async def _read(self) -> Message:
        while True:  # past what is no message: `Kit.deliver` may send that to clients, too
            with suppress(ValueError):
                message = foreign_json.read(await self._receive())
                if isinstance(message, dict):
                    return message

    async def find(self, *tags: str, **properties: Any) -> list[Message]:
        """The workers that a search finds now: each with its `peer_id`, and a `metadata` of `tags` and `properties`.

        A worker has to have one of the `tags` ("sleap-rtc" if you name none) and all `properties`: a value, or bounds
        like `gpu_memory_mb={"$gte": 8192}`. Raises `Disconnected` when the server has forgotten this client.
        """
        filters = {"role": "worker", "tags": list(tags or (TAG,)), "properties": properties}
        await self.send({"type": "discover_peers", "from_peer_id": self.peer_id, "filters": filters})
        while True:
            match await self._read():
                case {"type": "peer_list", "peers": list(found)}:
                    return found
                case {"type": "error", "code": "NOT_IN_ROOM"}:
                    raise Disconnected("the server has forgotten this client: open another one")
                case other:
                    self._passed.append(other)

    async def offer(self, to: str, **content: Any) -> None:
        """Send an offer, which is how a job begins, to the worker of this peer id. `content` is added to it."""
        await self.send({"type": "offer", "sender": self.peer_id, "target": to, "sdp": "v=0", **content})

    async def message(self, to: str, payload: Message) -> None:
        """Send a `peer_message` with this payload, which must not be empty, to this peer id."""
        await self.send({"type": "peer_message", "from_peer_id": self.peer_id, "to_peer_id": to, "payload": payload})

    async def told(self, *kinds: str) -> Message:
        """The next payload that a peer has sent to it and whose `type` is one of these; the others are dropped."""
        while True:
            payload = (await self.receive("peer_message"))["payload"]
            if isinstance(payload, dict) and payload.get("type") in kinds:
                return payload
