"""Part T of the fault catalogue, what the tests of the transport do not hold: traps that are seen from above it."""

import random
import time

import pytest
import trio
from trio.testing import MockClock

from tests.support.dialled import Dialled
from tests.support.right import assert_right
from tests.support.worlds import FakeWorld, World, scenario
from worker_state import Config, Timing
from worker_state.net.dial import WebSocketDial
from worker_state.protocol.error_policy import Cause, DialFailure
from worker_state.protocol.reconnect import ReconnectParameters
from worker_state.world import World as Outside


@scenario(only="fake")  # a full socket takes megabytes and half a minute
async def test_t10_frame_that_cannot_be_sent(world: World) -> None:
    """A frame that the socket does not take in time costs the link, for half of it may be on the wire."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    world.server.stuck = True
    manager.set_busy("job-1")
    await world.until(lambda: manager.state.epoch == 2)
    world.server.stuck = False
    await assert_right(world, manager, ReconnectParameters().busy_most)
    assert world.logged(30, "connection lost: not reading (a frame took 20 s)")


def block(seconds: float) -> None:
    """What a careless worker does to its event loop."""
    time.sleep(seconds)


@scenario(only="real", faster=10)  # the fakes answer in no time: test_stopped jumps their clock
async def test_t15_blocked_loop(world: World) -> None:
    """Deadlines that run out while the host blocks the event loop cost no link and no registration."""
    manager = await world.start(timing=Timing(answer=2.0, ping_every=0.5, silence=1.0))
    await manager.synced()
    for moment in range(4):
        manager.set_busy(f"job-{moment}")
        await trio.sleep(0.3 * moment)
        block(0.35)
    await assert_right(world, manager)
    assert manager.state.epoch == 1
    assert manager.state.evictions == 0


def test_t17_cloned_process() -> None:
    """Workers with the same state of the global generator draw neither the same pauses nor the same nonces."""
    drawn = []
    for _ in range(2):
        random.seed(1)
        world = Outside.real(Config("ws://localhost", "http://localhost"))
        drawn.append((world.random.random(), world.nonce()))
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


class SilentResolver(trio.abc.HostnameResolver):
    """A name server that never answers."""

    async def getaddrinfo(self, *_: object, **__: object) -> list[object]:  # type: ignore[override]
        await trio.sleep_forever()
        raise AssertionError

    async def getnameinfo(self, *_: object, **__: object) -> tuple[str, str]:
        raise AssertionError


async def test_t20_name_that_is_never_resolved(autojump_clock: MockClock) -> None:
    """A name that is never resolved costs the time for connecting, and a cancel is not held up by it."""
    trio.socket.set_custom_hostname_resolver(SilentResolver())
    dial = Dialled(WebSocketDial("ws://somewhere.invalid"), connect=10.0)
    async with dial() as made:
        assert made == DialFailure(Cause.NO_ANSWER, "in 10 s")
    assert trio.current_time() == pytest.approx(10.0, abs=0.01)
    with trio.move_on_after(1) as scope:
        async with dial():
            pass
    assert scope.cancelled_caught
