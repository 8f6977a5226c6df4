"""Something else answers at the server's address for a while, or the server answers nothing but errors. Then it is
itself again, and the worker has to be found."""

import time
from functools import partial

import trio

from tests.real.garbage import ERRORS, GARBAGE, refuses
from tests.real.keeper import Server
from tests.real.living import (
    BOUND,
    all_at_once,
    is_found,
    living_behind,
    most_dials,
    responsive_loop,
    takes_effect_at_once,
)
from tests.support.peers import Script

BUSY = 0.9
"""The share of one core that all workers of a test may use together while everything is garbage: one that spins uses
the whole of it."""


async def test_a_worker_is_found_after_any_garbage(server: Server) -> None:
    """Whatever answers in the server's place, the worker dials at its pace, leaves the processor alone, obeys its owner
    at once, and is found when the server is back; and it leaves in bounded time from the midst of more garbage."""
    unsettled = set(GARBAGE)
    measured = trio.Event()

    async def one(name: str, script: Script) -> None:
        async with living_behind(server) as (worker, proxy):
            proxy.script = script
            began, before = trio.current_time(), len(proxy.dials)
            proxy.cut("RST")
            await worker.until(lambda: len(proxy.dials) >= before + 2)
            takes_effect_at_once(worker, name)
            unsettled.discard(name)
            await measured.wait()
            proxy.script = None
            proxy.cut("RST")
            await is_found(server, worker)
            assert len(proxy.dials) - before <= most_dials(trio.current_time() - began)
            proxy.script = script
            dials = len(proxy.dials)
            proxy.cut("RST")
            await worker.until(lambda: len(proxy.dials) > dials)

    async def measure() -> None:
        with trio.move_on_after(BOUND - 5):
            while unsettled:
                await trio.sleep(0.01)
        assert not unsettled
        cpu, wall = time.process_time(), time.perf_counter()
        await trio.sleep(0.6)
        assert time.process_time() - cpu < BUSY * (time.perf_counter() - wall)
        measured.set()

    cases = {name: partial(one, name, script) for name, script in GARBAGE.items()}
    async with responsive_loop():
        await all_at_once({**cases, "the measurement": measure})


async def test_a_worker_is_found_after_any_refusal(server: Server) -> None:
    """Whatever the server answers to `register` for a while, the worker asks again at its pace, on whatever identity
    and room that takes, and is found when it is accepted; its room stays unless it was the room that was refused."""

    async def one(name: str, answer: object) -> None:
        async with living_behind(server) as (worker, proxy):
            session = worker.manager.session_string
            asked = 0

            def count() -> None:
                nonlocal asked
                asked += 1

            proxy.script = refuses(answer, count)
            began, before = trio.current_time(), len(proxy.dials)
            proxy.cut("RST")
            await worker.until(lambda: asked >= 2)
            takes_effect_at_once(worker, name)
            assert not worker.manager.state.registered
            proxy.script = None
            proxy.cut("RST")
            await is_found(server, worker)
            most = most_dials(trio.current_time() - began)
            assert asked <= most
            assert len(proxy.dials) - before <= most
            if name not in ("the room token", "the room is gone", "the room is old"):
                assert worker.manager.session_string == session

    async with responsive_loop():
        await all_at_once({name: partial(one, name, answer) for name, answer in ERRORS.items()})
