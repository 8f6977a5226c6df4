"""Jobs: begun by an offer, run by a handler, cancelled by the client; the worker's status is true throughout."""

import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.support.worlds import Client, World, scenario
from worker_state import Job, JobCancelled, Manager, ThreadJob, serve_jobs


@asynccontextmanager
async def working(world: World, handler: Callable[[Any], Any]) -> AsyncIterator[tuple[Manager, Client]]:
    """A worker whose jobs this handler runs, and a client in its room."""
    manager = await world.start()
    async with world.client(manager) as client, trio.open_nursery() as nursery:
        nursery.start_soon(serve_jobs, manager, handler)
        yield manager, client
        nursery.cancel_scope.cancel()


async def offer(manager: Manager, client: Client, **more: Any) -> None:
    await client.send(
        {"type": "offer", "sender": client.peer_id, "target": manager.state.peer_id, "sdp": "v=0", **more}
    )


async def said(client: Client, kind: str) -> Any:
    """The next payload of this kind."""
    while True:
        payload = (await client.receive("peer_message"))["payload"]
        if payload["type"] == kind:
            return payload


@scenario
async def test_a_job(world: World) -> None:
    """The worker is busy with the job while the handler runs, and available after; the client is told."""
    seen: list[Any] = []

    async def handle(job: Job) -> None:
        changes = manager.state.revision  # reserved, then busy
        seen.append((job.offer["epochs"], manager.status, manager.job_id == job.id, job.id in repr(job), changes))
        await job.answer("its sdp")
        await job.send({"type": "progress", "step": 1})

    async with working(world, handle) as (manager, client):
        await offer(manager, client, epochs=3)
        job_id = (await said(client, "accepted"))["job_id"]
        assert (await client.receive("answer"))["sdp"] == "its sdp"
        assert (await said(client, "progress"))["step"] == 1
        assert (await said(client, "done"))["job_id"] == job_id
        await manager.wait_for(lambda state: state.status == "available")
    assert seen == [(3, "busy", True, True, 2)]


@scenario
async def test_one_at_a_time(world: World) -> None:
    """A second offer is refused with the status, and the first job goes on."""
    go_on = trio.Event()

    async def handle(_: Job) -> None:
        await go_on.wait()

    async with working(world, handle) as (manager, client):
        await offer(manager, client)
        await said(client, "accepted")
        await offer(manager, client)
        assert (await said(client, "refused"))["status"] == "busy"
        go_on.set()
        await said(client, "done")


@scenario
async def test_a_worker_in_maintenance_takes_no_job(world: World) -> None:
    """A job is taken while the worker is available, and only then."""

    async def handle(_: Job) -> None:
        raise AssertionError

    async with working(world, handle) as (manager, client):
        manager.set_maintenance()
        await offer(manager, client)
        assert (await said(client, "refused"))["status"] == "maintenance"


@scenario
async def test_the_client_cancels(world: World) -> None:
    """A client's cancel ends its job at once; another client's does not."""
    await _cancelled(world, "cancel")


async def _cancelled(world: World, kind: str) -> None:
    async def handle(_: Job) -> None:
        await trio.sleep_forever()

    async with working(world, handle) as (manager, client), world.client(manager) as other:
        me = manager.state.peer_id or ""
        await offer(manager, client)
        await said(client, "accepted")
        await other.message(me, {"type": "cancel"})
        await trio.sleep(0.2)
        assert manager.status == "busy"
        if kind == "cancel":
            await client.message(me, {"type": "cancel"})
        else:
            await client.send({"type": "quit", "sender": client.peer_id, "target": me})
        await said(client, "cancelled")
        await manager.wait_for(lambda state: state.status == "available")


@scenario
async def test_the_client_quits(world: World) -> None:
    """So does its `quit`."""
    await _cancelled(world, "quit")


@scenario
async def test_a_handler_that_fails(world: World) -> None:
    """An error of the handler is logged as the job's end, and the next job runs."""

    async def handle(job: Job) -> None:
        if job.offer.get("bad"):
            raise ZeroDivisionError
        if job.offer.get("ends"):
            sys.exit(3)

    async with working(world, handle) as (manager, client):
        await offer(manager, client, bad=True)
        await said(client, "failed")
        assert world.logged(logging.ERROR, "job", "failed")
        await manager.wait_for(lambda state: state.status == "available")
        await offer(manager, client, ends=True)
        await said(client, "failed")
        await manager.wait_for(lambda state: state.status == "available")
        await offer(manager, client)
        await said(client, "done")


@scenario(only="real")  # a thread knows no mock clock
async def test_a_plain_function(world: World) -> None:
    """A plain function runs in a thread of its own, sends from there, and ends at its next call once cancelled."""
    ended: list[str] = []
    threads: list[bool] = []

    def handle(job: ThreadJob) -> None:
        threads.append(threading.current_thread() is threading.main_thread())
        assert not job.cancelled
        try:
            for step in range(1_000_000):
                job.send({"type": "progress", "step": step})
        except JobCancelled:
            ended.append("cancelled")
            assert job.cancelled
            raise

    async with working(world, handle) as (manager, client):
        await offer(manager, client)
        await said(client, "progress")
        await client.message(manager.state.peer_id or "", {"type": "cancel"})
        await said(client, "cancelled")
    assert (ended, threads) == (["cancelled"], [False])


@scenario(only="real")  # for the same reason
async def test_a_busy_gpu_is_not_free(world: World) -> None:
    """A cancelled function that does not look computes on, and the worker stays busy until it returns."""
    returned = threading.Event()

    def handle(_: ThreadJob) -> None:
        returned.wait(20)

    async with working(world, handle) as (manager, client):
        await offer(manager, client)
        await said(client, "accepted")
        await client.message(manager.state.peer_id or "", {"type": "cancel"})
        await trio.sleep(0.3)
        assert manager.status == "busy"
        returned.set()
        await manager.wait_for(lambda state: state.status == "available")


@scenario(only="real")  # for the same reason
async def test_the_end_abandons_a_thread(world: World) -> None:
    """The worker's own end does not wait for a function that does not return."""
    returned = threading.Event()

    def handle(_: ThreadJob) -> None:
        returned.wait(20)

    async with working(world, handle) as (manager, client):
        await offer(manager, client)
        await said(client, "accepted")
        ending = trio.current_time()
    assert trio.current_time() - ending < 5
    returned.set()


@scenario
async def test_a_job_during_an_outage(world: World) -> None:
    """What a job sends while the worker is not registered goes nowhere, and the job goes on."""
    steps: list[int] = []

    async def handle(job: Job) -> None:
        for step in range(5):
            await job.send({"type": "progress", "step": step})
            await trio.sleep(0.1)
            steps.append(step)

    manager = await world.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_jobs, manager, handle)
        async with world.client(manager) as client:
            await offer(manager, client)
            await said(client, "progress")
        world.cut()
        await manager.wait_for(lambda state: state.status == "available")
        nursery.cancel_scope.cancel()
    assert steps == [0, 1, 2, 3, 4]


@scenario
async def test_the_end_of_the_manager(world: World) -> None:
    """Jobs are served until the manager ends."""

    async def handle(_: Job) -> None:
        raise AssertionError

    manager = await world.start()
    served = trio.Event()

    async def serve() -> None:
        await serve_jobs(manager, handle)
        served.set()

    world.nursery.start_soon(serve)
    await world.stop(manager)
    with trio.fail_after(world.patience):
        await served.wait()
