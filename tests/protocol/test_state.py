"""The snapshot as a fold over what the actors say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.messages import COMMANDS, EVENTS
from worker_state.advertised import Advertised
from worker_state.errors import StartupFailed
from worker_state.protocol import events as m
from worker_state.protocol import frames, http_api
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.state import State, ages, fold
from worker_state.protocol.status import Available, Busy, Maintenance, Reserved, WorkerStatus
from worker_state.session_string import SessionString

SECRET = "s3cr3t"


def link(epoch: int = 1) -> m.Link:
    async def send(kind: str, text: str) -> bool:
        raise NotImplementedError

    return m.Link(epoch, 60.0, send)


def registered(**given_: Any) -> m.WorkerRegistered:
    usual: dict[str, Any] = {
        "epoch": 1,
        "revision": 0,
        "peer_id": "PEER",
        "room_id": "ROOM",
        "token": SECRET,
        "peers": 3,
        "settled": True,
        "at": 5.0,
    }
    return m.WorkerRegistered(**(usual | given_))


def after(*notes: m.Event, state: State | None = None, now: float = 9.0) -> State:
    state = state or State()
    for note in notes:
        state = fold(state, note, now)
    return state


OPENED = m.LinkOpened(link())
ONLINE = (OPENED, registered())
PROVED = (*ONLINE, m.PresenceProved(1, 6.0))


def test_beginning() -> None:
    """A worker begins available, unregistered and unconfirmed."""
    state = State()
    assert (state.status, state.job_id) == (WorkerStatus.AVAILABLE, None)
    assert (state.connected, state.registered, state.confirmed, state.synced) == (False,) * 4


@pytest.mark.parametrize(
    ("truth", "status", "job"),
    [
        (Available(), "available", None),
        (Reserved("j"), "reserved", "j"),
        (Busy("j"), "busy", "j"),
        (Maintenance(), "maintenance", None),
    ],
)
def test_status_changed(truth: Any, status: str, job: str | None) -> None:
    """A changed status is true at once and remembers since when."""
    state = after(m.ChangeStatus(4, truth), now=12.0)
    assert (state.status, state.job_id, state.revision, state.status_since) == (status, job, 4, 12.0)


def test_draining() -> None:
    """Once drained, a worker without a job is in maintenance, whatever comes; the status itself is not touched."""
    assert State().idle == Available()
    state = after(m.ChangeStatus(1, Busy("j")), m.StartDraining(), m.ChangeStatus(2, Available()))
    assert (state.draining, state.idle, state.truth) == (True, Maintenance(), Available())


def test_registered() -> None:
    """A registration's answer confirms the status that it carried, and gives room, peers and session string."""
    state = after(*ONLINE)
    assert state.registered
    assert state.confirmed
    assert not state.synced
    assert (state.registered_since, state.peer_id, state.room_id, state.peers) == (5.0, "PEER", "ROOM", 3)
    assert state.session_string == str(SessionString("ROOM", SECRET, "PEER"))
    assert state.trouble is None


def test_no_session_string_without_a_token() -> None:
    """With an API key there is no session string, and the one of before does not stay."""
    assert after(*ONLINE, registered(token=None)).session_string is None


def test_proved() -> None:
    """An echo on the present link makes the worker discoverable since then, and later ones do not move that."""
    state = after(*PROVED, m.PresenceProved(1, 8.0))
    assert state.synced
    assert (state.discoverable_since, state.proved_at) == (6.0, 8.0)


def test_echo_without_a_registration() -> None:
    """An echo that arrives after the server has forgotten us proves nothing."""
    state = after(*PROVED, m.RegistrationLost(1, "NOT_IN_ROOM"))
    assert fold(state, m.PresenceProved(1, 8.0), 9.0) is state


def test_new_registration_needs_a_new_proof() -> None:
    """A registration again is not proved by the echoes of before."""
    state = after(*PROVED, registered(at=7.0))
    assert state.registered_since == 7.0
    assert state.discoverable_since is None
    assert state.proved_at == 6.0
    assert not state.synced


def test_unconfirmed_change() -> None:
    """A status that the server has not confirmed yet is not synced, and is as soon as it has."""
    changed = after(*PROVED, m.ChangeStatus(1, Busy("j")))
    assert not changed.confirmed
    assert not changed.synced
    assert after(m.StatusConfirmed(1, 8.0), state=changed).synced


def test_outdated_confirmation() -> None:
    """The confirmation of a status that is no longer true confirms nothing."""
    state = after(*PROVED, m.ChangeStatus(1, Busy("j")), m.ChangeStatus(2, Available()), m.StatusConfirmed(1, 8.0))
    assert not state.confirmed


def test_confirmation_without_a_registration() -> None:
    """A confirmation counts for nothing while the worker is not registered."""
    state = after(*PROVED, m.LinkLost(1, Closed(), 1.0))
    assert fold(state, m.StatusConfirmed(0, 8.0), 9.0) is state


@pytest.mark.parametrize(
    ("note", "trouble", "connected"),
    [
        (m.LinkLost(1, Closed(1001, "going away"), 0.3), "closed with 1001 (going away)", False),
        (m.LinkLost(1, Closed(reason="no pong", cause=Cause.SILENT), None), "silent (no pong)", False),
        (m.RegistrationLost(1, "the server forgot"), "the server forgot", True),
        (m.RegistrationRejected("room not found"), "room not found", True),
    ],
)
def test_registration_lost(note: m.Event, trouble: str, connected: bool) -> None:
    """Whatever ends a registration takes its proof and its confirmation along, and says why."""
    state = after(*PROVED, note)
    assert (state.registered, state.confirmed, state.synced) == (False,) * 3
    assert (state.discoverable_since, state.confirmed_revision) == (None, -1)
    assert (state.trouble, state.connected) == (trouble, connected)


def test_evictions() -> None:
    """Every registration that the server has forgotten is counted; one that it did not accept is none."""
    notes = (*PROVED, m.RegistrationLost(1, "why"), m.RegistrationRejected("why"), registered())
    assert after(*notes, m.RegistrationLost(1, "why")).evictions == 2


def test_session_string_outlives_a_link() -> None:
    """A lost link does not take peer id, room or session string along: the same come back."""
    state = after(*PROVED, m.LinkLost(1, Closed(), 0.3))
    assert (state.peer_id, state.room_id) == ("PEER", "ROOM")
    assert state.session_string is not None


def test_link_opened() -> None:
    """An open link is connected and in the middle of registering."""
    state = after(m.LinkOpened(link(7)))
    assert (state.connected, state.epoch, state.trouble, state.registered) == (True, 7, "registering", False)


def test_dial_failed() -> None:
    """A failed dial says why."""
    state = after(m.DialFailed(DialFailure(Cause.REJECTED, "HTTP 503"), 1.0))
    assert (state.trouble, state.connected) == ("upgrade rejected (HTTP 503)", False)


def test_registration_asked() -> None:
    """A worker that has asked for a registration is not synced until one has answered that request."""
    asked = after(*PROVED, m.Reregister())
    assert asked.registered
    assert not asked.synced
    unsettled = after(registered(settled=False), m.PresenceProved(1, 8.0), state=asked)
    assert not unsettled.synced
    assert after(registered(settled=True), m.PresenceProved(1, 8.0), state=unsettled).synced


def test_signals_dropped() -> None:
    """Every dropped signal is counted."""
    assert after(m.SignalDropped(), m.SignalDropped()).signals_dropped == 2


def test_id_token() -> None:
    """The ID token is that of the newest sign-in, also once the worker is registered."""
    state = after(m.IdentityCreated(http_api.Identity("PEER", "first")), *ONLINE)
    assert state.id_token == "first"
    assert after(m.IdentityCreated(http_api.Identity("u", SECRET)), state=state).id_token == SECRET


UNTOUCHED: list[m.Event] = [
    m.StartDialing(),
    m.DropLink(1, "why"),
    m.StartLeaving(),
    m.CloseLink(0.5),
    m.FrameReceived(1, frames.Ping()),
    m.RequestIdentity(),
    m.RequestRoom(SECRET),
    m.SendFrame(1, {"type": "register"}),
    m.SendClose(1),
    m.LinkReleased(by_server=True, registered=True, unanswered=False),
    m.RegisterWithdrawn(1),
    m.IdentityFailed("why"),
    m.RoomCreated(http_api.Room("r", SECRET)),
    m.RoomFailed("why"),
    m.StartupAborted(StartupFailed("why")),
    m.SignalSent(1, 8.0),
    m.SignalsFlushed(),
]


@pytest.mark.parametrize("note", UNTOUCHED, ids=lambda note: type(note).__name__)
def test_untouched(note: m.Event) -> None:
    """A note that is not about the snapshot leaves the very same object."""
    state = after(*PROVED)
    assert fold(state, note, 99.0) is state


NOTES: list[m.Event] = [
    *UNTOUCHED,
    m.IdentityCreated(http_api.Identity("u", SECRET)),
    OPENED,
    m.LinkOpened(link(2)),
    m.LinkLost(1, Closed(), 1.0),
    registered(),
    registered(epoch=2, revision=1, settled=False, token=None),
    m.ChangeStatus(1, Busy("j")),
    m.ChangeStatus(2, Available()),
    m.ChangeAdvertised(3, Advertised(("a",), {"gpu_memory_mb": 1})),
    m.ChangeAdmin(admin=True),
    m.Reregister(),
    m.StartDraining(),
    m.DialFailed(DialFailure(Cause.REFUSED), 1.0),
    m.RegistrationRejected("why"),
    m.RegistrationLost(1, "why"),
    m.StatusConfirmed(1, 8.0),
    m.UpdateFailed(drifted=True),
    m.UpdateFailed(drifted=False),
    m.PresenceProved(1, 8.0),
    m.SignalDropped(),
    m.FrameIgnored("why"),
    m.MachineSuspended(600.0),
    m.AnswersDelayed(1),
]


def test_every_note_is_tried() -> None:
    """The lists in this file name every message that there is."""
    assert {type(note) for note in NOTES} == {*COMMANDS, *EVENTS}


@given(st.lists(st.sampled_from(NOTES), max_size=30))
def test_consistent(notes: list[m.Event]) -> None:
    """In whatever order notes come, no snapshot claims what it cannot know."""
    state = State()
    for note in notes:
        state = fold(state, note, 9.0)
        assert not state.synced or state.confirmed
        assert not state.confirmed or state.registered
        assert state.discoverable_since is None or state.registered
        assert state.registered == (state.unregistered_since is None)
        assert SECRET not in repr(state)
        assert state.session_string is None or state.session_string not in repr(state)


def test_g06_why_a_start_takes_long() -> None:
    """Before the first link it is the sign-in or the room that fails; once both are there, neither does."""
    state = after(m.IdentityFailed("connection refused"))
    assert state.trouble == "sign-in failed: connection refused"
    state = after(m.RoomFailed("HTTP 503", False), state=state)
    assert state.trouble == "room creation failed: HTTP 503"
    assert after(m.StartDialing(), state=state).trouble is None


def test_frames_ignored() -> None:
    """Every frame that was ignored is counted."""
    assert after(m.FrameIgnored("why"), m.FrameIgnored("why")).frames_ignored == 2


def test_repr() -> None:
    """The repr of a snapshot shows what the worker is doing."""
    assert "Busy(job_id='job-1')" in repr(after(m.ChangeStatus(1, Busy("job-1"))))


def test_unregistered_since() -> None:
    """The time without a registration begins once, whatever else goes wrong meanwhile, and ends with the next one."""
    lost = after(m.LinkLost(1, Closed(), 0.3), state=after(*PROVED), now=20.0)
    still = after(m.DialFailed(DialFailure(Cause.REFUSED), 1.0), m.RegistrationRejected("why"), state=lost, now=30.0)
    assert (still.unregistered_since, still.unconfirmed_since) == (20.0, 20.0)
    again = after(registered(at=31.0), state=still, now=31.0)
    assert (again.unregistered_since, again.unconfirmed_since, again.confirmed_at) == (None, None, 31.0)


def test_unconfirmed_since() -> None:
    """The time without a confirmation begins with the first change that has none, and ends with that of the newest."""
    state = after(m.ChangeStatus(1, Busy("j")), state=after(*PROVED), now=20.0)
    state = after(m.ChangeStatus(2, Available()), m.StatusConfirmed(1, 20.5), state=state, now=21.0)
    assert (state.unconfirmed_since, state.confirmed_at) == (20.0, 20.5)
    assert after(registered(revision=1, at=22.0), state=state).unconfirmed_since == 20.0
    state = after(m.StatusConfirmed(2, 23.0), state=state)
    assert (state.unconfirmed_since, state.confirmed_at) == (None, 23.0)


def test_drift() -> None:
    """What somebody has changed on the server is not confirmed any more, until it is repaired."""
    state = after(m.UpdateFailed(drifted=True), state=after(*PROVED), now=20.0)
    assert (state.confirmed, state.synced, state.unconfirmed_since) == (False, False, 20.0)
    assert after(m.StatusConfirmed(0, 21.0), state=state).synced


def test_missing_answer() -> None:
    """An answer that did not come says nothing about what the server has stored."""
    state = after(*PROVED)
    assert fold(state, m.UpdateFailed(drifted=False), 20.0) is state
    assert not after(m.UpdateFailed(drifted=True)).confirmed
    changed = after(m.ChangeStatus(1, Busy("j")), m.StatusConfirmed(1, 8.0), m.UpdateFailed(drifted=True), state=state)
    assert (changed.confirmed, changed.confirmed_revision) == (False, -1)


def test_what_the_registration_told_of_its_surroundings() -> None:
    """Peers and ICE servers of the registration's answer are there for the worker's other parts."""
    around = frames.Around(("peer-1",), ({"urls": "stun:a"},), ({"urls": "stun:b"},))
    state = State(around=around)
    assert state.peer_list == ("peer-1",)
    assert (state.ice_servers, state.mesh_ice_servers) == (({"urls": "stun:a"},), ({"urls": "stun:b"},))


def test_what_a_registration_says_of_the_room() -> None:
    """The others of the room, and when they were counted, are those of the last registration's answer."""
    around = frames.Around(("peer-1",), admin_peer_id="peer-1")
    state = after(registered(around=around, expected_peers=40))
    assert (state.peer_list, state.admin_peer_id) == (("peer-1",), "peer-1")
    assert (state.peers, state.peers_at, state.expected_peers) == (3, 5.0, 40)
    assert after(registered()).expected_peers == 3


def test_advertised() -> None:
    """New tags and capabilities are true at once and unconfirmed until the server has stored them."""
    state = after(m.ChangeAdvertised(1, Advertised(("a",), {"gpu": 1})), state=after(*PROVED), now=20.0)
    assert (state.tags, dict(state.capabilities), state.revision) == (("a",), {"gpu": 1}, 1)
    assert (state.synced, state.unconfirmed_since) == (False, 20.0)
    assert after(m.StatusConfirmed(1, 21.0), state=state).synced


def test_admin() -> None:
    """Offering to be the room's admin takes a new registration, so the worker is not synced until then."""
    state = after(m.ChangeAdmin(admin=True), state=after(*PROVED))
    assert state.admin is True
    assert not state.synced
    assert after(registered(), m.PresenceProved(1, 8.0), state=state).synced


def test_ages() -> None:
    """Every time of the snapshot as an age by its name, none of them negative; None for what is not the case."""
    state = after(*PROVED, now=20.0)
    assert ages(state, 30.0) == {
        "status": 30.0,
        "registered": 25.0,
        "unregistered": None,
        "discoverable": 24.0,
        "proved": 24.0,
        "confirmed": 25.0,
        "unconfirmed": None,
        "peers": 25.0,
    }
    assert ages(state, 5.5)["proved"] == 0.0
    assert ages(State(), 7.0)["unregistered"] == 7.0
