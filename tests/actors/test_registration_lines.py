"""What the registration actor says in the log, in the fields of the events, and with a failed start."""

import logging
from random import Random

import pytest

from tests.actors.test_registration import CONFIG, given, send
from tests.actors.test_registration_start import LOST, OPENED, ROOM, SIGNED_IN, accepted, new, online
from worker_state.actors.registration import RegistrationActor
from worker_state.config import Config
from worker_state.logs import About
from worker_state.protocol import events as m
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "worker_state")
    return caplog


def told(said: pytest.LogCaptureFixture, event: str) -> list[About]:
    """What the lines of this event say."""
    return [about for about in map(About.of, said.records) if about.event == event]


def refused(reason: str) -> m.FrameReceived:
    return m.FrameReceived(1, frames.RegisterError(reason, typed=True))


def test_a_refused_start_says_why() -> None:
    """The error carries the server's words without their full stop, and the old server's odd ones in plain ones."""
    for reason, words in (
        ("No authentication provided. Use api_key, jwt, or id_token.", "No authentication provided. Use api_key"),
        ("Missing required fields during registration.", "it knows no API keys"),
    ):
        actor = new(api_key="slp_x")
        given(actor, OPENED)
        (aborted,) = [each for each in given(actor, refused(reason)) if isinstance(each, m.StartupAborted)]
        assert aborted.error.reason.startswith(words)
        assert not aborted.error.reason.endswith(".")
        assert str(aborted.error) == f"the server refuses this worker: {aborted.error.reason}"


def test_an_unreachable_server_is_named() -> None:
    """By its whole address, where nothing in it could be a key."""
    actor = RegistrationActor(CONFIG, random=Random(1), nonce=lambda: "n", awake=lambda: 0.0)
    (aborted,) = [each for each in given(actor, OPENED, LOST) if isinstance(each, m.StartupAborted)]
    assert str(aborted.error) == "no connection to ws://fake: closed with 1001 (going away)"


def test_the_link_of_a_swallowed_register(said: pytest.LogCaptureFixture) -> None:
    """The line names the link."""
    actor = new()
    given(actor, SIGNED_IN, ROOM)
    given(actor, OPENED)
    given(actor, now=5.0)
    given(actor, m.FrameReceived(1, frames.NotInRoom("NOT_IN_ROOM")), now=6.0)
    assert told(said, "register_swallowed") == [About("register_swallowed", {"epoch": 1})]


def test_what_is_fetched_anew(said: pytest.LogCaptureFixture) -> None:
    """The line names what was refused, why, and the pause, after which it is fetched."""
    actor = online()
    given(actor, m.Reregister(), now=5.0)
    given(actor, refused("Room expired"), now=5.0)
    (about,) = told(said, "credential_refused")
    assert (about.fields["credential"], about.fields["reason"]) == ("room", "room expired")
    assert about.fields["pause"] == pytest.approx(actor.next_deadline() - 5.0, abs=0.001)


def test_an_eviction_says_how_often(said: pytest.LogCaptureFixture) -> None:
    """The line gives the pause and the number within an hour; the registration says how long there was none."""
    actor = online()
    given(actor, m.RegistrationLost(1, "why"), now=10.0)
    (about,) = told(said, "evicted")
    assert (about.fields["in_an_hour"], about.fields["reason"]) == (1, "why")
    assert about.fields["pause"] == pytest.approx(actor.next_deadline() - 10.0, abs=0.001)
    given(actor, now=10.2)
    given(actor, accepted(), now=12.5)
    assert told(said, "registered")[-1].fields["downtime"] == 2.5


def test_how_long_there_was_no_registration(said: pytest.LogCaptureFixture) -> None:
    """The time without one begins with the loss of the link, whoever ended it."""
    actor = online()
    given(actor, m.Reregister(), now=20.0)
    now = 20.0 + Config("ws://fake", "http://fake").timing.register
    while actor.next_deadline() < now:
        actor.wake(actor.next_deadline())
    assert m.DropLink in map(type, actor.wake(now))
    given(actor, m.LinkOpened(m.Link(2, now + 100.0, send)), now=now + 3.0)
    given(actor, m.FrameReceived(2, accepted().frame), now=now + 4.0)
    assert told(said, "registered")[-1].fields["downtime"] == 4.0


def test_an_api_key_for_another_room(said: pytest.LogCaptureFixture) -> None:
    """The line names both rooms, once; and there is no session string, for the token was given for the other one."""
    actor = new(api_key="slp_x", room_id="ours", room_token="secret", peer_id="me")
    given(actor, OPENED)
    (registered,) = [each for each in given(actor, accepted()) if isinstance(each, m.WorkerRegistered)]
    given(actor, m.Reregister(), now=20.0)
    given(actor, accepted(), now=21.0)
    assert told(said, "other_room") == [About("other_room", {"room": "room", "given": "ours"})]
    assert registered.token is None


def test_only_a_move_is_polite() -> None:
    """A link that is of no use is ended at once, though nothing on it is unanswered."""
    actor = online()
    given(actor, m.Reregister(), now=20.0)
    published: list[m.Event] = []
    for _ in range(2):
        given(actor, now=actor.next_deadline())
        published = given(actor, m.FrameReceived(1, frames.Echo("me", "register-n")), now=actor.next_deadline())
    assert m.DropLink(1, "the server has swallowed a register twice", Cause.DROPPED, polite=False) in published
