"""The manager from plain threads and from asyncio: real sockets, a server in a thread of its own."""

import asyncio
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from tests.support.processes import environment
from tests.support.served import PATIENCE, Served, until
from worker_state import (
    Config,
    Disconnected,
    Manager,
    SignInFailed,
    bridge,
    open_state_manager,
    run_state_manager,
)
from worker_state.blocking import BlockingManager, ManagerEnded, start_state_manager
from worker_state.devserver import serve


def answer(manager: BlockingManager, offer: dict[str, Any]) -> dict[str, Any]:
    return {"type": "answer", "target": offer["sender"], "sender": manager.state.peer_id, "sdp": offer["sdp"]}


def test_a_worker_in_a_plain_thread(served: Served) -> None:
    """Registered on entering, true while inside, deleted on leaving."""
    with start_state_manager(served.config) as manager:
        assert manager.session_string is not None
        assert "BlockingManager available" in repr(manager)
        assert served.record(manager) == ("available", None)
        with manager.busy("job-1"):
            assert (manager.status, manager.job_id) == ("busy", "job-1")
            manager.synced(PATIENCE)
            assert served.record(manager) == ("busy", "job-1")
        assert manager.status == "available"
        manager.set_reserved("job-2")
        assert manager.status == "reserved"
        manager.set_maintenance()
        manager.reregister()
        manager.synced()
        assert served.record(manager) == ("maintenance", None)
        assert sum(frame["type"] == "register" for _, frame in served.server.frames) == 2
        assert set(manager.backlog.values()) == {0}
        with pytest.raises(ValueError, match="job_id must have"):
            manager.set_busy("")
    assert not served.server.rooms.users
    assert not served.server.rooms.rooms


def test_g57_a_block_ends_in_what_was_true_before(served: Served) -> None:
    """A job's block leaves maintenance as it was, and fulfils the reservation of its job."""
    with start_state_manager(served.config) as manager:
        manager.set_maintenance()
        with manager.busy("job-1"):
            pass
        assert manager.status == "maintenance"
        manager.set_reserved("job-2")
        with manager.busy("job-2"):
            pass
        assert manager.state.status == "available"


def test_signals_are_read_and_answered_in_a_thread(served: Served) -> None:
    """An offer comes out of `for signal in manager.signals`, the answer goes out, and the end of the block ends it."""

    def work(manager: BlockingManager) -> str:
        for message in manager.signals:
            if message["type"] == "offer":
                manager.send_signal(answer(manager, dict(message)))
        return "over"

    with ThreadPoolExecutor() as pool:
        with start_state_manager(served.config) as manager:
            working = pool.submit(work, manager)
            served.offer(manager, "one")
            served.offer(manager, "two")
            until(lambda: len(served.answers()) == 2)
            assert not working.done()
        assert working.result(PATIENCE) == "over"
    assert [frame["sdp"] for frame in served.answers()] == ["one", "two"]


def test_the_end_of_the_block_ends_whatever_waits(served: Served) -> None:
    """Iterations end, waits raise, a job's block may outlast the manager, and later calls raise a clear error."""
    inside = threading.Barrier(5)
    over = threading.Event()

    def job() -> str:
        with manager.busy("job-1"):
            inside.wait(PATIENCE)
            over.wait(PATIENCE)
        return "quiet"

    def drain() -> None:
        inside.wait(PATIENCE)
        manager.draining()

    def read(stream: Any) -> int:
        inside.wait(PATIENCE)
        return sum(1 for _ in stream)

    with ThreadPoolExecutor() as pool:
        with start_state_manager(served.config) as manager:
            busy = pool.submit(job)
            until(lambda: manager.status == "busy")
            draining, signals, states = (
                pool.submit(drain),
                *(pool.submit(read, stream) for stream in (manager.signals, manager.states)),
            )
            inside.wait(PATIENCE)
            until(lambda: manager.state.draining)
        over.set()
        assert busy.result(PATIENCE) == "quiet"
        with pytest.raises(ManagerEnded, match="the manager has ended"):
            draining.result(PATIENCE)
        assert signals.result(PATIENCE) == 0
        assert states.result(PATIENCE) >= 1

    for call in (manager.set_available, manager.reregister, manager.synced, lambda: manager.send_signal({"type": "x"})):
        with pytest.raises(ManagerEnded, match="the manager has ended"):
            call()
    assert list(manager.signals) == []
    assert manager.status == "busy"


def test_many_threads_set_the_status(served: Served) -> None:
    """Every change is counted, none is lost, and the last one is what the server has in the end."""
    threads, times = 8, 25
    with start_state_manager(served.config) as manager:

        def change(thread: int) -> None:
            for turn in range(times):
                manager.set_busy(f"job-{thread}-{turn}")

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(change, range(threads)))
        assert manager.state.revision == threads * times
        manager.synced(PATIENCE)
        assert served.record(manager) == ("busy", manager.job_id)


def test_two_managers_in_two_threads(served: Served) -> None:
    """Each thread has a manager of its own."""
    both = threading.Barrier(2)

    def work(job_id: str) -> str | None:
        with start_state_manager(served.config) as manager, manager.busy(job_id):
            manager.synced(PATIENCE)
            both.wait(PATIENCE)
            assert served.record(manager) == ("busy", job_id)
            return manager.state.peer_id

    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(work, ["job-1", "job-2"]))) == 2
    assert not served.server.rooms.users


def test_a_failed_start_arrives_as_itself(served: Served) -> None:
    """`StartupFailed` is in no group, and nothing is left running."""
    served.fail_sign_in()
    with pytest.raises(SignInFailed), start_state_manager(served.config):
        raise AssertionError("not reached")


@pytest.mark.parametrize("error", [LookupError("the body's"), SystemExit(3)])
def test_what_the_block_raises_arrives_as_itself(served: Served, error: BaseException) -> None:
    """The body's exception is in no group and hides nothing; what was created is deleted all the same."""
    with pytest.raises(type(error)) as caught, start_state_manager(served.config):
        raise error
    assert caught.value is error
    assert not served.server.rooms.users


def test_a_manager_that_breaks_down_ends_the_block_with_its_error(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug does not stay unseen: calls say that the manager has ended, and its error leaves through the block."""

    async def breaking(config: Config, *, task_status: "trio.TaskStatus[Manager]") -> None:
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(run_state_manager, config)
            task_status.started(manager)
            await manager.states.wait_for(lambda state: state.status == "maintenance")
            raise LookupError("a bug")

    def work() -> None:
        with start_state_manager(served.config) as manager:
            manager.set_maintenance()
            assert not list(manager.signals)
            until(manager._life.manager.done.done)
            with pytest.raises(ManagerEnded):
                manager.set_available()

    monkeypatch.setattr(bridge, "run_state_manager", breaking)
    with pytest.raises(ExceptionGroup, match="Exceptions from Trio nursery") as caught:
        work()
    assert caught.group_contains(LookupError)
    assert not served.server.rooms.users


def test_ctrl_c_in_the_main_thread(served: Served) -> None:
    """Ctrl-C interrupts the waiting for a signal, and everything is deleted."""
    main = threading.main_thread().ident
    assert main is not None
    interrupted = threading.Event()

    def press_until_it_is_felt() -> None:
        # A signal that comes between Python's last look and the wait for a lock ends no wait: then it is pressed again.
        pause = 0.05
        while not interrupted.wait(pause):
            signal.pthread_kill(main, signal.SIGINT)
            pause = 2.0

    def work() -> None:
        with start_state_manager(served.config) as manager:
            threading.Thread(target=press_until_it_is_felt, daemon=True).start()
            try:
                assert not list(manager.signals)
            except KeyboardInterrupt:
                interrupted.set()
                served.offer(manager)
                assert next(iter(manager.signals))["type"] == "offer"  # whoever was interrupted does not take it
                raise

    with pytest.raises(KeyboardInterrupt):
        work()
    interrupted.set()
    assert not served.server.rooms.users


def test_ctrl_c_before_the_waiting(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is interrupted when the call has just been handed over does not take the next signal either."""

    def interrupted(future: object) -> None:
        raise KeyboardInterrupt

    with start_state_manager(served.config) as manager:
        with monkeypatch.context() as patch:
            patch.setattr(bridge, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(iter(manager.signals))
        served.offer(manager)
        first = queue.SimpleQueue[object]()
        threading.Thread(target=lambda: first.put(next(iter(manager.signals))["type"]), daemon=True).start()
        assert first.get(timeout=PATIENCE) == "offer"


def test_a_killed_server(served: Served) -> None:
    """Without a server the status is set as ever, waits keep their limits, and the end is bounded."""
    with start_state_manager(served.config) as manager:
        served.kill()
        until(lambda: not manager.state.connected)
        with manager.busy("job-1"):
            with pytest.raises(TimeoutError, match="not within"):
                manager.synced(0.01)
            with pytest.raises(Disconnected):
                manager.send_signal({"type": "answer"})
        manager.set_maintenance()
        assert manager.status == "maintenance"
        ending = time.monotonic()
    assert time.monotonic() - ending < PATIENCE / 2  # the bound is 1.2 s; a busy machine is forgiven


def test_an_interrupted_start_leaves_nothing(served: Served) -> None:
    """Ctrl-C while the server does not answer the registration: the identity is deleted."""
    main = threading.main_thread().ident
    assert main is not None
    served.mute()

    def interrupt() -> None:
        until(lambda: served.server.frames)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), start_state_manager(served.config):
        raise AssertionError("not reached")
    thread.join()
    assert not served.server.rooms.users


def test_a_condition_may_not_call_the_manager(served: Served) -> None:
    """It is called in trio's thread: such a call says so, and not that the manager has ended."""
    with start_state_manager(served.config) as manager:
        with pytest.raises(RuntimeError, match="condition of `wait_for` is called in trio's thread"):
            manager.wait_for(lambda state: manager.set_busy("job") is None, timeout=PATIENCE)
        manager.set_busy("job")
        manager.synced(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("timeout", "error"), [("5", TypeError), (True, TypeError), (-5, ValueError), (float("nan"), ValueError)]
)
def test_a_limit_that_is_none(served: Served, timeout: Any, error: type[Exception]) -> None:
    """The error names the argument."""
    with start_state_manager(served.config) as manager, pytest.raises(error, match="timeout must be"):
        manager.synced(timeout=timeout)


def test_draining(served: Served) -> None:
    """The limit ends the waiting and not the draining."""
    with start_state_manager(served.config) as manager:
        with manager.busy("job-1"), pytest.raises(TimeoutError):
            manager.draining(0.01)
        assert manager.status == "maintenance"
        manager.draining()


def test_an_asyncio_program_answers_an_offer(served: Served) -> None:
    """`async for` gives the offers to asyncio without a thread that waits; plain calls are made directly."""

    async def work(manager: BlockingManager) -> str:
        async for offer in manager.signals:
            if offer["type"] != "offer":
                continue  # our own answer, for we are the client too
            with manager.busy("job-1"):
                await asyncio.to_thread(manager.synced, PATIENCE)
                assert served.record(manager) == ("busy", "job-1")
                await asyncio.to_thread(manager.send_signal, answer(manager, dict(offer)))
            if offer["sdp"] == "two":
                break
        async for state in manager.states:
            return state.status
        raise AssertionError("not reached")

    with start_state_manager(served.config) as manager:
        served.offer(manager, "one")
        served.offer(manager, "two")
        assert asyncio.run(asyncio.wait_for(work(manager), PATIENCE)) == "available"
        until(lambda: len(served.answers()) == 2)


def test_a_cancelled_asyncio_wait_takes_no_signal(served: Served) -> None:
    """Who was cancelled while waiting for a signal does not get, and lose, the next one."""

    async def work(manager: BlockingManager) -> list[Any]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(manager.signals)), 0.05)
        served.offer(manager, "one")
        first = await asyncio.wait_for(anext(aiter(manager.signals)), PATIENCE)
        return [first["sdp"]]

    with start_state_manager(served.config) as manager:
        assert asyncio.run(work(manager)) == ["one"]


def test_a_signal_that_reached_nobody(served: Served) -> None:
    """What came for somebody who is cancelled before he has it goes to the next one, also if that one waits already."""

    async def work(manager: BlockingManager, pool: ThreadPoolExecutor) -> list[Any]:
        def waiting() -> int:
            return manager._life.now(manager._manager.signals.statistics).tasks_waiting_receive

        def take() -> Any:
            return next(iter(manager.signals))["sdp"]

        first: asyncio.Future[Any] = asyncio.ensure_future(anext(aiter(manager.signals)))
        await asyncio.sleep(0)
        until(lambda: waiting() == 1)
        others = [pool.submit(take), pool.submit(take)]
        until(lambda: waiting() == 3)
        served.offer(manager, "one")
        served.offer(manager, "two")
        until(lambda: any(other.done() for other in others))  # this loop has run nothing, so "one" is still on its way
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return [other.result(PATIENCE) for other in others]

    with ThreadPoolExecutor() as pool, start_state_manager(served.config) as manager:
        assert sorted(asyncio.run(work(manager, pool))) == ["one", "two"]


def test_the_end_of_the_block_ends_asyncio_iterations(served: Served) -> None:
    """An asyncio program in another thread sees its iterations end."""

    async def work() -> int:
        entered.set()
        return len([signal async for signal in manager.signals])

    entered = threading.Event()
    with ThreadPoolExecutor() as pool:
        with start_state_manager(served.config) as manager:
            working = pool.submit(asyncio.run, work())
            entered.wait(PATIENCE)
        assert working.result(PATIENCE) == 0


LEFT_TO_ITSELF = """if True:
    import sys, threading, time
    from worker_state import Config
    from worker_state.blocking import start_state_manager
    def work():
        with start_state_manager(Config(*sys.argv[1:])):
            registered.set()
            time.sleep(60)
    registered = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    assert registered.wait(20)
"""


def test_the_end_of_the_interpreter(served: Served) -> None:
    """A block in a daemon thread is never left; the identity is deleted all the same when the program ends."""
    config = served.config
    command = [sys.executable, "-c", LEFT_TO_ITSELF, config.websocket_url, config.http_url]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=PATIENCE, env=environment())
    assert (done.returncode, done.stderr) == (0, b"")
    assert any(frame["type"] == "register" for _, frame in served.server.frames)
    assert not served.server.rooms.users


ENTERED_BY_HAND = """if True:
    import sys
    from contextlib import ExitStack
    from worker_state import Config
    from worker_state.blocking import start_state_manager
    stack = ExitStack()
    manager = stack.enter_context(start_state_manager(Config(*sys.argv[1:])))
    by_hand = start_state_manager(Config(*sys.argv[1:]))
    manager = by_hand.__enter__()
"""


def test_g53_entered_by_hand(served: Served) -> None:
    """In a notebook, a REPL or an `ExitStack` nobody leaves the block; the interpreter ends, and all is deleted."""
    config = served.config
    command = [sys.executable, "-c", ENTERED_BY_HAND, config.websocket_url, config.http_url]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=PATIENCE, env=environment())
    assert (done.returncode, done.stderr) == (0, b"")
    assert sum(frame["type"] == "register" for _, frame in served.server.frames) == 2
    assert not served.server.rooms.users


async def test_a_job_in_a_thread_of_trio(nursery: trio.Nursery) -> None:
    """The recipe for trio's own threads: status and signals through `trio.from_thread`, and cancellation reaches it."""
    server = await nursery.start(serve)
    steps: list[int] = []

    def train(manager: Manager, job_id: str) -> None:
        trio.from_thread.run_sync(manager.set_busy, job_id)
        try:
            for step in range(1000):
                steps.append(step)
                message = {"type": "answer", "target": "client", "step": step}
                trio.from_thread.run(manager.send_signal, message)
        finally:
            trio.from_thread.run_sync(manager.set_available)

    async with open_state_manager(Config(server.ws_url, server.http_url)) as manager:
        with trio.CancelScope() as job:
            async with trio.open_nursery() as jobs:
                jobs.start_soon(trio.to_thread.run_sync, train, manager, "job-1")
                await server.until(lambda: len([1 for _, frame in server.frames if frame["type"] == "answer"]) >= 3)
                assert (manager.status, manager.job_id) == ("busy", "job-1")
                job.cancel()
        assert manager.status == "available"
        assert 3 <= len(steps) < 1000
    nursery.cancel_scope.cancel()
