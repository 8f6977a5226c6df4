"""Metadata, deaths, deletions, and frames that are none."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from worker_state.devserver.model import Close, Send
from worker_state.devserver.rules import Rooms

TAGS = ["sleap-rtc", "training-worker"]

if TYPE_CHECKING:
    from tests.devserver.conftest import Someone, World


def test_properties_are_merged_and_tags_united(worker: Someone) -> None:
    answer = worker.update("worker", tags=["new"], properties={"status": "busy"})
    assert set(answer["metadata"]["tags"]) == {*TAGS, "new"}
    assert answer["metadata"]["properties"] == {"status": "busy", "gpu_memory_mb": 24576}


def test_an_update_without_tags_erases_them(worker: Someone, client: Someone) -> None:
    assert worker.update("worker", properties={"status": "busy"})["metadata"].keys() == {"properties"}
    assert client.find("client", tags=TAGS) == []


def test_an_update_without_properties_erases_them(worker: Someone, client: Someone) -> None:
    worker.update("worker", tags=TAGS)
    assert client.find("client", properties={"status": "available"}) == []


def test_anybody_may_update_anybody(worker: Someone, client: Someone) -> None:
    worker.update("client", tags=TAGS, properties={"status": "forged"})
    assert client.find("client", properties={"status": "forged"}) == [worker.peer_id]


def test_an_update_needs_a_registration(world: World) -> None:
    answer = world.someone().update("s", tags=TAGS)
    assert answer == {"type": "error", "code": "NOT_IN_ROOM", "message": "Peer not in any room"}


@pytest.mark.parametrize("properties", [None, 5, "busy", ["busy"]])
def test_properties_that_are_no_object_close_the_connection(worker: Someone, properties: Any) -> None:
    frame = {"type": "update_metadata", "peer_id": worker.peer_id, "metadata": {"properties": properties}}
    assert worker.say("worker", frame) == [Close("worker", 1000, "")]


def test_the_death_of_an_old_socket_evicts_the_new_registration(world: World, worker: Someone) -> None:
    worker.register("second")
    world.gone("worker")
    assert world.rooms.peers(worker.room_id) == {}
    assert worker.update("second", tags=TAGS)["code"] == "NOT_IN_ROOM"


def test_a_refused_register_of_a_stranger_evicts_with_his_death(world: World, worker: Someone) -> None:
    stranger = world.stranger(worker.peer_id)
    assert "reason" in stranger.register("stranger")
    world.gone("stranger")
    assert world.rooms.peer(worker.peer_id) is None


def test_only_the_peer_registered_last_dies_with_a_socket(world: World, worker: Someone) -> None:
    another = world.someone(beside=worker)
    another.register("worker")
    world.gone("worker")
    assert list(world.rooms.peers(worker.room_id)) == [worker.peer_id]


def test_an_unanswered_register_leaves_a_ghost(world: World, client: Someone) -> None:
    ghost = world.someone(beside=client)
    ghost.register("ghost")
    world.rooms.unanswered("ghost")
    world.gone("ghost")
    assert ghost.peer_id in client.find("client")
    assert client.ask("client", **client.message(ghost.peer_id))["code"] == "DELIVERY_FAILED"


def test_anybody_may_delete_a_registered_peer_and_with_the_last_one_the_room(
    world: World, worker: Someone, client: Someone
) -> None:
    active, deleted = "Room status: active", "Room status: deleted"
    assert world.delete({"peer_id": client.peer_id}).endswith(active)
    assert world.delete({"peer_id": worker.peer_id}).endswith(deleted)
    assert worker.register("worker") == {"type": "error", "reason": "Room not found"}


def test_closing_before_deleting_leaves_the_room_behind(world: World, worker: Someone) -> None:
    world.gone("worker")
    assert "already removed from room" in world.delete({"peer_id": worker.peer_id})
    assert worker.room_id in world.rooms.rooms
    assert worker.peer_id not in world.rooms.users


def test_a_register_after_the_deletion_resurrects_the_peer(world: World, worker: Someone, client: Someone) -> None:
    world.delete({"peer_id": worker.peer_id})
    assert worker.register("worker")["type"] == "registered_auth"


def test_deleting_an_unknown_peer_succeeds_too(world: World) -> None:
    assert "peer deleted" in world.delete({"peer_id": "nobody"})


@pytest.mark.parametrize(
    ("sent", "kind", "place"),
    [
        (None, "missing", ["body"]),
        ([], "dict_type", ["body"]),
        ({}, "missing", ["body", "peer_id"]),
        ({"peer_id": 5}, "string_type", ["body", "peer_id"]),
    ],
)
def test_a_deletion_of_another_shape_is_unprocessable(world: World, sent: Any, kind: str, place: list[str]) -> None:
    reply = world.rooms.delete_peer(sent, world.now)
    detail: Any = reply.body
    assert reply.status == 422
    assert [(item["type"], item["loc"]) for item in detail["detail"]] == [(kind, place)]


def test_a_restart_forgets_registrations_and_keeps_rooms(world: World, worker: Someone) -> None:
    world.rooms.forget_peers()
    assert worker.update("worker", tags=TAGS)["code"] == "NOT_IN_ROOM"
    assert worker.register("worker")["type"] == "registered_auth"


@pytest.mark.parametrize("frame", ["[1]", "null", "5", '"register"', b"\xff\xfe\xfd", "[" * 100_000, "1" * 5000])
def test_what_is_no_object_closes_the_connection(world: World, frame: str | bytes) -> None:
    assert world.rooms.receive("s", frame, world.now) == [Close("s", 1000, "")]


@pytest.mark.parametrize("frame", ["", "{nope", "{} {}"])
def test_what_is_no_json_is_answered(world: World, frame: str) -> None:
    (effect,) = world.rooms.receive("s", frame, world.now)
    assert isinstance(effect, Send)
    assert effect.message["code"] == "INVALID_JSON"


@pytest.mark.parametrize("kind", [None, "hello", "error", "ping", 5, ["register"]])
def test_an_unknown_type_is_answered(world: World, kind: Any) -> None:
    (effect,) = world.rooms.receive("s", json.dumps({"type": kind}), world.now)
    assert isinstance(effect, Send)
    assert effect.message["code"] == "UNKNOWN_MESSAGE_TYPE"


def test_a_binary_frame_with_json_is_as_good_as_text(world: World) -> None:
    (effect,) = world.rooms.receive("s", b'{"type": "hello"}', world.now)
    assert isinstance(effect, Send)


@pytest.mark.parametrize("rules", [{"generation": "v3.0"}, {"generation": 3}, {"token_life": -1}])
def test_rules_that_no_server_has(rules: Any) -> None:
    """A wrong one is refused by its name, and is not the other generation in silence."""
    with pytest.raises(ValueError, match=f"{next(iter(rules))} must be"):
        Rooms(random=Random(1), **rules)
