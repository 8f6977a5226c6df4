"""Watching a room: what is seen of it, through every kind of trouble, and that nothing stays behind."""

import logging
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any

import pytest
import trio

from tests.support.fake import FakeSocket
from tests.support.worlds import FakeWorld, World, given_room, scenario
from worker_state import Config, ConfigError, Manager, Timing
from worker_state.errors import ObservationFailed
from worker_state.protocol.error_policy import Closed
from worker_state.protocol.http_api import HttpFailure
from worker_state.tools.observer import open_roster
from worker_state.tools.roster import Roster
from worker_state.watched import Watched
from worker_state.world import World as Outside

EVERY = 0.5


def outside_of(world: FakeWorld) -> Outside:
    return Outside(dial=world.server.dial, http=world.server, random=Random(3), nonce=lambda: "nonce")


def watching(world: World, every: float = EVERY, **room: Any) -> AbstractAsyncContextManager[Watched[Roster]]:
    """Watch this room, in the worker's world."""
    outside = None
    if isinstance(world, FakeWorld):
        outside = outside_of(world)
    else:
        room["timing"] = Timing(exit=20.0, close=5.0)  # of a clock that may run five times as fast, on a busy machine
    return open_roster(world.config(**room), every=every, world=outside)


def room_of(world: World, manager: Manager) -> dict[str, Any]:
    room = world.rooms.rooms[manager.state.room_id or ""]
    return {"room_id": room.room_id, "room_token": room.token}


@scenario
async def test_every_worker_is_seen_with_its_status(world: World) -> None:
    """The roster follows a worker's status and a second worker's arrival; afterwards only theirs is left."""
    one = await world.start()
    room = room_of(world, one)
    async with watching(world, **room) as rosters:
        (row,) = rosters.value.rows
        assert (row.entry.peer_id, row.entry.status, row.at_least) == (one.state.peer_id, "available", True)
        assert (row.entry.gpu_model, row.entry.gpu_memory_mb) == ("NVIDIA RTX A5000", 24576)
        one.set_busy("job-1")
        roster = await rosters.wait_for(lambda roster: roster.entries[0].doing == ("busy", "job-1"))
        assert roster.rows[0].at_least is False
        two = await world.start(**room)
        await rosters.wait_for(lambda roster: len(roster.entries) == 2)
        (watcher,) = set(world.rooms.users) - {one.state.peer_id, two.state.peer_id}
        assert (peer := world.rooms.peer(watcher)) is not None
        assert peer.role == "client"
    assert set(world.rooms.users) == {one.state.peer_id, two.state.peer_id}
    assert set(world.rooms.peers(room["room_id"])) == {one.state.peer_id, two.state.peer_id}


@scenario
async def test_the_room_is_never_deleted_with_the_watcher(world: World) -> None:
    """Whoever is deleted as the last one registered takes the room along: the watcher is not registered any more."""
    room = given_room(world.rooms, world.now())
    async with watching(world, **room) as rosters:
        assert (rosters.value.room_id, rosters.value.entries) == (room["room_id"], ())
    assert dict(world.rooms.users) == {}
    assert set(world.rooms.rooms) == {room["room_id"]}


@scenario(faster=5.0)
async def test_a_cut_connection_makes_the_view_old_and_is_mended(world: World) -> None:
    """While nobody answers the old rows stand there with their trouble; the same identity comes back."""
    worker = await world.start()
    async with watching(world, **room_of(world, worker)) as rosters:
        asked = rosters.value.answered_at
        world.cut()
        roster = await rosters.wait_for(lambda roster: roster.trouble is not None)
        assert roster.entries
        assert roster.answered_at is not None
        await rosters.wait_for(lambda roster: roster.trouble is None and (roster.answered_at or 0) > (asked or 0))
        assert len(world.rooms.users) == 2
    assert set(world.rooms.users) == {worker.state.peer_id}


@scenario(faster=5.0)
async def test_a_server_that_has_forgotten_us_is_joined_again(world: World) -> None:
    """A search that is answered with NOT_IN_ROOM says that the registration is gone."""
    worker = await world.start()
    async with watching(world, **room_of(world, worker)) as rosters:
        world.rooms.forget_peers()
        roster = await rosters.wait_for(lambda roster: roster.trouble is not None)
        assert roster.trouble == "the server does not know us any more"
        await rosters.wait_for(lambda roster: roster.trouble is None)


@scenario
async def test_g01_the_server_does_not_know_that_the_watcher_has_gone(world: World) -> None:
    """While the server may still list the watcher its identity is left: the deletion would take the room along."""
    room = given_room(world.rooms, world.now())
    async with watching(world, **room) as rosters:
        (watcher,) = world.rooms.users
        world.refuse()
        world.server.half_open(watcher)
        await rosters.wait_for(lambda roster: roster.trouble is not None)
    assert set(world.rooms.users) == {watcher}
    assert set(world.rooms.rooms) == {room["room_id"]}
    assert world.logged(logging.WARNING, "our identity could not be deleted")


@scenario(only="fake")  # an hour
async def test_an_id_token_that_has_run_out_is_replaced(world: World) -> None:
    """The new identity comes in the old one's place, which is deleted at once."""
    room = given_room(world.rooms, world.now())
    async with watching(world, every=60.0, **room) as rosters:
        (first,) = world.rooms.users
        await trio.sleep(3700.0)
        world.server.disconnect_all(1001)
        roster = await rosters.wait_for(lambda roster: roster.trouble == "the server refuses: the ID token is refused")
        assert roster.answered_at is not None
        await rosters.wait_for(lambda roster: roster.trouble is None)
        (second,) = world.rooms.users
        assert first != second
    assert dict(world.rooms.users) == {}


@scenario(only="fake")  # an hour
async def test_a_sign_in_that_is_put_off_is_not_tried_sooner(world: World) -> None:
    """A `Retry-After` counts for the sign-in as for the upgrade."""
    assert isinstance(world, FakeWorld)
    async with watching(world, every=60.0, **given_room(world.rooms, world.now())) as rosters:
        await trio.sleep(3700.0)
        world.server.fail_http("/anonymous-signin", 429, "later", headers={"Retry-After": "50"})
        world.server.disconnect_all(1001)
        put_off = "the server gave no identity: HTTP 429: "
        await rosters.wait_for(lambda roster: (roster.trouble or "").startswith(put_off))
        refused_at = trio.current_time()
        await rosters.wait_for(lambda roster: roster.trouble is None)
        assert trio.current_time() - refused_at >= 50.0


NEW_ROOM = "A worker whose room is gone makes another, with another session string"


@scenario
async def test_a_room_that_does_not_let_us_in_is_said_at_once(world: World) -> None:
    """Wrong token, unknown room: one sentence without the token, and no identity left."""
    room = given_room(world.rooms, world.now())
    for wrong, said in (
        ({"room_token": "secret-token"}, "the server refuses: wrong room token"),
        ({"room_id": "nowhere"}, f"the server refuses: room not found. {NEW_ROOM}"),
    ):
        with pytest.raises(ObservationFailed) as failed:
            async with watching(world, **(room | wrong)):
                raise AssertionError("never entered")
        assert str(failed.value) == said
    assert dict(world.rooms.users) == {}


@scenario
async def test_a_server_that_is_not_there_is_said_at_once(world: World) -> None:
    """No identity, or no connection: which of the two is said, and what was created is deleted."""
    room = given_room(world.rooms, world.now())
    world.fail_http("/anonymous-signin", 500, b"no more")
    with pytest.raises(ObservationFailed, match="the server gave no identity: HTTP 500: no more"):
        async with watching(world, **room):
            raise AssertionError("never entered")
    world.refuse()
    with pytest.raises(ObservationFailed, match=r"refused|sent away"):
        async with watching(world, **room):
            raise AssertionError("never entered")
    assert dict(world.rooms.users) == {}


@scenario(only="fake")  # 12 s and more of silence
async def test_a_server_that_answers_nothing_makes_the_view_old(world: World) -> None:
    """A search without an answer, and then a registration without one, are trouble of different names."""
    async with watching(world, **given_room(world.rooms, world.now())) as rosters:
        world.mute()
        await rosters.wait_for(lambda roster: roster.trouble == "no answer in 12 s")
        await rosters.wait_for(lambda roster: roster.trouble == "register not answered")
        world.unmute()
        await rosters.wait_for(lambda roster: roster.trouble is None)


@scenario(only="fake")  # 12 s and more in which nothing is read
async def test_a_server_that_does_not_read_makes_the_view_old(world: World) -> None:
    """Sending is bounded as waiting is: a search that does not go out is trouble like one without an answer."""
    assert isinstance(world, FakeWorld)
    async with watching(world, **given_room(world.rooms, world.now())) as rosters:
        world.server.stuck = True
        await rosters.wait_for(lambda roster: roster.trouble == "no answer in 12 s")
        world.server.stuck = False
        await rosters.wait_for(lambda roster: roster.trouble is None)


@scenario(only="fake")  # an indiscreet server
async def test_a_refusal_is_told_without_the_secrets_that_it_repeats(world: World) -> None:
    """Neither the room's token nor the ID token."""
    assert isinstance(world, FakeWorld)

    def repeat(socket: FakeSocket, frame: dict[str, Any]) -> dict[str, Any]:
        return {"type": "error", "reason": f"no room for {frame['token']} and {frame['id_token']}"}

    world.server.answer_instead = repeat
    with pytest.raises(ObservationFailed) as failed:
        async with watching(world, **given_room(world.rooms, world.now())):
            raise AssertionError("never entered")
    assert str(failed.value) == "the server refuses: no room for [secret] and [secret]"


@pytest.mark.parametrize("instead_of", ["register", "discover_peers"])
def test_a_close_in_place_of_an_answer_is_trouble(instead_of: str, caplog: pytest.LogCaptureFixture) -> None:
    """At the start it ends the start; later it is told, and the next link answers."""

    @scenario(only="fake")
    async def played(world: World) -> None:
        assert isinstance(world, FakeWorld)
        room = given_room(world.rooms, world.now())

        def close(socket: FakeSocket, frame: dict[str, Any]) -> dict[str, Any] | None:
            if frame["type"] != instead_of:
                return None
            socket.end(Closed(1013, "later"))
            return {}

        world.server.answer_instead = close
        with pytest.raises(ObservationFailed, match=r"closed with 1013 \(later\)"):
            async with watching(world, **room):
                raise AssertionError("never entered")
        world.server.answer_instead = lambda socket, frame: None
        async with watching(world, **room) as rosters:
            world.server.answer_instead = close
            world.cut()
            await rosters.wait_for(lambda roster: roster.trouble == "closed with 1013 (later)")
            world.server.answer_instead = lambda socket, frame: None
            await rosters.wait_for(lambda roster: roster.trouble is None)

    played("fake", caplog)


@scenario(only="fake")  # a room with too many peers
async def test_f22_an_answer_that_is_too_big_is_not_asked_for_again_soon(world: World) -> None:
    """It will be as big on the next link, and costs the server megabytes: the watcher waits as a worker does."""
    assert isinstance(world, FakeWorld)

    def close(socket: FakeSocket, frame: dict[str, Any]) -> dict[str, Any] | None:
        if frame["type"] != "register":
            return None
        socket.end(Closed(1009, "too big"))
        return {}

    async with watching(world, **given_room(world.rooms, world.now())) as rosters:
        world.server.answer_instead = close
        world.cut()
        await rosters.wait_for(lambda roster: roster.trouble == "closed with 1009 (too big)")
        closed_at = trio.current_time()
        world.server.answer_instead = lambda socket, frame: None
        await rosters.wait_for(lambda roster: roster.trouble is None)
        assert trio.current_time() - closed_at >= 30.0


@scenario(only="fake")  # frames out of the blue
async def test_other_frames_are_passed_over(world: World) -> None:
    """Pings, messages and rubbish before an answer, or between two, are none of our business."""
    assert isinstance(world, FakeWorld)
    rubbish = ('{"type": "ping"}', '{"type": "offer", "sender": "x"}', "no JSON", "[]")

    def talk(socket: FakeSocket, frame: dict[str, Any]) -> None:
        for text in rubbish:
            socket.deliver(text)

    room = given_room(world.rooms, world.now())
    world.server.answer_instead = talk
    async with watching(world, **room) as rosters:
        for number in range(200):
            await trio.sleep(0.1)
            for socket in world.server.sockets:
                socket.deliver(rubbish[number % 4])
        assert rosters.value.trouble is None
        assert rosters.value.answered_at == pytest.approx(trio.current_time(), abs=2 * EVERY)
    assert len(world.server.dials) == 1


@scenario(only="fake")  # a server that loses its memory, rooms and all
async def test_a_room_that_is_gone_later_is_trouble_and_no_end(world: World) -> None:
    """Whoever watches is told, and asks again; the store may be restored."""
    room = given_room(world.rooms, world.now())
    assert isinstance(world, FakeWorld)
    async with watching(world, **room) as rosters:
        rows = world.rooms._registry.rows
        kept = rows.pop(room["room_id"])
        world.cut()
        await rosters.wait_for(lambda roster: roster.trouble == f"the server refuses: room not found. {NEW_ROOM}")
        rows[kept.room_id] = kept
        await rosters.wait_for(lambda roster: roster.trouble is None)


@scenario(generation="v3")
async def test_the_room_of_an_api_key_is_watched_without_an_identity(world: World) -> None:
    """The answer names the room; nothing was created, so nothing is deleted."""
    worker = await world.start(api_key="slp_good")
    async with watching(world, api_key="slp_good") as rosters:
        assert rosters.value.room_id == worker.state.room_id
        assert [entry.peer_id for entry in rosters.value.entries] == [worker.state.peer_id]
        assert dict(world.rooms.users) == {}
    await world.until(lambda: set(world.rooms.peers(worker.state.room_id or "")) == {worker.state.peer_id})


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 6.0])
def test_nothing_stays_behind_whenever_it_is_cancelled(after: float, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of the sign-in, of the dial, of the answers: in bounded time everything is deleted."""

    @scenario(only="fake")
    async def played(world: World) -> None:
        assert isinstance(world, FakeWorld)
        room = given_room(world.rooms, world.now())
        world.server.latency = 0.9  # there and back again within what an exit may take
        with trio.move_on_after(after):
            async with watching(world, **room):
                await trio.sleep_forever()
        assert trio.current_time() <= after + 4.5
        world.server.latency = 0.0
        assert dict(world.rooms.users) == {}
        assert dict(world.rooms.peers(room["room_id"])) == {}
        assert set(world.rooms.rooms) == {room["room_id"]}

    played("fake", caplog)


@scenario(only="fake")  # the register has to be held
async def test_no_close_frame_follows_an_unanswered_register(world: World) -> None:
    """It would leave a ghost in the room: such a socket is aborted."""
    assert isinstance(world, FakeWorld)
    room = given_room(world.rooms, world.now())
    world.server.hold_registers()
    with trio.move_on_after(5.0):
        async with watching(world, **room):
            raise AssertionError("never entered")
    assert world.server.closes == []
    world.server.release_registers()
    async with watching(world, **room):
        pass
    assert len(world.server.closes) == 1


@scenario(only="fake")
async def test_an_identity_that_cannot_be_deleted_is_named(world: World) -> None:
    """Leaving takes its bounded time, and a warning says what is left."""
    assert isinstance(world, FakeWorld)
    async with watching(world, **given_room(world.rooms, world.now())):
        (username,) = world.rooms.users
        world.server.http_hangs.add("/delete-peer")
        began = trio.current_time()
    assert trio.current_time() - began <= 2.5
    assert world.logged(logging.WARNING, "may be left on the server", username)


@scenario(only="fake")
async def test_a_deletion_that_is_refused_is_not_taken_for_one(world: World) -> None:
    """A failure is no deletion, whichever status it has."""
    assert isinstance(world, FakeWorld)
    async with watching(world, **given_room(world.rooms, world.now())):
        world.server.http_answers["/delete-peer"] = [HttpFailure("HTTP 500", 500)]
    assert world.logged(logging.WARNING, "may be left on the server")


@scenario
async def test_what_the_body_raises_arrives_as_itself(world: World) -> None:
    """Not inside an exception group, and after the clean-up."""
    with pytest.raises(LookupError, match="mine"):
        async with watching(world, **given_room(world.rooms, world.now())):
            raise LookupError("mine")
    assert dict(world.rooms.users) == {}


@pytest.mark.parametrize(
    ("config", "every", "named"),
    [
        (Config("ws://localhost", "http://localhost"), 2.0, "room_id"),
        (Config("ws://localhost", "http://localhost", "r", "t"), 0.1, "every"),
        (Config("ws://localhost", "http://localhost", "r", "t"), float("nan"), "every"),
        (Config("ws://localhost", "http://localhost", "r", "t"), True, "every"),
    ],
)
async def test_a_configuration_without_a_room_or_a_sane_interval_is_refused(
    config: Config, every: float, named: str
) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match=f"^{named} "):
        async with open_roster(config, every=every):
            raise AssertionError("never entered")


@scenario(only="fake")
async def test_tokens_that_leave_the_machine_in_the_clear_are_warned_of(world: World) -> None:
    """As the manager does."""
    assert isinstance(world, FakeWorld)
    outside = outside_of(world)
    room = given_room(world.rooms, world.now())
    config = Config("ws://signaling.example.org", "http://localhost", room["room_id"], room["room_token"])
    async with open_roster(config, world=outside):
        assert world.logged(logging.WARNING, "ws://signaling.example.org is not encrypted")
