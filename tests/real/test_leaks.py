"""What a worker holds is the same after many reconnects, and nothing after its exit: descriptors and tasks."""

import gc
import os
from pathlib import Path

import pytest
import trio

from tests.real.keeper import Server
from tests.real.living import BOUND, SWIFT, Hurried, is_found, living
from tests.real.proxy import End, proxying

DESCRIPTORS = Path("/proc/self/fd")
CYCLES = 50
WARM_UP = 3
QUIET = 0.2
"""Seconds without a change."""


def descriptors() -> int:
    return len(os.listdir(DESCRIPTORS))


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def settled() -> tuple[int, int]:
    """Both counts, once they have stopped changing: what is on its way out gets the time for that."""
    seen, since = (descriptors(), tasks()), trio.current_time()
    with trio.fail_after(BOUND):
        while trio.current_time() < since + QUIET:
            gc.collect()
            await trio.sleep(0.02)
            if (now := (descriptors(), tasks())) != seen:
                seen, since = now, trio.current_time()
    return seen


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="this system does not list a process's open descriptors")
async def test_nothing_is_left_of_fifty_reconnects(server: Server) -> None:
    """After fifty cuts, polite and rude by turns, the worker holds as many descriptors and tasks as after the first
    few, and after its exit there are as many as before its start."""
    async with proxying(server.ws_port) as proxy:
        outside = await settled()
        random = Hurried(at_most=0.001)
        async with living(server, timing=SWIFT, random=random, ws_url=proxy.url) as worker:

            async def reconnect(number: int) -> None:
                epoch = worker.manager.state.epoch
                ends: tuple[End, End] = ("RST", "FIN")
                proxy.cut(ends[number % 2])
                await worker.until(lambda: worker.manager.state.epoch > epoch)
                worker.manager.set_busy(f"job {number}")
                with trio.fail_after(BOUND):
                    await worker.manager.synced()

            for number in range(WARM_UP):
                await reconnect(number)
            inside = await settled()
            for number in range(CYCLES):
                await reconnect(number)
            assert await settled() == inside
            assert len(proxy.dials) >= 1 + WARM_UP + CYCLES
            await is_found(server, worker)
        assert await settled() == outside
