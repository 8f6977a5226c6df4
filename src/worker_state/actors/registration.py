"""The registration actor: owns the identity, the room and the registration.

Signs in, creates or joins the room, registers on every link, registers again when asked or when the server has
forgotten us, and renews what runs out. The peer id stays the same for the life of the process; only the ID token behind
it is renewed. HTTP calls run as errands beside the loop, so that a slow server keeps no note unread. What a refusal
means, `verdict` knows; when something is to be renewed, `lease`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import trio

from worker_state import announce
from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core import wire, words
from worker_state.core.config import Config
from worker_state.core.credentials import Credentials
from worker_state.core.errors import RegistrationRefused, ServerUnreachable, StartupFailed
from worker_state.core.holds import MANY_EVICTIONS, Holds
from worker_state.core.pending import PendingRegister
from worker_state.core.phase import Phase, Step, after
from worker_state.core.probe import OVERSLEPT, crowd
from worker_state.core.session import SessionString
from worker_state.core.status import Available, Truth, engaged, word
from worker_state.errands import Errands
from worker_state.inbox import Inbox, pending, receive_until
from worker_state.renewals import Renewals, first_name

SLOWLY = (20.0, 40.0)
"""Seconds between tries at what the worker cannot mend by itself (a room given to it that is gone, say): one frame
each, so that it is found again within a minute of somebody's mending it."""


@dataclass(slots=True)
class _Book:
    """What this actor knows; nobody else sees it."""

    renewals: Renewals
    holds: Holds
    say: announce.Registrations
    peer_id: str | None
    truth: Truth = field(default_factory=Available)
    revision: int = 0
    link: m.Link | None = None
    phase: Phase = Phase.OFFLINE
    pending: PendingRegister = field(default_factory=PendingRegister)
    asked: bool = False
    """A registration is wanted although there is one."""
    register_at: float = 0.0
    """No `register` before this: the pause after a refusal or an eviction."""
    accepted_at: float = math.inf
    crowd: int = 0
    """So many others are to be reckoned with in the room."""
    linking: bool = False
    given_up: bool = False

    @property
    def credentials(self) -> Credentials:
        return self.renewals.credentials

    def step(self, step: Step) -> None:
        self.phase = after(self.phase, step)

    def has_left(self) -> bool:
        return self.phase is Phase.LEAVING


@dataclass(frozen=True, slots=True)
class _Means:
    """What this actor may use."""

    config: Config
    random: Random
    nonce: Callable[[], str]
    awake: Callable[[], float]
    tell: m.Tell


@trio.lowlevel.enable_ki_protection
async def run(
    inbox: Inbox,
    *,
    config: Config,
    errands: Errands,
    random: Random,
    nonce: Callable[[], str],
    awake: Callable[[], float],
    tell: m.Tell,
) -> None:
    """From the first sign-in to `BeginLeave`. Speaks `Identity…`, `Room…`, `WorkerRegistered`, `RegistrationHeld`,
    `DropLink`, `OpenLinks`, `StartupAborted`. `awake` is a clock that goes on while the machine is suspended."""
    say = announce.Registrations(show_session_string=config.show_session_string)
    means = _Means(config, random, nonce, awake, tell)
    book = _Book(Renewals(Credentials(config), errands, random, say), Holds(random), say, first_name(config, random))
    try:
        # All that has been said comes before anything is done: nothing may begin once leaving has.
        notes = pending(inbox)
        while not _left(book, notes, means, trio.current_time()):
            deadline = _reconcile(book, means, trio.current_time())
            del notes  # an idle worker must not hold on to the last ones: some are large
            notes = await receive_until(inbox, deadline)
            _look_at_the_clock(book, means, trio.current_time(), deadline)
    finally:
        # A sign-in under way may still create a user: its answer is waited for, but no longer than the exit may take.
        errands.end_by(trio.current_time() + config.timing.exit)


# --- what has happened ------------------------------------------------------------------------------------------------


def _left(book: _Book, notes: list[m.Note], means: _Means, now: float) -> bool:
    for note in notes:
        if not book.has_left():
            _apply(book, note, means, now)
    return book.has_left()


def _apply(book: _Book, note: m.Note, means: _Means, now: float) -> None:
    match note:
        case m.ChangeStatus(revision, truth):
            book.revision, book.truth = revision, truth
        case m.Reregister():
            if book.link is None and not book.asked:
                book.say.postponed()
            book.asked = True
        case m.LinkOpened(link):
            book.link = link
            book.step(Step.LINK_OPENED)
        case m.DialFailed(failure):
            _cannot_reach(book, str(failure), means)
        case m.LinkLost(epoch, closed) if book.link is not None and epoch == book.link.epoch:
            _lose_link(book, now)
            _cannot_reach(book, str(closed), means)
        case m.FrameReceived(epoch, frame, shared) if book.link is not None and epoch == book.link.epoch:
            _apply_frame(book, frame, shared, means, now)
        case m.RegistrationForgotten(epoch, why) if book.link is not None and epoch == book.link.epoch:
            if book.phase is Phase.REGISTERED:
                _evicted(book, why, now)
        case m.IdentityCreated() | m.IdentityRefused() | m.RoomCreated() | m.RoomRefused():
            if isinstance(note, m.IdentityCreated):
                book.peer_id = book.peer_id or note.identity.username
            book.renewals.apply(note, now)
        case m.BeginLeave():
            book.step(Step.LEAVE_BEGUN)


def _cannot_reach(book: _Book, why: str, means: _Means) -> None:
    """The worker has no link, or no more: that ends a start which does not wait for its server (FAULTS G06)."""
    if not (book.say.started or book.given_up or means.config.wait_for_server):
        where = means.config.websocket_url.partition("?")[0]
        _fail_start(book, ServerUnreachable(f"no connection to {where}: {why}"), means)


def _fail_start(book: _Book, error: StartupFailed, means: _Means) -> None:
    book.given_up = True
    means.tell(m.StartupAborted(error))


def _drop_link(book: _Book, why: str, means: _Means, now: float, cause: v.Cause) -> None:
    """Have the link aborted; it is lost to us at once, for nothing may be sent on it any more."""
    assert book.link is not None
    means.tell(m.DropLink(book.link.epoch, why, cause))
    _lose_link(book, now)
    if cause is not v.Cause.MOVED:
        _cannot_reach(book, why, means)


def _lose_link(book: _Book, now: float) -> None:
    book.say.lost(now)
    if book.phase is Phase.REGISTERING:
        book.say.unsent(book.pending.epoch, word(book.truth))
    book.link = None
    book.pending.over()
    book.step(Step.LINK_LOST)


def _apply_frame(book: _Book, frame: wire.Frame, shared: bool, means: _Means, now: float) -> None:
    match frame:
        case wire.RegistrationAccepted(peer_id, room_id):
            ours = peer_id == book.peer_id and book.credentials.names(room_id)
            if ours and (book.phase is Phase.REGISTERING or book.pending.doubtful):
                _accept(book, frame, means, now)
            else:
                means.tell(m.FrameIgnored("an acknowledgement of a registration that is not ours"))
        case wire.Echo(nonce=nonce) if book.pending.overtaken_by(nonce):
            _register_again(book, means, now)
        case wire.NotInRoom() if book.pending.overtaken_by(None):
            _register_again(book, means, now)
        case wire.Refusal() as refusal:
            if book.phase is Phase.REGISTERING:
                book.step(Step.REFUSED)
                book.pending.over(doubtful=True)
                config = means.config
                verdict = v.of_refusal(refusal, own_room=config.creates_room, by_key=config.api_key is not None)
                means.tell(m.RegistrationHeld(verdict.reason, book.pending.epoch, v.surely_answers(refusal)))
                _obey(book, verdict, means, now)
            elif not shared:
                reason = words.shown(refusal.reason)
                means.tell(m.FrameIgnored(f"an error that answers nothing of ours: {reason}"))


def _register_again(book: _Book, means: _Means, now: float) -> None:
    """What was sent behind the `register` is answered, so that it will not be: the server has swallowed it (G05)."""
    why = "the server has swallowed a register"
    means.tell(m.RegistrationHeld(why, book.pending.epoch))
    book.say.swallowed(book.pending.epoch)
    book.step(Step.SWALLOWED)
    book.register_at = now
    if book.pending.swallowed():
        _drop_link(book, f"{why} twice", means, now, v.Cause.DROPPED)


def _accept(book: _Book, frame: wire.RegistrationAccepted, means: _Means, now: float) -> None:
    assert book.link is not None
    assert book.peer_id is not None
    book.step(Step.ACCEPTED)
    book.pending.over()
    book.accepted_at = now
    book.credentials.accept()
    book.holds.accepted()
    book.crowd = crowd(book.crowd, frame.peers)
    room = book.credentials.room.value
    token = frame.token if room is None else room.token
    session = None if token is None else SessionString(frame.room_id, token, book.peer_id)
    book.say.accepted(book.link.epoch, session, frame.room_id, now)
    means.tell(
        m.WorkerRegistered(
            epoch=book.link.epoch,
            revision=book.pending.revision,
            peer_id=book.peer_id,
            room_id=frame.room_id,
            token=token,
            peers=frame.peers,
            settled=not book.asked,
            at=now,
            around=frame.around,
            crowd=book.crowd,
        )
    )


def _obey(book: _Book, verdict: v.Verdict, means: _Means, now: float) -> None:
    """Do what a refusal calls for: mostly by dropping what is of no use any more, and waiting."""
    if isinstance(verdict, v.Renew) and book.renewals.leased(verdict.what).is_newer_than(book.pending.sent_at):
        return  # its renewal was under way, and has come: the newer one has not been refused by anybody
    book.say.refused(verdict.reason)
    match verdict:
        case v.Renew(what):
            if (pause := book.renewals.refused(what, now)) is None:
                book.register_at = now + means.random.uniform(*SLOWLY)
            else:
                book.say.renewing(what, verdict.reason, pause)
        case v.Retry(pause):
            book.register_at = now + book.holds.refused(pause)
        case v.GiveUp(reason) if not book.say.started:
            _fail_start(book, RegistrationRefused(f"the server refuses this worker: {reason.rstrip('.')}"), means)
        case v.GiveUp():
            book.register_at = now + means.random.uniform(*SLOWLY)


def _evicted(book: _Book, why: str, now: float) -> None:
    book.step(Step.FORGOTTEN)
    pause = book.holds.evicted(now, lived=now - book.accepted_at)
    book.register_at = now + pause
    book.say.lost(now)
    book.say.evicted(why, pause, book.holds.evictions, MANY_EVICTIONS + 1)


def _look_at_the_clock(book: _Book, means: _Means, now: float, wake_at: float) -> None:
    """After this process stood still the answer may have come meanwhile, and be unread: nobody is blamed (T15)."""
    book.credentials.look_at_the_clock(means.awake() - now)
    if now - wake_at >= OVERSLEPT:
        book.pending.grant(now + means.config.timing.answer)


# --- what is to be done -----------------------------------------------------------------------------------------------


def _reconcile(book: _Book, means: _Means, now: float) -> float:
    """Start what is due; returns until when nothing else will be, unless a note comes."""
    if book.given_up:
        return math.inf
    if book.credentials.move(means.random, engaged=engaged(book.truth)) and book.link is not None:
        # One socket in two rooms would leave a ghost in the old one (FAULTS F30).
        _drop_link(book, "a new room needs a new socket", means, now, v.Cause.MOVED)
    fetch_at = book.renewals.due(idle=book.phase is Phase.REGISTERED and not engaged(book.truth))
    if now >= fetch_at:
        book.renewals.start(now)
        fetch_at = math.inf
    return min(fetch_at, _register_when_due(book, means, now))


def _register_when_due(book: _Book, means: _Means, now: float) -> float:
    if book.phase is Phase.REGISTERING:
        if now >= book.pending.answer_by:
            _drop_link(book, "no answer to a register", means, now, v.Cause.UNREGISTERED)
        elif now >= book.pending.echo_at and book.link is not None and book.peer_id is not None:
            book.link.post(wire.echo(book.peer_id, book.pending.nonce))
            book.pending.echo_sent(now)
        return book.pending.due
    if not book.credentials.complete:
        return math.inf
    if not book.linking:
        book.linking = True
        means.tell(m.OpenLinks())
    if book.phase is Phase.UNREGISTERED or (book.phase is Phase.REGISTERED and book.asked):
        if now < book.register_at:
            return book.register_at
        _send_register(book, means, now)
    return book.pending.due


def _send_register(book: _Book, means: _Means, now: float) -> None:
    assert book.link is not None
    assert book.peer_id is not None
    config, timing = means.config, means.config.timing
    frame = book.credentials.register(book.peer_id, wire.metadata(config.tags, config.capabilities, book.truth))
    book.step(Step.REGISTER_SENT)
    book.asked = False
    first = book.pending.epoch != book.link.epoch
    answer_by = max(book.link.answer_by, now + timing.answer) if first else now + timing.register
    book.pending.sent(now, book.link.epoch, book.revision, answer_by, means.nonce())
    if not book.link.post(frame):
        book.asked = True
