"""A worker whose jobs come over WebRTC, for asyncio, with aiortc. Its client is `webrtc_client.py`.

    make test                           # installs aiortc, too; elsewhere: pip install worker-state aiortc
    worker-state serve                  # in one terminal; it comes with pip install 'worker-state[cli]'
    python examples/webrtc_worker.py    # in another; --ws and --http name a server elsewhere

A client's offer reserves the worker, and its job makes it busy. The two talk over their data channel, in JSON: the
client says `job` and perhaps `cancel`, the worker `accepted`, `progress`, and `done`, `failed` or `cancelled`. The
signaling server may go away meanwhile. Ctrl-C leaves at once. SIGTERM lets the running job finish first.
"""

import argparse
import asyncio
import json
import logging
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any

if __name__ == "__main__":  # while the rest is imported, Ctrl-C ends the program without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)
from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription

from worker_state import Config, ConfigError, Disconnected, WorkerStateError, aio

PATIENCE = 30.0
"""Seconds that a client has to come after its offer, and to go after its job."""

log = logging.getLogger("worker")


class Unwanted(Exception):
    """Nobody wants the job any more."""


class Peer:
    """A client's peer connection, and the data channel that it opens."""

    def __init__(self, ice_servers: Sequence[Mapping[str, Any]]) -> None:
        known = ("urls", "username", "credential")
        # An empty list is said, too: without one aiortc asks a public STUN server.
        servers = [RTCIceServer(**{key: each[key] for key in known if key in each}) for each in ice_servers]
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self.connection.on("datachannel", self._opened)
        self.connection.on("connectionstatechange", self._changed)
        self.channel: RTCDataChannel | None = None
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def answer(self, sdp: str) -> str:
        """The description that answers the client's. It contains all candidates: aiortc sends none one by one."""
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return str(self.connection.localDescription.sdp)

    def _opened(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        channel.on("message", self._hears)
        channel.on("close", self._ends)

    def _hears(self, text: str | bytes) -> None:
        with suppress(ValueError):  # what is no JSON says nothing
            message = json.loads(text)
            if isinstance(message, dict):
                self.heard.put_nowait(message)

    def _changed(self) -> None:
        if self.connection.connectionState in ("failed", "closed"):  # a client that was killed: after half a minute
            self._ends()

    def _ends(self) -> None:
        self.gone.set()
        self.heard.put_nowait({"type": "gone"})

    def tell(self, **message: object) -> None:
        if self.channel is not None and self.channel.readyState == "open":
            self.channel.send(json.dumps(message))

    async def unwanted(self) -> None:
        """Raise `Unwanted` when the client cancels, or is gone."""
        while (await self.heard.get()).get("type") not in ("cancel", "gone"):
            pass
        raise Unwanted


class Worker:
    """Takes jobs from the clients that the signaling server sends."""

    def __init__(self, manager: aio.Manager, tasks: asyncio.TaskGroup) -> None:
        self.manager, self.tasks = manager, tasks
        self.visits: set[asyncio.Task[None]] = set()
        self.drained: asyncio.Task[None] | None = None
        self.drained_at = 0.0

    async def listen(self) -> None:
        async for message in self.manager.signals:
            match message:
                case {"type": "offer", "sender": str(client), "sdp": str(sdp)} if self.manager.status == "available":
                    self.manager.set_reserved(job_id := uuid.uuid4().hex[:8])  # from here on nobody else gets it
                    self.visits.add(visit := self.tasks.create_task(self.serve(client, sdp, job_id)))
                    visit.add_done_callback(self.visits.discard)
                case {"type": "offer", "sender": str(client)}:
                    refusal = {"type": "refused", "status": self.manager.status}
                    ids = {"from_peer_id": self.manager.state.peer_id, "to_peer_id": client}
                    await self.send({"type": "peer_message", **ids, "payload": refusal})

    async def serve(self, client: str, sdp: str, job_id: str) -> None:
        """One client, from its offer to the end of its peer connection."""
        try:
            peer = Peer(self.manager.state.ice_servers)
            try:
                ids = {"sender": self.manager.state.peer_id, "target": client}
                await self.send({"type": "answer", **ids, "sdp": await peer.answer(sdp)})
                async with asyncio.timeout(PATIENCE):
                    wish = await peer.heard.get()
                if wish.get("type") == "job":
                    with self.manager.busy(job_id):  # available again however it ends, or in maintenance
                        await self.work(peer, job_id, wish)
                    async with asyncio.timeout(PATIENCE):
                        await peer.gone.wait()  # closed here, the channel might lose the last word
            finally:
                await peer.connection.close()
        except TimeoutError:
            log.warning("the client of job %s did not come, or did not go", job_id)
        except Exception:  # what goes wrong with one client is not the end of the worker
            log.exception("the peer connection of job %s failed", job_id)
        finally:
            if (self.manager.status, self.manager.job_id) == ("reserved", job_id):  # the job was never asked for
                self.manager.set_available()
        self.manager.reregister()  # the peer connection was reset: clients find the worker as if it were new

    async def work(self, peer: Peer, job_id: str, wish: Mapping[str, Any]) -> None:
        peer.tell(type="accepted", job_id=job_id)
        ending = "done"
        try:
            async with asyncio.TaskGroup() as job:
                watching = job.create_task(peer.unwanted())  # what it raises ends the job
                await self.train(peer, int(wish["steps"]))
                watching.cancel()
        except* Unwanted:
            ending = "cancelled"
        except* Exception:  # a job that fails is the end of that job, not of the worker
            log.exception("job %s failed", job_id)
            ending = "failed"
        peer.tell(type=ending, job_id=job_id)

    async def train(self, peer: Peer, steps: int) -> None:
        """The work. Put yours here; what computes for long belongs into `aio.in_thread`."""
        for step in range(steps):
            await asyncio.sleep(0.1)
            peer.tell(type="progress", step=step + 1, of=steps)

    async def send(self, message: Mapping[str, Any]) -> None:
        with suppress(Disconnected):  # not registered just now: the client will ask again
            await self.manager.send_signal(message)

    def terminate(self, leave: asyncio.Task[Any]) -> None:
        """SIGTERM: the running job may finish. Another one, a second or more after it, does not wait for it."""
        if self.drained is None:
            self.drained, self.drained_at = self.tasks.create_task(self.drain(leave)), time.monotonic()
        elif time.monotonic() - self.drained_at >= 1:  # else it is the same one: SLURM and shells hand it on
            leave.cancel()

    async def drain(self, leave: asyncio.Task[Any]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(20):  # seconds that the running job has
                await self.manager.draining()
                await asyncio.gather(*self.visits)  # the client has to hear how it ended
        leave.cancel()


def health(manager: aio.Manager, port: int | None) -> AbstractAsyncContextManager[object]:
    return nullcontext() if port is None else aio.serve_health(manager, port)


async def main(config: Config, health_port: int | None) -> None:
    me, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert me is not None
    with suppress(NotImplementedError):  # by Windows, where asyncio itself cancels at Ctrl-C
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, me.cancel)  # the blocks below end in order: all tasks, then the manager
    with suppress(asyncio.CancelledError):
        async with aio.open_state_manager(config) as manager, aio.notify_systemd(manager), health(manager, health_port):
            print("clients may connect with", manager.session_string, flush=True)
            async with asyncio.TaskGroup() as tasks:
                worker = Worker(manager, tasks)
                with suppress(NotImplementedError):
                    loop.add_signal_handler(signal.SIGTERM, worker.terminate, me)
                await worker.listen()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A worker whose jobs come over WebRTC.")
    parser.add_argument("--ws", default="ws://127.0.0.1:8080", help="the server's WebSocket address")
    parser.add_argument("--http", default="http://127.0.0.1:8001", help="its HTTP address")
    parser.add_argument("--health", type=int, metavar="PORT", help="answer /health, /ready and /metrics there")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s  %(message)s")
    logging.getLogger("worker_state").setLevel(logging.INFO)
    try:
        asyncio.run(main(Config(options.ws, options.http, show_session_string=False), options.health))
    except WorkerStateError as error:
        parser.exit(2 if isinstance(error, ConfigError) else 1, f"{error}\n")
