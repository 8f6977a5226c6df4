"""A client of `webrtc_worker.py`: it finds a worker, has a job done over WebRTC, and leaves nothing behind.

    python examples/webrtc_client.py --session sleap-session:…                   # the worker that showed it
    python examples/webrtc_client.py --room ROOM --token TOKEN --tag sleap-rtc   # one of the room that is free

The signaling server is needed until the data channel is open, and not after. Ctrl-C cancels the job.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

if __name__ == "__main__":  # while the rest is imported, Ctrl-C ends the program without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)
import httpx
from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from worker_state import SessionString, SessionStringError

PATIENCE = 30.0
"""Seconds for the negotiation with the server and the worker as a whole."""
LONGEST = 8 * 2**20
"""Bytes of a frame: the registration's answer lists everybody in the room."""
ABNORMAL = 1006
"""The close code of a socket whose Close frame was not answered."""


class Failed(Exception):
    """Why there is no result, in words."""


@dataclass
class Signaling:
    """A registered client's socket."""

    socket: ClientConnection
    peer_id: str
    ice_servers: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, **message: object) -> None:
        await self.socket.send(json.dumps(message))

    async def receive(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types. An error in its place is the end."""
        async for text in self.socket:
            frame = json.loads(text)
            if not isinstance(frame, dict):
                continue
            if frame.get("type") in types:
                return frame
            if frame.get("type") == "error" or "error" in frame:
                why = frame.get("reason") or frame.get("message") or frame.get("error")
                raise Failed(f"the server says: {why}")
        raise Failed("the server has closed the connection")

    async def find(self, tag: str) -> str:
        """The peer id of a worker with this tag that is free."""
        filters = {"role": "worker", "tags": [tag], "properties": {"status": "available"}}
        await self.send(type="discover_peers", from_peer_id=self.peer_id, filters=filters)
        for peer in (await self.receive("peer_list"))["peers"]:
            return str(peer["peer_id"])
        raise Failed(f"no worker with the tag {tag!r} is free")

    async def offer(self, worker: str, sdp: str) -> str:
        """The worker's answer to an offer."""
        await self.send(type="offer", sender=self.peer_id, target=worker, sdp=sdp)
        while True:
            match await self.receive("answer", "peer_message"):
                case {"type": "answer", "sender": str(sender), "sdp": str(answer)} if sender == worker:
                    return answer
                case {"from_peer_id": str(sender), "payload": {"type": "refused", "status": status}} if (
                    sender == worker
                ):
                    raise Failed(f"the worker takes no job: it is {status}")


@asynccontextmanager
async def registered(ws_url: str, http_url: str, room: str, token: str) -> AsyncIterator[Signaling]:
    """An identity of our own in the worker's room. At the end it is deleted, and the room is not."""
    async with httpx.AsyncClient(base_url=http_url, timeout=PATIENCE, trust_env=False) as http:
        user = (await http.post("/anonymous-signin")).raise_for_status().json()
        socket: ClientConnection | None = None
        try:
            async with connect(ws_url, proxy=None, close_timeout=2, max_size=LONGEST) as socket:
                signaling = Signaling(socket, user["username"])
                await signaling.send(
                    type="register",
                    peer_id=signaling.peer_id,
                    room_id=room,
                    token=token,
                    id_token=user["id_token"],
                    role="client",
                    metadata={"tags": ["sleap-rtc", "training-client"], "properties": {}},
                )
                signaling.ice_servers = (await signaling.receive("registered_auth")).get("ice_servers") or []
                yield signaling
        finally:
            # The socket is closed by now. Who is still registered, and the last one there, would take the room along.
            if socket is not None and socket.close_code == ABNORMAL:
                print("the server may still list this client, so its identity stays there", file=sys.stderr)
            else:
                await delete(http, user["username"])


async def delete(http: httpx.AsyncClient, peer_id: str) -> None:
    try:
        (await http.post("/delete-peer", json={"peer_id": peer_id})).raise_for_status()
    except httpx.HTTPError as error:  # no reason to give the job up
        print(f"this client's identity may stay on the server: {error}", file=sys.stderr)


class Job:
    """A peer connection with a data channel, and one job over it."""

    def __init__(self, ice_servers: list[dict[str, Any]]) -> None:
        self.opened = asyncio.Event()
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        known = ("urls", "username", "credential")
        # An empty list is said, too: without one aiortc asks a public STUN server.
        servers = [RTCIceServer(**{key: each[key] for key in known if key in each}) for each in ice_servers]
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self.connection.on("connectionstatechange", self._changed)
        self.channel: RTCDataChannel = self.connection.createDataChannel("job")
        self.channel.on("open", self.opened.set)
        self.channel.on("message", self._hears)
        self.channel.on("close", self._ends)

    async def offer(self) -> str:
        """Our description, with all candidates."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def begin(self, answer: str, steps: int) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        await self.opened.wait()
        self.tell(type="job", steps=steps)

    def _hears(self, text: str | bytes) -> None:
        with suppress(ValueError):  # what is no JSON says nothing
            self.heard.put_nowait(json.loads(text))

    def _changed(self) -> None:
        if self.connection.connectionState in ("failed", "closed"):
            self._ends()

    def _ends(self) -> None:
        self.heard.put_nowait({"type": "gone"})

    def tell(self, **message: object) -> None:
        if self.channel.readyState == "open":
            self.channel.send(json.dumps(message))

    async def result(self) -> str:
        """Show what the worker says, until the job has ended: how."""
        while True:
            match await self.heard.get():
                case {"type": "accepted", "job_id": job_id}:
                    print("job", job_id, flush=True)
                case {"type": "progress", "step": step, "of": steps}:
                    print(f"{step} of {steps}", flush=True)
                case {"type": "done" | "failed" | "cancelled" as ending}:
                    return str(ending)
                case {"type": "gone"}:
                    raise Failed("the worker is gone")


def cancel(job: Job) -> None:
    """Ctrl-C: the worker's answer ends us. A second one does not wait for it."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    job.tell(type="cancel")


async def main(options: argparse.Namespace) -> str:
    loop, session = asyncio.get_running_loop(), options.session
    room, token = (session.room_id, session.token) if session else (options.room, options.token)
    job: Job | None = None
    try:
        async with asyncio.timeout(PATIENCE), registered(options.ws, options.http, room, token) as signaling:
            worker = session.peer_id if session else await signaling.find(options.tag)
            job = Job(signaling.ice_servers)
            await job.begin(await signaling.offer(worker, await job.offer()), options.steps)
        with suppress(NotImplementedError):  # by Windows, where a Ctrl-C ends this without telling the worker
            loop.add_signal_handler(signal.SIGINT, cancel, job)
        return await job.result()
    finally:
        if job is not None:
            await job.connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Have a job done by a worker, over WebRTC.")
    parser.add_argument("--ws", default="ws://127.0.0.1:8080", help="the server's WebSocket address")
    parser.add_argument("--http", default="http://127.0.0.1:8001", help="its HTTP address")
    parser.add_argument("--session", help="the worker's session string")
    parser.add_argument("--room", help="or a room, in which a free worker is looked for")
    parser.add_argument("--token", help="the room's token")
    parser.add_argument("--tag", default="sleap-rtc", help="one of the worker's tags")
    parser.add_argument("--steps", type=int, default=100, help="how long the job takes, in tenths of a second")
    options = parser.parse_args()
    try:
        options.session = SessionString.parse(options.session) if options.session else None
    except SessionStringError as error:
        parser.error(str(error))
    if options.session is None and None in (options.room, options.token):
        parser.error("either --session, or --room and --token")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio makes a cancel of it
    try:
        ending = asyncio.run(main(options))
    except KeyboardInterrupt:
        parser.exit(1)
    except TimeoutError:
        parser.exit(1, f"no connection to a worker within {PATIENCE:g} s\n")
    except (Failed, OSError, httpx.HTTPError, WebSocketException) as error:
        parser.exit(1, f"{error}\n")
    print(ending)
    sys.exit(ending != "done")
