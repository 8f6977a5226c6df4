"""The registration actor: owns the identity, the room and the registration.

Signs in, creates or joins the room, registers on every link, registers again when asked or when the server has
forgotten us. The peer id stays the same for the life of the process; only the ID token behind it is renewed. HTTP calls
run as errands beside the loop, so that a slow server keeps no note unread. What a refusal means, `verdict` knows.
"""

import logging
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core import wire
from worker_state.core.config import Config
from worker_state.core.errors import RegistrationRefused, RoomCreationFailed, SignInFailed
from worker_state.core.phase import Phase, Step, after
from worker_state.core.session import SessionString
from worker_state.core.status import Available, Truth

if TYPE_CHECKING:
    from worker_state.transport import Http

log = logging.getLogger(__name__)

SLOWLY = (60.0, 120.0)
"""Seconds between tries at what the worker cannot mend by itself (a room given to it that is gone, say)."""
FRESH = 120.0
"""Seconds. A room or token refused while younger than this will not be better for another new one (FAULTS F21, F38)."""


@dataclass
class _Book:
    """What this actor knows; nobody else sees it."""

    peer_id: str | None = None
    id_token: str | None = None
    id_token_at: float = -1e9
    room: wire.Room | None = None
    room_at: float = -1e9
    truth: Truth = field(default_factory=Available)
    revision: int = 0
    link: m.Link | None = None
    phase: Phase = Phase.OFFLINE
    sent_revision: int = 0
    answer_by: float = float("inf")
    asked: bool = False
    """A registration is wanted although there is one."""
    not_before: float = 0.0
    """No `register` and no errand before this: the pause after a refusal."""
    holds: int = 0
    """Refusals and evictions since a registration last lived for a while."""
    accepted_at: float = -1e9
    errand_under_way: bool = False
    linking: bool = False
    started: bool = False
    given_up: bool = False
    said: str | None = None
    """The trouble that was logged last: it is not repeated."""

    def step(self, step: Step) -> None:
        self.phase = after(self.phase, step)

    def has_left(self) -> bool:
        return self.phase is Phase.LEAVING


async def run(
    mailbox: trio.MemoryReceiveChannel[m.Note], *, config: Config, http: "Http", random: Random, tell: m.Tell
) -> None:
    """From the first sign-in to `BeginLeave`. Speaks `Identity…`, `Room…`, `WorkerRegistered`, `RegistrationHeld`,
    `DropLink`, `OpenLinks`, `StartupAborted`."""
    book = _first_book(config, random)
    async with trio.open_nursery() as errands:
        while not book.has_left():
            wake_at = _reconcile(book, config, http, errands, tell, trio.current_time())
            notes: deque[m.Note] = deque()
            with trio.move_on_at(wake_at):
                notes.append(await mailbox.receive())
            while mailbox.statistics().current_buffer_used:
                notes.append(mailbox.receive_nowait())
            while notes and not book.has_left():
                _apply(book, notes.popleft(), config, random, tell, trio.current_time())
        # A sign-in under way may still create a user: its answer is waited for, but no longer than the exit may take.
        errands.cancel_scope.deadline = trio.current_time() + config.timing.exit


def _first_book(config: Config, random: Random) -> _Book:
    """What is known before anything has happened."""
    book = _Book()
    if config.room_id is not None and config.room_token is not None:
        book.room = wire.Room(config.room_id, config.room_token)
    if config.api_key is not None:
        # No sign-in gives a name with an API key: a random one, so that no two workers share it (FAULTS F06).
        book.peer_id = str(UUID(int=random.getrandbits(128), version=4))
    return book


# --- what has happened ------------------------------------------------------------------------------------------------


def _apply(book: _Book, note: m.Note, config: Config, random: Random, tell: m.Tell, now: float) -> None:
    match note:
        case m.ChangeStatus(revision, truth):
            book.revision, book.truth = revision, truth
        case m.Reregister():
            book.asked = True
            if book.link is None:
                log.error("cannot register again just now, there is no link: it is done as soon as there is one")
        case m.LinkOpened(link):
            book.link = link
            book.step(Step.LINK_OPENED)
        case m.LinkLost(epoch) if book.link is not None and epoch == book.link.epoch:
            book.link = None
            book.answer_by = float("inf")
            book.step(Step.LINK_LOST)
        case m.FrameReceived(epoch, frame) if book.link is not None and epoch == book.link.epoch:
            _apply_frame(book, frame, config, random, tell, now)
        case m.RegistrationForgotten(epoch, why) if book.link is not None and epoch == book.link.epoch:
            if book.phase is Phase.REGISTERED:
                book.step(Step.FORGOTTEN)
                log.warning("the server has forgotten this worker (%s): registering again", why)
                _hold(book, random, now, first=0.1)
        case m.IdentityCreated(identity):
            book.errand_under_way = False
            book.peer_id = book.peer_id or identity.username
            book.id_token, book.id_token_at = identity.id_token, now
        case m.RoomCreated(room):
            book.errand_under_way = False
            book.room, book.room_at = room, now
            if book.link is not None:
                # One socket in two rooms would leave a ghost in the old one (FAULTS F30).
                tell(m.DropLink(book.link.epoch, "a new room needs a new socket"))
        case m.IdentityRefused() | m.RoomRefused():
            book.errand_under_way = False
            _hold(book, random, now, first=5.0)
        case m.BeginLeave():
            book.step(Step.LEAVE_BEGUN)
        case _:
            pass


def _apply_frame(book: _Book, frame: wire.Frame, config: Config, random: Random, tell: m.Tell, now: float) -> None:
    match frame:
        case wire.RegistrationAccepted() if book.phase is Phase.REGISTERING and _is_ours(book, frame):
            _accept(book, frame, config, tell, now)
        case wire.RegistrationAccepted():
            tell(m.FrameIgnored("an acknowledgement of a registration that is not ours"))
        case wire.Refusal() if book.phase is Phase.REGISTERING:
            book.step(Step.REFUSED)
            book.answer_by = float("inf")
            _obey(book, v.of_refusal(frame, own_room=config.creates_room), random, tell, now)
        case wire.Refusal(reason):
            tell(m.FrameIgnored(f"an error that answers nothing of ours: {wire.shown(reason)}"))
        case _:
            pass


def _is_ours(book: _Book, frame: wire.RegistrationAccepted) -> bool:
    return frame.peer_id == book.peer_id and (book.room is None or frame.room_id == book.room.room_id)


def _accept(book: _Book, frame: wire.RegistrationAccepted, config: Config, tell: m.Tell, now: float) -> None:
    assert book.link is not None
    assert book.peer_id is not None
    book.step(Step.ACCEPTED)
    book.answer_by, book.accepted_at, book.said = float("inf"), now, None
    token = book.room.token if book.room is not None else frame.token
    if book.started:
        log.info("Worker re-registered with signaling server")
    elif token is None or not config.show_session_string:
        log.info("worker registered in room %s", wire.shown(frame.room_id))
    else:
        log.info("worker registered, session string: %s", SessionString(frame.room_id, token, book.peer_id))
    book.started = True
    registered = m.WorkerRegistered(
        epoch=book.link.epoch,
        revision=book.sent_revision,
        peer_id=book.peer_id,
        room_id=frame.room_id,
        token=token,
        peers=frame.peers,
        settled=not book.asked,
        at=now,
    )
    tell(registered)


def _obey(book: _Book, verdict: v.Verdict, random: Random, tell: m.Tell, now: float) -> None:
    """Do what a refusal calls for: mostly by forgetting what is of no use any more, and waiting."""
    match verdict:
        case v.Renew(v.Lease.IDENTITY) if now - book.id_token_at > FRESH:
            book.id_token = None
        case v.Renew(v.Lease.ROOM) if now - book.room_at > FRESH:
            book.room = None
        case v.Retry(pause):
            _hold(book, random, now, first=pause)
        case v.GiveUp(reason) if not book.started:
            tell(m.StartupAborted(RegistrationRefused(f"the server refuses this worker: {reason}")))
            book.given_up = True
        case v.GiveUp() | v.Renew():
            book.not_before = now + random.uniform(*SLOWLY)
    if book.said != verdict.reason:
        book.said = verdict.reason
        log.error("registration refused: %s", verdict.reason)
    tell(m.RegistrationHeld(verdict.reason))


def _hold(book: _Book, random: Random, now: float, *, first: float) -> None:
    """Pause before the next try: `first` seconds, doubled with each hold until a registration lives for a while."""
    if book.phase is not Phase.REGISTERING and now - book.accepted_at > FRESH:
        book.holds = 0
    pause = min(SLOWLY[1], first * 2.0**book.holds)
    book.holds = min(book.holds + 1, 20)
    book.not_before = now + random.uniform(pause / 2, pause)


# --- what is to be done -----------------------------------------------------------------------------------------------


def _reconcile(book: _Book, config: Config, http: "Http", errands: trio.Nursery, tell: m.Tell, now: float) -> float:
    """Start the one thing that is due, if any; returns until when nothing else will be, unless a note comes."""
    if book.phase is Phase.REGISTERING:
        if now >= book.answer_by and book.link is not None:
            book.answer_by = float("inf")
            tell(m.DropLink(book.link.epoch, f"no answer to register in {config.timing.register:g} s"))
        return book.answer_by
    if book.errand_under_way or book.given_up:
        return float("inf")
    if now < book.not_before:
        return book.not_before
    if config.api_key is None and book.id_token is None:
        book.errand_under_way = True
        tell(m.IdentityRequested())
        errands.start_soon(_sign_in_errand, http, not book.started, tell)
    elif book.room is None and config.creates_room:
        assert book.id_token is not None
        book.errand_under_way = True
        errands.start_soon(_room_errand, http, book.id_token, not book.started, tell)
    elif not book.linking:
        book.linking = True
        tell(m.OpenLinks())
    elif book.phase is Phase.UNREGISTERED or (book.phase is Phase.REGISTERED and book.asked):
        _send_register(book, config, now)
    return book.answer_by


def _send_register(book: _Book, config: Config, now: float) -> None:
    assert book.link is not None
    assert book.peer_id is not None
    record = wire.metadata(config.tags, config.capabilities, book.truth)
    if config.api_key is not None:
        frame = wire.register_by_key(book.peer_id, config.api_key, record)
    else:
        assert book.room is not None
        assert book.id_token is not None
        frame = wire.register(book.peer_id, book.room.room_id, book.room.token, book.id_token, record)
    book.step(Step.REGISTER_SENT)
    book.sent_revision, book.asked = book.revision, False
    book.answer_by = now + config.timing.register
    if not book.link.post(frame):
        book.asked = True
        log.error("could not send register, the link is gone: it is done on the next one")


# --- errands ----------------------------------------------------------------------------------------------------------


async def sign_in(http: "Http") -> wire.Identity | None:
    """`POST /anonymous-signin`: a new identity, or None with an error logged. Each one has to be deleted at the end."""
    answer = await http.post("/anonymous-signin")
    identity = answer if isinstance(answer, wire.HttpFailure) else wire.read_identity(answer)
    if isinstance(identity, wire.HttpFailure):
        log.error("sign-in failed: %s", identity.why)
        return None
    return identity


async def create_room(http: "Http", id_token: str) -> wire.Room:
    """`POST /create-room`: a new room. Raises `RoomCreationFailed` with the HTTP status and text, which it logs."""
    answer = await http.post("/create-room", bearer=id_token)
    room = answer if isinstance(answer, wire.HttpFailure) else wire.read_room(answer, id_token)
    if isinstance(room, wire.HttpFailure):
        log.error("room creation failed: %s", room.why)
        raise RoomCreationFailed(f"the server created no room: {room.why}")
    return room


async def _sign_in_errand(http: "Http", starting: bool, tell: m.Tell) -> None:
    identity = await sign_in(http)
    if identity is not None:
        tell(m.IdentityCreated(identity))
        return
    tell(m.IdentityRefused())
    if starting:
        tell(m.StartupAborted(SignInFailed("the server gave this worker no identity (the log says why)")))


async def _room_errand(http: "Http", id_token: str, starting: bool, tell: m.Tell) -> None:
    try:
        room = await create_room(http, id_token)
    except RoomCreationFailed as error:
        tell(m.RoomRefused(str(error)))
        if starting:
            tell(m.StartupAborted(error))
        return
    tell(m.RoomCreated(room))
