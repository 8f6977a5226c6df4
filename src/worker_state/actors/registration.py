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
from typing import Any
from uuid import UUID

import trio

from worker_state import announce
from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core import wire, words
from worker_state.core.config import Config
from worker_state.core.credentials import Credentials
from worker_state.core.errors import RegistrationRefused
from worker_state.core.holds import MANY_EVICTIONS, Holds, Tries, asked_for
from worker_state.core.lease import Leased
from worker_state.core.phase import Phase, Step, after
from worker_state.core.probe import OVERSLEPT, crowd
from worker_state.core.session import SessionString
from worker_state.core.status import Available, Truth, engaged
from worker_state.errands import Errands
from worker_state.mailbox import Mailbox

SLOWLY = (20.0, 40.0)
"""Seconds between tries at what the worker cannot mend by itself (a room given to it that is gone, say): one frame
each, so that it is found again within a minute of somebody's mending it."""


@dataclass(slots=True)
class _Book:
    """What this actor knows; nobody else sees it."""

    credentials: Credentials
    holds: Holds
    say: announce.Registrations
    peer_id: str | None
    truth: Truth = field(default_factory=Available)
    revision: int = 0
    link: m.Link | None = None
    phase: Phase = Phase.OFFLINE
    sent_revision: int = 0
    asked_on: int = 0
    """The link that the last `register` was sent on."""
    sent_at: float = 0.0
    answer_by: float = math.inf
    asked: bool = False
    """A registration is wanted although there is one."""
    register_at: float = 0.0
    """No `register` before this: the pause after a refusal or an eviction."""
    errand_at: float = 0.0
    """No errand before this: the pause after one that failed."""
    tries: Tries = field(default_factory=Tries)
    """The errand under way, and those in a row that failed."""
    accepted_at: float = math.inf
    doubtful: bool = False
    """The last `register` was answered by an error, which may have been about somebody else's frame."""
    crowd: int = 0
    """So many others are to be reckoned with in the room."""
    linking: bool = False
    given_up: bool = False

    def step(self, step: Step) -> None:
        self.phase = after(self.phase, step)

    def has_left(self) -> bool:
        return self.phase is Phase.LEAVING


@trio.lowlevel.enable_ki_protection
async def run(
    mailbox: Mailbox[m.Note],
    *,
    config: Config,
    errands: Errands,
    random: Random,
    awake: Callable[[], float],
    tell: m.Tell,
) -> None:
    """From the first sign-in to `BeginLeave`. Speaks `Identity…`, `Room…`, `WorkerRegistered`, `RegistrationHeld`,
    `DropLink`, `OpenLinks`, `StartupAborted`. `awake` is a clock that goes on while the machine is suspended."""
    # No sign-in gives a name with an API key: a random one, so that no two workers share it (FAULTS F06).
    name = None if config.api_key is None else str(UUID(int=random.getrandbits(128), version=4))
    say = announce.Registrations(show_session_string=config.show_session_string)
    book = _Book(Credentials(config), Holds(random), say, name)
    try:
        while not book.has_left():
            # One scope for many notes; it is made anew only when its deadline, which moves with each, has passed.
            with trio.CancelScope(shield=True) as scope:
                # All that has been said comes before anything is done: nothing may begin once leaving has.
                while not _left(book, mailbox.take(), config, random, tell, trio.current_time()):
                    _move_when_idle(book, random, tell, trio.current_time())
                    scope.deadline = _reconcile(book, config, errands, tell, trio.current_time())
                    await mailbox.filled()
                    _look_at_the_clock(book, config, awake, trio.current_time(), scope.deadline)
            _look_at_the_clock(book, config, awake, trio.current_time(), scope.deadline)
    finally:
        # A sign-in under way may still create a user: its answer is waited for, but no longer than the exit may take.
        errands.end_by(trio.current_time() + config.timing.exit)


# --- what has happened ------------------------------------------------------------------------------------------------


def _left(book: _Book, notes: list[m.Note], config: Config, random: Random, tell: m.Tell, now: float) -> bool:
    for note in notes:  # of which none may stay behind in the loop of an idle worker: some are large
        if not book.has_left():
            _apply(book, note, config, random, tell, now)
    return book.has_left()


def _apply(book: _Book, note: m.Note, config: Config, random: Random, tell: m.Tell, now: float) -> None:
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
        case m.LinkLost(epoch) if book.link is not None and epoch == book.link.epoch:
            _lose_link(book, now)
        case m.FrameReceived(epoch, frame) if book.link is not None and epoch == book.link.epoch:
            _apply_frame(book, frame, config, random, tell, now)
        case m.RegistrationForgotten(epoch, why) if book.link is not None and epoch == book.link.epoch:
            if book.phase is Phase.REGISTERED:
                _evicted(book, why, now)
        case m.IdentityCreated(identity):
            book.tries.done()
            book.say.errand_done(announce.SIGN_IN)
            book.peer_id = book.peer_id or identity.username
            book.credentials.grant_token(identity.id_token, now, random)
        case m.RoomCreated(room):
            book.tries.done()
            book.say.errand_done(announce.ROOM_CREATION)
            book.credentials.offer_room(room, now)
        case m.IdentityRefused(why, hint) | m.RoomRefused(why, _, hint):
            was_room = isinstance(note, m.RoomRefused)
            book.say.errand_failed(announce.ROOM_CREATION if was_room else announce.SIGN_IN, why)
            book.tries.ended()
            refused = isinstance(note, m.RoomRefused) and note.token_refused
            pause = book.credentials.id_token.refuse(now) if refused else None
            if pause is None:
                pause = book.tries.failed(missing=not book.credentials.complete)
            book.errand_at = now + max(random.uniform(0.5, 1.0) * pause, asked_for(hint, random))
        case m.BeginLeave():
            book.step(Step.LEAVE_BEGUN)
        case _:
            pass


def _drop_link(book: _Book, why: str, tell: m.Tell, now: float, cause: v.Cause) -> None:
    """Have the link aborted; it is lost to us at once, for nothing may be sent on it any more."""
    assert book.link is not None
    tell(m.DropLink(book.link.epoch, why, cause))
    _lose_link(book, now)


def _lose_link(book: _Book, now: float) -> None:
    book.say.lost(now)
    book.link, book.answer_by, book.doubtful = None, math.inf, False
    book.step(Step.LINK_LOST)


def _apply_frame(book: _Book, frame: wire.Frame, config: Config, random: Random, tell: m.Tell, now: float) -> None:
    match frame:
        case wire.RegistrationAccepted(peer_id, room_id):
            ours = peer_id == book.peer_id and book.credentials.names(room_id)
            if ours and (book.phase is Phase.REGISTERING or book.doubtful):
                _accept(book, frame, config, random, tell, now)
            else:
                tell(m.FrameIgnored("an acknowledgement of a registration that is not ours"))
        case wire.Refusal() as refusal:
            if book.phase is Phase.REGISTERING:
                book.step(Step.REFUSED)
                book.answer_by, book.doubtful = math.inf, True
                verdict = v.of_refusal(refusal, own_room=config.creates_room, by_key=config.api_key is not None)
                tell(m.RegistrationHeld(verdict.reason, book.asked_on, v.surely_answers(refusal)))
                _obey(book, verdict, random, tell, now)
            else:
                reason = words.shown(refusal.reason)
                tell(m.FrameIgnored(f"an error that answers nothing of ours: {reason}"))
        case _:
            pass


def _accept(
    book: _Book, frame: wire.RegistrationAccepted, config: Config, random: Random, tell: m.Tell, now: float
) -> None:
    assert book.link is not None
    assert book.peer_id is not None
    book.step(Step.ACCEPTED)
    book.answer_by, book.accepted_at, book.doubtful = math.inf, now, False
    book.credentials.accept(frame, now, random)
    book.holds.accepted()
    book.crowd = crowd(book.crowd, frame.peers)
    room = book.credentials.room.value
    token = frame.token if room is None else room.token
    session = None if token is None else SessionString(frame.room_id, token, book.peer_id)
    book.say.accepted(book.link.epoch, session, frame.room_id, now)
    registered = m.WorkerRegistered(
        epoch=book.link.epoch,
        revision=book.sent_revision,
        peer_id=book.peer_id,
        room_id=frame.room_id,
        token=token,
        peers=frame.peers,
        settled=not book.asked,
        at=now,
        around=frame.around,
        crowd=book.crowd,
    )
    tell(registered)


def _obey(book: _Book, verdict: v.Verdict, random: Random, tell: m.Tell, now: float) -> None:
    """Do what a refusal calls for: mostly by dropping what is of no use any more, and waiting."""
    if isinstance(verdict, v.Renew) and _leased(book, verdict.what).is_newer_than(book.sent_at):
        return  # its renewal was under way, and has come: the newer one has not been refused by anybody
    book.say.refused(verdict.reason)
    match verdict:
        case v.Renew(what):
            if (pause := _leased(book, what).refuse(now)) is None:
                book.register_at = now + random.uniform(*SLOWLY)
            else:
                book.errand_at = now + random.uniform(0.5, 1.0) * pause
                book.say.renewing(what, verdict.reason, book.errand_at - now)
        case v.Retry(pause):
            book.register_at = now + book.holds.refused(pause)
        case v.GiveUp(reason) if not book.say.started:
            tell(m.StartupAborted(RegistrationRefused(f"the server refuses this worker: {reason.rstrip('.')}")))
            book.given_up = True
        case v.GiveUp():
            book.register_at = now + random.uniform(*SLOWLY)


def _leased(book: _Book, what: v.Lease) -> Leased[Any]:
    return book.credentials.id_token if what is v.Lease.IDENTITY else book.credentials.room


def _evicted(book: _Book, why: str, now: float) -> None:
    book.step(Step.FORGOTTEN)
    pause = book.holds.evicted(now, lived=now - book.accepted_at)
    book.register_at = now + pause
    book.say.lost(now)
    book.say.evicted(why, pause, book.holds.evictions, MANY_EVICTIONS + 1)


def _look_at_the_clock(book: _Book, config: Config, awake: Callable[[], float], now: float, wake_at: float) -> None:
    """After this process stood still the answer may have come meanwhile, and be unread: nobody is blamed (T15)."""
    book.credentials.look_at_the_clock(awake() - now)
    if now - wake_at >= OVERSLEPT and book.answer_by < math.inf:
        book.answer_by = max(book.answer_by, now + config.timing.answer)


# --- what is to be done -----------------------------------------------------------------------------------------------


def _move_when_idle(book: _Book, random: Random, tell: m.Tell, now: float) -> None:
    if book.credentials.move(random, engaged=engaged(book.truth)) and book.link is not None:
        # One socket in two rooms would leave a ghost in the old one (FAULTS F30).
        _drop_link(book, "a new room needs a new socket", tell, now, v.Cause.MOVED)


def _reconcile(book: _Book, config: Config, errands: Errands, tell: m.Tell, now: float) -> float:
    """Start what is due; returns until when nothing else will be, unless a note comes."""
    if book.given_up:
        return math.inf
    errand_at = _when_errand(book)
    if now >= errand_at:
        book.tries.begin()
        _start_errand(book, errands, now)
        errand_at = math.inf
    return min(errand_at, _register_when_due(book, config, tell, now))


def _when_errand(book: _Book) -> float:
    if book.tries.under_way:
        return math.inf
    idle = book.phase is Phase.REGISTERED and not engaged(book.truth)
    due = book.credentials.due(idle=idle)
    return max(due, book.errand_at) if due < math.inf else math.inf


def _start_errand(book: _Book, errands: Errands, now: float) -> None:
    starting, id_token = not book.say.started, book.credentials.id_token.value
    if id_token is None or book.credentials.token_is_due(now):
        errands.sign_in(starting=starting)
    else:
        errands.create_room(id_token, starting=starting)


def _register_when_due(book: _Book, config: Config, tell: m.Tell, now: float) -> float:
    if book.phase is Phase.REGISTERING:
        if now >= book.answer_by and book.link is not None:
            _drop_link(book, "the patience is over", tell, now, v.Cause.UNREGISTERED)
        return book.answer_by
    if not book.credentials.complete:
        return math.inf
    if not book.linking:
        book.linking = True
        tell(m.OpenLinks())
    if book.phase is Phase.UNREGISTERED or (book.phase is Phase.REGISTERED and book.asked):
        if now < book.register_at:
            return book.register_at
        _send_register(book, config, now)
    return book.answer_by


def _send_register(book: _Book, config: Config, now: float) -> None:
    assert book.link is not None
    assert book.peer_id is not None
    frame = book.credentials.register(book.peer_id, wire.metadata(config.tags, config.capabilities, book.truth))
    book.step(Step.REGISTER_SENT)
    book.sent_revision, book.sent_at, book.asked, book.doubtful = book.revision, now, False, False
    first, book.asked_on = book.asked_on != book.link.epoch, book.link.epoch
    book.answer_by = max(book.link.answer_by, now + config.timing.answer) if first else now + config.timing.register
    if not book.link.post(frame):
        book.asked = True
        book.say.unsent(book.link.epoch)
