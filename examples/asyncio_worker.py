"""The same worker for a program that is written for asyncio (as aiortc is), on `worker_state.aio`.

    worker-state serve                   # in one terminal; it comes with pip install 'worker-state[cli]'
    python examples/asyncio_worker.py    # in another; --ws and --http name a server elsewhere

The manager's block is around the program's tasks, so they have ended when the worker leaves. Ctrl-C leaves at once.
SIGTERM lets the running job finish first; another one, a second or more after it, does not wait for it. With WebRTC:
`webrtc_worker.py`.
"""

import argparse
import asyncio
import logging
import signal
import time
import uuid
from contextlib import suppress

if __name__ == "__main__":  # while the rest is imported, Ctrl-C ends the program without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)
from worker_state import Config, ConfigError, Disconnected, WorkerStateError, aio

log = logging.getLogger("worker")


class Worker:
    """Takes jobs from the clients that the signaling server sends."""

    def __init__(self, manager: aio.Manager, tasks: asyncio.TaskGroup, steps: int) -> None:
        self.manager, self.tasks, self.steps = manager, tasks, steps
        self.jobs: dict[str, asyncio.Task[None]] = {}  # the newest, by its client
        self.drained: asyncio.Task[None] | None = None
        self.drained_at = 0.0

    async def listen(self) -> None:
        async for message in self.manager.signals:
            match message:
                case {"type": "offer", "sender": str(client), "sdp": str(sdp)} if self.manager.status == "available":
                    self.manager.set_reserved(job_id := uuid.uuid4().hex[:8])  # from here on nobody else gets it
                    self.jobs = {client: self.tasks.create_task(self.serve(client, sdp, job_id))}
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
        """The work. Put yours here; what computes for long belongs into `aio.in_thread`."""
        for step in range(self.steps):
            await asyncio.sleep(0.1)
            await self.tell(client, type="progress", step=step, of=self.steps)

    async def tell(self, client: str, **payload: object) -> None:
        me = self.manager.state.peer_id
        await self.send({"type": "peer_message", "from_peer_id": me, "to_peer_id": client, "payload": payload})

    async def send(self, message: dict[str, object]) -> None:
        with suppress(Disconnected):  # not registered just now; the job goes on
            await self.manager.send_signal({"sender": self.manager.state.peer_id, **message})

    async def drain(self, leave: "asyncio.Task[None]") -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(20):  # seconds that the running job has
                await self.manager.draining()
        leave.cancel()

    def terminate(self, leave: "asyncio.Task[None]") -> None:
        if self.drained is None:
            self.drained, self.drained_at = self.tasks.create_task(self.drain(leave)), time.monotonic()
        elif time.monotonic() - self.drained_at >= 1:  # else it is the same one: SLURM and shells hand it on
            leave.cancel()


async def main(config: Config, steps: int) -> None:
    me, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert me is not None
    with suppress(NotImplementedError):  # by Windows, where asyncio itself cancels at Ctrl-C
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, me.cancel)  # the blocks below end in order: all tasks, then the manager
    with suppress(asyncio.CancelledError):
        async with aio.open_state_manager(config) as manager, asyncio.TaskGroup() as tasks:
            worker = Worker(manager, tasks, steps)
            with suppress(NotImplementedError):
                loop.add_signal_handler(signal.SIGTERM, worker.terminate, me)
            await worker.listen()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A worker to start from, for asyncio.")
    parser.add_argument("--ws", default="ws://127.0.0.1:8080", help="the server's WebSocket address")
    parser.add_argument("--http", default="http://127.0.0.1:8001", help="its HTTP address")
    parser.add_argument("--steps", type=int, default=100, help="how long a job takes, in tenths of a second")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s  %(message)s")
    logging.getLogger("worker_state").setLevel(logging.INFO)
    try:
        asyncio.run(main(Config(options.ws, options.http), options.steps))
    except WorkerStateError as error:
        parser.exit(2 if isinstance(error, ConfigError) else 1, f"{error}\n")
