"""A day of one worker: its jobs, its server's restarts, its sleep, a new certificate; and an observer who looks on."""

import json
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError

from tests.real.fast_clock import FastClock, Machine, descriptors, resident
from tests.real.front import Front
from tests.real.living import client_in
from tests.real.observer import Observer
from tests.support.certificates import self_signed
from tests.support.processes import Running, Spawn
from worker_state import SessionString
from worker_state.errors import Disconnected

ROOT = Path(__file__).parents[2]
STATUS = 20.0
"""Seconds, of the fast clock as all here, for a new status to be seen."""
MINUTE = 60.0
CYCLE, SHORTEST, LONGEST, ROOM_RUNS_OUT = 180, 116, 1440, 13
"""Minutes: from one restart of the server to the next; until the room that is created after it has been renewed (110);
of a day; for which a room that was replaced still lives."""
JOB, ASLEEP, AWAY = 4 * MINUTE, 10 * MINUTE, 40.0
LOOK_EVERY, HANG = 0.1, 30.0
"""Seconds of the real clock: between two looks, and until waiting for anything has failed."""
NOT_NOW = (httpx.HTTPError, OSError, HandshakeError, ConnectionClosed, Disconnected)


def plan(minutes: float) -> list[tuple[float, str]]:
    """What happens, and in which minute: a job every half hour, and three disturbances in three hours."""
    steps = [(at, "job") for at in range(10, int(minutes), 30)]
    for cycle in range(0, int(minutes), CYCLE):
        steps += [(cycle + 1, "restart"), (cycle + 25, "suspend"), (cycle + 85, "new certificate")]
    return sorted(step for step in steps if step[0] < minutes - 8)


@dataclass(frozen=True)
class Server:
    """A development server's process."""

    process: Running
    ws_url: str
    http_url: str

    @property
    def ports(self) -> tuple[int, int]:
        return int(self.ws_url.rpartition(":")[2]), int(self.http_url.rpartition(":")[2])


@dataclass
class Day:
    """The processes of a day, and what happens to them. `run` it once.

    The server that will follow runs as well, before it is needed: by a fast clock, loading one takes many minutes.
    """

    clock: FastClock
    spawn: Spawn
    folder: Path
    minutes: float
    events: Counter[str] = field(default_factory=Counter)  # of the worker's log
    sizes: list[tuple[float, float, int]] = field(default_factory=list)  # minute, MiB, descriptors of an idle worker
    unheard: int = 0  # beginnings and ends of jobs that did not reach their client
    left: tuple[int, int] = (-1, -1)  # users and rooms after the end
    code: int | None = None

    def __post_init__(self) -> None:
        self.observer = Observer(self.clock.now)
        self.machine = Machine(self.clock)
        self.log: list[dict[str, Any]] = []
        self._session = ""
        self._over = False
        self._unseen = trio.Event()  # nobody looks any more
        self._certificates = [self_signed(self.folder / name) for name in ("first", "second")]
        self._trusted = self.folder / "trusted.pem"

    async def run(self) -> None:
        self._trusts(self._certificates[:1])
        self._server, self._next = await self._serve(), await self._serve()
        async with trio.open_nursery() as nursery:
            self._front = Front(nursery, self._certificates[0])
            ws, http = await self._front.opens(*self._server.ports)
            self._worker = self._start_worker(ws, http)
            await self._until_registered()
            nursery.start_soon(self._look)
            began = self.clock.now()
            for minute, step in plan(self.minutes):
                await self.clock.until(began + minute * MINUTE)
                await {
                    "job": self._job,
                    "restart": self._restart,
                    "suspend": self._suspend,
                    "new certificate": self._new_certificate,
                }[step]()
            await self.clock.until(began + self.minutes * MINUTE)
            self._over = True
            await self._unseen.wait()
            await self._end()
            nursery.cancel_scope.cancel()
        self.observer.end_spell()

    # the processes

    async def _serve(self) -> Server:
        arguments = "serve", "--ws-port", "0", "--http-port", "0", "--quiet"
        process = self.spawn(*arguments, PYTHONPATH=str(ROOT), **self.clock.variables())
        lines = await trio.to_thread.run_sync(lambda: [process.until("://").split()[-1] for _ in range(2)])
        return Server(process, *lines)

    def _start_worker(self, ws: str, http: str) -> Running:
        # The exit, and a call over HTTP with its TLS, take time of this machine, which does not run any faster.
        patience = {name: str(seconds * self.clock.rate) for name, seconds in (("EXIT", 8), ("CLOSE", 2), ("HTTP", 8))}
        return self.spawn(
            *("run", "tests.real.day_job:handle", "--ws", ws, "--http", http, "--wait", "--log-format", "json"),
            PYTHONPATH=str(ROOT),
            SSL_CERT_FILE=str(self._trusted),
            **{f"WORKER_STATE_TIMING_{name}": seconds for name, seconds in patience.items()},
            **self.clock.variables(),
        )

    async def _until_registered(self) -> None:
        line = await trio.to_thread.run_sync(self._worker.until, "sleap-session:")
        self._session = json.loads(line)["session_string"]
        self.observer.peer_id = SessionString.parse(self._session).peer_id
        self.observer.disturbed("start")

    def _read(self) -> None:
        """The log of the worker as far as it has come."""
        before = len(self._worker.lines)
        self._worker.catch_up()
        for line in self._worker.lines[before:]:
            entry = json.loads(line)
            self.log.append(entry)
            self.events[entry["event"] + (f" {entry['call']}" if entry["event"] == "renewed" else "")] += 1
            self._session = entry.get("session_string", self._session)

    # what happens

    async def _job(self) -> None:
        """A client finds the worker by role and tag, and offers it a job."""
        job = None
        with trio.move_on_after(HANG):
            while job is None:
                session = SessionString.parse(self._session)
                if session.room_id == self.observer.room:
                    try:
                        async with client_in(self._server, session) as client:
                            job = await self._offer(client)
                        await self._forget(client.peer_id)
                    except* NOT_NOW:
                        pass
                await self.clock.sleep(5.0)
        self.observer.end_spell()
        assert job is not None, f"nobody took the job: {self.observer.wrong[-3:]}"

    async def _offer(self, client: Any) -> str | None:
        observer = self.observer
        at, found = self.clock.now(), await client.find(status="available")
        seen = [each["metadata"]["properties"] for each in found]
        observer.looked(
            at,
            [
                {"peer_id": each["peer_id"], "room_id": observer.room, "status": it["status"], "job_id": None}
                for each, it in zip(found, seen, strict=True)
            ],
        )
        if [each["peer_id"] for each in found] != [observer.peer_id]:
            return None
        observer.disturbed("an offer", STATUS)
        await client.offer(observer.peer_id, seconds=JOB)
        told: dict[str, Any] = {}
        with trio.move_on_after(STATUS / self.clock.rate + 2.0):
            told = await client.told("accepted", "refused")
        if not told:  # it went nowhere, since the worker was not registered just then
            self.unheard += 1
            with observer.disturbance("an offer", STATUS):
                await self.clock.sleep(JOB)
            return "unheard"
        assert told["type"] == "accepted", told
        observer.true = "busy", told["job_id"]
        observer.disturbed("an offer", STATUS)
        await self.clock.sleep(JOB - 10.0)
        with observer.disturbance("the end of a job", STATUS):
            with trio.move_on_after(STATUS / self.clock.rate + 2.0) as timeout:
                assert (await client.told("done", "failed", "cancelled"))["type"] == "done"
            self.unheard += timeout.cancelled_caught
            observer.true = "available", None
        return str(told["job_id"])

    async def _forget(self, peer_id: str) -> None:
        # Of a client that has left: with one that is the last in a room the server would delete that, too.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5.0) as http:
            await http.post(f"{self._server.http_url}/delete-peer", json={"peer_id": peer_id})

    async def _restart(self) -> None:
        """The server ends, with all that it knew, and another is there after a while."""
        with self.observer.disturbance("a restart"):
            self._server.process.process.kill()
            await self._front.closes()
            self._server = self._next
            await self.clock.sleep(AWAY)
            await self._front.opens(*self._server.ports)
        self._next = await self._serve()

    async def _suspend(self) -> None:
        """The worker's process is stopped, and its clock is not."""
        with self.observer.disturbance("a suspend"):
            self._worker.process.send_signal(signal.SIGSTOP)
            await self.clock.sleep(ASLEEP)
            self._worker.process.send_signal(signal.SIGCONT)

    async def _new_certificate(self) -> None:
        """The authority changes: first who is trusted (G22), then the certificate; connections are made anew."""
        self._certificates.reverse()
        self._trusts(self._certificates)
        with self.observer.disturbance("a new certificate"):
            await self._front.closes()
            self._front.shows(self._certificates[0])
            await self._front.opens(*self._server.ports)

    def _trusts(self, certificates: list[Path]) -> None:
        # In one step: nobody reads half a file.
        new = self._trusted.with_suffix(".new")
        new.write_bytes(b"".join((each.parent / "cert.pem").read_bytes() for each in certificates))
        new.replace(self._trusted)

    async def _end(self) -> None:
        self._worker.process.send_signal(signal.SIGINT)
        self.code = await trio.to_thread.run_sync(self._worker.end)
        give_up_at = self.clock.now() + ROOM_RUNS_OUT * MINUTE
        async with httpx.AsyncClient(trust_env=False, timeout=10.0) as http:
            while self.left != (0, 0) and self.clock.now() < give_up_at:
                counts = (await http.get(f"{self._server.http_url}/workers.json")).json()
                self.left = counts["users"], counts["rooms"]
                await trio.sleep(LOOK_EVERY)
        self._server.process.process.send_signal(signal.SIGINT)
        await trio.to_thread.run_sync(partial(self._server.process.process.wait, 30.0))

    # the observer

    async def _look(self) -> None:
        sized = 0.0
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            while not self._over:
                sized = await self._look_once(http, sized)
                await trio.sleep(LOOK_EVERY)
        self._unseen.set()

    async def _look_once(self, http: httpx.AsyncClient, sized: float) -> float:
        """Returns when the sizes were last taken."""
        server, worker, at = self._server, self._worker.process.pid, self.clock.now()
        found = None
        with suppress(httpx.HTTPError):  # it has been killed, and another one is asked next
            found = (await http.get(f"{server.http_url}/workers.json")).json()["workers"]
        self._read()
        seconds, badly = self.machine.held_up(worker, server.process.process.pid)
        self.observer.held_up(seconds, badly=badly)
        if found is None or server is not self._server:
            return sized
        right = self.observer.right
        self.observer.looked(at, found)
        if self.observer.right == right or self.observer.true[0] != "available" or at < sized + MINUTE:
            return sized
        self.sizes.append((at / MINUTE, resident(worker), descriptors(worker)))
        return at
