"""Health over real sockets: what a probe, a scraper and an unfriendly client get, and that it harms no worker."""

import errno
import json
import logging
import math
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

import worker_state
from tests.protocol.test_state import PROVED, SECRET, after
from tests.support.showing import showing
from tests.support.worlds import World, scenario
from worker_state import Config, ConfigError, Manager, SessionString, State, open_state_manager
from worker_state.devserver import DevServer, serve
from worker_state.integrations import readiness
from worker_state.integrations.accepting import listen
from worker_state.integrations.health import server as health
from worker_state.integrations.health.server import BOUND, CLIENTS, Lag, Routes, url_of
from worker_state.integrations.health.server import serve as serve_looked_at
from worker_state.integrations.http_server import MAX_HEAD, Request
from worker_state.integrations.readiness import ANSWER, assess
from worker_state.protocol import counters, events
from worker_state.protocol.frames import Around
from worker_state.protocol.probe import longest_unproved
from worker_state.protocol.status import Busy

PATHS = ("/health", "/ready", "/worker", "/metrics")
METRICS = {
    "worker_state_status": "gauge",
    "worker_state_info": "gauge",  # as the text format has it
    "worker_state_ready": "gauge",
    "worker_state_draining": "gauge",
    "worker_state_last_proof_age_seconds": "gauge",
    "worker_state_registered": "gauge",
    "worker_state_connected": "gauge",
    "worker_state_dials": "counter",
    "worker_state_registrations": "counter",
    "worker_state_evictions": "counter",
    "worker_state_drift_repairs": "counter",
    "worker_state_status_updates": "counter",
    "worker_state_last_ack_timestamp_seconds": "gauge",
    "worker_state_backoff_seconds": "gauge",
    "worker_state_time_to_register_seconds": "histogram",
    "worker_state_signals_dropped": "counter",
    "worker_state_loop_lag_seconds": "gauge",
}


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[httpx.AsyncClient]:
    with trio.fail_after(60):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield client


@asynccontextmanager
async def served(manager: Manager | str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a health server about this manager."""
    async with trio.open_nursery() as nursery:
        listeners = await listen(0, "127.0.0.1")
        async with asking(await nursery.start(serve_looked_at, listeners, lambda: manager)) as client:
            yield client
        nursery.cancel_scope.cancel()


async def read(url: str, sent: bytes) -> bytes:
    """Everything that comes back for these bytes."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(sent)
        return b"".join([data async for data in stream])


async def until_ready(client: httpx.AsyncClient, wanted: int) -> dict[str, Any]:
    while (answer := await client.get("/ready")).status_code != wanted:
        await trio.sleep(0.02)
    body: dict[str, Any] = answer.json()
    return body


async def start_again(before: DevServer, task_status: "trio.TaskStatus[trio.CancelScope]") -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, rooms=before.rooms, ws_port=before.ws_port, http_port=before.http_port))
            task_status.started(scope)


async def test_ready_follows_the_server(nursery: trio.Nursery) -> None:
    """Ready turns 503 when the server is killed, with the reason and since when, and 200 when it is back."""
    killed = trio.CancelScope()

    async def first(task_status: "trio.TaskStatus[DevServer]") -> None:
        with killed:
            await serve(task_status=task_status)

    server = await nursery.start(first)
    async with open_state_manager(Config(server.ws_url, server.http_url)) as manager:
        url = await nursery.start(worker_state.serve_health, manager, 0)
        async with asking(url) as client:
            await until_ready(client, 200)
            killed.cancel()
            body = await until_ready(client, 503)
            assert body["ready"] is False
            assert body["reason"].startswith("not registered: ")
            assert 0 <= body["reason_seconds"] < 30
            assert (await client.get("/health")).status_code == 200
            again = await nursery.start(start_again, server)
            assert (await until_ready(client, 200))["reason"] == "discoverable"
            numbers = await samples(client)
            assert numbers["worker_state_dials_total", "connected"] == 2
            assert numbers["worker_state_registrations_total", "accepted"] == 2
            assert numbers["worker_state_time_to_register_seconds_count", None] == 2
            assert time.time() - 60 < numbers["worker_state_last_ack_timestamp_seconds", None] <= time.time() + 1
    again.cancel()


async def samples(client: httpx.AsyncClient) -> dict[tuple[str, str | None], float]:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, sample.labels.get("outcome") or sample.labels.get("result")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@scenario(faster=20)
async def test_a_forged_record_is_not_ready_until_it_is_repaired(world: World) -> None:
    """What somebody has changed on the server is counted when it is seen, and makes unready until it is repaired."""
    manager = await world.start()
    await manager.synced()
    seen: set[bool] = set()

    async def watch() -> None:
        async for state in manager.states:
            seen.add(assess(state, trio.current_time()).ready)

    world.nursery.start_soon(watch)
    async with world.client(manager) as client:
        record = {"tags": ["forged"], "properties": {"status": "busy"}}
        await client.send({"type": "update_metadata", "peer_id": manager.state.peer_id, "metadata": record})
    with trio.fail_after(120):
        while not manager.counts.of(counters.DRIFTED):
            await trio.sleep(0.1)
        await manager.synced()
    assert seen == {True, False}
    assert assess(manager.state, trio.current_time()).ready
    assert world.shown(manager)[0] == "available"
    assert manager.counts.of(counters.CONFIRMED) >= 1
    await world.stop(manager)


@scenario(only="fake")  # it takes minutes
async def test_ready_for_as_long_as_all_is_well(world: World) -> None:
    """For ten minutes of a good network the worker is ready without a break; when answers stay away, it soon is not."""
    manager = await world.start()
    await manager.synced()
    for _ in range(600):
        assert assess(manager.state, trio.current_time()).ready
        await trio.sleep(1)
    world.mute()
    began = trio.current_time()
    with trio.fail_after(120):
        while assess(manager.state, trio.current_time()).ready:
            await trio.sleep(0.5)
    assert trio.current_time() - began <= longest_unproved(0) + ANSWER + 1
    await world.stop(manager)


async def test_no_secret_in_any_answer(nursery: trio.Nursery) -> None:
    """Neither the session string nor a token of a living worker stands in what anybody is told."""
    server = await nursery.start(serve)
    async with open_state_manager(Config(server.ws_url, server.http_url)) as manager:
        await manager.synced()
        async with asking(await nursery.start(worker_state.serve_health, manager, 0)) as client:
            texts = [(answer := await client.get(path)).text + str(answer.headers) for path in (*PATHS, "/other")]
        assert manager.session_string is not None
        (register,) = [frame for _, frame in server.frames if frame["type"] == "register"]
        for secret in (
            manager.session_string.removeprefix("sleap-session:"),
            SessionString.parse(manager.session_string).token,
            *register["id_token"].split("."),
        ):
            assert len(secret) > 3
            assert all(secret not in text for text in texts)


async def test_the_snapshot_as_json() -> None:
    """`/worker` is the snapshot without the session string, with the process it belongs to."""
    async with served(showing(after(*PROVED))) as client:
        answer = await client.get("/worker")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["status"] == "available"
    assert answer.json()["peer_id"] == "PEER"
    assert "pid" in answer.json()
    assert SECRET not in answer.text


async def test_metrics_are_those_that_are_documented() -> None:
    """The official parser reads exactly these metrics, with these types."""
    async with served(showing(after(*PROVED))) as client:
        answer = await client.get("/metrics")
    families = list(text_string_to_metric_families(answer.text))
    assert {family.name: family.type for family in families} == METRICS
    assert all(family.documentation for family in families)
    values = {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}
    assert (values["worker_state_registered"], values["worker_state_connected"]) == (1, 1)


async def test_metrics_say_what_the_worker_does() -> None:
    """One of the four statuses is 1; `ready`, `draining` and the proof's age are those of the snapshot."""
    busy = after(*PROVED, events.ChangeStatus(1, Busy("job-1")), events.StartDraining())
    async with served(showing(busy)) as client:
        text = (await client.get("/metrics")).text
    assert 'worker_state_status{status="busy"} 1.0' in text
    assert text.count("worker_state_status{") == 4
    assert text.count("} 0.0") >= 3
    assert "worker_state_draining 1.0" in text
    assert "worker_state_ready 0.0" in text  # the server has not confirmed the job
    assert f'version="{worker_state.__version__}"' in text
    assert "worker_state_last_proof_age_seconds +Inf" not in text


async def test_metrics_with_ice_servers() -> None:
    """What the server says of the world around the worker does not keep its metrics from being read."""
    around = Around(("a",), ({"urls": ["stun:x"]},), (), "a", {"a": {"tags": []}})
    state = replace(after(*PROVED), around=around)
    async with served(showing(state)) as client:
        assert (await client.get("/metrics")).status_code == 200


async def test_metrics_of_a_worker_that_was_never_answered() -> None:
    """Without any answer of the server's its time is 0, and not now."""
    async with served(showing(State())) as client:
        numbers = await samples(client)
    assert numbers["worker_state_last_ack_timestamp_seconds", None] == 0
    assert numbers["worker_state_last_proof_age_seconds", None] == math.inf
    assert numbers["worker_state_registered", None] == 0


async def test_without_the_metrics_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the optional package is missing, metrics say how to install it, and the rest works."""
    monkeypatch.delitem(sys.modules, "worker_state.integrations.metrics", raising=False)
    monkeypatch.delattr("worker_state.integrations.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with served(showing(after(*PROVED))) as client:
        answer = await client.get("/metrics")
        missing = "The package prometheus-client is not installed: pip install 'worker-state[health]'"
        assert (answer.status_code, answer.json()) == (501, {"error": missing})
        assert (await client.get("/health")).status_code == 200


async def test_before_and_after_the_worker() -> None:
    """While there is no worker, the loop is alive, and everything else says in words why nothing is known."""
    async with served("the worker is starting") as client:
        assert (await client.get("/health")).status_code == 200
        for path in PATHS[1:]:
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["reason"]) == (503, "the worker is starting")


@pytest.mark.parametrize("path", PATHS)
async def test_head(path: str) -> None:
    """HEAD gets the same head as GET and no body."""
    async with served(showing(after(*PROVED, now=trio.current_time()))) as client:
        head, got = await client.head(path), await client.get(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
        raw = await read(str(client.base_url).rstrip("/"), f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert raw.endswith(b"\r\n\r\n")


async def test_other_paths_and_methods() -> None:
    """Another path gets the list of those that there are; another method is refused, whatever it brings along."""
    async with served(showing(State())) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.json()["paths"]) == (404, list(PATHS))
        assert (await client.get("/health?verbose=1")).status_code == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = await client.request(method, "/ready", content=b"x" * 40_000)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b""),  # somebody who expects TLS, and then waits
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 2 * MAX_HEAD, b"431"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # without a Host
        (b"GET \xff HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET http://[x/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n", b"405"),  # whose body never comes
    ],
)
async def test_bad_requests(sent: bytes, status: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no request gets a refusal, or nothing, and costs its own connection only."""
    monkeypatch.setattr(health, "DEADLINE", 0.3)
    async with served(showing(State())) as client:
        raw = await read(str(client.base_url).rstrip("/"), sent)
        assert raw[9:12] == status or (status == b"" and raw[9:12] in (b"", b"400"))
        assert (await client.get("/health")).status_code == 200


async def test_g14_slow_clients_stall_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that say nothing, or half a line, hinder nobody; beyond a number of them the oldest gives way."""
    monkeypatch.setattr(health, "DEADLINE", 300.0)  # so that it is their number that ends the first one
    async with served(showing(State())) as client:
        host, _, port = str(client.base_url).rstrip("/").removeprefix("http://").rpartition(":")
        slow = [await trio.open_tcp_stream(host, int(port)) for _ in range(3 * CLIENTS)]
        for stream in slow[2 * CLIENTS :: 2]:
            await stream.send_all(b"GET /hea")
        for _ in range(3):
            assert (await client.get("/health")).status_code == 200
        assert await slow[0].receive_some() == b""
        await slow[-1].send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await slow[-1].receive_some()
        for stream in slow:
            await stream.aclose()


async def test_a_slow_client_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not finish asking is let go."""
    monkeypatch.setattr(health, "DEADLINE", 0.05)
    async with served(showing(State())) as client:
        assert await read(str(client.base_url).rstrip("/"), b"GET /hea") == b""


async def test_a_client_that_resets() -> None:
    """Who resets the connection half-way is no trouble to anybody."""
    async with served(showing(State())) as client:
        for sent in (b"", b"GET /hea", b"GET /worker HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            host, _, port = str(client.base_url).rstrip("/").removeprefix("http://").rpartition(":")
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(sent)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()
        assert (await client.get("/health")).status_code == 200


async def test_a_mistake_of_ours_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in an answer is logged, costs that connection, and neither the server nor the worker."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(readiness, "account", broken)
    async with served(showing(State())) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/worker")
        assert (await client.get("/health")).status_code == 200
    assert [record.levelno for record in caplog.records if record.name == "worker_state.health"] == [logging.ERROR]


async def test_a_stuck_loop_is_told(autojump_clock: object) -> None:
    """The lag of the loop is in the answer, and beyond its bound the answer is 503."""
    lag = Lag(trio.current_time())
    routes = Routes(lambda: "nobody", lag)
    request = Request("GET", "/health", {}, b"")
    assert (await routes.respond(request)).status == 200
    await trio.sleep(BOUND + 1)  # and nobody has measured
    answer = await routes.respond(request)
    body = json.loads(answer.body)
    assert (answer.status, body["alive"], body["bound_seconds"]) == (503, False, BOUND)
    assert body["lag_seconds"] > BOUND


async def test_the_lag_is_measured() -> None:
    """A loop that is blocked shows in the metrics."""
    async with served(showing(State())) as client:
        time.sleep(0.8)  # noqa: ASYNC251 - that is the point
        assert (await samples(client))["worker_state_loop_lag_seconds", None] > 0.2


async def test_a_port_that_is_taken() -> None:
    """A port that is in use is said at once, and the worker that is asked for it goes on."""
    (listener,) = await listen(0, "127.0.0.1")
    port = listener.socket.getsockname()[1]
    with pytest.raises(OSError, match=rf"cannot listen on port {port} of '127\.0\.0\.1': .* in use") as refused:
        await worker_state.serve_health(showing(State()), port)
    assert refused.value.errno == errno.EADDRINUSE
    await listener.aclose()


@pytest.mark.parametrize("host", ["a..b", "a" * 300, "\udcff"])
async def test_a_host_that_can_be_no_name(host: str) -> None:
    """It is refused as any other that cannot be had, and not by the codec that has tried it."""
    with pytest.raises(OSError, match=re.escape(f"cannot listen on port 0 of {host!r}: ")) as refused:
        await worker_state.serve_health(showing(State()), 0, host)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("localhost", None)])
async def test_the_address_is_one_that_can_be_asked(host: str, shown: str | None) -> None:
    """What is printed and left behind leads here, also when it listens on every address."""
    try:
        listeners = await listen(0, host)
    except OSError:
        pytest.skip("this machine does not know such addresses")
    assert len(listeners) == 1
    found, _, port = url_of(listeners).removeprefix("http://").rpartition(":")
    assert shown is None or found == shown
    assert int(port) == listeners[0].socket.getsockname()[1]
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize(
    ("port", "host", "sentence"),
    [
        ("8790", "127.0.0.1", "port must be a whole number from 0 to 65535, not '8790'"),
        (True, "127.0.0.1", "port must be a whole number"),
        (65536, "127.0.0.1", "port must be a whole number"),
        (-1, "127.0.0.1", "port must be a whole number"),
        (0, "", "host must be a name or an address to listen on, as '127.0.0.1', not ''"),
        (0, None, "host must be a name or an address"),
    ],
)
async def test_what_is_no_port_or_host(port: Any, host: Any, sentence: str) -> None:
    """What is no port is refused in words, and so is a host that would mean every address."""
    with pytest.raises(ConfigError) as refused:
        await listen(port, host)
    assert str(refused.value).startswith(sentence)
