"""How a snapshot and a stranger's message read."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state import State
from worker_state.cli import run_worker
from worker_state.logs import About
from worker_state.protocol.status import Available, Busy, Maintenance, Reserved, Truth
from worker_state.redact import Secrets

DISCOVERABLE = State(
    connected=True, revision=3, registered_since=1.0, confirmed_revision=3, discoverable_since=2.0, peer_id="me"
)


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (Available(), "available"),
        (Reserved("7"), "reserved for job 7"),
        (Busy("7"), "busy with job 7"),
        (Maintenance(), "maintenance"),
    ],
)
def test_the_first_half_says_what_the_worker_does(truth: Truth, words: str) -> None:
    assert run_worker.doing(State(truth=truth)) == words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (DISCOVERABLE, "discoverable"),
        (replace(DISCOVERABLE, revision=4), "not confirmed by the server yet"),
        (replace(DISCOVERABLE, discoverable_since=None), "registered, not yet proved"),
        (replace(DISCOVERABLE, registered_since=None), "connected, not registered yet"),
        (State(), "not connected, dialling again"),
    ],
)
def test_the_second_half_says_what_clients_can_see(state: State, words: str) -> None:
    assert run_worker.visible(state) == words


def test_a_worker_that_cannot_be_found_is_red() -> None:
    assert run_worker.style(DISCOVERABLE) == "green"
    assert run_worker.style(replace(DISCOVERABLE, registered_since=None)) == "red"


def test_a_message_is_told_by_type_and_sender_only() -> None:
    def received(**message: Any) -> tuple[str, About]:
        return run_worker.received(message, Secrets())

    assert received(type="offer", sender="client-1", sdp="secret")[0] == "offer from client-1"
    assert received(type="mesh_offer", from_peer_id="worker-2")[0] == "mesh_offer from worker-2"
    assert received(type="quit")[0] == "quit from somebody"
    text, about = received(type="error", code="PEER_NOT_IN_ROOM", message="Target peer x")
    assert (text, about.event) == ("error PEER_NOT_IN_ROOM from the server", "received")
    assert about.fields == {"type": "error", "code": "PEER_NOT_IN_ROOM"}


words = st.text() | st.none() | st.integers() | st.lists(st.text())


@given(kind=words, sender=words)
def test_whatever_a_stranger_sends_is_one_printable_line(kind: object, sender: object) -> None:
    line = run_worker.received({"type": kind, "sender": sender}, Secrets())[0]
    assert line.isprintable()
    assert len(line) < 2000
