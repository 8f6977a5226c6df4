"""Look-ups that fail or are starved, and names with several addresses, over real sockets."""

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from tests.net.test_http_client import ok
from tests.support.dialled import PATIENT, Dialled
from tests.support.peers import NET, Peer, Script, serving
from tests.support.resolving import Resolver
from worker_state.net.addresses import Addresses
from worker_state.net.dial import WebSocketDial
from worker_state.net.http_client import HttpxHttp
from worker_state.protocol.error_policy import Cause, DialFailure
from worker_state.protocol.http_api import HttpAnswer, HttpFailure
from worker_state.tools import doctor
from worker_state.tools.checks import Endpoint

DEAD, ALIVE = "127.0.0.2", "127.0.0.1"


async def answered(peer: Peer) -> None:
    """A WebSocket server and an HTTP server in one."""
    head = await peer.head()
    if head.startswith(b"POST"):
        await peer.send(ok(b"{}"))
    else:
        peer._unread = head + b"\r\n\r\n"
        await peer.upgrade()
    await peer.end()


async def hangs_up(peer: Peer) -> None:
    await peer.head()


async def silent(peer: Peer) -> None:
    await trio.sleep_forever()


# --- G28: whatever a look-up raises -----------------------------------------------------------------------------------

ERRORS = [
    RuntimeError("can't start new thread"),
    LookupError("unknown encoding: idna"),
    MemoryError("no memory"),
    KeyError("who knows"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_g28_what_a_look_up_raises_is_a_failed_dial(error: Exception) -> None:
    """A thread that cannot start, a codec that is not there, whatever a resolver raises: a value that says so."""
    trio.socket.set_custom_hostname_resolver(Resolver(error=error))
    said = f"{type(error).__name__}: {error}"
    async with Dialled(WebSocketDial("ws://worker.example/"))() as made:
        assert made == DialFailure(Cause.UNREACHABLE, said)
    assert await HttpxHttp("http://worker.example", within=PATIENT).post("/") == HttpFailure(said)
    found = await doctor.look_up(Endpoint("--ws", "worker.example", 80, secure=False), PATIENT)
    assert found == DialFailure(Cause.UNREACHABLE, said)


async def test_g28_a_thread_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where trio itself cannot start the thread for the look-up."""

    async def cannot(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", cannot)
    async with Dialled(WebSocketDial("ws://localhost:1/"))() as made:
        assert made == DialFailure(Cause.UNREACHABLE, "RuntimeError: can't start new thread")
    outcome = await HttpxHttp("http://localhost:1", within=PATIENT).post("/")
    assert outcome == HttpFailure("RuntimeError: can't start new thread")


# --- G27: jobs in threads ---------------------------------------------------------------------------------------------


async def test_g27_jobs_in_threads_do_not_starve_a_look_up() -> None:
    """While the program's jobs hold all of trio's threads, dial and HTTP still look up their name."""
    over = threading.Event()
    threads = trio.to_thread.current_default_thread_limiter()
    async with serving(answered) as port, trio.open_nursery() as nursery:
        for _ in range(int(threads.total_tokens)):
            nursery.start_soon(partial(trio.to_thread.run_sync, over.wait))
        try:
            while threads.available_tokens:
                await trio.sleep(0.01)
            async with Dialled(WebSocketDial(f"ws://localhost:{port}/"))() as made:
                assert not isinstance(made, DialFailure), made
            outcome = await HttpxHttp(f"http://localhost:{port}", within=PATIENT).post("/")
            assert outcome == HttpAnswer(200, "", b"{}")
        finally:
            over.set()


# --- G32: several addresses -------------------------------------------------------------------------------------------


@asynccontextmanager
async def two_addresses(dead: Script) -> AsyncIterator[int]:
    """A name with a dead address and one that is alive, at the same port; gives the port."""

    async def contained(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await dead(Peer(stream))

    async with serving(answered) as port, trio.open_nursery() as nursery:
        try:
            nursery.start_soon(partial(trio.serve_listeners, contained, await trio.open_tcp_listeners(port, host=DEAD)))
        except OSError:
            pytest.skip("this machine has one loopback address, or the port is taken on the other")
        trio.socket.set_custom_hostname_resolver(Resolver(DEAD, ALIVE))
        yield port
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("dead", [hangs_up, silent])
async def test_g32_the_next_dial_begins_with_another_address(dead: Script) -> None:
    """A dial that fails behind TCP on the first address makes the next one begin with the second, and stay there."""
    async with two_addresses(dead) as port:
        dial = WebSocketDial(f"ws://two.example:{port}/")
        async with Dialled(dial, register=0.5 if dead is silent else PATIENT)() as made:
            assert isinstance(made, DialFailure)
        for _ in range(2):
            async with Dialled(dial)() as made:
                assert not isinstance(made, DialFailure), made


@pytest.mark.parametrize("dead", [hangs_up, silent])
async def test_g32_the_next_call_begins_with_another_address(dead: Script) -> None:
    """A request is sent once; when nobody answers on the first address, the next call begins with the second."""
    async with two_addresses(dead) as port:
        http = HttpxHttp(f"http://two.example:{port}", within=1.0 if dead is silent else PATIENT)
        assert isinstance(await http.post("/anonymous-signin"), HttpFailure)
        http._within = PATIENT
        for _ in range(2):
            assert await http.post("/anonymous-signin") == HttpAnswer(200, "", b"{}")


async def test_g32_an_address_that_takes_no_connection_costs_nothing() -> None:
    """Where the first address refuses, the second is tried in the same dial and the same call."""
    async with serving(answered) as port:
        trio.socket.set_custom_hostname_resolver(Resolver(DEAD, ALIVE))
        async with Dialled(WebSocketDial(f"ws://two.example:{port}/"))() as made:
            assert not isinstance(made, DialFailure), made
        outcome = await HttpxHttp(f"http://two.example:{port}", within=PATIENT).post("/anonymous-signin")
        assert outcome == HttpAnswer(200, "", b"{}")


async def order(addresses: Addresses, *found: str) -> Sequence[str]:
    trio.socket.set_custom_hostname_resolver(Resolver(*found))
    return [each[4][0] for each in await addresses.find("some.example", 80)]


async def test_g32_the_order() -> None:
    """What was tried in vain comes last, the latest at the very end; what has served keeps the resolver's order."""
    addresses = Addresses()
    assert await order(addresses, "a", "b", "c") == ["a", "b", "c"]
    addresses.tried("a")
    assert await order(addresses, "a", "b", "c") == ["b", "c", "a"]
    addresses.tried("b")
    assert await order(addresses, "a", "b", "c") == ["c", "a", "b"]
    addresses.tried("a")
    assert await order(addresses, "a", "b", "c") == ["c", "b", "a"]
    addresses.served("a")
    assert await order(addresses, "a", "b", "c") == ["a", "c", "b"]
    assert await order(addresses, "a", "c") == ["a", "c"]
    assert await order(addresses, "b", "a") == ["b", "a"]  # it was gone from the name meanwhile


async def test_a_name_without_an_address() -> None:
    """A resolver that gives a name no address is a failure like any other."""
    with trio.fail_after(NET):
        trio.socket.set_custom_hostname_resolver(Resolver())
        async with Dialled(WebSocketDial("ws://none.example/"))() as made:
            assert isinstance(made, DialFailure)
        assert isinstance(await HttpxHttp("http://none.example", within=PATIENT).post("/"), HttpFailure)
