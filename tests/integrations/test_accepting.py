"""The small servers, health and development, at the edge: slow clients, foreign pages, no descriptors (G14 to G35)."""

import errno
import json
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
from trio.testing import MockClock
from trio_websocket import open_websocket_url

from tests.support.showing import showing
from worker_state.devserver import DevServer, serve
from worker_state.integrations import accepting
from worker_state.integrations.accepting import Clients, listen
from worker_state.integrations.health.server import serve as serve_looked_at
from worker_state.integrations.http_server import is_foreign
from worker_state.logs import EVENT, JsonFormatter
from worker_state.protocol.state import State

PATIENCE = 30.0
KINDS = ("health", "devserver")
PATHS = {"health": "/health", "devserver": "/workers.json"}


@asynccontextmanager
async def running(kind: str, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """One of the servers; gives its HTTP port."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            if kind == "devserver":
                server: DevServer = await nursery.start(partial(serve, host=host))
                port = server.http_port
            else:
                listeners = await listen(0, host)
                await nursery.start(serve_looked_at, listeners, lambda: showing(State()))
                port = listeners[0].socket.getsockname()[1]
            yield port
            nursery.cancel_scope.cancel()


async def asked(port: int, head: str, host: str = "127.0.0.1") -> int:
    """The status of the answer to these lines."""
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        data = b""
        while b"\r\n" not in data:
            data += (more := await stream.receive_some())
            assert more, data
    return int(data.split()[1])


# --- slow clients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_g14_a_probe_beside_half_requests(kind: str) -> None:
    """Beside any number of half requests, each probe is answered; more come between the probes."""
    async with running(kind) as port:
        slow = []
        for _ in range(5):
            for _ in range(20):
                slow.append(await trio.open_tcp_stream("127.0.0.1", port))
                await slow[-1].send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
            assert await asked(port, f"GET {PATHS[kind]} HTTP/1.1\nHost: localhost") == 200
        for stream in slow:
            await trio.aclose_forcefully(stream)


class Exhausted(trio.abc.Listener[trio.SocketStream]):
    """A listener at the limit of descriptors, until one of its connections is closed."""

    def __init__(self, most: int) -> None:
        self.open = 0
        self.accepted = 0
        self._most = most

    async def accept(self) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if self.open >= self._most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.open += 1
        self.accepted += 1
        return _Counted(self)  # type: ignore[return-value]

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class _Counted:
    def __init__(self, listener: Exhausted) -> None:
        self.socket = trio.socket.socket()
        self._listener = listener

    async def aclose(self) -> None:
        self.socket.close()
        self._listener.open -= 1
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("replaceable", [True, False])
async def test_g14_without_descriptors_the_oldest_gives_way(replaceable: bool, autojump_clock: MockClock) -> None:
    """Connections that wait for their clients are ended for new ones, but not where they stay for good."""
    listener = Exhausted(5)

    async def wait(stream: object) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Clients(nursery, replaceable=replaceable).accept, listener, wait)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert listener.accepted >= 50 if replaceable else listener.accepted == 5


class Alternating(Exhausted):
    """At the limit again after each connection, for a moment, until `calm` has been."""

    def __init__(self, times: int) -> None:
        super().__init__(1)
        self._times = times

    async def accept(self) -> trio.SocketStream:
        if self.accepted == self._times:
            await trio.sleep(accepting.CALM)
        if self.accepted > self._times + 1:
            await trio.sleep_forever()
        return await super().accept()


async def test_g35_a_limit_that_comes_and_goes(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    """A server that lives at the limit says so ever more rarely, each time with its end; after an hour's calm anew."""
    listener = Alternating(100)

    async def serve_briefly(stream: object) -> None:
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Clients(nursery, replaceable=False).accept, listener, serve_briefly)
        await trio.sleep(3 * accepting.CALM)
        nursery.cancel_scope.cancel()
    told = [getattr(record, EVENT) for record in caplog.records if record.name == accepting.__name__]
    assert listener.accepted == 102
    assert told == ["accept_failed", "accept_recovered"] * 8  # of 1, 2, 4, … 64, and of the first after the calm


# --- no descriptors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_g35_no_descriptors_left(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, as an event without a traceback, and once more when connections are accepted again."""
    monkeypatch.setattr(accepting, "PAUSE", 0.01)
    async with running(kind) as port:
        client = trio.socket.socket()
        await client.connect(("127.0.0.1", port))  # and accepted
        assert await asked(port, f"GET {PATHS[kind]} HTTP/1.1\nHost: localhost") == 200
        client.close()
        await trio.sleep(0.1)  # its other end is closed, too
        late = trio.socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
        fillers = []
        try:
            while True:
                try:
                    fillers.append(socket.socket())
                except OSError:
                    break
            await late.connect(("127.0.0.1", port))
            await late.send(f"GET {PATHS[kind]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await trio.sleep(0.2)  # many tries
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                filler.close()
        assert b" 200 " in await late.recv(1000)
        late.close()
    told = [record for record in caplog.records if record.name == accepting.log.name]
    assert [getattr(record, EVENT) for record in told] == ["accept_failed", "accept_recovered"]
    assert [record.levelno for record in told] == [logging.ERROR, logging.WARNING]
    assert json.loads(JsonFormatter().format(told[0]))["reason"] == os.strerror(errno.EMFILE)
    assert json.loads(JsonFormatter().format(told[1]))["failures"] > 1
    assert not any(record.exc_info for record in caplog.records)


# --- both families, and how a request may name its server -------------------------------------------------------------


@pytest.mark.parametrize("port", [0, None])
async def test_g33_both_families(port: int | None) -> None:
    """`::` is every address of IPv4 and of IPv6, on a free port and on a chosen one."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    listeners = await listen(port, "::")
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_looked_at, listeners, lambda: showing(State()))
        taken = listeners[0].socket.getsockname()[1]
        assert url == f"http://[::1]:{taken}"
        for host in ("127.0.0.1", "::1"):
            assert await asked(taken, "GET /health HTTP/1.1\nHost: worker.example", host) == 200
        with pytest.raises(OSError, match="in use"):
            await listen(taken, "::")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://127.0.0.1:1{}", "localhost", 200),
        ("HTTP://localhost{}?x=1", "localhost", 200),
        ("https://[::1]:8080{}", "evil.example", 200),  # then its own host counts, and not the header
        ("http://evil.example{}", "localhost", 403),
        ("http://localhost", "localhost", None),
    ],
)
async def test_g33_absolute_form(kind: str, target: str, host: str, status: int | None) -> None:
    """A request in the form that proxies are asked in is answered as any other."""
    expected = status or {"health": 404, "devserver": 200}[kind]  # of the path "/"
    async with running(kind) as port:
        assert await asked(port, f"GET {target.format(PATHS[kind])} HTTP/1.1\nHost: {host}") == expected


# --- pages of other sites ---------------------------------------------------------------------------------------------

OURS = ("localhost", "LOCALHOST:1", "localhost.", "127.0.0.1:8790", "127.1.2.3", "[::1]", "[::1]:8790")
FOREIGN = (
    "evil.example",
    "127.0.0.1.evil.example:8790",
    "localhost.evil.example",
    "10.0.0.1",
    "[::2]",
    "[",
    "::1",
    "@",
)


@pytest.mark.parametrize("host", OURS)
def test_g15_this_machine(host: str) -> None:
    """Each name of loopback is fine with any port, as host and as origin, also without either."""
    assert not is_foreign(host, None)
    assert not is_foreign(None, f"http://{host}")
    assert not is_foreign("", f"https://{host}")


@pytest.mark.parametrize("host", FOREIGN)
def test_g15_another_name(host: str) -> None:
    """Any other name may be somebody's who has pointed it here."""
    assert is_foreign(host, None)
    assert is_foreign("localhost", f"http://{host}")
    assert is_foreign("localhost", "null")
    assert is_foreign("localhost", "")


@pytest.mark.parametrize("kind", KINDS)
async def test_g15_rebinding(kind: str) -> None:
    """A page under a name that was pointed at this machine reads nothing; neither does one across origins."""
    async with running(kind) as port:
        for path in (PATHS[kind], "/worker", "/metrics", "/"):
            assert await asked(port, f"GET {path} HTTP/1.1\nHost: evil.example:{port}") == 403
            assert await asked(port, f"GET {path} HTTP/1.1\nHost: localhost\nOrigin: http://evil.example") == 403
        assert await asked(port, f"GET {PATHS[kind]} HTTP/1.0") == 200
        assert await asked(port, f"GET {PATHS[kind]} HTTP/1.1\nHost: localhost\nOrigin: http://localhost:3000") == 200


async def test_g15_the_refusal_says_what_helps() -> None:
    """Whoever asks a worker by its machine's name, which leads to loopback, reads which option lets that name in."""
    async with running("health") as port, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics", headers={"Host": f"node7:{port}"})
        assert answer.status_code == 403
        assert "--health-host" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["health"])
async def test_g15_exposed_servers_have_any_name(kind: str) -> None:
    """Who binds a server to other addresses gives it other names."""
    async with running(kind, "0.0.0.0") as port:
        assert await asked(port, f"GET {PATHS[kind]} HTTP/1.1\nHost: worker.example") == 200


async def test_g15_the_development_servers_calls() -> None:
    """No other site's page deletes a peer, or signs in, and none opens the WebSocket."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server: DevServer = await nursery.start(serve)
            evil = {"Origin": "http://evil.example"}
            async with httpx.AsyncClient(base_url=server.http_url, trust_env=False) as client:
                for path in ("/anonymous-signin", "/create-room", "/delete-peer"):
                    assert (await client.post(path, headers=evil)).status_code == 403
                assert not server.rooms.users
                own = {"Origin": server.http_url}
                assert (await client.post("/anonymous-signin", headers=own)).status_code == 200
            assert await asked(server.ws_port, f"{UPGRADE}\nHost: localhost\nOrigin: http://evil.example") == 403
            named = server.ws_url.replace("127.0.0.1", "localhost")
            for headers in ([], [(b"Origin", server.http_url.encode())]):
                async with open_websocket_url(named, extra_headers=headers) as socket_:
                    await socket_.send_message("{}")
                    assert "error" in await socket_.get_message()
            assert await asked(server.ws_port, f"{UPGRADE}\nHost: evil.example:{server.ws_port}") == 403
            nursery.cancel_scope.cancel()


UPGRADE = (
    "GET / HTTP/1.1\nUpgrade: websocket\nConnection: Upgrade\n"
    "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)
