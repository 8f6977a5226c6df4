"""A rate limit handles so many registers a second, in order, and makes the others wait."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from worker_state.devserver import DevServer, RateLimit, serve

if TYPE_CHECKING:
    from tests.devserver.conftest import Join
    from worker_state.devserver.sockets import FaultyStream

SOMEBODY = cast("FaultyStream", None)


async def test_registers_proceed_in_order_at_the_rate(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    limit = RateLimit(2.0)
    admitted: list[tuple[int, float]] = []
    began = trio.current_time()

    async def register(number: int) -> None:
        await limit.admit(SOMEBODY)
        admitted.append((number, trio.current_time() - began))

    for number in range(3):
        nursery.start_soon(register, number)
        await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(10.0)
    assert admitted == [(0, 0.0), (1, 0.5), (2, 1.0)]


async def test_time_without_registers_is_not_saved_up(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(2.0)
    await limit.admit(SOMEBODY)
    await trio.sleep(10.0)
    began = trio.current_time()
    for _ in range(3):
        await limit.admit(SOMEBODY)
    assert trio.current_time() - began == pytest.approx(1.0)


@pytest.mark.parametrize("capacity", [0.0, float("inf"), float("nan")])
def test_a_capacity_that_makes_no_sense_is_refused(capacity: float) -> None:
    with pytest.raises(ValueError, match="the capacity must be positive"):
        RateLimit(capacity)


@pytest.fixture
async def server(nursery: trio.Nursery) -> DevServer:
    """A server with a rate limit, in place of the usual one."""
    started: DevServer = await nursery.start(partial(serve, admission=RateLimit(50.0)))
    return started


async def test_a_server_with_a_rate_limit_registers_as_any_other(join: Join) -> None:
    began = trio.current_time()
    for member in [await join() for _ in range(5)]:
        await member.register()
        assert await member.echoes()
    assert trio.current_time() - began >= 4 / 50
