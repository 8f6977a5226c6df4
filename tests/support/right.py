"""What "right" means, seen from outside: an independent client finds the worker, with what is true, and reaches it."""

from collections.abc import Callable
from itertools import count

import trio

from tests.support.worlds import FakeWorld, World
from worker_state import Disconnected, Manager, SessionString
from worker_state.protocol.record import status_properties

SOON = 35.0
"""Seconds after the last fault: what nearly every fault is healed in."""
BOUND = 60.0
"""The same for every fault of the catalogue."""

_payloads = count()


async def assert_right(world: World, manager: Manager, within: float = SOON) -> None:
    """Within so many seconds of the world's clock a client with the session string finds and reaches the worker."""
    began = trio.current_time()
    while (wrong := await _what_is_wrong(world, manager)) is not None:
        assert trio.current_time() - began < within, wrong
        await trio.sleep(0.25)


async def _what_is_wrong(world: World, manager: Manager) -> str | None:
    room_id = manager.state.room_id
    if manager.session_string is not None:
        session = SessionString.parse(manager.session_string)
        room_id = session.room_id
        if room_id not in world.rooms.rooms or world.rooms.rooms[room_id].token != session.token:
            return "the session string leads to no room"
        if session.peer_id != manager.state.peer_id:
            return "the session string leads to another worker"
    with trio.move_on_after(0.5 if isinstance(world, FakeWorld) else world.patience / 10):
        try:
            async with world.client_in(room_id or "") as client:
                found = [peer for peer in await client.find() if peer["peer_id"] == manager.state.peer_id]
                if not found:
                    return "no search finds the worker"
                shown = found[0]["metadata"]["properties"]
                true = status_properties(manager.state.truth)
                if {name: shown.get(name) for name in true} != true:
                    return "a search shows a status that is not true"
                payload = {"number": next(_payloads)}
                while manager.signals.statistics().current_buffer_used:
                    manager.signals.receive_nowait()
                await client.message(manager.state.peer_id or "", payload)
                while (await manager.signals.receive()).get("payload") != payload:
                    pass
                return None
        except Disconnected as error:
            return f"a client loses its connection ({error})"
    return "a client gets no answer"


async def stays(condition: Callable[[], object], seconds: float, every: float = 1.0) -> None:
    """The condition is true all the time."""
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        assert condition()
        await trio.sleep(every)


def name_of(manager: Manager) -> str:
    """The peer id of a worker that has one."""
    assert manager.state.peer_id is not None
    return manager.state.peer_id


async def started(world: World, **changes: object) -> Manager:
    """A worker that is busy and proved."""
    manager = await world.start(**changes)
    manager.set_busy("job-1")
    await manager.synced()
    return manager


async def back(world: World, manager: Manager, epoch: int = 2) -> None:
    """The worker is registered again, on this link, and proved."""
    await world.until(lambda: manager.state.epoch == epoch)
    await manager.synced()
