"""A worker in this process, an independent client of its room, and the one sentence that every test here ends with."""

import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from random import SystemRandom
from typing import Any, Protocol

import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from tests.real.keeper import Server
from tests.real.proxy import Proxy, proxying
from tests.support.peers import only_cancelled
from tests.support.worlds import Client
from worker_state import Config, Manager, SessionString, Timing
from worker_state.manager import run_in_world
from worker_state.protocol.reconnect import ReconnectParameters
from worker_state.world import World

BOUND = 120.0
"""Seconds within which a worker has to be found again. Most need less than one; this is for a machine that is busy."""
SLACK = 8.0
"""Seconds that a busy machine may add to a bound of ours."""
LAG = 5.0
"""Seconds. A loop that was blocked for so long was blocked by somebody."""
SWIFT = Timing(register=1.0, answer=0.7, http=20.0, send=1.0, ping_every=0.3, silence=0.6, exit=2.0)
"""Deadlines so short that a fault is over within a test. HTTP keeps most of its patience."""
NOT_YET = (OSError, HandshakeError, ConnectionClosed, httpx.HTTPError, trio.BrokenResourceError, KeyError)


class Hurried(SystemRandom):
    """Chance in which every pause is a fraction of itself, and none is long.

    Pauses are drawn from the upper half of their range; nothing else that is drawn looks like that.
    """

    def __new__(cls, *_: object, **__: object) -> "Hurried":
        return super().__new__(cls)

    def __init__(self, share: float = 0.2, at_most: float = 0.5) -> None:
        super().__init__()
        self._share = share
        self._at_most = at_most

    def uniform(self, a: float, b: float) -> float:
        drawn = super().uniform(a, b)
        return min(drawn * self._share, self._at_most) if math.isclose(b, 2 * a) else drawn


def most_dials(seconds: float) -> float:
    """As many dials as anybody may do in so many seconds, with hurried pauses: a few quick, then three a second."""
    return 8 + 3 * seconds


class Addresses(Protocol):
    """Where a server listens."""

    @property
    def ws_url(self) -> str: ...
    @property
    def http_url(self) -> str: ...


@dataclass
class Worker:
    """A worker that runs, and what its other parts have received."""

    manager: Manager
    timing: Timing
    received: list[Mapping[str, Any]] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    gone: trio.Event = field(default_factory=trio.Event)

    async def leaves(self) -> None:
        """Cancelled, it is gone in bounded time, whatever the network does."""
        began = trio.current_time()
        self.scope.cancel()
        with trio.fail_after(self.timing.exit + self.timing.close + SLACK + LAG):
            await self.gone.wait()
        assert trio.current_time() - began <= self.timing.exit + self.timing.close + SLACK

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(BOUND):
            while not condition():
                await trio.sleep(0.01)


async def run_worker(
    config: Config, world: World, *, task_status: "trio.TaskStatus[Worker]" = trio.TASK_STATUS_IGNORED
) -> None:
    """For `nursery.start`. Ends when the worker's scope is cancelled."""
    scope, gone = trio.CancelScope(), trio.Event()
    try:
        with scope:
            async with trio.open_nursery() as nursery:
                manager: Manager = await nursery.start(partial(run_in_world, config, world))
                worker = Worker(manager, config.timing, scope=scope, gone=gone)
                nursery.start_soon(_take_signals, worker)
                task_status.started(worker)
    finally:
        gone.set()


async def _take_signals(worker: Worker) -> None:
    async for message in worker.manager.signals:
        worker.received.append(message)


def as_slow_as(server: Server, timing: Timing) -> Timing:
    """The same deadlines on this machine as it is just now, where that can be; the bounds of the exit are kept."""
    return replace(
        timing,
        register=timing.register * server.slowness,
        answer=timing.answer * server.slowness,
        silence=timing.silence * server.slowness,
        send=timing.send * server.slowness,
    )


def hurried_world(config: Config, random: SystemRandom | None = None) -> World:
    seconds = config.timing.register
    pace = ReconnectParameters(
        blip=0.1,
        announced=0.2,
        lived=0.001,
        poll_first=0.35,
        rest=0.1,
        window=0.2,
        window_most=0.3,
        full_most=0.5,
        busy_most=0.5,
        connect=5.0,
        held_first=seconds,
        held_most=seconds,
        patience=seconds,
        longest=seconds,
        most=1000,
    )
    return replace(World.real(config), random=random or Hurried(), pace=pace)


@asynccontextmanager
async def living(
    server: Server, *, timing: Timing = SWIFT, random: SystemRandom | None = None, ws_url: str | None = None
) -> AsyncIterator[Worker]:
    """A registered worker; at the end of the context it has to be able to leave."""
    patient = as_slow_as(server, timing)
    addresses = (ws_url or server.ws_url, server.http_url)
    config = Config(*addresses, timing=patient, show_session_string=False, wait_for_server=True)
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(run_worker, config, hurried_world(config, random))
        yield worker
        await worker.leaves()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def living_behind(
    server: Server, *, timing: Timing = SWIFT, random: SystemRandom | None = None
) -> AsyncIterator[tuple[Worker, Proxy]]:
    """A registered worker whose WebSocket goes through a proxy."""
    async with (
        proxying(server.ws_port) as proxy,
        living(server, timing=timing, random=random, ws_url=proxy.url) as worker,
    ):
        yield worker, proxy


# --- the sentence -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def client_in(server: Addresses, session: SessionString) -> AsyncIterator[Client]:
    """Somebody who has typed in this session string: signed in and registered in its room, past every proxy."""
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5.0) as http:
        user = (await http.post(f"{server.http_url}/anonymous-signin")).raise_for_status().json()
    async with open_websocket_url(server.ws_url, connect_timeout=5.0, disconnect_timeout=0.5) as socket:

        async def receive() -> str:
            return str(await socket.get_message())

        client = Client(user["username"], socket.send_message, receive)
        await client.send(
            {
                "type": "register",
                "peer_id": client.peer_id,
                "room_id": session.room_id,
                "token": session.token,
                "id_token": user["id_token"],
                "role": "client",
                "metadata": {"tags": ["sleap-rtc", "training-client"], "properties": {}},
            }
        )
        answer = await client.receive("registered_auth", "error")
        if answer["type"] == "error":
            raise ConnectionRefusedError(answer.get("reason"))
        yield client


async def is_found(server: Server, worker: Worker, *, within: float = BOUND) -> None:
    """A client that joins the room, and searches by role and tag, finds the worker with the status and the job id that
    are true, and gets a message through to it."""
    last: object = "nobody"
    with trio.move_on_after(within):
        while True:
            with trio.move_on_after(6.0):
                try:
                    async with client_in(server, SessionString.parse(worker.manager.session_string or "")) as client:
                        for _ in range(20):
                            found = await client.find()
                            last = [each["metadata"]["properties"] for each in found]
                            if _is_true(found, worker.manager) and await _gets_through(client, worker):
                                return
                            await trio.sleep(0.03)
                except* NOT_YET as error:
                    last = error
            await trio.sleep(0.02)
    raise AssertionError(f"not found in {within:g} s; last seen: {last!r}; {worker.manager.state}")


def _is_true(found: list[dict[str, Any]], manager: Manager) -> bool:
    if [each["peer_id"] for each in found] != [manager.state.peer_id]:
        return False
    properties = found[0]["metadata"]["properties"]
    jobs = {properties["current_job_id"], properties["pending_job_id"]} - {None}
    return properties["status"] == manager.status.value and jobs == ({manager.job_id} - {None})


async def _gets_through(client: Client, worker: Worker) -> bool:
    hello = secrets.token_hex(8)
    await client.message(worker.manager.state.peer_id or "", {"hello": hello})
    with trio.move_on_after(0.4):
        while True:
            if any(message.get("payload") == {"hello": hello} for message in worker.received):
                return True
            await trio.sleep(0.005)
    return False


# --- how the process fares --------------------------------------------------------------------------------------------


def takes_effect_at_once(worker: Worker, job_id: str) -> None:
    """`set_busy` returns at once, whatever the network does: it is the local truth."""
    began = time.perf_counter()
    worker.manager.set_busy(job_id)
    assert time.perf_counter() - began < LAG
    assert (worker.manager.status.value, worker.manager.job_id) == ("busy", job_id)


@asynccontextmanager
async def responsive_loop() -> AsyncIterator[None]:
    """While the context lasts no task of this process keeps the others waiting for long."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            due = trio.current_time() + 0.02
            await trio.sleep_until(due)
            longest = max(longest, trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield
        nursery.cancel_scope.cancel()
    assert longest < LAG


async def idles(seconds: float = 0.5) -> None:
    """For so long this process does next to nothing, though its workers are in trouble: CPU, not wall time."""
    began = time.process_time()
    await trio.sleep(seconds)
    assert time.process_time() - began < 0.6 * seconds


async def all_at_once(cases: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """Every case in a task of its own, for much of each is waiting; the failure of one says its name."""

    async def run(name: str, case: Callable[[], Awaitable[None]]) -> None:
        try:
            await case()
        except BaseException as error:
            if not only_cancelled(error):
                error.add_note(f"in the case {name!r}")
            raise

    async with trio.open_nursery() as nursery:
        for name, case in cases.items():
            nursery.start_soon(run, name, case)
            await trio.sleep(0.02)  # a crowd that knocks at the same moment is another test's business
