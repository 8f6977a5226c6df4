"""The same worker for a program that is written for asyncio (as aiortc is), on `worker_state.blocking`.

    worker-state serve                   # in one terminal; it comes with pip install 'worker-state[cli]'
    python examples/asyncio_worker.py    # in another; --ws and --http name a server elsewhere

The manager runs around asyncio, in a thread of its own: everything of asyncio has ended when the worker leaves. Ctrl-C
leaves at once. SIGTERM lets the running job finish first; a second one does not wait for it.
"""

import argparse
import asyncio
import logging
import signal
import sys
import uuid
from contextlib import suppress

from worker_state import Config, ConfigError, Disconnected, WorkerStateError
from worker_state.blocking import BlockingManager, start_state_manager

log = logging.getLogger("worker")


class Worker:
    """Takes jobs from the clients that the signaling server sends."""

    def __init__(self, manager: BlockingManager, steps: int) -> None:
        self.manager, self.steps = manager, steps
        self.jobs: dict[str, asyncio.Task[None]] = {}  # the newest, by its client
        self.draining: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        async for message in self.manager.signals:
            match message:
                case {"type": "offer", "sender": str(client), "sdp": str(sdp)} if self.manager.status == "available":
                    # Plain calls take a moment whatever the network does: asyncio may make them directly.
                    self.manager.set_reserved(job_id := uuid.uuid4().hex[:8])
                    self.jobs = {client: asyncio.create_task(self.serve(client, sdp, job_id))}
                case {"type": "offer", "sender": str(client)}:
                    await self.tell(client, type="refused", status=self.manager.status)
                case {"type": "peer_message", "from_peer_id": str(client), "payload": {"type": "cancel"}} if (
                    client in self.jobs
                ):
                    self.jobs[client].cancel()

    async def serve(self, client: str, sdp: str, job_id: str) -> None:
        ending = "done"
        with self.manager.busy(job_id):  # available again however it ends, or in maintenance
            try:
                # With aiortc: setRemoteDescription(sdp), createAnswer(), setLocalDescription(…).
                await self.send({"type": "answer", "target": client, "sdp": sdp})
                await self.train(client)
            except asyncio.CancelledError:
                ending = "cancelled"
            except Exception:  # a job that fails is the end of that job, not of the worker
                log.exception("job %s failed", job_id)
                ending = "failed"
            await self.tell(client, type=ending, job_id=job_id)

    async def train(self, client: str) -> None:
        """The work. Put yours here; what computes for long belongs into `asyncio.to_thread`."""
        for step in range(self.steps):
            await asyncio.sleep(0.1)
            await self.tell(client, type="progress", step=step, of=self.steps)

    async def tell(self, client: str, **payload: object) -> None:
        me = self.manager.state.peer_id
        await self.send({"type": "peer_message", "from_peer_id": me, "to_peer_id": client, "payload": payload})

    async def send(self, message: dict[str, object]) -> None:
        with suppress(Disconnected):  # not registered just now; the job goes on
            await asyncio.to_thread(self.manager.send_signal, {"sender": self.manager.state.peer_id, **message})

    async def drain(self, listening: "asyncio.Task[None]") -> None:
        with suppress(TimeoutError):
            await asyncio.to_thread(self.manager.draining, 20)  # seconds that the running job has
        listening.cancel()

    def terminate(self, listening: "asyncio.Task[None]") -> None:
        if self.draining is None:
            self.draining = asyncio.create_task(self.drain(listening))
        else:
            listening.cancel()


async def main(manager: BlockingManager, steps: int) -> None:
    worker = Worker(manager, steps)
    listening = asyncio.create_task(worker.listen())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.terminate, listening)
    loop.add_signal_handler(signal.SIGINT, listening.cancel)
    with suppress(asyncio.CancelledError):
        await listening


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A worker to start from, for asyncio.")
    parser.add_argument("--ws", default="ws://127.0.0.1:8080", help="the server's WebSocket address")
    parser.add_argument("--http", default="http://127.0.0.1:8001", help="its HTTP address")
    parser.add_argument("--steps", type=int, default=100, help="how long a job takes, in tenths of a second")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s  %(message)s")
    logging.getLogger("worker_state").setLevel(logging.INFO)
    for number in (signal.SIGINT, signal.SIGTERM):  # while it is only starting: leave in order, too
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        with start_state_manager(Config(options.ws, options.http)) as manager:
            asyncio.run(main(manager, options.steps))
    except WorkerStateError as error:
        parser.exit(2 if isinstance(error, ConfigError) else 1, f"{error}\n")
