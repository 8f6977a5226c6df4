"""Three ways to be a worker, for the scenarios of the specification: trio's manager, asyncio's, and the adapter.

`spec` makes a test of a scenario, an async function of a `Driver`. It runs over each of them: trio's manager over the
fakes and over real sockets, the others in an asyncio loop of their own, with the server in a thread. The functions of
anyio wait in both loops.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial, wraps
from typing import Any, ClassVar, TypeVar

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from examples.state_manager_adapter import StateManagerAdapter
from tests.support.worlds import Frame, RealWorld, Test, World, scenario
from worker_state import Manager, SessionString, aio
from worker_state.testing import on_sockets

T = TypeVar("T")
Identity = dict[str, str | None]


class Server:
    """The other side of a scenario. It lives in the scenario's own loop, or behind a portal."""

    def __init__(self, world: World, portal: BlockingPortal | None = None) -> None:
        self.world = world
        self._portal = portal

    def _there(self, function: Callable[[], T]) -> T:
        return function() if self._portal is None else self._portal.call(function)

    async def _awaited_there(self, function: Callable[[], Awaitable[T]]) -> T:
        if self._portal is None:
            return await function()
        return await anyio.to_thread.run_sync(self._portal.call, function)

    # what it has seen

    def sent(self, type_: str) -> list[Frame]:
        """What the worker has sent of this type, in order."""
        return self._there(partial(self.world.sent, type_))

    def properties(self, peer_id: str) -> Frame:
        """What it has stored for this worker; empty for one that it does not know."""
        peer = self._there(partial(self.world.rooms.peer, peer_id))
        return {} if peer is None else dict(peer.metadata["properties"])

    def rooms(self) -> dict[str, str | None]:
        """Every room with its token."""
        return self._there(lambda: {room.room_id: room.token for room in self.world.rooms.rooms.values()})

    def identities(self) -> list[str]:
        """The names of every identity."""
        return self._there(lambda: list(self.world.rooms.users))

    def logged(self, level: int, *words: str) -> list[str]:
        """The worker's log lines of this level that contain all these words."""
        return self.world.logged(level, *words)

    # what clients do

    async def found(self, room_id: str, **properties: Any) -> list[str]:
        """The workers that a client in this room finds."""

        async def search() -> list[str]:
            async with self.world.client_in(room_id) as client:
                return [peer["peer_id"] for peer in await client.find(**properties)]

        return await self._awaited_there(search)

    async def reach(self, session_string: str, payload: Frame) -> None:
        """A client that has nothing but the session string sends this to its worker."""

        async def connect() -> None:
            session = SessionString.parse(session_string)
            assert self.world.rooms.rooms[session.room_id].token == session.token  # which lets the client in
            async with self.world.client_in(session.room_id) as client:
                await client.message(session.peer_id, payload)
                await client.find()  # what is answered after it shows that it was read

        await self._awaited_there(connect)

    # what goes wrong

    def go_down(self) -> None:
        self._there(self.world.go_down)

    def come_back(self) -> None:
        self._there(self.world.come_back)

    def fail_http(self, path: str, status: int, text: str) -> None:
        """The next call of this path is answered so."""
        self._there(partial(self.world.fail_http, path, status, text.encode()))


class Driver(ABC):
    """A worker, in the words of the specification, and its server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.started: Manager | aio.Manager | None = None

    @abstractmethod
    async def start(self) -> None:
        """Sign in, create a room, register. Raises `StartupFailed`."""

    @abstractmethod
    async def leave(self) -> None:
        """The worker exits."""

    @property
    def manager(self) -> Manager | aio.Manager:
        assert self.started is not None
        return self.started

    async def update_status(self, status: str, **job: str) -> None:
        match status, job:
            case "busy", {"current_job_id": job_id}:
                self.manager.set_busy(job_id)
            case "reserved", {"pending_job_id": job_id}:
                self.manager.set_reserved(job_id)
            case "available", {}:
                self.manager.set_available()
            case _:
                raise AssertionError(status, job)

    async def reregister(self) -> None:
        self.manager.reregister()

    @property
    def status(self) -> str:
        return self.manager.status

    @property
    def session_string(self) -> str | None:
        return self.manager.session_string

    @property
    def identity(self) -> Identity | None:
        """What the sign-in has given."""
        return None if self.started is None else {"id_token": self.manager.state.id_token, "username": self.peer_id}

    @property
    def room(self) -> dict[str, str | None]:
        """What the creation of the room has given."""
        session = SessionString.parse(self.manager.session_string or "")
        return {"room_id": session.room_id, "token": session.token}

    @property
    def peer_id(self) -> str:
        return self.manager.state.peer_id or ""

    @property
    def room_id(self) -> str:
        return self.manager.state.room_id or ""

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(self.server.world.patience):
            while not condition():
                await anyio.sleep(0.005)

    async def synced(self) -> None:
        """The server shows what is true, and clients find it."""
        with anyio.fail_after(self.server.world.patience):
            await self.manager.synced()

    async def lose_the_server(self) -> None:
        """Its connections are reset, and it accepts no other: whatever is sent now fails."""
        self.server.go_down()
        await self.until(lambda: not self.manager.state.connected)


class TrioDriver(Driver):
    """`worker_state.run_state_manager`."""

    async def start(self) -> None:
        self.started = await self.server.world.start()

    async def leave(self) -> None:
        assert isinstance(self.manager, Manager)
        await self.server.world.stop(self.manager)


class AioDriver(Driver):
    """`worker_state.aio.open_state_manager`."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._block = AsyncExitStack()

    async def start(self) -> None:
        self.started = await self._block.enter_async_context(aio.open_state_manager(self.server.world.config()))

    async def leave(self) -> None:
        await self._block.aclose()


class AdapterDriver(AioDriver):
    """`examples/state_manager_adapter.py`, called as a worker calls a class of its own."""

    adapter: StateManagerAdapter

    async def start(self) -> None:
        adapter = StateManagerAdapter(self.server.world.config())
        self.adapter = await self._block.enter_async_context(adapter)
        identity = adapter.request_anonymous_signin() or {"id_token": None}
        room = adapter.request_create_room(identity["id_token"])
        adapter.set_room_credentials(room["room_id"] or "", room["token"] or "", identity["id_token"])
        self.started = adapter.manager

    async def leave(self) -> None:
        await self.adapter.request_peer_room_deletion(self.peer_id)

    async def update_status(self, status: str, **job: str) -> None:
        await self.adapter.update_status(status, **job)

    async def reregister(self) -> None:
        await self.adapter.reregister_worker()

    @property
    def status(self) -> str:
        return self.adapter.get_status()

    @property
    def session_string(self) -> str:
        return self.adapter.generate_session_string(self.room_id, self.room["token"] or "", self.peer_id)

    @property
    def identity(self) -> Identity | None:
        return self.adapter.request_anonymous_signin()

    @property
    def room(self) -> dict[str, str | None]:
        return self.adapter.request_create_room(None)


Scenario = Callable[[Driver], Awaitable[None]]


class Kinds:
    """How a scenario runs over each kind of worker."""

    asyncio: ClassVar[dict[str, type[AioDriver]]] = {"aio": AioDriver, "adapter": AdapterDriver}
    trio: ClassVar[dict[str, str]] = {"trio": "real", "trio over fakes": "fake"}


def spec(body: Scenario) -> Test:
    """Make a test of a scenario, which runs over every kind of worker."""

    @pytest.mark.parametrize("kind", [*Kinds.trio, *Kinds.asyncio])
    @wraps(body)
    def test(kind: str, caplog: pytest.LogCaptureFixture) -> None:
        if kind in Kinds.trio:
            in_trio(Kinds.trio[kind], caplog)
        else:
            _in_asyncio(body, Kinds.asyncio[kind], caplog)

    @scenario
    async def in_trio(world: World) -> None:
        await body(TrioDriver(Server(world)))

    del test.__wrapped__  # pytest would look for a fixture of the scenario's argument
    return test


def _in_asyncio(body: Scenario, kind: type[AioDriver], log: pytest.LogCaptureFixture) -> None:
    log.clear()
    log.set_level(logging.DEBUG, logger="worker_state")
    with start_blocking_portal("trio") as portal:
        _, world = portal.start_task(_served, log)
        try:
            asyncio.run(_played(body, kind(Server(world, portal))))
        finally:
            portal.call(world.nursery.cancel_scope.cancel)


async def _served(log: pytest.LogCaptureFixture, *, task_status: "trio.TaskStatus[World]") -> None:
    async with on_sockets() as kit, trio.open_nursery() as nursery:
        task_status.started(RealWorld(nursery, log, kit, faster=1.0))
        await trio.sleep_forever()


async def _played(body: Scenario, worker: AioDriver) -> None:
    async with worker._block, asyncio.timeout(worker.server.world.patience):
        await body(worker)
