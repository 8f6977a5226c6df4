"""The snapshot, as a fold over what the actors publish. No actor reads it: the worker, its log and its people do."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from worker_state.advertised import Advertised
from worker_state.protocol import events
from worker_state.protocol.frames import NOTHING_AROUND, Around, Message
from worker_state.protocol.status import Available, Truth, WorkerStatus, in_use, job_id, without_job, word
from worker_state.session_string import SessionString


@dataclass(frozen=True, slots=True)
class State:
    """What is true here, and how much of it the server is known to show. Times are of trio's clock, in seconds."""

    truth: Truth = field(default_factory=Available)
    """What the worker is doing, with its job. Also as `status` and `job_id`."""
    advertised: Advertised = field(default_factory=Advertised)
    """What it says of itself beside that. Also as `tags` and `capabilities`."""
    admin: bool = False
    """Whether the worker offers to be the room's admin; who is, says `admin_peer_id`."""
    revision: int = 0
    """How often the status, the tags or the capabilities have changed."""
    status_since: float = 0.0
    """When the status last changed here."""
    draining: bool = False
    """No further job is taken; once begun it stays so."""
    confirmed_revision: int = -1
    """The newest revision that the server has confirmed on the present registration, or -1."""
    unconfirmed_since: float | None = 0.0
    """Since when the present status is not confirmed; None while the server has confirmed it."""
    confirmed_at: float | None = None
    """When the server last confirmed what was true then."""
    connected: bool = False
    """Whether there is a link."""
    epoch: int = 0
    """Which link this is, counted from 1."""
    registered_since: float | None = None
    """When the server accepted the present registration; None without one."""
    discoverable_since: float | None = None
    """Since when echoes prove it; None while it is not proved."""
    unregistered_since: float | None = 0.0
    """The loss of the last registration, or the start; None while there is one."""
    proved_at: float | None = None
    """When the last echo came back, on whatever registration."""
    registration_asked: bool = False
    """`reregister()` was called, and no registration has been accepted since."""
    peer_id: str | None = None
    """The worker's name on the server; None until it is known."""
    room_id: str | None = None
    """The room that it is in; None until it is known."""
    session_string: str | None = field(default=None, repr=False)
    """What clients type in; a secret. None until it is known, and with an API key."""
    id_token: str | None = field(default=None, repr=False)
    """The token of the newest sign-in; a secret."""
    expected_peers: int = 0
    """Others to expect in the room, which decides how often the server is asked."""
    around: Around = NOTHING_AROUND
    """What the registration's answer says of others. Also as `peer_list`, `peer_metadata`, `ice_servers` …"""
    peers: int = 0
    """How many others were in the room at the last registration."""
    peers_at: float | None = None
    """When that was; None: never."""
    evictions: int = 0
    """How often the server has forgotten this worker although its link was up."""
    trouble: str | None = None
    """Why the worker is not registered; None when it is, and while nothing has failed."""
    ended: bool = False
    """The manager is over; nothing changes any more."""
    signals_dropped: int = 0
    """How many messages nobody has read in time."""
    frames_ignored: int = 0
    """How many frames of the server answered nothing of ours, or made no sense."""

    @property
    def status(self) -> WorkerStatus:
        """The local truth."""
        return word(self.truth)

    @property
    def tags(self) -> tuple[str, ...]:
        """What clients discover the worker by."""
        return self.advertised.tags

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """The properties beside the status."""
        return self.advertised.capabilities

    @property
    def in_use(self) -> bool:
        """Somebody has been promised the worker, or is served by it."""
        return in_use(self.truth)

    @property
    def admin_peer_id(self) -> str | None:
        """The room's admin at the last registration."""
        return self.around.admin_peer_id

    @property
    def peer_metadata(self) -> Mapping[str, Message]:
        """The records of the others in the room at the last registration, by peer id, without their API keys."""
        return self.around.peer_metadata

    @property
    def peer_list(self) -> tuple[str, ...]:
        """The others in the room at the last registration."""
        return self.around.peer_list

    @property
    def ice_servers(self) -> tuple[Message, ...]:
        """The ICE servers in the last registration's answer (v3.0), for what opens the peer connections."""
        return self.around.ice_servers

    @property
    def mesh_ice_servers(self) -> tuple[Message, ...]:
        """The same for the mesh."""
        return self.around.mesh_ice_servers

    @property
    def job_id(self) -> str | None:
        """The job that the status is about, pending or current."""
        return job_id(self.truth)

    @property
    def idle(self) -> Truth:
        """What the worker is without a job: free, or, while it drains, not to be used."""
        return without_job(draining=self.draining)

    @property
    def registered(self) -> bool:
        """The server has accepted us, and nothing says the contrary."""
        return self.registered_since is not None

    @property
    def confirmed(self) -> bool:
        """The server has confirmed the present status."""
        return self.registered and self.confirmed_revision == self.revision

    @property
    def synced(self) -> bool:
        """The present status is confirmed and an echo has proved the present registration."""
        return self.confirmed and self.discoverable_since is not None and not self.registration_asked


def ages(state: State, now: float) -> dict[str, float | None]:
    """How long ago each time of the snapshot is, in seconds, by its name without the ending: for programs on another
    clock. None for what is not the case."""
    return {
        name: None if at is None else max(0.0, now - at)
        for name, at in (
            ("status", state.status_since),
            ("registered", state.registered_since),
            ("unregistered", state.unregistered_since),
            ("discoverable", state.discoverable_since),
            ("proved", state.proved_at),
            ("confirmed", state.confirmed_at),
            ("unconfirmed", state.unconfirmed_since),
            ("peers", state.peers_at),
        )
    }


def fold(state: State, event: events.Event, now: float) -> State:
    """The snapshot after this event; the same object when the event changes nothing in it."""
    unconfirmed = _since(state.unconfirmed_since, now)
    match event:
        case events.ChangeStatus(revision, truth):
            return replace(state, revision=revision, truth=truth, status_since=now, unconfirmed_since=unconfirmed)
        case events.ChangeAdvertised(revision, advertised):
            return replace(state, revision=revision, advertised=advertised, unconfirmed_since=unconfirmed)
        case events.ChangeAdmin(admin):
            return replace(state, admin=admin, registration_asked=True)
        case events.Reregister():
            return replace(state, registration_asked=True)
        case events.StartDraining():
            return replace(state, draining=True)
        case events.LinkOpened(link):
            return replace(state, connected=True, epoch=link.epoch, trouble="registering")
        case events.LinkLost(_, closed, _):
            return _unregistered(state, str(closed), now, connected=False)
        case events.DialFailed(failure, _):
            return replace(state, trouble=str(failure))
        case events.IdentityCreated(identity):
            return replace(state, id_token=identity.id_token)
        case events.IdentityFailed(why) if not state.registered:
            return replace(state, trouble=f"sign-in failed: {why}")
        case events.RoomFailed(why) if not state.registered:
            return replace(state, trouble=f"room creation failed: {why}")
        case events.StartDialing() if state.trouble is not None:  # once, when the first sign-in and room have succeeded
            return replace(state, trouble=None)
        case events.RegistrationLost(_, why):
            return _unregistered(state, why, now, evictions=state.evictions + 1)
        case events.RegistrationRejected(why):
            return _unregistered(state, why, now)
        case events.WorkerRegistered():
            return _registered(state, event)
        case events.StatusConfirmed(revision, at) if state.registered:
            return replace(state, **_confirmed(state, revision, at))
        case events.UpdateFailed(True) if state.registered:
            return replace(state, confirmed_revision=-1, unconfirmed_since=unconfirmed)
        case events.PresenceProved(_, at) if state.registered:
            return replace(state, proved_at=at, discoverable_since=_since(state.discoverable_since, at))
        case events.SignalDropped():
            return replace(state, signals_dropped=state.signals_dropped + 1)
        case events.FrameIgnored():
            return replace(state, frames_ignored=state.frames_ignored + 1)
        case _:
            return state


def _since(since: float | None, now: float) -> float:
    return now if since is None else since


def _confirmed(state: State, revision: int, at: float) -> dict[str, Any]:
    since = None if revision == state.revision else state.unconfirmed_since
    return {"confirmed_revision": revision, "confirmed_at": at, "unconfirmed_since": since}


def _unregistered(state: State, why: str, now: float, **changes: Any) -> State:
    return replace(
        state,
        **changes,
        registered_since=None,
        unregistered_since=_since(state.unregistered_since, now),
        unconfirmed_since=_since(state.unconfirmed_since, now),
        discoverable_since=None,
        confirmed_revision=-1,
        trouble=why,
    )


def _registered(state: State, event: events.WorkerRegistered) -> State:
    text = None if event.token is None else str(SessionString(event.room_id, event.token, event.peer_id))
    return replace(
        state,
        **_confirmed(state, event.revision, event.at),
        registered_since=event.at,
        unregistered_since=None,
        discoverable_since=None,
        registration_asked=not event.settled,
        peer_id=event.peer_id,
        room_id=event.room_id,
        session_string=text,
        peers=event.peers,
        peers_at=event.at,
        around=event.around,
        expected_peers=event.expected_peers or event.peers,
        trouble=None,
    )
