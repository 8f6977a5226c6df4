"""What one peer says to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from worker_state.devserver.model import Send

if TYPE_CHECKING:
    from tests.devserver.conftest import Someone, World


def test_a_peer_message_to_oneself_comes_back_as_it_was(worker: Someone) -> None:
    echo = worker.message(worker.peer_id)
    assert worker.say("worker", echo) == [Send("worker", echo)]


def test_a_peer_message_goes_to_the_socket_registered_last(worker: Someone, client: Someone) -> None:
    worker.register("second")
    assert client.say("client", client.message(worker.peer_id)) == [Send("second", client.message(worker.peer_id))]


def test_an_unregistered_sender_is_told(world: World) -> None:
    someone = world.someone()
    answer = someone.ask("s", **someone.message(someone.peer_id))
    assert answer == {"type": "error", "code": "NOT_IN_ROOM", "message": "Sender not in any room"}


def test_a_message_to_another_room_is_refused(world: World, worker: Someone) -> None:
    stranger = world.someone()
    stranger.register("stranger")
    assert stranger.ask("stranger", **stranger.message(worker.peer_id))["code"] == "PEER_NOT_IN_ROOM"


def test_a_message_without_payload_is_refused(worker: Someone) -> None:
    assert worker.ask("worker", **worker.message(worker.peer_id, payload={}))["code"] == "INVALID_MESSAGE"


@pytest.mark.parametrize("kind", ["offer", "answer", "candidate", "quit"])
def test_a_signal_is_handed_on_as_it_is(worker: Someone, client: Someone, kind: str) -> None:
    signal = {"type": kind, "sender": client.peer_id, "target": worker.peer_id, "sdp": "…"}
    assert client.say("client", signal) == [Send("worker", signal)]


def test_a_signal_to_nobody_is_dropped(client: Someone) -> None:
    assert client.say("client", {"type": "offer", "sender": client.peer_id, "target": "nobody"}) == []


def test_the_mesh_is_relayed_under_its_own_types(worker: Someone, client: Someone) -> None:
    between = {"from_peer_id": client.peer_id, "target_peer_id": worker.peer_id}
    sent: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"type": "mesh_connect", "offer": {"sdp": "o"}}, {"type": "mesh_offer", "offer": {"sdp": "o"}}),
        ({"type": "mesh_answer", "answer": {"sdp": "a"}}, {"type": "mesh_answer", "answer": {"sdp": "a"}}),
        ({"type": "ice_candidate", "candidate": 1}, {"type": "ice_candidate", "candidate": 1}),
    ]
    for frame, handed_on in sent:
        expected = Send("worker", handed_on | {"from_peer_id": client.peer_id})
        assert client.say("client", frame | between) == [expected]


def test_the_mesh_reports_a_missing_peer_but_not_for_candidates(client: Someone) -> None:
    to_nobody = {"from_peer_id": client.peer_id, "target_peer_id": "nobody"}
    assert client.ask("client", type="mesh_connect", offer=1, **to_nobody)["code"] == "PEER_NOT_FOUND"
    assert client.say("client", {"type": "ice_candidate", "candidate": 1} | to_nobody) == []
