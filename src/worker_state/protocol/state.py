"""The snapshot that everybody may look at, as a fold over what the actors have said.

Pure: `fold(state, event)` gives the next snapshot. No actor reads it; it is for the worker, its log and its people.
"""

from dataclasses import dataclass, field, replace

from worker_state.protocol import events as m
from worker_state.protocol.frames import NOTHING_AROUND, Around, Message
from worker_state.protocol.status import Available, Maintenance, Truth, WorkerStatus, job_id, word
from worker_state.session_string import SessionString


@dataclass(frozen=True, slots=True)
class State:
    """What is true here, and how much of it the server is known to show. Times are of trio's clock, in seconds."""

    truth: Truth = field(default_factory=Available)
    revision: int = 0  # how often the status has changed
    status_since: float = 0.0
    draining: bool = False  # no further job is taken; once begun it stays so
    confirmed_revision: int = -1  # the newest revision that the server has confirmed on the present registration, or -1
    unconfirmed_since: float | None = 0.0
    """Since when the server has not confirmed the present status, or None while it has."""
    confirmed_at: float | None = None  # when the server last confirmed what was true then, on whatever registration
    connected: bool = False
    epoch: int = 0  # which link this is, counted from 1
    registered_since: float | None = None
    """When the server accepted the present registration. That is what we were told …"""
    discoverable_since: float | None = None  # … and since when echoes prove it; None while it is not proved
    unregistered_since: float | None = 0.0
    """When the last registration was lost (before the first one: the start), or None while the worker is registered."""
    proved_at: float | None = None  # when the last echo came back, on whatever registration
    registration_asked: bool = False
    """A full registration was asked for with `reregister()` and has not been accepted yet."""
    peer_id: str | None = None
    room_id: str | None = None
    session_string: str | None = field(default=None, repr=False)
    crowd: int = 0  # how many others are reckoned with in the room, which says how often the server is asked
    around: Around = NOTHING_AROUND  # also as `peer_list`, `ice_servers` and `mesh_ice_servers`
    peers: int = 0  # how many others were in the room at the last registration
    evictions: int = 0  # how often the server has forgotten this worker although its link was up
    trouble: str | None = None
    """Why the worker is not registered just now, in words; None when it is, and while nothing has failed."""
    signals_dropped: int = 0
    frames_ignored: int = 0

    @property
    def status(self) -> WorkerStatus:
        """The local truth."""
        return word(self.truth)

    @property
    def peer_list(self) -> tuple[str, ...]:
        """Who else was in the room at the last registration."""
        return self.around.peer_list

    @property
    def ice_servers(self) -> tuple[Message, ...]:
        """The ICE servers that the last registration was told (v3.0), for whoever opens the peer connections."""
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
        return Maintenance() if self.draining else Available()

    @property
    def registered(self) -> bool:
        """The server has accepted us, and nothing has been heard to the contrary."""
        return self.registered_since is not None

    @property
    def confirmed(self) -> bool:
        """The server has confirmed the present status."""
        return self.registered and self.confirmed_revision == self.revision

    @property
    def synced(self) -> bool:
        """The present status is confirmed and an echo has proved the present registration."""
        return self.confirmed and self.discoverable_since is not None and not self.registration_asked


def fold(state: State, event: m.Event, now: float) -> State:
    """The snapshot after this event; an equal one when the event changes nothing in it."""
    match event:
        case m.ChangeStatus(revision, truth):
            unconfirmed = _unconfirmed_since(state, now)
            return replace(state, revision=revision, truth=truth, status_since=now, unconfirmed_since=unconfirmed)
        case m.Reregister():
            return replace(state, registration_asked=True)
        case m.StartDraining():
            return replace(state, draining=True)
        case m.LinkOpened(link):
            return replace(state, connected=True, epoch=link.epoch, trouble="registering")
        case m.LinkLost(_, closed, _):
            return _unregistered(state, str(closed), now, disconnected=True)
        case m.DialFailed(failure, _):
            return replace(state, trouble=str(failure))
        case m.IdentityFailed(why) if not state.registered:
            return replace(state, trouble=f"sign-in failed: {why}")
        case m.RoomFailed(why) if not state.registered:
            return replace(state, trouble=f"room creation failed: {why}")
        case m.StartDialing() if state.trouble is not None:  # once, when the first sign-in and room have succeeded
            return replace(state, trouble=None)
        case m.RegistrationLost(_, why):
            return _unregistered(state, why, now, evicted=True)
        case m.RegistrationRejected(why):
            return _unregistered(state, why, now)
        case m.WorkerRegistered():
            return _registered(state, event)
        case m.StatusConfirmed(revision, at) if state.registered:
            newest = revision == state.revision
            since = None if newest else state.unconfirmed_since
            return replace(state, confirmed_revision=revision, confirmed_at=at, unconfirmed_since=since)
        case m.UpdateFailed(True) if state.registered:
            return replace(state, confirmed_revision=-1, unconfirmed_since=_unconfirmed_since(state, now))
        case m.PresenceProved(_, at) if state.registered:
            since = state.discoverable_since
            return replace(state, proved_at=at, discoverable_since=at if since is None else since)
        case m.SignalDropped():
            return replace(state, signals_dropped=state.signals_dropped + 1)
        case m.FrameIgnored():
            return replace(state, frames_ignored=state.frames_ignored + 1)
        case _:
            return state


def _unconfirmed_since(state: State, now: float) -> float:
    return now if state.unconfirmed_since is None else state.unconfirmed_since


def _unregistered(state: State, why: str, now: float, *, disconnected: bool = False, evicted: bool = False) -> State:
    return replace(
        state,
        unconfirmed_since=_unconfirmed_since(state, now),
        registered_since=None,
        unregistered_since=now if state.unregistered_since is None else state.unregistered_since,
        discoverable_since=None,
        confirmed_revision=-1,
        trouble=why,
        connected=state.connected and not disconnected,
        evictions=state.evictions + evicted,
    )


def _registered(state: State, event: m.WorkerRegistered) -> State:
    newest = event.revision == state.revision
    text = None if event.token is None else str(SessionString(event.room_id, event.token, event.peer_id))
    return replace(
        state,
        registered_since=event.at,
        unregistered_since=None,
        discoverable_since=None,
        confirmed_revision=event.revision,
        confirmed_at=event.at,
        unconfirmed_since=None if newest else state.unconfirmed_since,
        registration_asked=not event.settled,
        peer_id=event.peer_id,
        room_id=event.room_id,
        session_string=text,
        peers=event.peers,
        around=event.around,
        crowd=event.crowd or event.peers,
        trouble=None,
    )
