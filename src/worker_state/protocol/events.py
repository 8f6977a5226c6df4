"""Everything that the actors say to each other: commands are VerbNoun, events NounVerbed, all frozen.

An answer is a later event; nobody waits for one. Which actor hears which of these stands in `manager.ROUTES` alone.
`at` is always a time of trio's clock, in seconds.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from worker_state.errors import StartupFailed
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.frames import NOTHING_AROUND, Around, Frame, Message
from worker_state.protocol.http_api import Identity, Room
from worker_state.protocol.status import Truth


@dataclass(frozen=True, slots=True)
class Link:
    """The right to send on one particular socket. When that dies, sending says so; a `Link` never moves to another."""

    epoch: int  # counts the links of this worker from 1; frames and answers of an older epoch mean nothing
    answer_by: float
    """How long the first `register` on it may go unanswered: patience is what saves a busy server (storms.md, 1)."""
    send: Callable[[str, str], Awaitable[bool]] = field(repr=False, compare=False)
    """Hand over a frame of the worker's other parts (its type, its text), waiting for the ones before it; False when
    the socket is gone."""


# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangeStatus:
    """The worker is doing something else now. Revisions count its changes; the newest is the truth."""

    revision: int
    truth: Truth


@dataclass(frozen=True, slots=True)
class Reregister:
    """Do a full `register` as soon as there is a link."""


@dataclass(frozen=True, slots=True)
class StartDraining:
    """The worker takes no further job; there is no way back."""


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Sign in: from here on there may be a user on the server whose name is not known yet."""


@dataclass(frozen=True, slots=True)
class RequestRoom:
    """Create a room of our own."""

    id_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartDialing:
    """There is an identity to register with: keep a link from now on."""


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send this frame over the link of this epoch, or drop it when that is gone."""

    epoch: int
    message: Message = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropLink:
    """Abort this link: whatever its pings say, it is of no use, or of no use any more."""

    epoch: int
    why: str
    cause: Cause = Cause.DROPPED
    polite: bool = False  # with a Close frame: nothing that was sent is unanswered


@dataclass(frozen=True, slots=True)
class StartLeaving:
    """The worker is going: dial, register and sign in no more; pay what is owed."""


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close the socket, within so many seconds, and end."""

    within: float


@dataclass(frozen=True, slots=True)
class SendClose:
    """Send the Close frame of the link that is to be closed: nothing that was sent is unanswered."""

    epoch: int


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A dial gave no link; the next one follows in `pause` seconds."""

    failure: DialFailure
    pause: float


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A socket is open, and nobody has registered on it."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The socket of this epoch is gone; the next dial follows in `pause` seconds, or not at all (None)."""

    epoch: int
    closed: Closed
    pause: float | None


@dataclass(frozen=True, slots=True)
class LinkReleased:
    """The registration actor, too, has done with a lost link: what the server may still make of it."""

    by_server: bool  # the server has sent a Close frame
    registered: bool  # A `register` was sent over the link …
    unanswered: bool  # … and one of them was not answered


@dataclass(frozen=True, slots=True)
class RegisterWithdrawn:
    """A `register` that had not gone out when the worker began to leave was not sent."""

    epoch: int


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """The server has sent something over this link."""

    epoch: int
    frame: Frame
    others_spoke: bool = False
    """A frame of the worker's other parts was sent over it: an error may be the answer to that."""


@dataclass(frozen=True, slots=True)
class IdentityCreated:
    """A sign-in was answered. Every one of these has to be deleted by its own `/delete-peer`."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class IdentityFailed:
    """A sign-in gave nothing (or its answer was lost). `hint`: seconds that the server asks to wait, if it does."""

    why: str
    hint: float | None = None


@dataclass(frozen=True, slots=True)
class RoomCreated:
    """A room of our own exists."""

    room: Room


@dataclass(frozen=True, slots=True)
class RoomFailed:
    """No room was created. `status`: of the HTTP answer, if there was one. `hint` as above."""

    why: str
    status: int | None = None
    hint: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerRegistered:
    """The server has accepted a `register` that carried the truth of this revision."""

    epoch: int
    revision: int
    peer_id: str
    room_id: str
    token: str | None = field(repr=False)
    peers: int
    settled: bool  # false when a further registration was asked for while this one was on its way
    at: float
    around: Around = NOTHING_AROUND
    crowd: int = 0  # so many others are to be reckoned with in the room; 0: as many as the answer has told (`peers`)


@dataclass(frozen=True, slots=True)
class RegistrationRejected:
    """The server did not accept; it is tried again, or the worker cannot help it. `why` is for a person."""

    why: str


@dataclass(frozen=True, slots=True)
class RegistrationLost:
    """The server does not know this worker (any more), though it had accepted it on this link."""

    epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class StatusConfirmed:
    """The server has stored exactly the truth of this revision."""

    revision: int
    at: float


@dataclass(frozen=True, slots=True)
class UpdateFailed:
    """The server's answer shows something else than what is true here (`drifted`: it is repaired), or did not come."""

    drifted: bool


@dataclass(frozen=True, slots=True)
class PresenceProved:
    """An echo came back: clients reach the worker through the link of this epoch."""

    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class MachineSuspended:
    """The machine was suspended for so many seconds, which trio's clock has not counted: look at what runs out."""

    seconds: float


@dataclass(frozen=True, slots=True)
class FrameIgnored:
    """The server sent what answers nothing of ours, or makes no sense. `why` never repeats a secret."""

    why: str


@dataclass(frozen=True, slots=True)
class SignalSent:
    """The socket of this epoch has taken over a message of the worker's other parts."""

    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class SignalsFlushed:
    """The worker leaves, and the server has dealt with every signal that was sent; or that is not to be had."""


@dataclass(frozen=True, slots=True)
class SignalDropped:
    """A message of the worker's other parts found their buffer full."""


@dataclass(frozen=True, slots=True)
class StartupAborted:
    """The worker cannot start; the error leaves through `nursery.start`."""

    error: StartupFailed


Command = (
    ChangeStatus
    | Reregister
    | StartDraining
    | RequestIdentity
    | RequestRoom
    | StartDialing
    | SendFrame
    | DropLink
    | StartLeaving
    | CloseLink
    | SendClose
)
Happened = (
    DialFailed
    | LinkOpened
    | LinkLost
    | LinkReleased
    | RegisterWithdrawn
    | FrameReceived
    | IdentityCreated
    | IdentityFailed
    | RoomCreated
    | RoomFailed
    | WorkerRegistered
    | RegistrationRejected
    | RegistrationLost
    | StatusConfirmed
    | UpdateFailed
    | PresenceProved
    | MachineSuspended
    | FrameIgnored
    | SignalSent
    | SignalsFlushed
    | SignalDropped
    | StartupAborted
)
Event = Command | Happened  # anything that is published
Publish = Callable[[Event], None]
"""How an actor speaks: never waits, never fails. Which actors hear it, the supervisor's table of routes says."""
