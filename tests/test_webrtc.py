"""The WebRTC examples as processes: a job over a data channel, while the signaling server is killed and comes back."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.real.keeper import Server, keeping
from tests.real.living import client_in
from tests.support.processes import Running, Spawn, spawning
from tests.support.worlds import Frame
from worker_state import SessionString

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENCE = 30.0
FOUND = 5.0
"""Seconds after the server's return within which a client finds the worker as it is."""
FOR_EVER = "1000000"
"""Steps of a job that ends when somebody ends it."""

ice = pytest.importorskip(
    "aioice.ice", reason="aiortc is not installed: no wheel for this machine, or no network when `make test` looked"
)
pytest.importorskip("websockets", reason="the group `webrtc` is not installed as a whole: `make test` does it")
if not ice.get_host_addresses(use_ipv4=True, use_ipv6=True):
    pytest.skip("this machine has no address but loopback, which WebRTC does not use", allow_module_level=True)


class Scene:
    """A server that can be killed, the worker of the examples, and as many of its clients as wanted."""

    def __init__(self, server: Server, spawn: Spawn) -> None:
        self.server = server
        self._spawn = spawn
        self.worker = self._example("webrtc_worker.py")
        self.session = SessionString.parse(self.worker.until("clients may connect with").split()[-1])

    def _example(self, name: str, *arguments: str) -> Running:
        addresses = ["--ws", self.server.ws_url, "--http", self.server.http_url]
        return self._spawn(str(EXAMPLES / name), *addresses, *arguments, program=(sys.executable,))

    def client(self, *, steps: str, by_tag: str | None = None) -> Running:
        """A client that was told the session string, or else the room and a tag."""
        session = self.session
        room = ["--room", session.room_id, "--token", session.token, "--tag", by_tag or ""]
        return self._example("webrtc_client.py", "--steps", steps, *(room if by_tag else ["--session", str(session)]))

    def found(self, status: str, job_id: str | None = None, *, registered_after: float = 0.0) -> Frame:
        """The worker's record, as soon as somebody who joins the room finds it like this."""

        def wanted(peer: Frame) -> bool:
            properties = peer["metadata"]["properties"]
            shown = peer["peer_id"], properties["status"], properties["current_job_id"]
            return shown == (self.session.peer_id, status, job_id) and peer["connected_at"] > registered_after

        return trio.run(_found, self.server, self.session, wanted)


async def _found(server: Server, session: SessionString, wanted: Callable[[Frame], bool]) -> Frame:
    with trio.fail_after(PATIENCE):
        async with client_in(server, session) as client:
            while not (found := [peer for peer in await client.find() if wanted(peer)]):
                await trio.sleep(0.02)
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.post(f"{server.http_url}/delete-peer", json={"peer_id": client.peer_id})
    return found[0]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with keeping(tmp_path) as server, spawning() as spawn:
        yield Scene(server, spawn)


def goes_on(client: Running) -> None:
    """The client hears of ten further steps: of more than can have been on their way before."""
    client.catch_up()
    client.until(f"{int(client.until(' of ').split()[0]) + 10} of ")


def ended(process: Running, code: int) -> str:
    """What the process has said on stderr, once it has ended with this code."""
    assert (process.end(), "Traceback" in process.errors) == (code, False), process.errors
    return process.errors


def test_a_job_outlives_the_server(scene: Scene) -> None:
    """The server is killed in the middle of a job and started again: the channel lives, the worker is found busy with
    this job within 5 s, available after it, and registered anew when the peer connection is over."""
    client = scene.client(steps=FOR_EVER)
    job_id = client.until("job ").split()[-1]
    before = scene.found("busy", job_id)
    assert scene.server.kept() == ({scene.session.peer_id}, {scene.session.room_id})  # the client has signed off

    scene.server.kill()
    goes_on(client)
    scene.server.start()
    began = time.monotonic()
    again = scene.found("busy", job_id, registered_after=before["connected_at"])
    assert time.monotonic() - began < FOUND * scene.server.slowness
    goes_on(client)

    client.process.send_signal(signal.SIGINT)
    client.until("cancelled")
    ended(client, 1)
    anew = scene.found("available", registered_after=again["connected_at"])
    assert anew["connected_at"] > again["connected_at"]


def test_one_job_at_a_time(scene: Scene) -> None:
    """Clients find the worker by tag or by session string, are refused while it is busy, and leave nothing behind; at
    SIGTERM it lets the running job end."""
    client = scene.client(steps="2", by_tag="sleap-rtc")
    client.until("done")
    ended(client, 0)
    scene.found("available")

    client = scene.client(steps=FOR_EVER)
    job_id = client.until("job ").split()[-1]
    scene.found("busy", job_id)
    assert "takes no job: it is busy" in ended(scene.client(steps="2"), 1)
    assert "no worker with the tag 'sleap-rtc' is free" in ended(scene.client(steps="2", by_tag="sleap-rtc"), 1)
    scene.worker.process.send_signal(signal.SIGTERM)
    goes_on(client)
    client.process.send_signal(signal.SIGINT)
    client.until("cancelled")
    ended(client, 1)
    ended(scene.worker, 0)
    assert scene.server.kept() == (set(), set())


def test_clients_that_behave_badly(scene: Scene) -> None:
    """Neither an offer nor a job that makes no sense ends anything else, and a job whose client has gone without a word
    is over: each time the worker is available and registers anew."""
    from examples.webrtc_client import Failed, Job, registered

    address = scene.server.ws_url, scene.server.http_url, scene.session.room_id, scene.session.token

    async def begun(steps: Any) -> Job:
        job = Job([])
        async with registered(*address) as signaling:
            await job.begin(await signaling.offer(scene.session.peer_id, await job.offer()), steps)
        return job

    async def no_description() -> None:
        async with asyncio.timeout(PATIENCE), registered(*address) as signaling:
            await signaling.send(
                type="offer", sender=signaling.peer_id, target=scene.session.peer_id, sdp="v=0 no more"
            )

    async def senseless() -> None:
        async with asyncio.timeout(PATIENCE):
            job = await begun("many")
            for text in ("no JSON", "[1]", "{}"):
                job.channel.send(text)
            assert await job.result() == "failed"
            await job.connection.close()

    async def gone() -> None:
        async with asyncio.timeout(PATIENCE):
            job = await begun(int(FOR_EVER))
            while (await job.heard.get())["type"] != "progress":
                pass
            await job.connection.close()
            with pytest.raises(Failed):
                await job.result()

    registered_at = scene.found("available")["connected_at"]
    for behave_badly in (no_description, senseless, gone):
        asyncio.run(behave_badly())
        registered_at = scene.found("available", registered_after=registered_at)["connected_at"]
    scene.worker.process.send_signal(signal.SIGINT)
    assert scene.worker.end() == 0
    assert len(re.findall(r"the peer connection of job \w+ failed", scene.worker.errors)) == 1
    assert len(re.findall(r" job \w+ failed\n +\+ Exception", scene.worker.errors)) == 1
