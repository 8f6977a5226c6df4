"""Users and their tokens."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from worker_state.devserver.model import Reply

if TYPE_CHECKING:
    from tests.devserver.conftest import Someone, World


def test_an_id_token_reads_like_a_jwt(world: World) -> None:
    identity = world.sign_in()
    _, claims, _ = identity["id_token"].split(".")
    payload = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert payload["sub"] == payload["cognito:username"] == identity["username"]
    assert payload["exp"] - payload["iat"] == 3600


@pytest.mark.parametrize(
    ("token", "detail"),
    [
        ("a.b", "Not enough segments"),
        ("a.b.c", "Signature verification failed."),
    ],
)
def test_a_bad_token_creates_no_room(world: World, token: str, detail: str) -> None:
    reply = world.rooms.create_room("Bearer " + token, world.now)
    assert reply == Reply(401, {"detail": f"Token verification failed: {detail}"})


def test_a_token_is_good_for_an_hour(world: World, worker: Someone) -> None:
    assert world.rooms.create_room(worker.id_token, world.now + 3600).status == 200
    late = world.rooms.create_room(worker.id_token, world.now + 3600 + 1)
    assert late == Reply(401, {"detail": "Token verification failed: Signature has expired."})
    worker.now += 3600 + 1
    assert worker.register("worker") == {"error": "Invalid token"}


def test_stale_keys_refuse_every_token(world: World, worker: Someone) -> None:
    world.rooms.stale_keys()
    assert worker.register("worker") == {"error": "Invalid token"}
    world.rooms.stale_keys(False)
    assert worker.register("worker")["type"] == "registered_auth"


def test_a_new_identity_may_register_the_old_peer_id(world: World, worker: Someone) -> None:
    newer = world.someone(beside=worker)
    assert worker.register("worker", id_token=newer.id_token)["peer_id"] == worker.peer_id


def test_no_repr_shows_a_secret(world: World, worker: Someone) -> None:
    shown = repr((world.rooms, world.rooms.rooms, world.rooms.users, world.rooms.peers(worker.room_id)))
    assert worker.token not in shown
    assert worker.id_token not in shown
