"""Two worlds for the same scenarios: in-memory fakes on a mock clock, and real sockets against the development server.

A scenario is an async function of a `World`, decorated with `scenario`; it becomes a test that runs in both. Nothing in
a scenario may know which one it is in.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from random import Random
from typing import Any, Literal, overload

import pytest
import trio
from trio.testing import MockClock

from tests.support.fake import FakeServer
from worker_state import Config, Manager, Timing, run_state_manager
from worker_state.devserver import DevServer, Rooms
from worker_state.devserver.sockets import Connection
from worker_state.testing import Client, Kit, MemoryKit, SocketKit, in_memory, on_sockets
from worker_state.testing.kit import given_room

__all__ = ["CAPABILITIES", "Client", "FakeWorld", "Frame", "RealWorld", "World", "given_room", "scenario"]

Frame = dict[str, Any]
CAPABILITIES = {"gpu_memory_mb": 24576, "gpu_model": "NVIDIA RTX A5000", "supported_models": ["base", "centroid"]}


WEEK = 7 * 86400.0
"""Seconds of the mock clock: what a scenario over fakes may take altogether."""


class World(ABC):
    """A server, a network and the workers of one test: the public kit, and what these tests need beside it."""

    kit: Kit
    server: FakeServer | DevServer
    patience: float
    """Seconds, of this world's clock, after which waiting has failed."""

    def __init__(self, nursery: trio.Nursery, log: pytest.LogCaptureFixture) -> None:
        self.nursery = nursery
        self.log = log
        self._workers: dict[Manager, tuple[trio.CancelScope, trio.Event]] = {}

    # workers and clients

    @property
    def rooms(self) -> Rooms:
        return self.kit.rooms

    def config(self, **changes: Any) -> Config:
        return self.kit.config(**{"capabilities": CAPABILITIES, **changes})

    async def run(self, config: Config, task_status: "trio.TaskStatus[Manager]") -> None:
        """As a worker's program does it, in both worlds."""
        await run_state_manager(config, task_status=task_status)

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """Somebody with a connection and nothing else."""
        return self.kit.connect()

    def client_in(self, room_id: str) -> AbstractAsyncContextManager[Client]:
        """A client that has registered in this room."""
        return self.kit.client(room_id)

    def client(self, manager: Manager) -> AbstractAsyncContextManager[Client]:
        """A client in the worker's room."""
        return self.client_in(manager.state.room_id or "")

    def now(self) -> float:
        """The server's wall clock."""
        return self.kit.now()

    async def start(self, **changes: Any) -> Manager:
        """A registered worker. Raises what `nursery.start` raises."""
        manager: Manager = await self.nursery.start(self._worker, self.config(**changes))
        return manager

    async def _worker(self, config: Config, task_status: "trio.TaskStatus[Manager]") -> None:
        scope, done = trio.CancelScope(), trio.Event()
        self_world = self

        class Started:
            def started(self, manager: Manager) -> None:
                self_world._workers[manager] = (scope, done)
                task_status.started(manager)

        with scope:
            await self.run(config, Started())  # type: ignore[arg-type]
        done.set()

    async def stop(self, manager: Manager) -> None:
        """Cancel the worker and wait until nothing of it runs any more."""
        scope, done = self._workers[manager]
        scope.cancel()
        await done.wait()

    # what the server saw

    def frames(self, *types: str) -> list[Frame]:
        return self.kit.frames(*types)

    def sent(self, type_: str) -> list[Frame]:
        """What the workers have sent of this type."""
        return [frame for frame in self.frames(type_) if frame.get("role") != "client"]

    def record(self, manager: Manager) -> Frame:
        """What the server has stored for this worker; empty when it has forgotten it."""
        return self.kit.entry(manager.state.peer_id)

    def shown(self, manager: Manager) -> tuple[Any, Any, Any]:
        """Status, current and pending job id on the server."""
        properties = self.record(manager).get("properties", {})
        return tuple(properties.get(name, "-") for name in ("status", "current_job_id", "pending_job_id"))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for the condition, which is looked at whenever something may have changed it."""
        with trio.fail_after(self.patience):
            while not condition():
                await self.pause(condition)

    @abstractmethod
    async def pause(self, condition: Callable[[], object]) -> None:
        """Until the condition may have come true."""

    def logged(self, level: int, *words: str) -> list[str]:
        """The log lines of this level that contain all these words."""
        lines = [record.getMessage() for record in self.log.records if record.levelno == level]
        return [line for line in lines if all(word in line for word in words)]

    # what goes wrong

    def cut(self) -> None:
        """Every connection is reset."""
        self.kit.cut()

    def refuse(self) -> None:
        """No connection can be opened."""
        self.kit.refuse()

    def go_down(self) -> None:
        """Every connection is reset, and none can be opened; unlike `Kit.go_away`, HTTP is still there."""
        self.refuse()
        self.cut()

    def come_back(self) -> None:
        self.kit.come_back()

    @abstractmethod
    def mute(self) -> None:
        """Frames are taken and not answered."""

    def unmute(self) -> None:
        self.kit.unmute()

    def fail_http(self, path: str, status: int, body: bytes, content_type: str = "text/plain") -> None:
        self.kit.fail_http(path, status, body, content_type)

    def hang_http(self, path: str) -> None:
        self.kit.hang_http(path)

    async def deliver(self, manager: Manager, text: str | bytes) -> None:
        """The server sends this frame to the worker; bytes make a binary one."""
        await self.kit.deliver(manager.state.peer_id, text)


class FakeWorld(World):
    """Fakes on a mock clock."""

    patience = 2000.0

    def __init__(self, nursery: trio.Nursery, log: pytest.LogCaptureFixture, kit: MemoryKit) -> None:
        super().__init__(nursery, log)
        self.kit: MemoryKit = kit
        self.server: FakeServer = kit.server
        self.random = kit.random = Random(7)

    async def pause(self, condition: Callable[[], object]) -> None:
        """Until everybody has done what he can do now, or else until the next deadline of anybody."""
        await trio.testing.wait_all_tasks_blocked()
        if not condition():
            await trio.sleep(trio.lowlevel.current_statistics().seconds_to_next_deadline)

    def suspend(self, seconds: float) -> None:
        """The machine was suspended for so long: the server has lived on, trio's clock has not."""
        self.kit.suspend(seconds)

    def mute(self) -> None:
        self.server.silent = True  # no pongs either, as of a machine that is gone


class RealWorld(World):
    """Real sockets on loopback, the development server, the real clock."""

    def __init__(self, nursery: trio.Nursery, log: pytest.LogCaptureFixture, kit: SocketKit, faster: float) -> None:
        super().__init__(nursery, log)
        self.kit: SocketKit = kit
        self.server: DevServer = kit.server
        self.patience = 20.0 * faster
        self._timing = Timing(exit=2.0 * faster, close=0.5 * faster)

    def config(self, **changes: Any) -> Config:
        """An exit has its time of the machine, however fast trio's clock runs."""
        return super().config(**{"timing": self._timing, **changes})

    async def pause(self, condition: Callable[[], object]) -> None:
        await trio.sleep(self.patience / 4000)  # 5 ms, however fast trio's clock runs

    def mute(self) -> None:
        self.server.mute()

    async def deliver_raw(self, manager: Manager, data: bytes) -> None:
        """These very bytes on the worker's TCP connection, WebSocket framing and all."""
        await self._connection(manager).stream.send_all(data)

    def _connection(self, manager: Manager) -> Connection:
        peer_id = manager.state.peer_id
        (connection,) = (each for each in self.server.connections if self.rooms.peer_of(each) == peer_id)
        return connection


Scenario = Callable[[World], Awaitable[None]]


Test = Callable[[str, pytest.LogCaptureFixture], None]


@overload
def scenario(body: Scenario) -> Test: ...


@overload
def scenario(
    *, only: Literal["fake", "real"] | None = None, faster: float = 1.0, **rules: Any
) -> Callable[[Scenario], Test]: ...


def scenario(
    body: Scenario | None = None,
    *,
    only: Literal["fake", "real"] | None = None,
    faster: float = 1.0,
    **rules: Any,
) -> Test | Callable[[Scenario], Test]:
    """Make a test of a scenario that runs over fakes with the mock clock, and over real sockets.

    `only` one of the two, the reason beside it. Over real sockets trio's clock can run so many times `faster`, so that
    seconds of waiting cost tenths. `rules` are the server's (`Rooms`).
    """
    if body is None:
        return lambda each: _test_of(each, only, faster, rules)
    return _test_of(body, only, faster, rules)


def _test_of(body: Scenario, only: str | None, faster: float, rules: dict[str, Any]) -> Test:
    @pytest.mark.parametrize("kind", ["fake", "real"] if only is None else [only])
    @wraps(body)
    def test(kind: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.clear()
        caplog.set_level(logging.DEBUG, logger="worker_state")
        clock = MockClock(autojump_threshold=0) if kind == "fake" else MockClock(rate=faster) if faster > 1 else None
        trio.run(_play, body, kind, caplog, faster, rules, clock=clock)

    del test.__wrapped__  # pytest would look for a fixture of the scenario's argument
    return test


async def _play(body: Scenario, kind: str, log: pytest.LogCaptureFixture, faster: float, rules: Any) -> None:
    if kind == "fake":
        async with in_memory(**rules) as memory, trio.open_nursery() as nursery:
            await _finish(body, FakeWorld(nursery, log, memory), WEEK)
    else:
        async with on_sockets(**rules) as sockets, trio.open_nursery() as nursery:
            world = RealWorld(nursery, log, sockets, faster)
            await _finish(body, world, world.patience)


async def _finish(body: Scenario, world: World, within: float) -> None:
    with trio.fail_after(within):
        await body(world)
        for manager in tuple(world._workers):
            await world.stop(manager)
    world.nursery.cancel_scope.cancel()
