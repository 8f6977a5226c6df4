"""Jobs: begun by an offer, run by a handler, cancelled by the client; the worker's status is true throughout."""

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.worlds import Client, FakeWorld, RealWorld, World, scenario
from worker_state import (
    Job,
    JobCancelled,
    Manager,
    SessionString,
    ThreadJob,
    jobs,
    logs,
    open_state_manager,
    serve_jobs,
)
from worker_state.jobs import REFUSALS
from worker_state.testing import in_memory


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


async def _each_fails_alone(world: World, handle: Callable[[Any], Any], errors: list[BaseException]) -> None:
    """The handler raises one of these at each bad offer; the worker goes on, and does the next job."""
    async with working(world, handle) as (manager, client):
        while errors:
            await offer(manager, client, bad=True)
            await said(client, "failed")
            await manager.wait_for(lambda state: state.status == "available")
        await offer(manager, client)
        await said(client, "done")


@scenario(only="fake")
async def test_a_thread_that_raises_more_than_an_error(world: World) -> None:
    """Python strikes no thread with a Ctrl-C: whatever its function raises is the end of that job alone."""
    errors: list[BaseException] = [KeyboardInterrupt(), GeneratorExit(), BaseExceptionGroup("", [KeyboardInterrupt()])]

    def handle(job: ThreadJob) -> None:
        if job.offer.get("bad"):
            raise errors.pop()

    await _each_fails_alone(world, handle, errors)


@scenario(only="fake")
async def test_an_error_that_repeats_a_secret(world: World) -> None:
    """A client puts the room's token into its offer, and the handler the offer into its error: the log has the
    handler's lines, and no token."""

    def in_a_thread(job: ThreadJob) -> None:
        raise ValueError(f"bad offer: {job.offer}")

    async def in_a_task(job: Job) -> None:
        raise ValueError(f"bad offer: {job.offer}")

    for handler in (in_a_thread, in_a_task):
        async with working(world, handler) as (manager, client):
            token = SessionString.parse(manager.session_string or "").token
            await offer(manager, client, note=token)
            await said(client, "failed")
            line = world.logged(logging.ERROR, "job", "failed")[-1]
        _, first, where, *_ = line.splitlines()
        assert (first, handler.__name__ in where) == ("Traceback (most recent call last):", True)
        assert "ValueError: bad offer: {" in line
        assert token not in line


@scenario(only="fake")
async def test_a_handler_that_raises_more_than_an_error(world: World) -> None:
    """What its own nursery makes of `sys.exit`, or asyncio of a cancel, is the end of that job alone, too."""

    errors: list[BaseException] = [BaseExceptionGroup("", [SystemExit(3), ValueError()]), asyncio.CancelledError()]

    async def handle(job: Job) -> None:
        if job.offer.get("bad"):
            raise errors.pop()

    await _each_fails_alone(world, handle, errors)


@scenario(only="fake")
async def test_ctrl_c_in_a_handler_ends_the_worker(world: World) -> None:
    """A Ctrl-C that strikes in a handler's own nursery is no failure of the job."""

    async def handle(_: Job) -> None:
        raise BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()])

    caught = list[BaseException]()
    try:
        async with working(world, handle) as (manager, client):
            await offer(manager, client)
            await trio.sleep(60)
    except BaseExceptionGroup as group:
        caught.append(group)
    assert len(caught) == 1


@scenario(only="fake")
async def test_a_client_with_an_endless_name_gets_no_answer(world: World) -> None:
    """Its name would stand in each answer, at which the server would close the worker's connection."""

    async def handle(_: Job) -> None:
        pass

    async with working(world, handle) as (manager, client):
        await world.deliver(
            manager, json.dumps({"type": "offer", "sender": "é" * 180_000, "sdp": "v=0"}, ensure_ascii=False)
        )
        await offer(manager, client)
        await said(client, "done")
        assert max(len(json.dumps(frame)) for frame in world.sent("peer_message")) < 1000


@scenario(only="fake")
async def test_a_message_that_is_too_long(world: World) -> None:
    """A message at which a server closes the connection is refused, and costs the job that sent it."""

    async def handle(job: Job) -> None:
        await job.send({"type": "result", "data": "x" * 2**20})

    async with working(world, handle) as (manager, client):
        await offer(manager, client)
        await said(client, "failed")
        with pytest.raises(ValueError, match="must not be longer than 1048576 bytes"):
            await manager.send_signal({"type": "answer", "sdp": "é" * 180_000})
        assert manager.state.epoch == 1


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


@scenario
async def test_a_handler_that_ignores_its_cancel(world: World) -> None:
    """A job that was cancelled ends as cancelled, also if its handler went on to its end."""

    async def handle(job: Job) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append(job.id)

    def handle_in_a_thread(job: ThreadJob) -> None:
        while not job.cancelled:
            time.sleep(0.001)
        seen.append(job.id)

    for handler in (handle, handle_in_a_thread):
        if handler is handle_in_a_thread and not isinstance(world, RealWorld):
            continue  # a clock that jumps does not wait for threads
        seen = list[str]()
        async with working(world, handler) as (manager, client):
            await offer(manager, client)
            job_id = (await said(client, "accepted"))["job_id"]
            ids = {"from_peer_id": client.peer_id, "to_peer_id": manager.state.peer_id}
            await client.send({"type": "peer_message", **ids, "payload": {"type": "cancel"}})
            assert (await said(client, "cancelled"))["job_id"] == job_id
        assert seen == [job_id]


@scenario(only="fake")
async def test_what_is_no_payload(world: World) -> None:
    """A payload that is no mapping is refused in words that show one, and so is an empty one, which no server takes."""
    refused = list[str]()

    async def handle(job: Job) -> None:
        with pytest.raises(TypeError) as error:
            await job.send("text")  # type: ignore[arg-type]
        refused.append(str(error.value))
        with pytest.raises(ValueError, match="not empty"):
            await job.send({})

    async with working(world, handle) as (manager, client):
        await offer(manager, client)
        await said(client, "done")
    assert refused == ['job.send takes a mapping, as in {"type": "progress", "step": 1}, not str']


@pytest.mark.parametrize("handler", [None, 5])
async def test_what_is_no_handler(handler: Any) -> None:
    """It is refused at once, not at the first job."""
    manager: Any = None
    with pytest.raises(TypeError, match="handler must be a function"):
        await serve_jobs(manager, handler)


@pytest.mark.parametrize("whose", ["handler", "child", "stranger"])
def test_a_held_loop(whose: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that holds the loop is named once, with what to do; another task of the program is not its fault."""
    seconds = 0.0  # of a clock that nothing but `hold` moves
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: seconds))

    async def hold() -> None:
        nonlocal seconds
        await trio.lowlevel.checkpoint()
        seconds += 1.1

    async def handle(job: Job) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                await trio.sleep(1)
                if whose == "handler":
                    await hold()
                elif whose == "child":
                    nursery.start_soon(hold)

    async def life() -> None:
        async with in_memory() as kit, open_state_manager(kit.config()) as manager, trio.open_nursery() as nursery:
            nursery.start_soon(serve_jobs, manager, handle)
            async with kit.client() as client:
                await client.offer(manager.state.peer_id or "")
                await client.told("accepted")
                if whose == "stranger":
                    await hold()
                await client.told("done")
            nursery.cancel_scope.cancel()

    trio.run(life, clock=MockClock(autojump_threshold=0))
    lines = [record.getMessage() for record in caplog.records if logs.About.of(record).event == "loop_held"]
    assert len(lines) == (0 if whose == "stranger" else 1)
    assert all("handle has held the event loop for 1.1 s" in line and "plain function" in line for line in lines)


@scenario(only="fake")  # a full socket takes megabytes and half a minute
async def test_g10_refusals_that_cannot_be_sent_are_bounded(world: World) -> None:
    """Offers to a busy worker whose server reads nothing pile up no answers: beyond a few they get none."""
    assert isinstance(world, FakeWorld)

    async def handle(_: Job) -> None:
        await trio.sleep_forever()

    async with working(world, handle) as (manager, client):
        await offer(manager, client)
        await said(client, "accepted")
        world.server.stuck = True
        for _ in range(100):
            await world.deliver(manager, json.dumps({"type": "offer", "sender": client.peer_id, "sdp": "v=0"}))
        await wait_all_tasks_blocked()
        world.server.stuck = False
        await trio.sleep(10)
        payloads = [frame["payload"] for frame in world.sent("peer_message")]
        assert sum(payload.get("type") == "refused" for payload in payloads) == REFUSALS
