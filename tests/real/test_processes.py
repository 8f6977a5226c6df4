"""Whole processes that are killed, stopped and continued: the server's, which forgets every registration, and the
worker's own."""

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import trio

from tests.real.keeper import Server
from tests.real.living import (
    BOUND,
    SWIFT,
    client_in,
    is_found,
    living,
    living_behind,
    most_dials,
    responsive_loop,
    takes_effect_at_once,
)
from tests.support.processes import Running, Spawn, spawning
from tests.support.worlds import Client
from worker_state import SessionString

ASLEEP = 2.3 + 2.0
"""Seconds. The next proof of a worker is due some two seconds after its registration, and being later than that by two
seconds more tells it that it was stopped."""


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts `worker-state` with these arguments."""
    with spawning() as start:
        yield start


pytestmark = pytest.mark.xdist_group("processes")  # they share what a fixture has made


@dataclass(frozen=True)
class Sleeper:
    """A `worker-state run` process that was stopped as soon as it was discoverable."""

    process: Running
    session: SessionString
    since: float


@pytest.fixture(scope="module", autouse=True)
def sleeper(server: Server) -> Iterator[Sleeper]:
    """Stopped before the first test of this module, so that it has slept long enough when the last one wakes it."""
    with spawning() as start:
        process = start(*run_at(server))
        session = session_of(process.until("sleap-session:"))
        process.until("  discoverable")
        process.process.send_signal(signal.SIGSTOP)
        yield Sleeper(process, session, time.monotonic())


def run_at(server: Server) -> tuple[str, ...]:
    return "run", "--available", "--ws", server.ws_url, "--http", server.http_url, "--verbose"


def session_of(line: str) -> SessionString:
    return SessionString.parse(line[line.index("sleap-session:") :])


async def test_a_server_that_was_killed_finds_its_workers_registered_again(mortal: Server) -> None:
    """A server that is killed and comes back on its port without memory of registrations shows every worker under the
    session string that it had, whether it is reached directly or through a proxy."""
    async with living(mortal) as direct, living_behind(mortal) as (behind, proxy):
        before = [worker.manager.session_string for worker in (direct, behind)]
        mortal.kill()
        began, dials = trio.current_time(), len(proxy.dials)
        for worker in (direct, behind):
            await worker.until(lambda worker=worker: not worker.manager.state.registered)  # type: ignore[misc]
            takes_effect_at_once(worker, "a job between two lives")
        async with responsive_loop():
            await trio.sleep(0.3)
        await trio.to_thread.run_sync(mortal.start)
        async with responsive_loop():
            await is_found(mortal, direct)
            await is_found(mortal, behind)
        assert len(proxy.dials) - dials <= most_dials(trio.current_time() - began)
        assert [worker.manager.session_string for worker in (direct, behind)] == before


@pytest.mark.parametrize("seconds", [0.3, 1.4])
async def test_a_server_that_stood_still_shows_its_workers_when_it_goes_on(mortal: Server, seconds: float) -> None:
    """After a pause of the server's, shorter or longer than the worker's patience, the worker is found; while it lasts
    every connection opens and nothing is answered."""
    async with living_behind(mortal) as (worker, proxy):
        worker.manager.set_reserved("before the pause")
        await worker.manager.synced()
        began = trio.current_time()
        mortal.stop()
        try:
            async with responsive_loop():
                await trio.sleep(seconds / 2)
                takes_effect_at_once(worker, "during the pause")
                await trio.sleep(seconds / 2)
        finally:
            mortal.go_on()
        await is_found(mortal, worker)
        assert len(proxy.dials) <= most_dials(trio.current_time() - began)


async def test_a_worker_leaves_a_server_that_stands_still(mortal: Server) -> None:
    """A worker that is cancelled while its server stands still is gone in bounded time."""
    async with living(mortal, timing=replace(SWIFT, exit=0.5)) as worker:
        mortal.stop()
        try:
            await worker.leaves()
        finally:
            mortal.go_on()


# --- the worker's own process -----------------------------------------------------------------------------------------


async def finds(client: Client, session: SessionString) -> bool:
    return [each["peer_id"] for each in await client.find(status="available")] == [session.peer_id]


async def test_a_killed_worker_is_gone_when_the_server_notices(server: Server, spawn: Spawn) -> None:
    """Of a worker whose process is killed nothing is found from then on; what only it could have deleted stays."""
    worker = spawn(*run_at(server))
    session = session_of(await trio.to_thread.run_sync(worker.until, "sleap-session:"))
    async with client_in(server, session) as client:
        with trio.fail_after(BOUND):
            while not await finds(client, session):
                await trio.sleep(0.02)
            worker.process.kill()
            while await finds(client, session):
                await trio.sleep(0.02)
        users, rooms = server.kept()
        assert session.peer_id in users
        assert session.room_id in rooms


async def test_a_stopped_worker_proves_itself_on_waking(server: Server, sleeper: Sleeper) -> None:
    """A worker whose process was stopped and goes on proves at once that it is discoverable, on the link that it had,
    and a client's message gets through to it."""
    await trio.sleep(max(0.0, sleeper.since + ASLEEP - time.monotonic()))
    worker = sleeper.process
    worker.process.send_signal(signal.SIGCONT)
    with trio.fail_after(BOUND):
        await trio.to_thread.run_sync(worker.until, "proving at once that the worker is discoverable")
        async with client_in(server, sleeper.session) as client:
            assert await finds(client, sleeper.session)
            await client.message(sleeper.session.peer_id, {"hello": "sleeper"})
            await trio.to_thread.run_sync(worker.until, "received: ")
    worker.process.terminate()
    assert await trio.to_thread.run_sync(worker.end) == 0
    assert not any(re.search("connection lost|forgotten", line) for line in worker.lines)
