"""The real thing: workers with their managers, four actors each, over real sockets; their dials are counted.

Only the sign-in is spared, as in the other benchmarks: everybody has a seat.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from benchmarks.clients import CAPABILITIES, SeatedHttp
from benchmarks.server import Seat
from benchmarks.storm.tally import Tally
from worker_state import Config, Manager, Timing
from worker_state.manager import run_in_world
from worker_state.net.dial import Dial
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import DialFailure
from worker_state.protocol.reconnect import Deadlines
from worker_state.world import World


def counted(dial: Dial, tally: Tally) -> Dial:
    """The same dial, counted by how it ends: by the cause of its failure, or as OPENED."""

    async def dial_and_count(
        deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        tally.dials += 1
        socket = await dial(deadlines, nursery, kept_answered)
        tally.outcomes[socket.cause.name if isinstance(socket, DialFailure) else "OPENED"] += 1
        return socket

    return dial_and_count


async def run_seated(
    ws_url: str, http_url: str, timing: Timing, seat: Seat, tally: Tally, *, task_status: "trio.TaskStatus[Manager]"
) -> None:
    """One worker with a seat, for ever."""
    config = Config(
        ws_url, http_url, seat.room_id, seat.token, capabilities=CAPABILITIES, timing=timing, wait_for_server=True
    )
    await _run(config, replace(World.real(config), http=SeatedHttp(seat)), tally, task_status)


async def run_alone(
    ws_url: str, http_url: str, tally: Tally, *, task_status: "trio.TaskStatus[Manager]" = trio.TASK_STATUS_IGNORED
) -> None:
    """One worker that signs in and creates its room, for ever."""
    config = Config(ws_url, http_url, capabilities=CAPABILITIES, wait_for_server=True)
    await _run(config, World.real(config), tally, task_status)


async def _run(config: Config, world: World, tally: Tally, task_status: "trio.TaskStatus[Manager]") -> None:
    counting = replace(world, dial=counted(world.dial, tally))
    async with trio.open_nursery() as nursery:
        manager: Manager = await nursery.start(partial(run_in_world, config, counting))
        nursery.start_soon(_count_registered, manager, tally)
        task_status.started(manager)


async def _count_registered(manager: Manager, tally: Tally) -> None:
    before = 0
    async for state in manager.states:
        now = int(state.registered)
        tally.registered += now - before
        before = now
