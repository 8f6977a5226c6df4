"""The manager in an asyncio program: real sockets, a server in a thread of its own."""

import asyncio
import gc
import inspect
import threading
import urllib.request
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import trio

from tests.support.served import PATIENCE, Served
from worker_state import (
    Config,
    ConfigError,
    Disconnected,
    Manager,
    ManagerEnded,
    SignInFailed,
    Timing,
    aio,
    blocking,
    open_state_manager,
    run_state_manager,
    serve_health,
)

NO_CONFIG = r"config must be a worker_state\.Config, not dict"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def played(work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives, in an asyncio program of its own."""

    async def bounded() -> Any:
        async with asyncio.timeout(2 * PATIENCE):
            return await work

    return asyncio.run(bounded())


def test_a_life(served: Served) -> None:
    """Registered on entering, true while inside, deleted on leaving; what waits is awaited, what sets is plain."""

    async def life() -> None:
        async with aio.open_state_manager(served.config) as manager:
            assert repr(manager).startswith("<worker_state.aio.Manager available")
            assert manager.session_string is not None
            assert manager.config == served.config
            with manager.busy("job-1"):
                await manager.synced()
                assert served.record(manager) == ("busy", "job-1")
            manager.set_reserved()
            manager.set_capabilities({"gpu_memory_mb": 12288})
            manager.set_tags(["sleap-rtc"])
            manager.set_admin(True)
            await manager.synced()
            assert served.record(manager) == ("reserved", None)
            assert manager.state.admin_peer_id == manager.state.peer_id
            manager.set_available()
            await manager.draining()
            assert (await manager.wait_for(lambda state: state.confirmed)).status == "maintenance"
            assert manager.counts is not None
            assert set(manager.backlog.values()) == {0}

    played(life())
    assert not served.server.rooms.users
    assert not served.server.rooms.rooms


def test_a_job_in_a_thread(served: Served) -> None:
    """A job whose task is cancelled leaves the worker busy until its thread has ended; what that gives arrives."""
    begun, end = threading.Event(), threading.Event()

    def train(steps: int) -> int:
        begun.set()
        assert end.wait(PATIENCE)
        return steps

    async def job(manager: aio.Manager) -> None:
        with manager.busy("job-1"):
            await aio.in_thread(train, 7)

    async def life() -> None:
        async with aio.open_state_manager(served.config) as manager:
            running = asyncio.create_task(job(manager))
            await until(begun.is_set)
            for _ in range(2):
                running.cancel()
                await asyncio.wait([running], timeout=0.05)
            assert (running.done(), manager.status) == (False, "busy")
            end.set()
            await asyncio.wait([running])
            assert running.cancelled()
            assert manager.status == "available"
            assert await aio.in_thread(train, 7) == 7
            with pytest.raises(ZeroDivisionError):
                await aio.in_thread(divmod, 1, 0)
            with pytest.raises(RuntimeError, match="StopIteration"):
                await asyncio.wait_for(aio.in_thread(next, iter(())), PATIENCE)

    played(life())


def test_signals_and_states(served: Served) -> None:
    """Signals come out of `async for` and of `receive()`, in order; states are followed; both end with the manager."""

    async def life() -> list[str]:
        seen: list[str] = []
        async with aio.open_state_manager(served.config) as manager:

            async def follow() -> None:
                seen.extend([str(state.status) async for state in manager.states])

            following = asyncio.create_task(follow())
            for number in range(3):
                served.offer(manager, str(number))
            assert (await manager.signals.receive())["sdp"] == "0"
            async for message in manager.signals:
                await manager.send_signal({"type": "answer", "target": message["sender"], "sdp": message["sdp"]})
                if message["sdp"] == "2":
                    break
            manager.set_maintenance()
            await manager.synced()
        await following
        assert [message async for message in manager.signals] == []
        with pytest.raises(ManagerEnded):
            await manager.signals.receive()
        return seen

    seen = played(life())
    assert (seen[0], seen[-1]) == ("available", "maintenance")
    assert [frame["sdp"] for frame in served.answers()] == ["1", "2"]


def test_a_cancel_loses_no_signal(served: Served) -> None:
    """Whoever is cancelled while waiting for a signal, at whatever moment, does not take it along."""

    async def life() -> list[str]:
        got: list[str] = []
        async with aio.open_state_manager(served.config) as manager:
            for number in range(30):
                reading = asyncio.create_task(manager.signals.receive())
                await asyncio.sleep(0.001 * (number % 4))
                served.offer(manager, str(number))
                await asyncio.sleep(0.0005 * (number % 7))
                if reading.cancel():
                    try:
                        got.append((await reading)["sdp"])
                    except asyncio.CancelledError:
                        got.append((await manager.signals.receive())["sdp"])
                else:
                    got.append(reading.result()["sdp"])
        return got

    assert played(life()) == [str(number) for number in range(30)]


def test_waits_have_limits(served: Served) -> None:
    """`asyncio.timeout` ends a wait and nothing else: the manager goes on."""

    async def life() -> None:
        async with aio.open_state_manager(served.config) as manager:
            with manager.busy("job-1"):
                for wait in manager.draining, partial(manager.wait_for, lambda state: state.evictions > 7):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.05):
                            await wait()
                await manager.synced()
                assert manager.state.draining
            assert manager.status == "maintenance"

    played(life())


def test_what_the_body_raises(served: Served) -> None:
    """An error of the block leaves as itself, and the identity is deleted."""

    async def life() -> None:
        async with aio.open_state_manager(served.config):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        played(life())
    assert not served.server.rooms.users


def test_a_failed_start(served: Served) -> None:
    """A start that fails raises its own error, and not twice."""

    async def life() -> None:
        async with aio.open_state_manager(served.config):
            raise AssertionError

    served.fail_sign_in()
    with pytest.raises(SignInFailed) as caught:
        played(life())
    assert caught.value.__context__ is None or not isinstance(caught.value.__context__, SignInFailed)


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.1, 0.3])
def test_a_cancelled_start(served: Served, after: float, caplog: pytest.LogCaptureFixture) -> None:
    """A start that is cancelled, at whatever moment, leaves no identity behind on the server, and no noise here."""

    async def life() -> None:
        async with aio.open_state_manager(served.config):
            await asyncio.sleep(PATIENCE)

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(life(), after))
    assert not served.server.rooms.users
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_a_cancel_during_the_exit(served: Served) -> None:
    """A second cancel shortens no exit: the identity is deleted, and the task is cancelled after that."""

    async def life() -> None:
        async with aio.open_state_manager(served.config):
            await asyncio.sleep(PATIENCE)

    async def cancelled_twice() -> None:
        task = asyncio.create_task(life())
        await until(lambda: served.server.rooms.users)
        await asyncio.sleep(0.2)
        for _ in range(20):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    played(cancelled_twice())
    assert not served.server.rooms.users


def test_what_has_ended(served: Served) -> None:
    """Calls on a manager whose block is over say so; the end of a job's block stays silent."""

    async def life() -> None:
        async with aio.open_state_manager(served.config) as manager:
            job = manager.busy("job-1")
            job.__enter__()
        job.__exit__(None, None, None)
        assert manager.state.ended
        with pytest.raises(ManagerEnded):
            manager.set_available()
        for wait in manager.synced, manager.draining, partial(manager.send_signal, {"type": "answer"}):
            with pytest.raises(ManagerEnded):
                await wait()

    played(life())


def test_a_killed_server(served: Served) -> None:
    """Without a server the status is set as ever, a signal says that it cannot be sent, and the end is bounded."""

    async def life() -> None:
        async with aio.open_state_manager(served.config) as manager:
            served.kill()
            await manager.wait_for(lambda state: not state.connected)
            with pytest.raises(Disconnected):
                await manager.send_signal({"type": "answer"})
            manager.set_busy("job-1")
            assert manager.status == "busy"

    played(life())


def test_health_and_systemd(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """An asyncio program has the health pages and systemd's notices, too."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    async def life() -> None:
        async with (
            aio.open_state_manager(served.config) as manager,
            aio.notify_systemd(manager),
            aio.serve_health(manager, 0) as url,
        ):
            with await asyncio.to_thread(urllib.request.urlopen, f"{url}/worker") as answer:
                assert answer.status == 200
            with pytest.raises(OSError, match="in use"):
                async with aio.serve_health(manager, int(url.rpartition(":")[2])):
                    raise AssertionError
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(urllib.request.urlopen, f"{url}/health")

    played(life())


def test_health_in_a_thread(served: Served) -> None:
    """So has a program of plain threads."""
    with (
        blocking.start_state_manager(served.config) as manager,
        blocking.notify_systemd(manager),
        blocking.serve_health(manager, 0) as url,
        urllib.request.urlopen(f"{url}/worker") as answer,
    ):
        assert answer.status == 200


def test_another_worlds_manager(served: Served) -> None:
    """Trio's functions refuse the managers of other worlds in words, and so do other worlds trio's entry points."""
    refused = pytest.raises(TypeError, match=r"use worker_state\.blocking\.serve_health")
    with blocking.start_state_manager(served.config) as manager, refused:
        trio.run(serve_health, manager, 0)  # type: ignore[arg-type]

    async def in_asyncio() -> None:
        with pytest.raises(RuntimeError, match=r"worker_state\.aio is for asyncio"):
            await run_state_manager(served.config)
        with pytest.raises(RuntimeError, match=r"worker_state\.aio is for asyncio"):
            open_state_manager(served.config)

    played(in_asyncio())


def test_no_config(served: Served) -> None:
    """Something else than a `Config` is refused in words, in every world."""

    async def in_trio() -> None:
        with pytest.raises(TypeError, match=NO_CONFIG):
            await run_state_manager({})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=NO_CONFIG):
            open_state_manager({})  # type: ignore[arg-type]

    async def in_asyncio() -> None:
        async with aio.open_state_manager({}):  # type: ignore[arg-type]
            raise AssertionError

    trio.run(in_trio)
    with pytest.raises(TypeError, match=NO_CONFIG):
        played(in_asyncio())
    with pytest.raises(TypeError, match=NO_CONFIG), blocking.start_state_manager({}):  # type: ignore[arg-type]
        raise AssertionError
    with pytest.raises(ConfigError):
        Config(served.config.websocket_url, served.config.http_url, timing=Timing(), tags=())


@pytest.mark.parametrize("world", [aio.Manager, blocking.BlockingManager])
def test_the_worlds_have_the_same_methods(world: type) -> None:
    """Every public name of trio's manager is there in the other worlds."""
    public = {name for name, _ in inspect.getmembers(Manager) if not name.startswith("_")}
    assert public <= {name for name, _ in inspect.getmembers(world)}


def test_ages(served: Served) -> None:
    """A program on another clock reads how long ago the times of the state are."""

    async def life() -> None:
        async with aio.open_state_manager(served.config) as manager:
            await manager.synced()
            ages = manager.ages
            assert ages["unregistered"] is None
            for name in "status", "registered", "confirmed", "proved", "peers":
                age = ages[name]
                assert age is not None
                assert 0 <= age < PATIENCE

    played(life())
