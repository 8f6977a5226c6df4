"""Two worlds for the same scenarios: in-memory fakes on a mock clock, and real sockets against the development server.

A scenario is an async function of a `World`, decorated with `scenario`; it becomes a test that runs in both. Nothing in
a scenario may know which one it is in.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial, wraps
from random import Random
from typing import Any, Literal, overload

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, open_websocket_url

from tests.support.fake import FakeServer, FakeSocket
from worker_state import Config, Manager, run_state_manager
from worker_state.devserver import DevServer, Rooms, serve
from worker_state.devserver.sockets import Connection
from worker_state.manager import run_in_world
from worker_state.protocol.error_policy import Closed
from worker_state.protocol.http_api import HttpAnswer
from worker_state.protocol.reconnect import ReconnectParameters
from worker_state.world import World as Outside

Frame = dict[str, Any]
CAPABILITIES = {"gpu_memory_mb": 24576, "gpu_model": "NVIDIA RTX A5000", "supported_models": ["base", "centroid"]}


WEEK = 7 * 86400.0
"""Seconds of the mock clock: what a scenario over fakes may take altogether."""


class Client:
    """An independent peer in the worker's room: what a person with a job would use."""

    def __init__(self, peer_id: str, send: Callable[[str], Awaitable[object]], receive: Callable[[], Awaitable[str]]):
        self.peer_id = peer_id
        self._send = send
        self._receive = receive

    async def send(self, message: Frame) -> None:
        await self._send(json.dumps(message))

    async def receive(self, *types: str) -> Frame:
        """The next frame of one of these types."""
        while True:
            message: Frame = json.loads(await self._receive())
            if message.get("type") in types:
                return message

    async def find(self, **properties: Any) -> list[Frame]:
        """The workers that a search by role, tag and properties finds."""
        filters = {"role": "worker", "tags": ["sleap-rtc"], "properties": properties}
        await self.send({"type": "discover_peers", "from_peer_id": self.peer_id, "filters": filters})
        found: list[Frame] = (await self.receive("peer_list"))["peers"]
        return found

    async def message(self, to: str, payload: Frame) -> None:
        await self.send({"type": "peer_message", "from_peer_id": self.peer_id, "to_peer_id": to, "payload": payload})


class World(ABC):
    """A server, a network and the workers of one test."""

    rooms: Rooms
    server: FakeServer | DevServer
    patience: float
    """Seconds, of this world's clock, after which waiting has failed."""

    def __init__(self, nursery: trio.Nursery, log: pytest.LogCaptureFixture) -> None:
        self.nursery = nursery
        self.log = log
        self._workers: dict[Manager, tuple[trio.CancelScope, trio.Event]] = {}

    # workers and clients

    @abstractmethod
    def config(self, **changes: Any) -> Config: ...

    @abstractmethod
    async def run(self, config: Config, task_status: "trio.TaskStatus[Manager]") -> None: ...

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Client]:
        """Somebody with a connection and nothing else."""

    @asynccontextmanager
    async def client_in(self, room_id: str) -> AsyncIterator[Client]:
        """A client that has registered in this room."""
        async with self.connect() as client:
            await _register(self, room_id, client)
            yield client

    def client(self, manager: Manager) -> AbstractAsyncContextManager[Client]:
        """A client in the worker's room."""
        return self.client_in(manager.state.room_id or "")

    @abstractmethod
    def now(self) -> float:
        """The server's wall clock."""

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

    @abstractmethod
    def frames(self, *types: str) -> list[Frame]: ...

    def sent(self, type_: str) -> list[Frame]:
        """What the workers have sent of this type."""
        return [frame for frame in self.frames(type_) if frame.get("role") != "client"]

    def record(self, manager: Manager) -> Frame:
        """What the server has stored for this worker; empty when it has forgotten it."""
        peer = self.rooms.peer(manager.state.peer_id or "")
        return {} if peer is None else dict(peer.metadata)

    def shown(self, manager: Manager) -> tuple[Any, Any, Any]:
        """Status, current and pending job id on the server."""
        properties = self.record(manager).get("properties", {})
        return tuple(properties.get(name, "-") for name in ("status", "current_job_id", "pending_job_id"))

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(self.patience):
            while not condition():
                await trio.sleep(0.005)

    def logged(self, level: int, *words: str) -> list[str]:
        """The log lines of this level that contain all these words."""
        lines = [record.getMessage() for record in self.log.records if record.levelno == level]
        return [line for line in lines if all(word in line for word in words)]

    # what goes wrong

    @abstractmethod
    def cut(self) -> None:
        """Every connection is reset."""

    @abstractmethod
    def refuse(self) -> None:
        """No connection can be opened."""

    def go_down(self) -> None:
        """Every connection is reset, and none can be opened."""
        self.refuse()
        self.cut()

    @abstractmethod
    def come_back(self) -> None: ...

    @abstractmethod
    def mute(self) -> None:
        """Frames are taken and not answered."""

    @abstractmethod
    def unmute(self) -> None: ...

    @abstractmethod
    def fail_http(self, path: str, status: int, body: bytes, content_type: str = "text/plain") -> None: ...

    @abstractmethod
    def hang_http(self, path: str) -> None: ...

    @abstractmethod
    async def deliver(self, manager: Manager, text: str | bytes) -> None:
        """The server sends this frame to the worker; bytes make a binary one."""


class FakeWorld(World):
    """Fakes on a mock clock."""

    patience = 2000.0

    def __init__(self, nursery: trio.Nursery, log: pytest.LogCaptureFixture, **rules: Any) -> None:
        super().__init__(nursery, log)
        self.server: FakeServer = FakeServer(**rules)
        self.rooms = self.server.rooms
        self.random = Random(7)
        self.suspended = 0.0
        """Seconds that the machine has been suspended, which trio's clock does not count."""

    def config(self, **changes: Any) -> Config:
        return Config("ws://fake", "http://fake", **{"capabilities": CAPABILITIES, **changes})

    async def run(self, config: Config, task_status: "trio.TaskStatus[Manager]") -> None:
        outside = Outside(
            dial=self.server.dial,
            http=self.server,
            random=self.random,
            nonce=lambda: f"{self.random.getrandbits(64)}",
            pace=ReconnectParameters.patient(config.timing.register),
            awake=lambda: trio.current_time() + self.suspended,
        )
        await run_in_world(config, outside, task_status=task_status)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        socket = FakeSocket(self.server)
        self.server.sockets.append(socket)

        async def receive() -> str:
            text = await socket.receive()
            if isinstance(text, Closed):
                raise trio.BrokenResourceError(str(text))
            assert isinstance(text, str)
            return text

        async def send(text: str) -> None:
            self.server.receive(socket, text)

        try:
            yield Client("", send, receive)
        finally:
            socket.end(Closed())

    def suspend(self, seconds: float) -> None:
        """The machine was suspended for so long: the server has lived on, trio's clock has not."""
        self.suspended += seconds
        self.server.ahead += seconds

    def now(self) -> float:
        return self.server.now()

    def frames(self, *types: str) -> list[Frame]:
        return [frame for frame in self.server.frames if frame.get("type") in types]

    def cut(self) -> None:
        self.server.cut()

    def refuse(self) -> None:
        self.server.up = False

    def come_back(self) -> None:
        self.server.up = True

    def mute(self) -> None:
        self.server.silent = True

    def unmute(self) -> None:
        self.server.silent = False

    def fail_http(self, path: str, status: int, body: bytes, content_type: str = "text/plain") -> None:
        self.server.http_answers.setdefault(path, []).append(HttpAnswer(status, content_type, body))

    def hang_http(self, path: str) -> None:
        self.server.http_hangs.add(path)

    async def deliver(self, manager: Manager, text: str | bytes) -> None:
        peer = self.rooms.peer(manager.state.peer_id or "")
        assert peer is not None
        assert isinstance(peer.connection, FakeSocket)
        peer.connection.deliver(text)


class RealWorld(World):
    """Real sockets on loopback, the development server, the real clock."""

    patience = 20.0

    def __init__(self, nursery: trio.Nursery, log: pytest.LogCaptureFixture, server: DevServer) -> None:
        super().__init__(nursery, log)
        self.server: DevServer = server
        self.rooms = server.rooms

    def config(self, **changes: Any) -> Config:
        return Config(self.server.ws_url, self.server.http_url, **{"capabilities": CAPABILITIES, **changes})

    async def run(self, config: Config, task_status: "trio.TaskStatus[Manager]") -> None:
        await run_state_manager(config, task_status=task_status)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        async with open_websocket_url(self.server.ws_url, max_message_size=16 * 2**20) as socket:

            async def receive() -> str:
                text = await socket.get_message()
                assert isinstance(text, str)
                return text

            yield Client("", socket.send_message, receive)

    def now(self) -> float:
        return self.server.clock()

    def frames(self, *types: str) -> list[Frame]:
        return [frame for _, frame in self.server.frames if frame.get("type") in types]

    def cut(self) -> None:
        self.server.cut()

    def refuse(self) -> None:
        self.server.refuse_upgrades(503, times=10_000)

    def come_back(self) -> None:
        self.server.accept_upgrades()

    def mute(self) -> None:
        self.server.mute()

    def unmute(self) -> None:
        self.server.unmute()

    def fail_http(self, path: str, status: int, body: bytes, content_type: str = "text/plain") -> None:
        self.server.fail_http(path, status, body, content_type)

    def hang_http(self, path: str) -> None:
        self.server.hang_http(path)

    async def deliver(self, manager: Manager, text: str | bytes) -> None:
        with suppress(ConnectionClosed):
            await self._connection(manager).websocket.send_message(text)

    async def deliver_raw(self, manager: Manager, data: bytes) -> None:
        """These very bytes on the worker's TCP connection, WebSocket framing and all."""
        await self._connection(manager).stream.send_all(data)

    def _connection(self, manager: Manager) -> Connection:
        peer_id = manager.state.peer_id
        (connection,) = (each for each in self.server.connections if self.rooms.peer_of(each) == peer_id)
        return connection


async def _register(world: World, room_id: str, client: Client) -> None:
    signed_in = world.rooms.sign_in(world.now()).body
    assert isinstance(signed_in, dict)
    room = world.rooms.rooms[room_id]
    client.peer_id = str(signed_in["username"])
    await client.send(
        {
            "type": "register",
            "peer_id": client.peer_id,
            "room_id": room.room_id,
            "token": room.token,
            "id_token": signed_in["id_token"],
            "role": "client",
            "metadata": {"tags": ["sleap-rtc", "training-client"], "properties": {}},
        }
    )
    await client.receive("registered_auth")


def given_room(rooms: Rooms, now: float) -> dict[str, Any]:
    """Somebody creates a room, and gives it to workers: their `room_id` and `room_token`."""
    signed_in: Any = rooms.sign_in(now).body
    room: Any = rooms.create_room(f"Bearer {signed_in['id_token']}", now).body
    rooms.delete_peer({"peer_id": signed_in["username"]}, now)
    return {"room_id": room["room_id"], "room_token": room["token"]}


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


async def _play(body: Scenario, kind: str, log: pytest.LogCaptureFixture, faster: float, rules: dict[str, Any]) -> None:
    async with trio.open_nursery() as nursery:
        world: World
        if kind == "fake":
            world = FakeWorld(nursery, log, **rules)
        else:
            rooms = Rooms(random=Random(1), **rules)
            world = RealWorld(nursery, log, await nursery.start(partial(serve, rooms=rooms)))
            world.patience *= faster
        with trio.fail_after(world.patience if kind == "real" else WEEK):
            await body(world)
            for manager in tuple(world._workers):
                await world.stop(manager)
        nursery.cancel_scope.cancel()
