"""Whether the worker is ready, and what is said of it."""

import json
from random import Random

import pytest

from tests.protocol.test_state import ONLINE, OPENED, PROVED, SECRET, after, registered
from worker_state.integrations.readiness import ANSWER, account, assess, last_acknowledged, line
from worker_state.protocol import events as m
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.probe import JITTER, STEADY, Proof, Schedule, longest_unconfirmed, longest_unproved
from worker_state.protocol.state import State
from worker_state.protocol.status import Busy
from worker_state.redact import Secrets

READY = after(*PROVED)


def test_ready() -> None:
    """Registered, confirmed and proved is ready, since when clients can find it."""
    found = assess(READY, 7.0)
    assert (found.ready, found.reason, found.since) == (True, "discoverable", 6.0)


@pytest.mark.parametrize(
    ("state", "reason", "since"),
    [
        (State(unregistered_since=2.0), "not registered: starting", 2.0),
        (after(OPENED, state=State(unregistered_since=2.0)), "not registered: registering", 2.0),
        (after(m.LinkLost(1, Closed(1001, "bye"), 1.0), state=READY), "not registered: closed with 1001 (bye)", 9.0),
        (after(m.RegistrationLost(1, "it forgot"), state=READY), "not registered: it forgot", 9.0),
        (after(*ONLINE), "registered, and no echo has proved it yet", 5.0),
        (
            after(m.ChangeStatus(1, Busy("j")), state=READY),
            "the server has not confirmed the status busy",
            9.0,
        ),
        (after(m.UpdateFailed(drifted=True), state=READY), "the server has not confirmed the status available", 9.0),
    ],
)
def test_not_ready(state: State, reason: str, since: float) -> None:
    """Whatever is missing is named, and since when."""
    found = assess(state, 10.0)
    assert (found.ready, found.reason, found.since) == (False, reason, since)


@pytest.mark.parametrize("peers", [3, 5000])
def test_overdue_proof(peers: int) -> None:
    """A proof is good for the probe's period and an answer's time; the period is longer in large rooms."""
    state = after(OPENED, registered(peers=peers), m.PresenceProved(1, 6.0), m.StatusConfirmed(0, 1e6))
    due = 6.0 + longest_unproved(peers) + ANSWER
    assert assess(state, due - 0.01).ready
    found = assess(state, due)
    assert (found.ready, found.since) == (False, due)
    assert "proof" in found.reason


def test_overdue_confirmation() -> None:
    """A status that was confirmed too long ago is not known to be shown, though echoes still come back."""
    state = after(m.PresenceProved(1, 1e6), state=READY)
    due = 5.0 + longest_unconfirmed(3) + ANSWER
    assert assess(state, due - 0.01).ready
    found = assess(state, due)
    assert (found.ready, found.since) == (False, due)
    assert "status" in found.reason


@pytest.mark.parametrize("peers", [0, 999, 1000, 5000])
@pytest.mark.parametrize("seed", range(20))
def test_periods_are_those_of_the_schedule(peers: int, seed: int) -> None:
    """No schedule leaves longer pauses than those that readiness allows for."""
    schedule, at, updated_at = Schedule(Random(seed), 0.0, peers), 0.0, 0.0
    for _ in range(30):
        assert schedule.due - at <= longest_unproved(peers)
        at = schedule.due
        if schedule.sent(at) is Proof.FULL:
            assert at - updated_at <= longest_unconfirmed(peers)
            updated_at = at


def test_periods_are_not_generous() -> None:
    """In a small room the bounds are the largest pauses of the schedule and nothing more."""
    assert longest_unproved(0) == STEADY[1]
    assert longest_unconfirmed(0) == 55.0 * JITTER[1]


def test_line() -> None:
    """One line, whatever a job or a server is called."""
    assert line(READY, 7.0) == "available, discoverable"
    state = after(m.ChangeStatus(1, Busy("a\nb")), m.StatusConfirmed(1, 6.5), state=READY)
    assert line(state, 7.0) == r"busy (job a\nb), discoverable"


def test_account() -> None:
    """The snapshot as JSON: ages, nulls for what is not, and no session string."""
    told = account(after(m.ChangeStatus(1, Busy("j")), state=READY), 10.0)
    assert json.loads(json.dumps(told)) == told
    expected = {
        "status": "busy",
        "job_id": "j",
        "status_seconds": 1.0,
        "ready": False,
        "reason_seconds": 1.0,
        "connected": True,
        "link": 1,
        "registered_seconds": 5.0,
        "discoverable_seconds": 4.0,
        "proved_seconds": 4.0,
        "confirmed_seconds": 5.0,
        "unconfirmed_seconds": 1.0,
        "peer_id": "PEER",
        "room_id": "ROOM",
        "peers": 3,
        "trouble": None,
    }
    assert {name: told[name] for name in expected} == expected
    assert SECRET not in json.dumps(told)
    assert READY.session_string is not None
    assert READY.session_string.removeprefix("sleap-session:") not in json.dumps(told)


@pytest.mark.parametrize("secret", [SECRET, "slp_a-key", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2ln"])
def test_secrets_in_a_close_reason(secret: str) -> None:
    """A server that repeats a token when it closes does not get it shown."""
    closed = Closed(1008, f"no {secret} here").without(Secrets(SECRET))  # as every link's end is
    state = after(m.LinkLost(1, closed, 1.0), state=READY)
    assert assess(state, 9.0).reason == "not registered: closed with 1008 (no [secret] here)"
    assert secret not in json.dumps(account(state, 9.0)) + line(state, 9.0)


def test_trouble_without_a_session() -> None:
    """Trouble before the first registration is told as it is."""
    state = after(m.DialFailed(DialFailure(Cause.REFUSED), 1.0))
    assert account(state, 9.0)["trouble"] == "connection refused"


def test_last_acknowledged() -> None:
    """The latest of all answers counts, and outlives the link."""
    assert last_acknowledged(State()) is None
    assert last_acknowledged(after(*ONLINE)) == 5.0
    assert last_acknowledged(after(m.LinkLost(1, Closed(), 1.0), state=READY)) == 6.0
    assert last_acknowledged(after(m.StatusConfirmed(0, 8.0), state=READY)) == 8.0
