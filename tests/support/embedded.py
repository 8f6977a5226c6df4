"""Programs in which a manager is embedded, with tasks that wait for everything that it has, beside it or around it.

Run as a program: `python -m tests.support.embedded PLACE WS_URL HTTP_URL` says "ready", and ends with `INTERRUPTED` and
without a word at Ctrl-C.
"""

import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from itertools import count

import trio

from worker_state import Config, Disconnected, Manager, ManagerEnded, run_state_manager
from worker_state.background import open_background

INTERRUPTED = 7

Start = Callable[..., Awaitable[object]]
"""What a nursery starts, and gives a manager."""
Wait = Callable[[Manager], Awaitable[object]]
Held = AbstractAsyncContextManager[tuple[Manager, trio.Nursery]]
"""A manager, and the nursery of those who wait for it."""
Place = Callable[[Start], Held]


@asynccontextmanager
async def in_its_nursery(start: Start) -> AsyncIterator[tuple[Manager, trio.Nursery]]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(start), nursery


@asynccontextmanager
async def in_its_block(start: Start) -> AsyncIterator[tuple[Manager, trio.Nursery]]:
    async with open_background(start) as manager, trio.open_nursery() as nursery:
        yield manager, nursery


@asynccontextmanager
async def around_its_block(start: Start) -> AsyncIterator[tuple[Manager, trio.Nursery]]:
    async with trio.open_nursery() as nursery, open_background(start) as manager:
        yield manager, nursery


@asynccontextmanager
async def around_its_nursery(start: Start) -> AsyncIterator[tuple[Manager, trio.Nursery]]:
    async with trio.open_nursery() as nursery, trio.open_nursery() as inner:
        yield await inner.start(start), nursery


PLACES: dict[str, Place] = {
    place.__name__: place for place in (in_its_nursery, in_its_block, around_its_block, around_its_nursery)
}


async def until_synced(manager: Manager) -> None:
    await manager.synced()


async def until_it_is_so(manager: Manager) -> None:
    await manager.states.wait_for(lambda state: state.evictions > 99)


async def until_drained(manager: Manager) -> None:
    await manager.draining()


async def for_each_state(manager: Manager) -> None:
    async for _ in manager.states:
        pass
    raise EOFError


async def for_each_signal(manager: Manager) -> None:
    async for _ in manager.signals:
        pass
    raise EOFError


async def until_a_signal(manager: Manager) -> None:
    await manager.signals.receive()


TOLD: dict[Wait, type[Exception]] = {
    until_synced: ManagerEnded,
    until_it_is_so: ManagerEnded,
    until_drained: ManagerEnded,
    for_each_state: EOFError,
    for_each_signal: EOFError,
    until_a_signal: trio.EndOfChannel,
}
"""What somebody waits for who cannot get it any more, and how he is told."""


async def again_and_again(wait: Wait, manager: Manager) -> None:
    while True:
        await wait(manager)
        await trio.sleep(0.001)


async def talk(manager: Manager) -> None:
    """Keep every part of the manager at work, all the time: a signal seldom strikes a process that mostly waits."""
    for number in count():
        manager.set_busy(f"job-{number}")
        me = manager.state.peer_id
        with suppress(Disconnected):
            await manager.send_signal({"type": "peer_message", "from_peer_id": me, "to_peer_id": me, "payload": {}})
        await trio.lowlevel.checkpoint()


async def program(start: Start, place: Place) -> None:
    async with place(start) as (manager, nursery):
        manager.set_busy("job")
        for wait in TOLD:
            nursery.start_soon(again_and_again, wait, manager)
        nursery.start_soon(talk, manager)
        print("ready", flush=True)  # noqa: T201
        await trio.sleep_forever()


def main(place: str, ws_url: str, http_url: str) -> None:
    logging.disable()  # what may have to be said of a lost connection is another matter
    code = 0
    try:
        trio.run(program, partial(run_state_manager, Config(ws_url, http_url)), PLACES[place])
    except* KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
