"""The process that `benchmarks.one` measures: one worker, or one client by hand that sends the same frames.

    python -m benchmarks.one_client {worker_state,bare} WS_URL HTTP_URL

It imports only what its kind needs, and of worker_state public names alone: an older checkout is measured by the same
file. It reads one JSON command a line from standard input, answers each with one JSON line, and leaves at the end of
the input.
"""

import json
import logging
import os
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import trio

JOB = "job-of-the-benchmark"
TAGS = ["sleap-rtc", "training-worker", "inference-worker"]
CAPABILITIES = {
    "gpu_memory_mb": 24576,
    "gpu_model": "NVIDIA RTX A5000",
    "supported_models": ["base", "centroid", "topdown"],
    "supported_job_types": ["training", "inference"],
}
EARLY, STEADY = (2.0, 5.0, 10.0, 20.0, 35.0, 55.0), (20.0, 29.0)
"""When worker_state proves its registration, in seconds after it, and between two proofs from then on."""
PING_EVERY = 8.0
"""Seconds without a sign of life, after which worker_state pings."""
STUCK = 60.0
"""Seconds after which a change or a reconnect will not come any more."""


class Client(Protocol):
    """What both kinds can do."""

    @property
    def peer_id(self) -> str: ...

    @property
    def epoch(self) -> int:
        """Counts the links, from 1."""

    async def change(self, job: str | None) -> None:
        """Become busy with this job, or available; returns when the server has confirmed it."""

    async def returned(self, epoch: int) -> None:
        """Wait until a later link than this one is registered, with the true status, and an echo has come back."""


@asynccontextmanager
async def worker(ws_url: str, http_url: str) -> AsyncIterator[Client]:
    """worker_state as users run it."""
    from worker_state import Config, Manager, open_state_manager

    logging.getLogger("worker_state").addHandler(logging.NullHandler())

    class Worker:
        def __init__(self, manager: Manager) -> None:
            self._manager = manager

        @property
        def peer_id(self) -> str:
            return self._manager.state.peer_id or ""

        @property
        def epoch(self) -> int:
            return self._manager.state.epoch

        async def change(self, job: str | None) -> None:
            if job is None:
                self._manager.set_available()
            else:
                self._manager.set_busy(job)
            await self._manager.synced()

        async def returned(self, epoch: int) -> None:
            await self._manager.states.wait_for(lambda state: state.epoch > epoch and state.synced)

    async with open_state_manager(Config(ws_url, http_url, capabilities=CAPABILITIES)) as manager:
        await manager.synced()
        yield Worker(manager)


@asynccontextmanager
async def bare(ws_url: str, http_url: str) -> AsyncIterator[Client]:
    """trio-websocket and httpx by hand: no deadlines, no backoff, no check that an answer is its own."""
    import httpx
    from trio_websocket import ConnectionClosed, open_websocket_url

    class Bare:
        def __init__(self, identity: dict[str, str], room: dict[str, str]) -> None:
            self.epoch = 0
            self.peer_id = identity["username"]
            self._register = {
                "type": "register",
                "peer_id": self.peer_id,
                "room_id": room["room_id"],
                "token": room["token"],
                "id_token": identity["id_token"],
                "role": "worker",
            }
            self._job: str | None = None
            self._answers: dict[str, trio.Event] = {}
            self._heard = 0.0
            self._proved = trio.Event()

        async def run(self) -> None:
            while True:
                async with open_websocket_url(ws_url) as self._socket, trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, nursery.cancel_scope)
                    await self._ask(self._register | {"metadata": self._record()}, "registered_auth")
                    nursery.start_soon(self._ping)
                    nursery.start_soon(self._prove)
                self._answers.clear()

        async def change(self, job: str | None) -> None:
            self._job = job
            await self._update(self._record())

        async def returned(self, epoch: int) -> None:
            while self.epoch <= epoch:
                await self._proved.wait()

        def _record(self) -> dict[str, Any]:
            status = "available" if self._job is None else "busy"
            properties = {**CAPABILITIES, "status": status, "current_job_id": self._job, "pending_job_id": None}
            return {"tags": TAGS, "properties": properties}

        async def _listen(self, link: trio.CancelScope) -> None:
            try:
                while True:
                    kind = json.loads(await self._socket.get_message()).get("type")
                    self._heard = trio.current_time()
                    if (answer := self._answers.pop(kind, None)) is not None:
                        answer.set()
            except ConnectionClosed:
                link.cancel()

        async def _ask(self, frame: dict[str, Any], kind: str) -> None:
            answer = self._answers.setdefault(kind, trio.Event())
            await self._send(frame)
            await answer.wait()

        async def _send(self, frame: dict[str, Any]) -> None:
            try:
                await self._socket.send_message(json.dumps(frame, separators=(",", ":")))
            except ConnectionClosed:
                await trio.sleep_forever()  # the reader ends the link

        async def _update(self, record: dict[str, Any]) -> None:
            frame = {"type": "update_metadata", "peer_id": self.peer_id, "metadata": record}
            await self._ask(frame, "metadata_updated")

        async def _echo(self) -> None:
            payload = {"worker_state_echo": secrets.token_hex(16)}
            ends = {"from_peer_id": self.peer_id, "to_peer_id": self.peer_id}
            await self._ask({"type": "peer_message", **ends, "payload": payload}, "peer_message")

        async def _look(self) -> None:
            await self._update({"tags": TAGS, "properties": {"pending_job_id": None}})

        async def _prove(self) -> None:
            """An echo, then with a look at the record, later with a look and the whole record."""
            began = trio.current_time()
            await self._echo()
            self.epoch += 1
            self._proved.set()
            self._proved = trio.Event()
            for after in EARLY:
                await trio.sleep_until(began + after * random.uniform(0.9, 1.1))
                await self._echo()
                await self._look()
            while True:
                await trio.sleep(random.uniform(*STEADY))
                await self._echo()
                await self._look()
                await self._update(self._record())

        async def _ping(self) -> None:
            while True:
                quiet = trio.current_time() - self._heard
                if quiet < PING_EVERY:
                    await trio.sleep(PING_EVERY - quiet)
                    continue
                try:
                    await self._socket.ping()
                except ConnectionClosed:
                    await trio.sleep_forever()
                self._heard = trio.current_time()

    async with httpx.AsyncClient(base_url=http_url) as http:
        identity = (await http.post("/anonymous-signin")).raise_for_status().json()
        bearer = {"Authorization": f"Bearer {identity['id_token']}"}
        room = (await http.post("/create-room", headers=bearer)).raise_for_status().json()
    client = Bare(identity, room)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.returned(0)
        yield client
        nursery.cancel_scope.cancel()
    async with httpx.AsyncClient(base_url=http_url) as http:
        (await http.post("/delete-peer", json={"peer_id": client.peer_id})).raise_for_status()


KINDS = {"worker_state": worker, "bare": bare}


def reply(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def execute(client: Client, command: dict[str, Any]) -> None:
    """Run the command, and answer with the seconds of CPU that it took."""
    epoch = client.epoch
    if command["do"] == "reconnect":
        reply({"epoch": epoch})
    began = time.process_time()
    match command:
        case {"do": "idle", "seconds": float(seconds)}:
            await trio.sleep(seconds)
        case {"do": "change", "count": int(count)}:
            for number in range(count):
                with trio.fail_after(STUCK):
                    await client.change(None if number % 2 else JOB)
        case {"do": "reconnect"}:
            with trio.fail_after(STUCK):
                await client.returned(epoch)
        case _:
            raise ValueError(f"no such command: {command}")
    reply({"cpu": time.process_time() - began})


async def main(kind: str, ws_url: str, http_url: str) -> None:
    opened: AbstractAsyncContextManager[Client] = KINDS[kind](ws_url, http_url)
    async with opened as client:
        module = sys.modules.get("worker_state")
        reply({"peer_id": client.peer_id, "source": module and module.__file__})
        received = bytearray()
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands:
            async for chunk in commands:
                received += chunk
                while b"\n" in received:
                    line, _, received = received.partition(b"\n")
                    await execute(client, json.loads(line))


if __name__ == "__main__":
    _, kind, ws_url, http_url = sys.argv
    trio.run(main, kind, ws_url, http_url)
