"""The registration actor from the first sign-in on, by plain calls: no clock, no trio."""

import logging
from random import Random
from typing import Any
from uuid import UUID

import pytest

from tests.actors.test_registration import given, send
from worker_state.actors.registration import RegistrationActor
from worker_state.config import Config
from worker_state.errors import RegistrationRefused, RoomCreationFailed, ServerUnreachable, SignInFailed
from worker_state.protocol import events as m
from worker_state.protocol import frames, http_api
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.record import build_record
from worker_state.protocol.state import State, fold
from worker_state.protocol.status import Available, Busy
from worker_state.session_string import SessionString

SIGNED_IN = m.IdentityCreated(http_api.Identity("me", "token"))
ROOM = m.RoomCreated(http_api.Room("room", "secret"))
OPENED = m.LinkOpened(m.Link(1, 1e6, send))
LOST = m.LinkLost(1, Closed(1001, "going away"), 0.3)
FIELDS: dict[str, Any] = {"tags": ("t",), "capabilities": {"gpu": 1}}


def new(**config: Any) -> RegistrationActor:
    config = FIELDS | config
    return RegistrationActor(
        Config("ws://fake/ws?key=k3y", "http://fake", **config), random=Random(1), nonce=lambda: "n", awake=lambda: 0.0
    )


def registers(published: list[m.Event]) -> list[frames.Message]:
    """Each `register` in it."""
    sent = [event.message for event in published if isinstance(event, m.SendFrame)]
    return [message for message in sent if message["type"] == "register"]


def accepted(peers: int = 3, **more: Any) -> m.FrameReceived:
    return m.FrameReceived(1, frames.RegistrationAccepted("me", "room", "secret", peers, **more))


def online(now: float = 0.0, **config: Any) -> RegistrationActor:
    """A worker that is registered in a room of its own."""
    actor = new(**config)
    given(actor, SIGNED_IN, ROOM, now=now)
    given(actor, OPENED, now=now)
    given(actor, accepted(), now=now)
    return actor


def test_one_thing_after_the_other() -> None:
    """A worker signs in, creates a room, dials, and registers under its username with all that it has."""
    actor = new()
    assert given(actor) == [m.RequestIdentity()]
    assert given(actor) == []
    assert given(actor, SIGNED_IN) == [m.RequestRoom("token")]
    assert given(actor, ROOM) == [m.StartDialing()]
    assert registers(given(actor, OPENED)) == [
        {
            "type": "register",
            "peer_id": "me",
            "room_id": "room",
            "token": "secret",
            "id_token": "token",
            "role": "worker",
            "metadata": build_record(("t",), {"gpu": 1}, Available()),
        }
    ]


def test_what_an_acceptance_says() -> None:
    """The acceptance is published with the status that the `register` carried, and with what the answer says around."""
    actor = new()
    given(actor, SIGNED_IN, ROOM, m.ChangeStatus(4, Busy("job")))
    (register,) = registers(given(actor, OPENED))
    assert register["metadata"]["properties"]["current_job_id"] == "job"
    around = frames.Around(("other",))
    (event,) = actor.handle(accepted(around=around), 7.0)
    assert event == m.WorkerRegistered(1, 4, "me", "room", "secret", 3, True, 7.0, around, 3)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (
            m.IdentityFailed("HTTP 500", None, 500),
            SignInFailed("the server gave this worker no identity: HTTP 500", "HTTP 500", 500),
        ),
        (
            m.RoomFailed("HTTP 503", 503, None),
            RoomCreationFailed("the server created no room: HTTP 503", "HTTP 503", 503),
        ),
        (
            m.DialFailed(DialFailure(Cause.REFUSED), 0.5),
            ServerUnreachable("no connection to ws://fake/ws: connection refused", "connection refused"),
        ),
    ],
)
def test_a_start_that_fails(failure: m.Event, error: Exception) -> None:
    """The first trouble ends the start with what failed and why, and nothing is tried after it."""
    actor = new()
    given(actor)
    (aborted,) = given(actor, failure)
    assert isinstance(aborted, m.StartupAborted)
    assert (type(aborted.error), str(aborted.error), vars(aborted.error)) == (type(error), str(error), vars(error))
    assert given(actor, SIGNED_IN, ROOM, failure, now=1e6) == []


def test_a_start_whose_link_is_lost() -> None:
    """A link that ends before the first acceptance ends the start."""
    actor = new()
    given(actor, SIGNED_IN, ROOM)
    given(actor, OPENED)
    (aborted,) = [event for event in given(actor, LOST) if isinstance(event, m.StartupAborted)]
    assert str(aborted.error) == "no connection to ws://fake/ws: closed with 1001 (going away)"


def test_a_start_that_is_refused() -> None:
    """A refusal that the worker cannot mend ends the start with the server's words."""
    actor = new(api_key="slp_x", room_id="room")
    given(actor, OPENED)
    refusal = m.FrameReceived(1, frames.RegisterError("Token revoked.", typed=True))
    published = given(actor, m.FrameReceived(1, frames.RegisterError("Invalid API key", typed=True)))
    assert published[0] == m.RegistrationRejected("Invalid API key")
    (aborted,) = [event for event in published if isinstance(event, m.StartupAborted)]
    assert type(aborted.error) is RegistrationRefused
    assert str(aborted.error) == "the server refuses this worker: Invalid API key"
    assert given(actor, refusal, now=1e6) == []


@pytest.mark.parametrize(
    "failure",
    [
        m.IdentityFailed("HTTP 500", None, 500),
        m.RoomFailed("HTTP 503", 503, None),
        m.DialFailed(DialFailure(Cause.REFUSED), 0.5),
    ],
)
@pytest.mark.parametrize("waits", [True, False])
def test_trouble_that_is_waited_for(failure: m.Event, waits: bool) -> None:
    """With `wait_for_server`, or once the worker was registered, no trouble ends anything."""
    actor = new(wait_for_server=True) if waits else online()
    assert not [event for event in given(actor, failure) if isinstance(event, m.StartupAborted)]


def test_http_calls_are_tried_again() -> None:
    """A failed call is made again after a pause, a hint is waited for, and a refused token is fetched anew."""
    actor = new(wait_for_server=True)
    given(actor, now=100.0)
    assert given(actor, m.IdentityFailed("HTTP 503", 30.0, 503), now=100.0) == []
    assert 130.0 <= actor.next_deadline() <= 131.5
    assert given(actor, now=132.0) == [m.RequestIdentity()]
    assert given(actor, SIGNED_IN, now=132.0) == [m.RequestRoom("token")]
    assert given(actor, m.RoomFailed("HTTP 503", 503, 20.0), now=132.0) == []
    assert 152.0 <= actor.next_deadline() <= 153.0
    assert given(actor, now=154.0) == [m.RequestRoom("token")]
    given(actor, m.RoomFailed("HTTP 401", 401, None), now=154.0)
    assert given(actor, now=155.0) == [m.RequestIdentity()]


def test_a_renewal_in_time() -> None:
    """A token is renewed in the last fifth of its life, and a room of our own is replaced while nobody needs it."""
    actor = online(now=1000.0)
    assert 1000.0 + 2880 <= actor.next_deadline() <= 1000.0 + 3060
    assert given(actor, now=1000.0 + 3060) == [m.RequestIdentity()]
    given(actor, m.IdentityCreated(http_api.Identity("later", "newer")), m.ChangeStatus(1, Busy("job")), now=4100.0)
    given(actor, m.IdentityCreated(http_api.Identity("later", "newer")), now=7000.0)
    assert given(actor, now=8000.0) == []
    assert given(actor, m.ChangeStatus(2, Available()), now=8001.0) == [m.RequestRoom("newer")]
    moved = given(actor, m.RoomCreated(http_api.Room("next", "s2")), now=8002.0)
    assert moved == [m.DropLink(1, "a new room needs a new socket", Cause.MOVED, polite=True)]
    (register,) = registers(given(actor, m.LinkOpened(m.Link(2, 1e6, send)), now=8003.0))
    assert (register["peer_id"], register["room_id"], register["id_token"]) == ("me", "next", "newer")


def test_an_eviction() -> None:
    """A worker that the server has forgotten registers again on the same link, after a pause that grows."""
    actor = online()
    assert registers(given(actor, m.RegistrationLost(1, "why"), now=10.0)) == []
    assert 10.05 <= actor.next_deadline() <= 10.1
    assert len(registers(given(actor, now=10.1))) == 1
    assert given(actor, m.RegistrationLost(1, "why"), now=10.2) == []  # there is none that could be lost
    given(actor, accepted(), now=10.2)
    given(actor, m.RegistrationLost(1, "why"), now=11.0)
    assert 11.1 <= actor.next_deadline() <= 11.2


def test_a_refusal_for_now() -> None:
    """What passes by itself is tried again after a pause, on the same link."""
    actor = online()
    given(actor, m.Reregister(), now=10.0)
    refusal = frames.RegisterError("DynamoDB error", typed=True)
    assert given(actor, m.FrameReceived(1, refusal), now=11.0) == [m.RegistrationRejected("DynamoDB error")]
    assert 13.5 <= actor.next_deadline() <= 16.0
    assert len(registers(given(actor, now=16.0))) == 1


@pytest.mark.parametrize(
    ("reason", "typed", "call"),
    [("Invalid token", False, m.RequestIdentity()), ("Room expired", True, m.RequestRoom("token"))],
)
def test_a_credential_that_is_refused(reason: str, typed: bool, call: m.Event) -> None:
    """A token or a room that the server refuses is fetched anew, soon, and then used, a room over a new link."""
    actor = online()
    given(actor, m.Reregister(), now=5.0)
    published = given(actor, m.FrameReceived(1, frames.RegisterError(reason, typed)), now=5.0)
    assert [type(event) for event in published] == [m.RegistrationRejected]
    assert 5.1 <= actor.next_deadline() <= 5.2
    assert given(actor, now=5.2) == [call]
    if isinstance(call, m.RequestIdentity):
        assert len(registers(given(actor, SIGNED_IN, now=6.0))) == 1
    else:
        assert given(actor, ROOM, now=6.0) == [m.DropLink(1, "a new room needs a new socket", Cause.MOVED, polite=True)]


def test_a_refusal_of_what_was_renewed_meanwhile() -> None:
    """A refusal of the token before does not concern the new one: it is registered with at once."""
    actor = online()
    given(actor, m.Reregister(), now=5.0)
    given(actor, m.IdentityCreated(http_api.Identity("other", "newer")), now=6.0)
    published = given(actor, m.FrameReceived(1, frames.RegisterError("Invalid token", typed=False)), now=7.0)
    assert [register["id_token"] for register in registers(published)] == ["newer"]


def test_a_given_room_that_is_gone() -> None:
    """What only a person can mend is tried again every 20 to 40 s."""
    actor = new(room_id="room", room_token="secret")
    given(actor, SIGNED_IN, OPENED)
    given(actor, accepted())
    given(actor, m.Reregister(), now=100.0)
    given(actor, m.FrameReceived(1, frames.RegisterError("Room not found", typed=True)), now=101.0)
    assert 121.0 <= actor.next_deadline() <= 141.0


def test_a_registration_that_is_asked_for() -> None:
    """It is sent at once, and one that is asked for while another is unanswered follows that one."""
    actor = online()
    assert len(registers(given(actor, m.Reregister(), now=5.0))) == 1
    assert registers(given(actor, m.Reregister(), now=5.0)) == []
    published = given(actor, accepted(), now=6.0)
    assert [event.settled for event in published if isinstance(event, m.WorkerRegistered)] == [False]
    assert len(registers(published)) == 1
    published = given(actor, accepted(), now=7.0)
    assert [event.settled for event in published if isinstance(event, m.WorkerRegistered)] == [True]
    assert registers(published) == []


def test_asked_for_without_a_link(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be done without a link is said once, and done on the next one."""
    actor = online()
    given(actor, LOST, now=5.0)
    with caplog.at_level(logging.ERROR, "worker_state"):
        given(actor, m.Reregister(), m.Reregister(), now=6.0)
    assert len(caplog.records) == 1
    given(actor, m.LinkOpened(m.Link(2, 1e6, send)), now=7.0)
    again = m.FrameReceived(2, frames.RegistrationAccepted("me", "room", "secret", 0))
    (event,) = [each for each in given(actor, again, now=8.0) if isinstance(each, m.WorkerRegistered)]
    assert event.settled


def test_admin() -> None:
    """Whether the worker offers to be the room's admin is said from the start, or with a new registration."""
    actor = new()
    given(actor, SIGNED_IN, ROOM)
    assert "is_admin" not in registers(given(actor, OPENED))[0]
    given(actor, accepted())
    assert [each["is_admin"] for each in registers(given(actor, m.ChangeAdmin(admin=True), now=1.0))] == [True]
    actor = new(admin=True)
    given(actor, SIGNED_IN, ROOM)
    assert registers(given(actor, OPENED))[0]["is_admin"] is True


def test_a_random_peer_id() -> None:
    """With an API key and no chosen id each worker has a random one, so that no two share it (faults.md, F06)."""
    (register,) = registers(given(new(api_key="slp_x"), OPENED))
    assert UUID(register["peer_id"]).version == 4
    (register,) = registers(given(new(api_key="slp_x", peer_id="mine"), OPENED))
    assert register["peer_id"] == "mine"
    chosen = new(peer_id="mine")
    given(chosen, SIGNED_IN, ROOM)
    assert registers(given(chosen, OPENED))[0]["peer_id"] == "mine"


@pytest.mark.parametrize(
    ("peer_id", "room_id"), [("somebody", "room"), ("me", "elsewhere")], ids=["another peer", "another room"]
)
def test_an_acceptance_of_somebody_else(peer_id: str, room_id: str) -> None:
    """It registers nobody, and nobody waits for less because of it."""
    actor = new()
    given(actor, SIGNED_IN, ROOM)
    given(actor, OPENED)
    stranger = m.FrameReceived(1, frames.RegistrationAccepted(peer_id, room_id, "secret", 0))
    assert [type(event) for event in given(actor, stranger)] == [m.FrameIgnored]
    assert m.WorkerRegistered in [type(event) for event in given(actor, accepted())]


def test_a_swallowed_register() -> None:
    """The echo behind it comes back first: it is sent again at once, and the second time the link is dropped (G05)."""
    actor = online(now=0.0)
    given(actor, m.Reregister(), now=100.0)
    (echo,) = given(actor, now=105.0)
    assert isinstance(echo, m.SendFrame)
    assert echo == m.SendFrame(1, frames.echo("me", "register-n"))
    published = given(actor, m.FrameReceived(1, frames.Echo("me", "register-n")), now=106.0)
    assert published[0] == m.RegistrationRejected("the server has swallowed a register")
    assert len(registers(published)) == 1
    given(actor, now=111.0)
    published = given(actor, m.FrameReceived(1, frames.NotInRoom("NOT_IN_ROOM")), now=112.0)
    assert m.DropLink(1, "the server has swallowed a register twice", Cause.DROPPED) in published


def test_g05_an_update_that_overtakes_the_first_register() -> None:
    """The answer to the look behind a link's first `register` proves it swallowed, whoever has the peer id; another
    peer's does not, and behind a later `register` none does."""
    actor = new()
    given(actor, SIGNED_IN, ROOM)
    given(actor, OPENED)
    given(actor, now=5.0)
    assert given(actor, m.FrameReceived(1, frames.MetadataUpdated("somebody", {})), now=6.0) == []
    updated = m.FrameReceived(1, frames.MetadataUpdated("me", {}))
    assert len(registers(given(actor, updated, now=7.0))) == 1
    given(actor, now=12.0)
    assert given(actor, updated, now=13.0) == []


def test_looks_that_are_still_to_be_answered() -> None:
    """An acceptance says what the answers to the looks behind its `register` will show, however the status changed."""
    actor = new()
    given(actor, SIGNED_IN, ROOM)
    given(actor, OPENED)
    given(actor, m.ChangeStatus(1, Busy("job")), now=5.0)
    (registered,) = (each for each in given(actor, accepted(), now=6.0) if isinstance(each, m.WorkerRegistered))
    assert registered.late == (build_record(("t",), {"gpu": 1}, Available()),)


def test_the_first_answer_of_a_link_may_take_long() -> None:
    """The first `register` on a link has that link's time, each further one `timing.register` (storms.md, 1)."""
    actor = online()
    given(actor, m.Reregister(), now=10.0)
    deadline = 10.0 + Config("ws://fake", "http://fake").timing.register
    while actor.next_deadline() < deadline:
        actor.wake(actor.next_deadline())
    assert [type(event) for event in actor.wake(deadline)] == [m.DropLink]


def test_the_session_string(caplog: pytest.LogCaptureFixture) -> None:
    """The log gives the session string that clients need, unless it is to be withheld."""
    with caplog.at_level(logging.INFO, "worker_state"):
        online()
        online(show_session_string=False)
    session = str(SessionString("room", "secret", "me"))
    assert [session in message for message in caplog.messages] == [True, False]


@pytest.mark.parametrize("first", [True, False])
def test_f31_not_in_room_may_answer_what_was_sent_before(first: bool) -> None:
    """NOT_IN_ROOM behind a `register` proves it swallowed only if nothing was sent before it on that link; else it may
    take effect yet, and no Close frame follows it (`make explore`, depth 8)."""
    actor = new()
    given(actor, SIGNED_IN, ROOM)
    given(actor, OPENED)
    now = 0.0
    if not first:
        given(actor, accepted())
        given(actor, m.Reregister(), now=(now := 1.0))
    assert [event.message["type"] for event in given(actor, now=now + 5) if isinstance(event, m.SendFrame)] == [
        "update_metadata" if first else "peer_message"
    ]
    published = given(actor, m.FrameReceived(1, frames.NotInRoom("NOT_IN_ROOM")), now=now + 6)
    assert len(registers(published)) == 1
    assert actor.unanswered
    published = given(actor, m.StartLeaving(), m.RegisterWithdrawn(1), m.CloseLink(0.5), now=now + 7)
    assert (m.SendClose(1) in published) is first


def test_the_token_of_a_room() -> None:
    """What is known of our room counts, not what an answer repeats; with an API key the answer's token, if it has one,
    and without one there is no session string."""
    found: list[tuple[str | None, bool]] = []
    for config, answer in (({}, "another"), ({"api_key": "slp_x"}, "given"), ({"api_key": "slp_x"}, None)):
        actor = new(**config, peer_id="me")
        given(actor, SIGNED_IN, ROOM) if not config else given(actor)
        given(actor, OPENED)
        published = given(actor, m.FrameReceived(1, frames.RegistrationAccepted("me", "room", answer, 0)))
        (registered,) = (each for each in published if isinstance(each, m.WorkerRegistered))
        session = fold(State(), registered, 0.0).session_string
        found.append((registered.token, session is not None))
    assert found == [("secret", True), ("given", True), (None, False)]


def test_a_first_register_that_is_sent_late() -> None:
    """It has the time of any answer at least, however long the link has been open without credentials."""
    actor = new(room_id="room", room_token="secret")
    given(actor, m.LinkOpened(m.Link(1, 10.0, send)))
    assert len(registers(given(actor, SIGNED_IN, now=100.0))) == 1
    over_at = 100.0 + Config("ws://fake", "http://fake").timing.answer
    while actor.next_deadline() < over_at:
        assert m.DropLink not in map(type, actor.wake(actor.next_deadline()))
    assert m.DropLink in map(type, actor.wake(over_at))


def test_t15_an_answer_that_nobody_could_read() -> None:
    """A process that stood still gives the answer its time again, from now on."""
    actor = online()
    given(actor, m.Reregister(), now=10.0)
    timing = Config("ws://fake", "http://fake").timing
    now = 10.0 + timing.register + 50.0
    assert m.DropLink not in map(type, given(actor, now=now))
    while actor.next_deadline() < now + timing.answer:
        assert m.DropLink not in map(type, actor.wake(actor.next_deadline()))
    assert m.DropLink in map(type, actor.wake(now + timing.answer))
