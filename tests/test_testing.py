"""The kit for tests, as whoever embeds a worker uses it: a worker of his own, in memory and over real sockets."""

import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import worker_state
from tests.support.processes import environment
from worker_state import (
    Config,
    Disconnected,
    Job,
    Manager,
    RegistrationRefused,
    RoomCreationFailed,
    ServerUnreachable,
    SignInFailed,
    Timing,
    open_state_manager,
    run_state_manager,
)
from worker_state.net.dial import WebSocketDial
from worker_state.testing import ApiKey, Client, Kit, MemoryKit, in_memory, on_sockets
from worker_state.tools.client import open_client
from worker_state.tools.observer import open_roster
from worker_state.world import World

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "testing.md").read_text("utf-8")
PATIENCE = 30.0
"""Seconds after which a test over real sockets hangs."""
DAY = 86400.0
MINUTE, HOUR = 60.0, 3600.0

Body = Callable[[Kit], Awaitable[None]]


def in_virtual_time(body: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Make a test of an async function that runs under a clock that jumps."""

    async def play() -> None:
        with trio.fail_after(DAY):
            await body()

    @wraps(body)
    def test() -> None:
        trio.run(play, clock=MockClock(autojump_threshold=0))

    return test


def both_ways(body: Body) -> Callable[[str], None]:
    """Make two tests of a function of a kit: in memory, and over real sockets."""

    async def play(way: str) -> None:
        with trio.fail_after(PATIENCE if way == "on sockets" else DAY):
            async with on_sockets() if way == "on sockets" else in_memory() as kit:
                await body(kit)

    @pytest.mark.parametrize("way", ["in memory", "on sockets"])
    @wraps(body)
    def test(way: str) -> None:
        trio.run(play, way, clock=None if way == "on sockets" else MockClock(autojump_threshold=0))

    del test.__wrapped__  # pytest would look for a fixture of the body's argument
    return test


# a worker of somebody's own: nothing of it knows the kit


async def train(job: Job) -> None:
    """Its job."""
    for minute in range(job.offer.get("minutes", 0)):
        await trio.sleep(MINUTE)
        await job.send({"type": "progress", "minute": minute})


async def my_worker(config: Config) -> None:
    """Its main program."""
    async with open_state_manager(config) as manager:
        await worker_state.serve_jobs(manager, train)


@asynccontextmanager
async def background(function: Callable[..., Awaitable[object]], *args: object) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(function, *args)
        yield
        nursery.cancel_scope.cancel()


def workers(kit: Kit) -> list[str]:
    return [peer for room in kit.rooms.occupied() for peer in kit.rooms.peers(room)]


def shown(kit: Kit, peer_id: str | None) -> Any:
    return kit.entry(peer_id).get("properties", {}).get("status")


async def found_by(client: Client) -> list[Any]:
    return [each["metadata"]["properties"]["status"] for each in await client.find()]


@in_virtual_time
async def test_an_hour_of_outage_in_a_moment() -> None:
    """The job goes on while the server is away for an hour; then the worker is found, busy, and free at the end."""
    began = time.perf_counter()
    async with in_memory() as kit, background(my_worker, kit.config()):
        await kit.until(lambda: workers(kit))
        async with kit.client() as client:
            ((worker),) = [each["peer_id"] for each in await client.find()]
            await client.offer(worker, minutes=90)
            await client.told("accepted")
            assert (await client.told("progress"))["minute"] == 0
            kit.go_away()
            with pytest.raises(Disconnected):
                await client.told("progress")

        await trio.sleep(HOUR)
        back_at = trio.current_time()
        kit.come_back()
        await kit.until(lambda: workers(kit))
        assert trio.current_time() - back_at < 2.5
        async with kit.client() as client:
            assert await found_by(client) == ["busy"]
            await kit.until(lambda: "available" in [shown(kit, each) for each in workers(kit)])
            assert 90 * MINUTE <= trio.current_time() < 91 * MINUTE
    assert time.perf_counter() - began < 60, "an hour took a part of it"
    assert not workers(kit)


def test_a_job_over_real_sockets() -> None:
    """The same worker, the same test, with real sockets and the real clock."""

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with on_sockets() as kit, background(my_worker, kit.config()):
                await kit.until(lambda: workers(kit))
                async with kit.client() as client:
                    (found,) = await client.find()
                    await client.offer(found["peer_id"])
                    assert (await client.told("accepted"))["job_id"] == (await client.told("done"))["job_id"]
                kit.go_away()
                with pytest.raises(Disconnected, match="cannot connect"):
                    async with kit.connect():
                        pass
                kit.come_back()
                await kit.until(lambda: workers(kit))
                async with kit.client() as client:
                    assert await found_by(client) == ["available"]

    trio.run(main)


@asynccontextmanager
async def started(kit: Kit, **changes: Any) -> AsyncIterator[Manager]:
    async with open_state_manager(kit.config(**changes)) as manager:
        await manager.synced()
        yield manager


# each fault


@both_ways
async def test_cut(kit: Kit) -> None:
    """A worker whose connection is reset is back, and another one keeps its own."""
    room = kit.given_room()
    async with started(kit, **room) as one, started(kit, **room) as other:
        kit.cut(one.state.peer_id)
        await one.wait_for(lambda state: state.epoch == 2)
        await one.synced()
        assert other.state.epoch == 1
        kit.cut()
        await other.wait_for(lambda state: state.epoch == 2)


@both_ways
async def test_go_away(kit: Kit) -> None:
    """Nothing is answered while the server is away, HTTP included; then everything is as it was."""
    async with started(kit) as manager:
        kit.go_away()
        assert kit.entry(manager.state.peer_id) == {}
        await manager.wait_for(lambda state: not state.registered)
        with pytest.raises(Disconnected):
            async with kit.client(manager.state.room_id):
                pass
        with pytest.raises(SignInFailed):
            async with started(kit):
                pass
        kit.come_back()
        manager.set_busy("job-1")
        await manager.synced()
        assert shown(kit, manager.state.peer_id) == "busy"


@both_ways
async def test_refuse(kit: Kit) -> None:
    """No WebSocket is opened, one that is open stays, and HTTP calls are answered."""
    async with started(kit) as manager:
        kit.refuse()
        manager.set_busy("job-1")
        await manager.synced()
        with pytest.raises(ServerUnreachable):
            async with started(kit):
                pass
        with pytest.raises(Disconnected):
            async with kit.connect():
                pass
        kit.come_back()
        async with started(kit):
            pass


@both_ways
async def test_restart(kit: Kit) -> None:
    """Everything is registered anew."""
    async with started(kit) as manager:
        kit.restart()
        assert not workers(kit)
        await manager.wait_for(lambda state: state.epoch == 2)
        await manager.synced()
        assert len(kit.frames("register")) == 2


@both_ways
async def test_forget_peers(kit: Kit) -> None:
    """A worker that the server has forgotten registers again as soon as it finds out, over the same connection."""
    async with started(kit) as manager:
        async with kit.client() as client:
            kit.forget_peers()
            with pytest.raises(Disconnected, match="forgotten"):
                await client.find()
        manager.set_busy("job-1")
        await manager.synced()
        assert shown(kit, manager.state.peer_id) == "busy"
        assert manager.state.epoch == 1


@both_ways
async def test_mute(kit: Kit) -> None:
    """What is sent to a mute server takes no effect; after that it is sent again, over the same connection."""
    async with started(kit, timing=Timing(answer=0.4)) as manager:
        kit.mute()
        manager.set_busy("job-1")
        with trio.move_on_after(1) as waiting:
            await manager.synced()
        assert waiting.cancelled_caught
        assert kit.frames("update_metadata")
        assert shown(kit, manager.state.peer_id) == "available"
        kit.unmute()
        await manager.synced()
        assert shown(kit, manager.state.peer_id) == "busy"
        assert manager.state.epoch == 1


@both_ways
async def test_fail_http(kit: Kit) -> None:
    """The next sign-in fails as it was asked for, and the one after that does not."""
    kit.fail_http("/anonymous-signin", 403, {"detail": "no more users"})
    with pytest.raises(SignInFailed, match="no more users"):
        async with started(kit):
            pass
    async with started(kit):
        pass


@both_ways
async def test_fail_http_with_a_hint(kit: Kit) -> None:
    """A worker that waits for its server comes when a `Retry-After` has said."""
    kit.fail_http("/anonymous-signin", 503, "busy", "text/plain", headers={"Retry-After": "1"})
    began = trio.current_time()
    async with started(kit, wait_for_server=True):
        assert 1 <= trio.current_time() - began < 10


@both_ways
async def test_hang_http(kit: Kit) -> None:
    """A call that hangs is answered when it is released."""
    kit.hang_http("/create-room")
    entered = False

    async def enter() -> None:
        nonlocal entered
        async with started(kit):
            entered = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter)
        await kit.until(lambda: kit.rooms.users)
        await trio.sleep(0.2)
        assert not entered
        kit.release_http()
    assert entered


@both_ways
async def test_hang_http_for_ever(kit: Kit) -> None:
    """A call that hangs is given up after the worker's own time."""
    kit.hang_http("/anonymous-signin")
    began = trio.current_time()
    with pytest.raises(SignInFailed, match=r"no whole answer in 0\.3 s"):
        async with started(kit, timing=Timing(http=0.3)):
            pass
    assert trio.current_time() - began < 5
    kit.release_http("/anonymous-signin")
    async with started(kit):
        pass


@both_ways
async def test_the_calls_that_hang_are_released_first(kit: Kit) -> None:
    """What is asked for behind `release_http` meets the call that hung: no later one overtakes it."""
    kit.hang_http("/create-room")

    async def is_refused() -> None:
        with pytest.raises(RoomCreationFailed, match="HTTP 403"):
            async with started(kit):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_refused)
        await kit.until(lambda: kit.rooms.users)
        await trio.sleep(0.3)
        kit.release_http("/create-room")
        kit.fail_http("/create-room", 403)
        async with started(kit):
            pass


@both_ways
async def test_a_released_call_does_not_hang_again(kit: Kit) -> None:
    """`hang_http` right behind `release_http` is for the calls that are still to come."""
    kit.hang_http("/create-room")
    async with background(my_worker, kit.config()):
        await kit.until(lambda: kit.rooms.users)
        await trio.sleep(0.3)
        kit.release_http()
        kit.hang_http("/create-room")
        await kit.until(kit.rooms.occupied)


@both_ways
async def test_a_call_that_was_given_up_uses_no_fault_up(kit: Kit) -> None:
    """A call that hung until its worker had gone takes no effect, and the next fault is for the next call."""
    kit.hang_http("/anonymous-signin")
    with pytest.raises(SignInFailed, match="no whole answer"):
        async with started(kit, timing=Timing(http=0.3)):
            pass
    await trio.sleep(0.2)
    kit.release_http()
    kit.fail_http("/anonymous-signin", 403)
    with pytest.raises(SignInFailed, match="HTTP 403"):
        async with started(kit):
            pass
    assert not kit.rooms.users


@both_ways
async def test_deliver(kit: Kit) -> None:
    """The server says something: what is no frame ends nothing, what is one reaches the worker."""
    async with started(kit) as manager:
        await kit.deliver(manager.state.peer_id, b"\0")
        await kit.deliver(manager.state.peer_id, '{"type": "news", "of": "today"}')
        assert await manager.signals.receive() == {"type": "news", "of": "today"}
    for nobody in (manager.state.peer_id, None):
        with pytest.raises(RuntimeError, match="has no connection"):
            await kit.deliver(nobody, "{}")


@both_ways
async def test_deliver_after_a_lost_connection(kit: Kit) -> None:
    """A peer that has come back is reached over its new connection, although the server still believes in old ones."""
    async with started(kit) as manager:

        async def lose_the_connection() -> None:
            before = manager.state.epoch
            kit.server.half_open(manager.state.peer_id or "")
            await manager.wait_for(lambda state: state.epoch > before)
            await manager.synced()

        for _ in range(2):
            await lose_the_connection()
            await kit.deliver(manager.state.peer_id, '{"type": "news"}')
            assert await manager.signals.receive() == {"type": "news"}


@both_ways
async def test_frozen_twice_and_thawed_once(kit: Kit) -> None:
    """What was sent to a server that stood still is handled, however often it was told to stand still."""
    async with started(kit) as manager:
        kit.server.freeze(manager.state.peer_id or "")
        manager.set_busy("job-1")
        await trio.sleep(0.3)
        assert shown(kit, manager.state.peer_id) == "available"
        kit.server.freeze(manager.state.peer_id or "")
        kit.server.thaw()
        with trio.fail_after(5):
            await manager.synced()
        assert shown(kit, manager.state.peer_id) == "busy"
        assert manager.state.epoch == 1


@in_virtual_time
async def test_a_ping_after_the_end() -> None:
    """Over a link that has ended a ping returns the end, frozen or not."""
    async with in_memory() as kit:
        for is_frozen in (False, True):
            socket = kit.server.connect()
            socket.frozen = [] if is_frozen else None
            await socket.abort()
            with trio.fail_after(1):
                assert await socket.ping() == await socket.receive()


@in_virtual_time
async def test_suspend() -> None:
    """After a night with the lid closed a worker in memory has a new room, and is found there."""
    async with in_memory() as kit, started(kit) as manager:
        before = manager.state.room_id
        kit.suspend(8 * HOUR)
        with trio.fail_after(MINUTE):
            await manager.wait_for(lambda state: state.room_id not in (None, before))
            await manager.synced()
        async with kit.client(manager.state.room_id) as client:
            assert await found_by(client) == ["available"]


# the client


@both_ways
async def test_the_client_finds_by_tags_and_properties(kit: Kit) -> None:
    """A search takes tags and properties, bounds included."""
    async with started(kit, tags=("mine",), capabilities={"gpu_memory_mb": 100}), kit.client() as client:
        assert not await client.find()
        assert await client.find("mine", gpu_memory_mb={"$gte": 100})
        assert not await client.find("mine", gpu_memory_mb={"$gte": 101})


@both_ways
async def test_a_search_loses_nothing_that_came_before_its_answer(kit: Kit) -> None:
    """A message of a worker that comes while a search waits is still there after it."""
    async with started(kit) as manager, kit.client() as client:
        for number in range(2):
            ids = {"from_peer_id": manager.state.peer_id, "to_peer_id": client.peer_id}
            payload = {"type": "told", "number": number}
            await manager.send_signal({"type": "peer_message", **ids, "payload": payload})
        await kit.until(lambda: len(kit.frames("peer_message")) >= 2)
        assert len(await client.find()) == 1
        assert [(await client.told("told"))["number"] for _ in range(2)] == [0, 1]


@both_ways
async def test_the_client_passes_over_what_is_no_message(kit: Kit) -> None:
    """Bytes, half a message and a number are no reason for a client to end."""
    async with started(kit), kit.client() as client:
        for junk in (b"\xff", "{", "1", '{"type": "good"}'):
            await kit.deliver(client.peer_id, junk)
        assert await client.receive("good") == {"type": "good"}


@both_ways
async def test_the_client_s_room_has_to_be_clear(kit: Kit) -> None:
    """No worker, two rooms, and a room that is not there are refused in words."""
    with pytest.raises(RuntimeError, match="no worker is registered: wait"):
        async with kit.client():
            pass
    with pytest.raises(RuntimeError, match="no room 'elsewhere'"):
        async with kit.client("elsewhere"):
            pass
    async with started(kit), started(kit):
        with pytest.raises(RuntimeError, match=r"2 rooms are occupied: name the one"):
            async with kit.client():
                pass


@in_virtual_time
async def test_a_client_in_a_room_that_is_over() -> None:
    """The server's own words say why the client does not get in."""
    async with in_memory(room_life=60.0) as kit:
        room_id = kit.given_room()["room_id"]
        await trio.sleep(2 * MINUTE)
        with pytest.raises(Disconnected, match="Room expired"):
            async with kit.client(room_id):
                pass


@both_ways
async def test_a_client_that_is_not_let_in(kit: Kit) -> None:
    """A refusal without a type, as the server says it of an identity, is one, too."""
    room_id = kit.given_room()["room_id"]
    kit.rooms.stale_keys()
    with pytest.raises(Disconnected, match="Invalid token"):
        async with kit.client(room_id):
            pass


@in_virtual_time
async def test_api_keys() -> None:
    """A server with API keys takes those that it was given; a client enters with one of the room."""
    keys = {"slp_mine": ApiKey("lab"), "slp_old": ApiKey("lab", revoked=True), "slp_lost": ApiKey("gone", revoked=True)}
    async with in_memory(generation="v3", api_keys=keys) as kit:
        async with started(kit, api_key="slp_mine"), kit.client() as client:
            assert await found_by(client) == ["available"]
        with pytest.raises(RegistrationRefused):
            async with started(kit, api_key="slp_old"):
                pass
        with pytest.raises(Disconnected, match="revoked"):
            async with kit.client("gone"):
                pass


# what else lives in the same world


@in_virtual_time
async def test_every_entry_point_is_served_in_memory() -> None:
    """`run_state_manager`, a watcher of the room and the client of `worker-state offer` find the same server."""
    async with in_memory() as kit, trio.open_nursery() as nursery:
        room = kit.given_room()
        manager: Manager = await nursery.start(run_state_manager, kit.config(**room))
        async with open_roster(kit.config(**room)) as rosters:
            assert [entry.peer_id for entry in rosters.value.entries] == [manager.state.peer_id]
        async with open_client(kit.config(**room)) as client:
            assert client.peer_id in kit.rooms.peers(room["room_id"])
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_two_runs_with_one_seed() -> None:
    """The seed decides what server and workers draw."""

    async def peer_ids(seed: int) -> str | None:
        async with in_memory(seed) as kit, started(kit) as manager:
            return manager.session_string

    assert await peer_ids(3) == await peer_ids(3) != await peer_ids(4)


# what cannot work


@in_virtual_time
async def test_a_configuration_of_another_server_is_refused() -> None:
    """In memory nothing reaches the network, and the words do not repeat the query."""
    async with in_memory():
        for url in ("wss://signaling.example.org/?token=secret", "ws://127.0.0.1:1"):
            with pytest.raises(RuntimeError, match=re.escape(f"no server at {url.partition('?')[0]}: start")) as caught:
                async with open_state_manager(Config(url, "https://signaling.example.org")):
                    pass
            assert "secret" not in str(caught.value)


@both_ways
async def test_a_fault_that_nobody_would_notice_is_refused(kit: Kit) -> None:
    """A path that no worker calls, and a peer that is not there: a test with such a fault would prove nothing."""
    for fault in (kit.hang_http, kit.release_http, partial(kit.fail_http, status=500)):
        with pytest.raises(ValueError, match="no worker calls '/sign-in': the paths are /anonymous-signin, "):
            fault("/sign-in")
    with pytest.raises(RuntimeError, match="has no connection"):
        kit.cut("nobody")


@in_virtual_time
async def test_one_server_in_memory_at_a_time() -> None:
    """A second block inside the first is refused, and one after it is not; then the world is the real one again."""
    for _ in range(2):
        async with in_memory() as kit:
            config = kit.config()
            with pytest.raises(RuntimeError, match="one kit in memory at a time"):
                async with in_memory():
                    pass
            assert World.around(config).dial == kit.server.dial
        assert isinstance(World.around(config).dial, WebSocketDial)


@in_virtual_time
async def test_real_sockets_under_a_clock_that_jumps_are_refused() -> None:
    """Every deadline would pass at once."""
    with pytest.raises(RuntimeError, match=r"use in_memory\(\), or MockClock\(rate="):
        async with on_sockets():
            pass


def test_real_sockets_under_a_fast_clock() -> None:
    """A clock that is fast and does not jump is good."""

    async def main() -> None:
        with trio.fail_after(100 * PATIENCE):
            async with on_sockets() as kit, started(kit):
                pass

    trio.run(main, clock=MockClock(rate=100))


def test_what_the_body_raises_leaves_as_itself() -> None:
    """A test that fails is no exception group, in both ways."""

    async def fails(way: Callable[[], Any]) -> None:
        async with way():
            raise AssertionError("this one")

    for way in (in_memory, on_sockets):
        with pytest.raises(AssertionError, match="this one"):
            trio.run(fails, way)


IN_MEMORY = """
async def main():
    async with in_memory() as kit, worker_state.open_state_manager(kit.config()) as manager:
        await manager.synced()
        print("synced")
trio.run(main, clock=MockClock(autojump_threshold=0))
"""
ON_SOCKETS = """
async def main():
    try:
        async with on_sockets():
            pass
    except worker_state.ConfigError as error:
        print(error)
trio.run(main)
"""


@pytest.mark.parametrize(
    ("program", "prints"),
    [
        (IN_MEMORY, "synced"),
        (ON_SOCKETS, "The package h11 is not installed: pip install 'worker-state[cli]'"),
    ],
    ids=["in memory", "on sockets"],
)
def test_without_the_extra(program: str, prints: str) -> None:
    """The way in memory needs the library's own packages alone; the other one names the extra."""
    begin = (
        # httpx and trio-websocket bring one of their own along; only ours is to be missing.
        "import sys, worker_state.manager\nsys.modules.update(h11=None, typer=None, rich=None)\n"
        "import trio, worker_state\nfrom trio.testing import MockClock\n"
        "from worker_state.testing import in_memory, on_sockets\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", begin + program], capture_output=True, text=True, check=False, env=environment()
    )
    assert (done.returncode, done.stdout, done.stderr.count("Traceback")) == (0, f"{prints}\n", 0)


def test_a_worker_does_not_load_the_kit() -> None:
    """Nothing that a worker needs imports the kit, or the server behind it."""
    program = (
        "import sys, worker_state\nfor name in worker_state.__all__: getattr(worker_state, name)\n"
        "print([name for name in sys.modules if 'testing' in name or 'devserver' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout == "[]\n"


# the page


def test_the_page_s_example() -> None:
    """Its tests run, word for word."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    example: dict[str, Any] = {}
    exec(source, example)
    tests = [value for name, value in example.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_page_s_table() -> None:
    """Every fault of the kits stands in the page's table, and nothing else does."""
    (faults,) = re.findall(r"^## The faults\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    table = set(re.findall(r"^\| `(\w+)\(", faults, re.MULTILINE))
    public = {name for kit in (Kit, MemoryKit) for name in vars(kit) if not name.startswith("_")}
    no_faults = {"config", "given_room", "rooms", "now", "frames", "entry", "until", "client", "connect", "world"}
    ends = {"come_back", "unmute", "release_http"}
    fields = {"server", "websocket_url", "http_url"}
    assert table == public - no_faults - ends - fields
    assert all(f"| `{name}(" in faults for name in ends)
