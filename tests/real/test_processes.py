"""Whole processes that are killed, stopped and continued: the server's, which forgets every registration, and the
worker's own."""

import re
import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest
import trio

from tests.real.keeper import Server
from tests.real.living import (
    BOUND,
    all_at_once,
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

OVERSLEPT = 2.0
"""Seconds. So late a wake-up tells the worker that it was stopped; it looks at its clock again every few seconds."""


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts `worker-state` with these arguments."""
    with spawning() as start:
        yield start


async def test_a_server_that_was_killed_finds_its_workers_registered_again(mortal: Server) -> None:
    """A server that is killed and comes back on its port without memory of registrations shows every worker under the
    session string that it had, whether it is reached directly or through a proxy."""
    async with living(mortal) as direct, living_behind(mortal) as (behind, proxy):
        before = [worker.manager.session_string for worker in (direct, behind)]
        for life in range(2):
            mortal.kill()
            began, dials = trio.current_time(), len(proxy.dials)
            for worker in (direct, behind):
                await worker.until(lambda worker=worker: not worker.manager.state.registered)  # type: ignore[misc]
                takes_effect_at_once(worker, f"job of life {life}")
            async with responsive_loop():
                await trio.sleep(0.3)
            await trio.to_thread.run_sync(mortal.start)
            async with responsive_loop():
                await is_found(mortal, direct)
                await is_found(mortal, behind)
            assert len(proxy.dials) - dials <= most_dials(trio.current_time() - began)
        assert [worker.manager.session_string for worker in (direct, behind)] == before


@pytest.mark.parametrize("seconds", [0.3, 1.6])
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
    async with living(mortal) as worker:
        mortal.stop()
        try:
            await worker.leaves()
        finally:
            mortal.go_on()


# --- the worker's own process -----------------------------------------------------------------------------------------


class _Seen:
    """A `worker-state run` process and a client in its room."""

    def __init__(self, process: Running, client: Client, session: SessionString) -> None:
        self.process = process
        self.client = client
        self.peer_id = session.peer_id

    async def found(self) -> bool:
        return [each["peer_id"] for each in await self.client.find(status="available")] == [self.peer_id]


async def _start(spawn: Spawn, server: Server) -> tuple[Running, SessionString]:
    worker = spawn("run", "--ws", server.ws_url, "--http", server.http_url, "--verbose")
    line = await trio.to_thread.run_sync(worker.until, "sleap-session:")
    return worker, SessionString.parse(line[line.index("sleap-session:") :])


async def _stopped_and_continued(spawn: Spawn, server: Server) -> None:
    worker, session = await _start(spawn, server)
    async with client_in(server, session) as client:
        seen = _Seen(worker, client, session)
        with trio.fail_after(BOUND):
            while not await seen.found():
                await trio.sleep(0.02)
        await trio.to_thread.run_sync(worker.until, "  discoverable")
        worker.process.send_signal(signal.SIGSTOP)
        # Its next proof is due some two seconds after the registration; waking later than that by this much tells it.
        await trio.sleep(2.3 + OVERSLEPT)
        worker.process.send_signal(signal.SIGCONT)
        woke = time.monotonic()
        await trio.to_thread.run_sync(worker.until, "proving at once that the worker is discoverable")
        assert time.monotonic() - woke < BOUND
        assert await seen.found()
        await client.message(seen.peer_id, {"hello": "sleeper"})
        await trio.to_thread.run_sync(worker.until, "received: ")
    worker.process.terminate()
    assert await trio.to_thread.run_sync(worker.end) == 0
    assert not any(re.search("connection lost|forgotten", line) for line in worker.lines)


async def _killed(spawn: Spawn, server: Server) -> None:
    worker, session = await _start(spawn, server)
    async with client_in(server, session) as client:
        seen = _Seen(worker, client, session)
        with trio.fail_after(BOUND):
            while not await seen.found():
                await trio.sleep(0.02)
            worker.process.kill()
            while await seen.found():
                await trio.sleep(0.02)
        # What only the worker could have deleted stays.
        users, rooms = server.kept()
        assert session.peer_id in users
        assert session.room_id in rooms


async def test_a_stopped_worker_proves_itself_on_waking_and_a_killed_one_is_gone(server: Server, spawn: Spawn) -> None:
    """A worker's process that was stopped and goes on proves at once that it is discoverable, on the link that it had;
    of one that is killed nothing is found as soon as the server notices."""
    await all_at_once(
        {
            "stopped and continued": partial(_stopped_and_continued, spawn, server),
            "killed": partial(_killed, spawn, server),
        }
    )
