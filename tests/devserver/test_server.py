"""The server as a whole: where it binds, how it starts and ends, what its HTTP port answers."""

from __future__ import annotations

import logging
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from trio_websocket import wrap_client_stream

from worker_state.devserver import DevServer, Rooms, serve
from worker_state.devserver.server import contain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from tests.devserver.conftest import Dial, Join
    from worker_state.devserver.model import Effect
    from worker_state.devserver.sockets import FaultyStream


@pytest.fixture
async def http(server: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http_url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "8.8.8.8"])
@pytest.mark.parametrize(("allow_exposed", "environment"), [(False, None), (True, None), (True, "yes"), (False, "1")])
async def test_it_refuses_to_be_exposed_unless_told_twice(
    monkeypatch: pytest.MonkeyPatch, host: str, allow_exposed: bool, environment: str | None
) -> None:
    monkeypatch.delenv("WORKER_STATE_DEVSERVER_EXPOSE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WORKER_STATE_DEVSERVER_EXPOSE", environment)
    with pytest.raises(ValueError, match="told twice"):
        await serve(host=host, allow_exposed=allow_exposed)


async def test_it_can_be_exposed_when_told_twice(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
    monkeypatch.setenv("WORKER_STATE_DEVSERVER_EXPOSE", "1")
    server = await nursery.start(partial(serve, host="0.0.0.0", allow_exposed=True))
    assert server.host == "0.0.0.0"


@pytest.mark.parametrize("host", ["", "example.org", "127.0.0.1.example.org", "localhost.example.org"])
async def test_it_takes_no_names_for_which_others_decide(host: str) -> None:
    with pytest.raises(ValueError, match="IP address"):
        await serve(host=host)


@pytest.mark.parametrize(("host", "url"), [("localhost", "ws://127.0.0.1:"), ("::1", "ws://[::1]:")])
async def test_it_tells_where_it_is(nursery: trio.Nursery, host: str, url: str) -> None:
    server = await nursery.start(partial(serve, host=host))
    assert server.ws_url == f"{url}{server.ws_port}"


async def test_a_cancelled_server_is_gone_at_once_and_its_rooms_can_be_served_again(
    nursery: trio.Nursery, join: Join, server: DevServer
) -> None:
    member = await join()
    await member.register()
    with trio.fail_after(30):
        async with trio.open_nursery() as inner:
            other = await inner.start(partial(serve, rooms=server.rooms))
            async with httpx.AsyncClient(base_url=other.http_url, trust_env=False) as http:
                assert (await http.post("/anonymous-signin")).status_code == 200
            inner.cancel_scope.cancel()
    assert member.peer_id in other.rooms.users
    assert member.room_id in other.rooms.rooms
    assert other.rooms.peers(member.room_id) == {}


async def test_later_deployments_send_pings_of_their_own(nursery: trio.Nursery) -> None:
    server = await nursery.start(partial(serve, ping_every=0.001))
    stream = await trio.open_tcp_stream(server.host, server.ws_port)
    async with stream:
        websocket = await wrap_client_stream(nursery, stream, "localhost", "/")
        with trio.fail_after(30):
            assert await websocket.get_message() == '{"type": "ping"}'


async def test_the_three_calls_answer_over_one_connection(server: DevServer, http: httpx.AsyncClient) -> None:
    identity = (await http.post("/anonymous-signin")).json()
    room = await http.post("/create-room", headers={"Authorization": f"Bearer {identity['id_token']}"})
    deleted = await http.post("/delete-peer", json={"peer_id": identity["username"]})
    assert room.json()["room_id"] in server.rooms.rooms
    assert deleted.json()["status"].startswith("peer deleted")
    assert identity["username"] not in server.rooms.users
    assert len(server.streams) == 1


async def test_unknown_paths_and_methods_answer_as_fastapi_does(http: httpx.AsyncClient) -> None:
    unknown, wrong, head = await http.get("/rooms"), await http.get("/create-room"), await http.head("/delete-peer")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")


@pytest.mark.parametrize("body", ["{nope", b"\xff\xfe", "[" * 50_000])
async def test_a_body_that_is_no_json_is_unprocessable(http: httpx.AsyncClient, body: Any) -> None:
    answer = await http.post("/delete-peer", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "json_invalid"


class Broken(Rooms):
    """Rules with a mistake in them."""

    def receive(self, connection: Hashable, text: str | bytes, now: float) -> list[Effect]:
        raise RuntimeError(f"cannot stand {text!r}")

    def sign_in(self, now: float) -> Any:
        raise RuntimeError("cannot sign in")


@pytest.fixture
async def broken(server: DevServer) -> DevServer:
    server.rooms = Broken(random=Random(1))
    return server


async def test_an_internal_error_closes_with_1000_and_is_logged_without_what_was_sent(
    broken: DevServer, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(2):
        client = await dial()
        await client.send({"token": "secret-token"})
        assert await client.closed() == (1000, "")
    assert "RuntimeError" in caplog.text
    assert "secret-token" not in caplog.text


async def test_an_internal_error_is_a_500_in_plain_text(broken: DevServer, http: httpx.AsyncClient) -> None:
    answer = await http.post("/anonymous-signin")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_stale_cancellation_ends_with_its_connection(server: DevServer) -> None:
    """trio-websocket can raise an old Cancelled again; outside of its scope that would end all connections."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            stale = cancelled
            raise

    async def serve_one(stream: FaultyStream) -> None:
        raise stale

    ours, theirs = trio.socket.socketpair()
    with ours:
        try:
            await contain(server, serve_one, trio.SocketStream(theirs))
        except trio.Cancelled:
            pytest.fail("it spreads")  # said aloud, because a nursery would swallow it


async def test_a_whole_life_is_logged_without_secrets(
    join: Join, server: DevServer, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    member = await join()
    await member.register()
    await http.post("/create-room", headers={"Authorization": f"Bearer {member.id_token}"})
    server.cut()
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("worker_state"))
    for shown in (ours, repr(server)):
        assert member.id_token not in shown
        assert member.token not in shown
