"""The workers that people will copy, as processes over real sockets: a client offers, watches and cancels."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.support.processes import environment
from tests.support.worlds import Client, Frame
from worker_state.devserver import DevServer
from worker_state.testing import on_sockets

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENCE = 30.0
BOTH = pytest.mark.parametrize("name", ["worker.py", "asyncio_worker.py"])


class Process:
    """One of the examples, and a client in its room."""

    def __init__(self, process: trio.Process, server: DevServer, client: Client, worker: str) -> None:
        self.process = process
        self.server = server
        self.client = client
        self.worker = worker

    async def offer(self) -> None:
        offer = {"type": "offer", "sender": self.client.peer_id, "target": self.worker, "sdp": "v=0 the client's"}
        await self.client.send(offer)

    async def told(self, *types: str) -> Frame:
        """What the worker tells the client next, of these types."""
        while True:
            payload: Frame = (await self.client.receive("peer_message"))["payload"]
            if payload["type"] in types:
                return payload

    async def until_shown(self, status: str) -> None:
        while (peer := self.server.rooms.peer(self.worker)) and peer.metadata["properties"]["status"] != status:
            await trio.sleep(0.01)
        assert peer is not None

    async def ends_in_order(self) -> None:
        """It has nothing to complain about, and nothing of it is left on the server."""
        assert self.process.stderr is not None
        printed = b"".join([part async for part in self.process.stderr]).decode()
        assert await self.process.wait() == 0
        assert not self.server.rooms.users or set(self.server.rooms.users) == {self.client.peer_id}
        assert "Traceback" not in printed


@asynccontextmanager
async def running(name: str, steps: int) -> AsyncIterator[Process]:
    with trio.fail_after(PATIENCE):
        async with on_sockets() as kit:
            server = kit.server
            addresses = ["--ws", server.ws_url, "--http", server.http_url]
            command = [sys.executable, str(EXAMPLES / name), *addresses, "--steps", str(steps)]
            process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE, env=environment())
            try:
                while not any(server.rooms.peers(room) for room in server.rooms.rooms):
                    await trio.sleep(0.01)
                (room_id,) = server.rooms.rooms
                (worker,) = server.rooms.peers(room_id)
                async with kit.client(room_id) as client:
                    yield Process(process, server, client, worker)
            finally:
                process.kill()


@BOTH
async def test_a_job_with_progress_and_a_cancelled_one(name: str) -> None:
    """A client follows a job, another is refused meanwhile, a second job is cancelled, and Ctrl-C ends it in order."""
    async with running(name, 3000) as example:
        await example.offer()
        step = (await example.told("progress"))["step"]
        await example.until_shown("busy")
        assert (await example.told("progress"))["step"] == step + 1
        await example.offer()
        assert (await example.told("refused"))["status"] == "busy"
        await example.client.message(example.worker, {"type": "cancel"})
        assert (await example.told("done", "cancelled"))["type"] == "cancelled"
        await example.until_shown("available")

        await example.offer()
        await example.told("progress")
        example.process.send_signal(signal.SIGINT)
        await example.ends_in_order()


@BOTH
async def test_a_message_that_makes_no_sense_ends_nothing(name: str) -> None:
    """An offer without a description, a foreign cancellation and a payload of another shape leave the worker there."""
    async with running(name, 3) as example:
        await example.client.send({"type": "offer", "sender": example.client.peer_id, "target": example.worker})
        assert (await example.told("refused", "done"))["type"] in ("refused", "done")
        await example.client.message(example.worker, {"type": "cancel"})
        await example.client.message(example.worker, {"type": ["cancel"]})
        await example.until_shown("available")
        await example.offer()
        assert (await example.told("done"))["type"] == "done"
        example.process.send_signal(signal.SIGINT)
        await example.ends_in_order()


@BOTH
@pytest.mark.parametrize("handed_on_after", [(), (0.0, 0.2)])
async def test_sigterm_finishes_the_job(name: str, handed_on_after: tuple[float, ...]) -> None:
    """SIGTERM lets the running job finish, an offer meanwhile is refused, and then the worker leaves in order. SLURM
    signals a whole job, and the job's shell hands it on once more: that is still the one signal."""
    async with running(name, 10) as example:
        await example.offer()
        await example.told("progress")
        example.process.send_signal(signal.SIGTERM)
        for seconds in handed_on_after:
            await trio.sleep(seconds)
            example.process.send_signal(signal.SIGTERM)
        assert (await example.told("done", "cancelled"))["type"] == "done"
        await example.ends_in_order()


@BOTH
async def test_sigterm_that_is_handed_on_to_an_idle_worker(name: str) -> None:
    """Without a job the first one is enough to leave, and the other one does not keep the worker from it."""
    async with running(name, 3) as example:
        example.process.send_signal(signal.SIGTERM)
        example.process.send_signal(signal.SIGTERM)
        await example.ends_in_order()


async def test_the_offer_is_answered_from_asyncio() -> None:
    """The asyncio worker answers an offer, and another SIGTERM, a second after the first, does not wait for the job."""
    async with running("asyncio_worker.py", 3000) as example:
        await example.offer()
        answer = await example.client.receive("answer")
        assert (answer["sender"], answer["sdp"]) == (example.worker, "v=0 the client's")
        example.process.send_signal(signal.SIGTERM)
        for _ in range(12):  # tenths of a second: it goes on
            await example.told("progress")
        example.process.send_signal(signal.SIGTERM)
        assert (await example.told("done", "cancelled"))["type"] == "cancelled"
        await example.ends_in_order()


def test_the_worker_to_copy_is_short() -> None:
    """The trio worker has under 100 lines."""
    assert len((EXAMPLES / "worker.py").read_text("utf-8").splitlines()) < 100


@pytest.mark.parametrize(
    ("name", "imported"),
    [
        ("worker.py", "trio"),
        ("asyncio_worker.py", "worker_state"),
        ("webrtc_worker.py", "aiortc"),
        ("webrtc_client.py", "aiortc"),
    ],
)
def test_ctrl_c_during_the_imports(name: str, imported: str, tmp_path: Path) -> None:
    """A Ctrl-C while the program is still being loaded ends it, and prints nothing."""
    struck = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"
    (tmp_path / f"{imported}.py").write_text(struck, "utf-8")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
