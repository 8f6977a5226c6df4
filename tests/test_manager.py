"""The entry points: what a start shows early, and what it lets go of."""

import weakref
from functools import partial
from random import Random
from typing import Any

import trio
import trio.testing
from trio.testing import MockClock

from tests.support.fake import FakeServer
from worker_state import Config, Manager
from worker_state.manager import run_in_world
from worker_state.protocol.http_api import HttpFailure
from worker_state.world import World


async def test_g06_a_start_can_be_looked_at(autojump_clock: MockClock) -> None:
    """`early` gets the manager before anything is done, and sees why the start takes long; then it is another face of
    the same worker."""
    server, random = FakeServer(), Random(1)
    server.http_answers["/anonymous-signin"] = [HttpFailure("connection refused")]
    outside = World(server.dial, server, random, nonce=lambda: f"{random.getrandbits(64)}")
    met: list[Manager] = []
    config = Config("ws://localhost", "http://localhost", wait_for_server=True)

    async def look() -> None:
        (early,) = met
        assert (early.state.registered, early.state.trouble) == (False, None)
        await early.states.wait_for(lambda state: state.trouble == "sign-in failed: connection refused")

    async with trio.open_nursery() as nursery:

        def meet(manager: Manager) -> None:
            met.append(manager)
            nursery.start_soon(look)

        manager: Manager = await nursery.start(partial(run_in_world, config, outside, early=meet))
        met[0].set_busy("job-1")
        assert manager.state is met[0].state
        assert manager.job_id == "job-1"
        nursery.cancel_scope.cancel()


async def test_nothing_of_the_start_is_kept(autojump_clock: MockClock) -> None:
    """Once started, the manager lets go of what `nursery.start` has handed in: a nursery hangs on it."""
    server, random = FakeServer(), Random(1)
    outside = World(server.dial, server, random, nonce=lambda: f"{random.getrandbits(64)}")

    class Started:
        def started(self, manager: Manager) -> None:
            begun.set()

    begun, statuses = trio.Event(), [Started()]
    kept = weakref.ref(statuses[0])

    async def live() -> None:
        task_status: Any = statuses.pop()
        running = run_in_world(Config("ws://localhost", "http://localhost"), outside, task_status=task_status)
        del task_status
        await running

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert kept() is None
        nursery.cancel_scope.cancel()
