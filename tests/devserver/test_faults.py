"""The faults that can be asked for: each is seen by the client, and each ends."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionRejected, wrap_client_stream

from worker_state.devserver.faults import CHARACTERS_KEPT, FRAMES_KEPT

if TYPE_CHECKING:
    from tests.devserver.conftest import Connect, Dial, Join, Until
    from worker_state.devserver import DevServer


def listed(server: DevServer, peer_id: str) -> bool:
    return server.rooms.peer(peer_id) is not None


async def test_cutting_one_peer_resets_its_connection_and_no_other(server: DevServer, join: Join) -> None:
    one, other = await join(), await join()
    await one.register()
    await other.register()
    server.cut(one.peer_id)
    assert not listed(server, one.peer_id)
    assert (await one.client.closed())[0] == 1006
    assert await other.echoes()


async def test_cutting_everything_also_cuts_those_who_never_registered(
    server: DevServer, until: Until, dial: Dial
) -> None:
    clients = [await dial() for _ in range(3)]
    server.cut()
    for client in clients:
        assert (await client.closed())[0] == 1006
    await until(lambda: not server.connections)


async def test_cutting_everything_also_cuts_what_is_no_websocket_yet(
    server: DevServer, until: Until, connect: Connect
) -> None:
    stream = await connect()
    await until(lambda: len(server.streams) == 1)
    server.cut()
    with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


async def test_what_was_sent_before_a_cut_counts_no_more(server: DevServer, until: Until, join: Join) -> None:
    member = await join()
    await member.register()
    server.freeze(member.peer_id)
    await member.client.send(member.register_frame())
    await wait_all_tasks_blocked(0.01)
    server.notice(member.peer_id)
    await until(lambda: not server.streams)
    assert not listed(server, member.peer_id)
    assert len(server.frames) == 1


async def test_while_it_is_away_its_ports_are_closed(server: DevServer, join: Join, dial: Dial) -> None:
    """Connections are reset, new ones refused on both ports, and after that the same addresses answer again."""
    member = await join()
    await member.register()
    room_id = member.register_frame()["room_id"]
    for _ in range(2):
        server.go_away()
        assert not listed(server, member.peer_id)
        assert (await member.client.closed())[0] == 1006
        for port in (server.ws_port, server.http_port):
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream(server.host, port)
        server.come_back()
        async with httpx.AsyncClient(base_url=server.http_url, trust_env=False) as http:
            while True:
                with suppress(httpx.ConnectError):
                    assert (await http.post("/anonymous-signin")).status_code == 200
                    break
        member.client = await dial()
        await member.register()
    assert room_id in server.rooms.rooms


async def test_away_and_back_at_once(server: DevServer, until: Until, join: Join, dial: Dial) -> None:
    """A server that is back before anything else has run takes connections, and one that goes meanwhile does not."""
    member = await join()
    await member.register()
    server.go_away()
    server.come_back()
    await wait_all_tasks_blocked(0.01)
    member.client = await dial()
    await member.register()
    server.go_away()
    server.come_back()
    server.go_away()
    await wait_all_tasks_blocked(0.01)
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(server.host, server.ws_port)
    await until(lambda: not server.streams)


async def test_a_half_open_connection_evicts_the_new_registration_when_it_is_noticed(
    server: DevServer, join: Join, dial: Dial
) -> None:
    member = await join()
    await member.register()
    server.half_open(member.peer_id)
    assert (await member.client.closed())[0] == 1006
    assert listed(server, member.peer_id)
    member.client = await dial()
    await member.register()
    assert await member.echoes()
    server.notice(member.peer_id)
    assert not listed(server, member.peer_id)
    answer = await member.client.ask(member.echo_frame())
    assert answer["code"] == "NOT_IN_ROOM"


async def test_a_half_open_peer_stays_listed_and_its_messages_are_swallowed(server: DevServer, join: Join) -> None:
    gone = await join()
    await gone.register()
    client = await join(beside=gone)
    await client.register()
    server.half_open(gone.peer_id)
    await client.client.send(client.echo_frame(to=gone.peer_id))
    assert await client.echoes()  # no error came before
    server.notice()
    assert (await client.client.ask(client.echo_frame(to=gone.peer_id)))["code"] == "PEER_NOT_IN_ROOM"


async def test_a_frozen_connection_does_not_notice_that_its_peer_has_gone(
    server: DevServer, until: Until, join: Join, dial: Dial
) -> None:
    member = await join()
    await member.register()
    server.freeze(member.peer_id)
    member.client.reset()
    await wait_all_tasks_blocked(0.01)
    assert listed(server, member.peer_id)
    server.thaw(member.peer_id)
    await until(lambda: not listed(server, member.peer_id))


async def test_a_thawed_connection_answers_what_it_was_asked_while_frozen(server: DevServer, join: Join) -> None:
    member = await join()
    await member.register()
    server.freeze(member.peer_id)
    await member.client.send(member.echo_frame())
    await wait_all_tasks_blocked(0.01)
    assert server.frames[-1][1]["type"] == "register"
    server.thaw()
    assert await member.client.receive() == member.echo_frame()


async def test_everybody_can_be_disconnected_politely(server: DevServer, until: Until, join: Join) -> None:
    members = [await join() for _ in range(3)]
    for member in members:
        await member.register()
    server.disconnect_all(1001, "going away")
    for member in members:
        assert await member.client.closed() == (1001, "going away")
    await until(lambda: not server.connections)
    assert not any(listed(server, member.peer_id) for member in members)


async def test_a_restart_forgets_registrations_and_keeps_rooms(server: DevServer, join: Join, dial: Dial) -> None:
    member = await join()
    await member.register()
    server.restart()
    assert (await member.client.closed())[0] == 1006
    member.client = await dial()
    assert (await member.client.ask(member.echo_frame()))["code"] == "NOT_IN_ROOM"
    await member.register()


async def test_upgrades_are_refused_as_often_as_asked(server: DevServer, dial: Dial) -> None:
    server.refuse_upgrades(503, {"Retry-After": "30"}, b"later", times=2)
    for _ in range(2):
        with pytest.RaisesGroup(ConnectionRejected, allow_unwrapped=True, flatten_subgroups=True) as caught:
            await dial_alone(server)
        (rejected,) = caught.value.exceptions if isinstance(caught.value, ExceptionGroup) else (caught.value,)
        assert isinstance(rejected, ConnectionRejected)
        assert (rejected.status_code, rejected.body) == (503, b"later")
        assert (b"retry-after", b"30") in (rejected.headers or ())
    await dial()


async def dial_alone(server: DevServer) -> None:
    """In a nursery of its own, because a rejection is raised there."""
    async with await trio.open_tcp_stream(server.host, server.ws_port) as stream, trio.open_nursery() as nursery:
        with trio.fail_after(30):
            await wrap_client_stream(nursery, stream, "localhost", "/")
            await trio.sleep_forever()


async def test_refusals_can_be_taken_back(server: DevServer, dial: Dial) -> None:
    server.refuse_upgrades(503, times=1000)
    server.accept_upgrades()
    await dial()


@pytest.mark.parametrize("handling", [False, True])
async def test_a_mute_server_takes_frames_and_answers_nothing(
    server: DevServer, until: Until, join: Join, handling: bool
) -> None:
    member = await join()
    server.mute(handling=handling)
    await member.client.send(member.register_frame())
    await until(lambda: bool(server.frames))
    await wait_all_tasks_blocked()
    assert server.frames[-1] == (member.peer_id, member.register_frame())
    assert listed(server, member.peer_id) is handling
    server.unmute()
    await member.register()  # the first answer that comes is to this one


async def test_a_register_abandoned_with_a_close_frame_leaves_a_ghost(
    server: DevServer, until: Until, join: Join
) -> None:
    member = await join()
    client = await join(beside=member)
    await client.register()
    server.hold_registers()
    await member.client.send(member.register_frame())
    await until(lambda: server.held_registers == 1)
    await member.client.close()
    server.release_registers()
    await until(lambda: len(server.connections) == 1)
    assert listed(server, member.peer_id)
    assert (await client.client.ask(client.echo_frame(to=member.peer_id)))["code"] == "DELIVERY_FAILED"


async def test_a_register_and_a_close_frame_in_one_breath_leave_a_ghost(
    server: DevServer, until: Until, join: Join
) -> None:
    members = [await join() for _ in range(10)]  # the scheduler tosses coins
    for member in members:
        await member.client.send_and_close(member.register_frame())
    await until(lambda: len(server.frames) == 10 and not server.connections)
    assert all(listed(server, member.peer_id) for member in members)


async def test_a_register_abandoned_with_a_reset_leaves_none(server: DevServer, until: Until, join: Join) -> None:
    member = await join()
    server.hold_registers()
    await member.client.send(member.register_frame())
    await until(lambda: server.held_registers == 1)
    member.client.reset()
    server.release_registers()
    await until(lambda: not server.connections)
    assert not listed(server, member.peer_id)


async def test_http_fails_as_often_as_asked(server: DevServer) -> None:
    server.fail_http("/anonymous-signin", 500, {"detail": "Anonymous sign-in failed: x"}, headers={"Retry-After": "3"})
    server.fail_http("/anonymous-signin", 200, "<html>", content_type="text/html", times=2)
    async with httpx.AsyncClient(base_url=server.http_url, trust_env=False) as http:
        answers = [await http.post("/anonymous-signin") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 200, 200, 200]
    assert answers[0].headers["retry-after"] == "3"
    assert answers[1].text == answers[2].text == "<html>"
    assert answers[2].headers["content-type"] == "text/html"
    assert list(server.rooms.users) == [answers[3].json()["username"]]


async def test_a_hanging_call_is_answered_when_released(server: DevServer, nursery: trio.Nursery) -> None:
    server.hang_http("/anonymous-signin")
    async with httpx.AsyncClient(base_url=server.http_url, trust_env=False) as http:
        answers: list[httpx.Response] = []

        async def call() -> None:
            answers.append(await http.post("/anonymous-signin"))

        async with trio.open_nursery() as calls:
            calls.start_soon(call)
            await wait_all_tasks_blocked(0.01)
            assert (await http.post("/create-room")).status_code == 422
            assert (answers, dict(server.rooms.users)) == ([], {})
            server.release_http()
        assert answers[0].status_code == 200


async def test_frames_are_kept_with_the_peer_that_sent_them(server: DevServer, join: Join) -> None:
    member = await join()
    await member.register()
    await member.echoes()
    assert [(peer_id, frame["type"]) for peer_id, frame in server.frames] == [
        (member.peer_id, "register"),
        (member.peer_id, "peer_message"),
    ]


async def test_g10_the_frames_kept_are_bounded_in_size(server: DevServer) -> None:
    """Of what clients have sent the newest stays, in number and in characters."""
    long = json.dumps({"type": "offer", "sdp": "v" * 2**20})
    for _ in range(20):
        server.record_frame(object(), long)  # type: ignore[arg-type]
    assert len(server.frames) == CHARACTERS_KEPT // len(long)
    for number in range(FRAMES_KEPT + 10):
        server.record_frame(object(), json.dumps({"n": number}))  # type: ignore[arg-type]
    assert len(server.frames) == FRAMES_KEPT
    assert server.frames[-1] == (None, {"n": FRAMES_KEPT + 9})


async def test_g12_a_flood_of_one_client_does_not_hold_up_the_others(server: DevServer, join: Join) -> None:
    """Between a few frames of one client that come at once everybody else's turn comes."""
    member, turns = await join(), 0
    await member.register()
    before = len(server.frames)
    server.freeze(member.peer_id)
    await member.client.stream.send_all(b"\x8a\x80\0\0\0\0" * 2000)  # pongs, behind a frozen server
    await member.client.send({"type": "discover_peers", "from_peer_id": member.peer_id})
    await wait_all_tasks_blocked(0.01)
    server.thaw(member.peer_id)
    with trio.fail_after(30):
        while len(server.frames) == before:
            await trio.lowlevel.checkpoint()
            turns += 1
    assert turns >= 2000 // 32
