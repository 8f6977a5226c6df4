"""A bad network between worker and server. Each time: the fault, the truth changes meanwhile, and then the worker is
found with it, has not spun, has kept nobody waiting, and leaves in bounded time."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio

from tests.real.keeper import Server
from tests.real.living import (
    BOUND,
    SWIFT,
    Worker,
    all_at_once,
    idles,
    is_found,
    living_behind,
    most_dials,
    responsive_loop,
    takes_effect_at_once,
)
from tests.real.proxy import End, Proxy

Fault = Callable[[Worker, Proxy], Awaitable[None]]
MID_UPGRADE = 40
"""Bytes, of the request as of its answer."""
MID_FRAME_UP = 500
"""Bytes: the request is about 200 long, the `register` behind it about 1000."""
MID_FRAME_DOWN = 200
"""Bytes: the 101 is about 130 long, the answer to `register` about 250."""


async def dialled(proxy: Proxy, times: int) -> None:
    """So many dials from now on."""
    wanted = len(proxy.dials) + times
    with trio.fail_after(BOUND):
        while len(proxy.dials) < wanted:
            await trio.sleep(0.01)


async def unregistered(worker: Worker) -> None:
    """The worker has noticed."""
    await worker.until(lambda: not worker.manager.state.registered)


# --- faults that end --------------------------------------------------------------------------------------------------


async def cut_by_rst(worker: Worker, proxy: Proxy) -> None:
    proxy.cut("RST")
    await unregistered(worker)


async def cut_by_fin(worker: Worker, proxy: Proxy) -> None:
    proxy.cut("FIN")
    await unregistered(worker)


async def cut_again_and_again(worker: Worker, proxy: Proxy) -> None:
    ends: tuple[End, ...] = ("RST", "FIN", "RST")
    for number, how in enumerate(ends, worker.manager.state.epoch + 1):
        proxy.cut(how)
        await worker.until(partial(_at_epoch, worker, number))


def _at_epoch(worker: Worker, epoch: int) -> bool:
    return worker.manager.state.epoch >= epoch


async def stalled_upwards(worker: Worker, proxy: Proxy) -> None:
    proxy.up.stall()
    await unregistered(worker)
    proxy.up.flow()


async def stalled_downwards(worker: Worker, proxy: Proxy) -> None:
    proxy.down.stall()
    await unregistered(worker)
    proxy.down.flow()


async def stalled_both_ways(worker: Worker, proxy: Proxy) -> None:
    proxy.up.stall()
    proxy.down.stall()
    await dialled(proxy, 2)
    proxy.up.flow()
    proxy.down.flow()


async def stalled_for_less_than_a_deadline(worker: Worker, proxy: Proxy) -> None:
    proxy.up.stall()
    proxy.down.stall()
    await trio.sleep(0.2)
    proxy.up.flow()
    proxy.down.flow()


async def swallowed_upwards(worker: Worker, proxy: Proxy) -> None:
    proxy.up.swallows = True
    await unregistered(worker)
    proxy.up.swallows = False


async def swallowed_downwards(worker: Worker, proxy: Proxy) -> None:
    proxy.down.swallows = True
    await unregistered(worker)
    proxy.down.swallows = False


async def a_black_hole(worker: Worker, proxy: Proxy) -> None:
    proxy.up.swallows = proxy.down.swallows = True
    await dialled(proxy, 2)
    proxy.up.swallows = proxy.down.swallows = False


async def _cut_after(up: int | None, down: int | None, worker: Worker, proxy: Proxy) -> None:
    proxy.up.cut_after, proxy.down.cut_after = up, down
    proxy.cut("RST")
    await dialled(proxy, 3)
    proxy.up.cut_after = proxy.down.cut_after = None


async def half_open_at_the_server(worker: Worker, proxy: Proxy) -> None:
    """The old connection dies on the server after the worker has registered anew, and takes the new entry along: the
    worker is not told, its socket is fine, its pings are answered (faults.md, F01)."""
    proxy.hide_ends()
    proxy.cut("RST", only="worker")
    await unregistered(worker)
    await worker.manager.synced()
    proxy.tell_ends()
    await worker.until(lambda: worker.manager.state.evictions)


async def half_open_at_the_worker(worker: Worker, proxy: Proxy) -> None:
    proxy.hide_ends()
    proxy.cut("RST", only="server")
    await unregistered(worker)
    proxy.tell_ends()


async def a_register_that_comes_late(worker: Worker, proxy: Proxy) -> None:
    """A `register` of an abandoned socket arrives when that of the present one is long accepted: the entry belongs to
    the dead socket from then on, and updates are acknowledged all the same (faults.md, F03)."""
    proxy.detain()
    worker.manager.reregister()
    await worker.until(lambda: proxy.up.detained > A_REGISTER)
    proxy.hide_ends()
    proxy.cut("RST", only="worker")
    await unregistered(worker)
    await worker.manager.synced()
    proxy.release()
    await worker.until(lambda: worker.manager.state.evictions)


A_REGISTER = 600
"""Bytes: a `register` has more, an echo and an update together have less."""

BRIEF: dict[str, Fault] = {
    "cut by RST": cut_by_rst,
    "cut by FIN": cut_by_fin,
    "cut again and again": cut_again_and_again,
    "stalled upwards": stalled_upwards,
    "stalled downwards": stalled_downwards,
    "stalled both ways": stalled_both_ways,
    "stalled for less than a deadline": stalled_for_less_than_a_deadline,
    "swallowed upwards": swallowed_upwards,
    "swallowed downwards": swallowed_downwards,
    "a black hole": a_black_hole,
    "cut in the request": partial(_cut_after, MID_UPGRADE, None),
    "cut in the 101": partial(_cut_after, None, MID_UPGRADE),
    "cut in a frame upwards": partial(_cut_after, MID_FRAME_UP, None),
    "cut in a frame downwards": partial(_cut_after, None, MID_FRAME_DOWN),
    "half-open at the server": half_open_at_the_server,
    "half-open at the worker": half_open_at_the_worker,
    "a register that comes late": a_register_that_comes_late,
}


async def test_a_worker_is_found_after_every_fault_of_the_network(server: Server) -> None:
    """After a cut, a stall, a black hole, a torn frame or a half-open connection, the worker is found with what became
    true meanwhile, without having spun."""

    async def one(name: str, fault: Fault) -> None:
        async with living_behind(server) as (worker, proxy):
            worker.manager.set_reserved(name)
            await worker.manager.synced()
            began, before = trio.current_time(), len(proxy.dials)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fault, worker, proxy)
                await trio.sleep(0.1)
                takes_effect_at_once(worker, f"{name}, meanwhile")
            await is_found(server, worker)
            assert len(proxy.dials) - before <= most_dials(trio.current_time() - began)

    async with responsive_loop():
        await all_at_once({name: partial(one, name, fault) for name, fault in BRIEF.items()})


# --- faults that stay -------------------------------------------------------------------------------------------------


def slow(proxy: Proxy) -> None:
    proxy.up.delay = proxy.down.delay = 0.12


def narrow(proxy: Proxy) -> None:
    proxy.up.rate = proxy.down.rate = 20_000.0


async def test_a_worker_is_found_through_a_slow_or_narrow_network(server: Server) -> None:
    """Where every byte takes its time, a worker comes back from a cut all the same, and its changes are shown."""

    async def one(worsen: Callable[[Proxy], None]) -> None:
        patient = replace(SWIFT, register=20.0, answer=20.0, silence=20.0, send=20.0)
        async with living_behind(server, timing=patient) as (worker, proxy):
            worsen(proxy)
            proxy.cut("RST")
            await unregistered(worker)
            for job_id in ("one", "two"):
                takes_effect_at_once(worker, job_id)
                await is_found(server, worker)
            assert len(proxy.dials) == 2

    async with responsive_loop():
        await all_at_once({each.__name__: partial(one, each) for each in (slow, narrow)})


async def test_a_worker_leaves_whatever_the_network_does_meanwhile(server: Server) -> None:
    """Stalled, swallowed, refused in the middle of a dial or between two: cancelled, the worker is gone in time, idle
    until then, and its identity is deleted."""

    async def one(worsen: Callable[[Proxy], None], cut: bool) -> None:
        timing = replace(SWIFT, exit=2.0, close=0.2)
        async with living_behind(server, timing=timing) as (worker, proxy):
            peer_id = worker.manager.state.peer_id
            worsen(proxy)
            if cut:
                proxy.cut("RST")
            await trio.sleep(0.7)
            takes_effect_at_once(worker, "the last one")
            await worker.leaves()
            assert peer_id not in server.kept()[0]

    def stall(proxy: Proxy) -> None:
        proxy.up.stall()
        proxy.down.stall()

    def swallow(proxy: Proxy) -> None:
        proxy.up.swallows = proxy.down.swallows = True

    def refuse(proxy: Proxy) -> None:
        proxy.up.cut_after = 0

    cases = {
        f"{worsen.__name__}, {'cut' if cut else 'open'}": partial(one, worsen, cut)
        for worsen in (stall, swallow, refuse)
        for cut in (False, True)
    }
    async with responsive_loop():
        await all_at_once({**cases, "the process": idles})
