"""Who may register, and how the others are told."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from worker_state.devserver import ApiKey, Rooms
from worker_state.devserver.model import Close, Send

if TYPE_CHECKING:
    from tests.devserver.conftest import Someone, World


def test_two_kinds_of_invalid_token_differ_by_the_type(worker: Someone) -> None:
    assert worker.register("s", token="wrong") == {"type": "error", "reason": "Invalid token"}
    assert worker.register("s", id_token="a.b.c") == {"error": "Invalid token"}


def test_an_expired_room_keeps_its_peers_and_takes_no_new_ones(world: World, worker: Someone, client: Someone) -> None:
    world.now = client.now = client.now + 7201
    fresh = world.sign_in()["id_token"]
    assert client.register("late", id_token=fresh) == {"type": "error", "reason": "Room expired"}
    assert client.find("client", role="worker") == [worker.peer_id]


@pytest.mark.parametrize("generation", ["v2", "v3"])
def test_a_created_room_lives_for_two_hours(world: World, worker: Someone) -> None:
    assert world.rooms.rooms[worker.room_id].expires_at == world.now + 7200


def test_a_failing_store_refuses_as_often_as_asked(world: World, worker: Someone) -> None:
    world.rooms.fail_store(times=1)
    another = world.someone(beside=worker)
    assert another.register("other") == {"type": "error", "reason": "DynamoDB error"}
    assert world.rooms.peer(another.peer_id) is None
    assert another.register("other")["type"] == "registered_auth"


def test_a_store_that_fails_late_has_registered(world: World, worker: Someone) -> None:
    world.rooms.fail_store(registered=True)
    another = world.someone(beside=worker)
    assert another.register("other") == {"type": "error", "reason": "DynamoDB error"}
    assert world.rooms.peer(another.peer_id) is not None


def test_a_second_admin_is_told_of_the_first_and_registered(worker: Someone, client: Someone) -> None:
    assert worker.register("worker", is_admin=True)["admin_peer_id"] == worker.peer_id
    frame = {"type": "register", "peer_id": client.peer_id, "room_id": client.room_id, "is_admin": True}
    conflict, answer = client.say("client", frame | {"token": client.token, "id_token": client.id_token})
    assert isinstance(conflict, Send)
    assert isinstance(answer, Send)
    assert conflict.message["current_admin"] == worker.peer_id
    assert answer.message["admin_peer_id"] == worker.peer_id


def test_the_admin_resigns_when_its_socket_dies(world: World, worker: Someone, client: Someone) -> None:
    worker.register("worker", is_admin=True)
    world.gone("worker")
    assert client.register("client")["admin_peer_id"] is None


def test_an_empty_room_has_no_admin(world: World, worker: Someone, client: Someone) -> None:
    worker.register("worker", is_admin=True)
    world.delete({"peer_id": worker.peer_id})
    assert client.register("client")["admin_peer_id"] == worker.peer_id  # a deletion does not depose
    world.gone("client")
    assert client.register("client")["admin_peer_id"] is None


def test_metadata_of_any_shape_is_stored_and_kills_searches(worker: Someone, client: Someone) -> None:
    worker.register("worker", metadata=None)
    search = {"type": "discover_peers", "from_peer_id": client.peer_id, "filters": {"tags": ["sleap-rtc"]}}
    assert client.say("client", search) == [Close("client", 1000, "")]


def test_an_api_key_brings_its_room(world: World) -> None:
    world.rooms = Rooms(random=Random(1), generation="v3", api_keys={"slp_mine": ApiKey("room-1", "alice")})
    answer = world.stranger("w").ask("s", type="register", peer_id="w", api_key="slp_mine")
    assert (answer["room_id"], answer["token"]) == ("room-1", None)


@pytest.mark.parametrize("generation", ["v3"])
def test_everybody_in_the_room_sees_the_api_keys_of_the_others(world: World) -> None:
    world.stranger("w1").ask("1", type="register", peer_id="w1", api_key="slp_good")
    answer = world.stranger("w2").ask("2", type="register", peer_id="w2", api_key="slp_good")
    assert answer["peer_metadata"]["w1"]["_token_id"] == "slp_good"


def test_v2_knows_no_api_keys(world: World) -> None:
    answer = world.stranger("w").ask("s", type="register", peer_id="w", api_key="slp_good")
    assert answer == {"type": "error", "reason": "Missing required fields during registration."}
