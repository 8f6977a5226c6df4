"""A worker to start from: one job at a time, with progress, cancellation by the client, and a good end. Ctrl-C leaves
at once. SIGTERM lets the running job finish first; another one, a second or more after it, does not wait for it.

    worker-state serve           # in one terminal; it comes with pip install 'worker-state[cli]'
    python examples/worker.py    # in another; --ws and --http name a server elsewhere
"""

import argparse
import logging
import signal
import time
import uuid
from contextlib import suppress

signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the rest is imported, Ctrl-C ends the program without a traceback
import trio

from worker_state import Config, ConfigError, Disconnected, Manager, WorkerStateError, run_state_manager


class Worker:
    """Takes jobs from the clients that the signaling server sends."""

    def __init__(self, nursery: trio.Nursery, manager: Manager, steps: int) -> None:
        self.nursery, self.manager, self.steps, self.drained_at = nursery, manager, steps, float("inf")
        self.jobs: dict[str, trio.CancelScope] = {}  # the newest, by its client

    async def listen(self) -> None:
        async for message in self.manager.signals:
            match message:
                case {"type": "offer", "sender": str(client)} if self.manager.status == "available":
                    self.manager.set_reserved(job_id := uuid.uuid4().hex[:8])  # from here on nobody else gets it
                    self.nursery.start_soon(self.serve, client, job_id)
                case {"type": "offer", "sender": str(client)}:
                    await self.tell(client, {"type": "refused", "status": self.manager.status})
                case {"type": "peer_message", "from_peer_id": str(client), "payload": {"type": "cancel"}}:
                    self.jobs.get(client, trio.CancelScope()).cancel()  # another client's wish is nobody's end

    async def serve(self, client: str, job_id: str) -> None:
        self.jobs = {client: (job := trio.CancelScope())}
        with self.manager.busy(job_id):  # available again however it ends, or in maintenance
            try:
                with job:
                    await self.tell(client, {"type": "accepted", "job_id": job_id})  # WebRTC: an "answer" and its SDP
                    await trio.to_thread.run_sync(self.train, client, job_id)
                await self.tell(client, {"type": "cancelled" if job.cancel_called else "done", "job_id": job_id})
            except Exception:  # a job that fails is the end of that job, not of the worker
                logging.getLogger("worker").exception("job %s failed", job_id)
                await self.tell(client, {"type": "failed", "job_id": job_id})

    def train(self, client: str, job_id: str) -> None:
        """The work, in a thread of its own: it may compute and block as it likes. Put yours here."""
        for step in range(self.steps):
            time.sleep(0.1)
            # A call back into trio raises `trio.Cancelled` once the job is cancelled: that ends the thread, too.
            trio.from_thread.run(self.tell, client, {"type": "progress", "step": step, "of": self.steps})

    async def tell(self, client: str, payload: dict[str, object]) -> None:
        ids = {"from_peer_id": self.manager.state.peer_id, "to_peer_id": client}
        with suppress(Disconnected):  # not registered just now; the job goes on
            await self.manager.send_signal({"type": "peer_message", **ids, "payload": payload})

    async def drain(self) -> None:
        self.drained_at = trio.current_time()
        with trio.move_on_after(20):  # seconds that the running job has
            await self.manager.draining()
        self.nursery.cancel_scope.cancel()


async def main(config: Config, steps: int) -> None:
    worker: Worker | None = None

    async def obey() -> None:
        async for number in signals:
            if number == signal.SIGINT or worker is None or trio.current_time() >= worker.drained_at + 1:
                nursery.cancel_scope.cancel()  # asks for the deletion of what was created, in bounded time
            elif not worker.manager.state.draining:  # else it is the same SIGTERM: SLURM and shells hand it on
                nursery.start_soon(worker.drain)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one that comes when the worker has left changes nothing
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey)
            worker = Worker(nursery, await nursery.start(run_state_manager, config), steps)
            await worker.listen()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A worker to start from.")
    parser.add_argument("--ws", default="ws://127.0.0.1:8080")
    parser.add_argument("--http", default="http://127.0.0.1:8001")
    parser.add_argument("--steps", type=int, default=100, help="how long a job takes, in tenths of a second")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s  %(message)s")
    logging.getLogger("worker_state").setLevel(logging.INFO)
    try:
        trio.run(main, Config(options.ws, options.http), options.steps)
    except* WorkerStateError as errors:
        parser.exit(2 if isinstance(errors.exceptions[0], ConfigError) else 1, f"{errors.exceptions[0]}\n")
