"""What the actors publish: commands are VerbNoun, events NounVerbed, all frozen.

An answer is a later event; nobody waits for one. `supervisor.ROUTES` alone says which actor gets which of these.
`at` is always a time of trio's clock, in seconds.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from worker_state.advertised import Advertised
from worker_state.errors import StartupFailed
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.frames import NOTHING_AROUND, Around, Frame, Message
from worker_state.protocol.http_api import Identity, Room
from worker_state.protocol.status import Truth


@dataclass(frozen=True, slots=True)
class Link:
    """The right to send on one particular socket. When that dies, sending says so; a `Link` never moves to another."""

    epoch: int  # counts the links of this worker from 1; frames and answers of an older epoch mean nothing
    answer_by: float  # how long the first `register` on it may go unanswered (storms.md, 1)
    send: Callable[[str, str], Awaitable[bool]] = field(repr=False, compare=False)
    """Send a frame of the worker's other parts (type, text) after those before it. False: the socket is gone."""


@dataclass(frozen=True, slots=True)
class Event:
    """Anything that is published: a command, or what has happened."""


Publish = Callable[[Event], None]  # never waits, never fails


@dataclass(frozen=True, slots=True)
class Command(Event):
    """What an actor is to do."""


@dataclass(frozen=True, slots=True)
class ChangeStatus(Command):
    """The worker is doing something else now. Revisions count its changes; the newest is the truth."""

    revision: int
    truth: Truth


@dataclass(frozen=True, slots=True)
class ChangeAdvertised(Command):
    """The worker has other tags or capabilities now. Its revisions are those of `ChangeStatus`."""

    revision: int
    advertised: Advertised


@dataclass(frozen=True, slots=True)
class ChangeAdmin(Command):
    """The worker offers to be the room's admin, or does not any more: it registers again."""

    admin: bool


@dataclass(frozen=True, slots=True)
class Reregister(Command):
    """Do a full `register` as soon as there is a link."""


@dataclass(frozen=True, slots=True)
class StartDraining(Command):
    """The worker takes no further job; there is no way back."""


@dataclass(frozen=True, slots=True)
class RequestIdentity(Command):
    """Sign in: from here on there may be a user on the server whose name is not known yet."""


@dataclass(frozen=True, slots=True)
class RequestRoom(Command):
    """Create a room of our own."""

    id_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartDialing(Command):
    """There is an identity to register with: keep a link from now on."""


@dataclass(frozen=True, slots=True)
class SendFrame(Command):
    """Send this frame over the link of this epoch; drop it when that is gone."""

    epoch: int
    message: Message = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropLink(Command):
    """End this link, which is of no use (any more)."""

    epoch: int
    why: str
    cause: Cause = Cause.DROPPED
    polite: bool = False  # with a Close frame: nothing that was sent is unanswered


@dataclass(frozen=True, slots=True)
class StartLeaving(Command):
    """The worker leaves: stop dialing, registering and signing in; delete what was created."""


@dataclass(frozen=True, slots=True)
class CloseLink(Command):
    """Close the socket, within so many seconds, and end."""

    within: float


@dataclass(frozen=True, slots=True)
class SendClose(Command):
    """Send the Close frame of the link that is to be closed: nothing that was sent is unanswered."""

    epoch: int


@dataclass(frozen=True, slots=True)
class DialFailed(Event):
    """A dial gave no link; the next one follows in `pause` seconds."""

    failure: DialFailure
    pause: float


@dataclass(frozen=True, slots=True)
class LinkOpened(Event):
    """A socket is open, and nobody has registered on it."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkLost(Event):
    """The socket of this epoch is gone; the next dial follows in `pause` seconds, or not at all (None)."""

    epoch: int
    closed: Closed
    pause: float | None


@dataclass(frozen=True, slots=True)
class LinkReleased(Event):
    """The registration actor has handled the loss of a link. What the server may still make of it:"""

    by_server: bool  # the server has sent a Close frame
    registered: bool  # a `register` was sent over the link …
    unanswered: bool  # … and one of them was not answered


@dataclass(frozen=True, slots=True)
class RegisterWithdrawn(Event):
    """A `register` that was still unsent when the worker began to leave was dropped."""

    epoch: int


@dataclass(frozen=True, slots=True)
class FrameReceived(Event):
    """The server has sent something over this link."""

    epoch: int
    frame: Frame
    others_spoke: bool = False  # the worker's other parts have sent frames too: an error may answer one of those
    size: int = 0  # bytes of memory that it takes, at most


@dataclass(frozen=True, slots=True)
class AnswersDelayed(Event):
    """A long message is coming in over this link: what the server answers comes behind it."""

    epoch: int


@dataclass(frozen=True, slots=True)
class IdentityCreated(Event):
    """A sign-in was answered. Every one of these has to be deleted by its own `/delete-peer`."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class IdentityFailed(Event):
    """A sign-in gave nothing (or its answer was lost). `hint`: seconds that the server asks to wait. `status`: of the
    HTTP answer, if there was one."""

    why: str
    hint: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class RoomCreated(Event):
    """A room of our own exists."""

    room: Room


@dataclass(frozen=True, slots=True)
class RoomFailed(Event):
    """No room was created. `status`: of the HTTP answer, if there was one. `hint` as above."""

    why: str
    status: int | None = None
    hint: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerRegistered(Event):
    """The server has accepted a `register` that carried the truth of this revision."""

    epoch: int
    revision: int
    peer_id: str
    room_id: str
    token: str | None = field(repr=False)
    peers: int
    settled: bool  # False: another registration was asked for meanwhile
    at: float
    around: Around = NOTHING_AROUND
    expected_peers: int = 0  # how many others to expect in the room; 0: as many as the answer says (`peers`)
    late: tuple[Message, ...] = field(default=(), repr=False)  # what answers that are still to come will show


@dataclass(frozen=True, slots=True)
class RegistrationRejected(Event):
    """The server did not accept a `register`. `why` is for people."""

    why: str


@dataclass(frozen=True, slots=True)
class RegistrationLost(Event):
    """The server does not know this worker (any more), though it had accepted it on this link."""

    epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class StatusConfirmed(Event):
    """The server has stored exactly the truth of this revision."""

    revision: int
    at: float


@dataclass(frozen=True, slots=True)
class UpdateFailed(Event):
    """The server's answer shows something else than what is true here (`drifted`: it is repaired), or did not come."""

    drifted: bool


@dataclass(frozen=True, slots=True)
class PresenceProved(Event):
    """An echo came back: clients reach the worker through the link of this epoch."""

    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class MachineSuspended(Event):
    """The machine was suspended for so many seconds, which trio's clock has not counted."""

    seconds: float


@dataclass(frozen=True, slots=True)
class FrameIgnored(Event):
    """The server sent what answers nothing of ours, or makes no sense. `why` never repeats a secret."""

    why: str
    error: Exception | None = field(default=None, repr=False, compare=False)  # that handling the frame has raised


@dataclass(frozen=True, slots=True)
class SignalSent(Event):
    """The socket of this epoch has taken over a message of the worker's other parts."""

    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class SignalsFlushed(Event):
    """The worker leaves, and the server has handled every signal that was sent, or cannot say so."""


@dataclass(frozen=True, slots=True)
class SignalDropped(Event):
    """A message of the worker's other parts found their buffer full."""


@dataclass(frozen=True, slots=True)
class StartupAborted(Event):
    """The worker cannot start; the error leaves through `nursery.start`."""

    error: StartupFailed
