"""The status actor: owns what the server has confirmed, and compares it with what is true.

Sends the newest truth only: nothing is queued, nothing replayed. There are no correlation ids, so one update is under
way at a time and its answer is compared by content. It also proves, by an echo to ourselves, that clients reach the
worker through this very socket (PROTOCOL.md, "The proof of being discoverable"). It is silent until the registration
actor says that the worker is registered, for an update before that only earns NOT_IN_ROOM (FAULTS F12).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import trio

from worker_state import announce, farewell
from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.core.config import Config
from worker_state.core.owed import Owed
from worker_state.core.pending import ECHO_PREFIX
from worker_state.core.probe import (
    OVERSLEPT,
    TICK,
    EchoRefusals,
    Misses,
    Proof,
    RepairPauses,
    Schedule,
    Suspends,
)
from worker_state.core.registered import Registered, Update
from worker_state.core.status import Available, Truth, word
from worker_state.inbox import Inbox, pending, receive_until


@dataclass(slots=True)
class _Book:
    """What this actor knows; nobody else sees it."""

    truth: Truth = field(default_factory=Available)
    revision: int = 0
    link: m.Link | None = None
    spoken: farewell.Spoken = field(default_factory=farewell.Spoken)
    registered: Registered | None = None
    deaf_epoch: int = 0
    """The link on which a registration has already been given up for want of answers, without a proof since."""
    refusals: EchoRefusals = field(default_factory=EchoRefusals)
    repairs: RepairPauses = field(default_factory=RepairPauses)
    forgery_said: bool = False
    unsent_said: bool = False
    suspends: Suspends = field(default_factory=Suspends)


@dataclass(frozen=True, slots=True)
class _Means:
    """What this actor may use."""

    config: Config
    random: Random
    nonce: Callable[[], str]
    awake: Callable[[], float]
    tell: m.Tell

    def record(self, truth: Truth) -> wire.Message:
        return wire.metadata(self.config.tags, self.config.capabilities, truth)


@trio.lowlevel.enable_ki_protection
async def run(
    inbox: Inbox,
    *,
    config: Config,
    random: Random,
    nonce: Callable[[], str],
    awake: Callable[[], float],
    tell: m.Tell,
) -> None:
    """Until `BeginLeave`, and until the last signals have arrived. Speaks `StatusConfirmed`, `UpdateFailed`,
    `PresenceProved`, `RegistrationForgotten`, `MachineSlept`, `DropLink`, `SignalsHeard`. `awake` is a clock in seconds
    that goes on while the machine is suspended."""
    book, means = _Book(), _Means(config, random, nonce, awake, tell)
    notes = pending(inbox)
    while (behind := _left(book, notes, means, trio.current_time())) is None:
        deadline = _reconcile(book, means, trio.current_time())
        del notes  # an idle worker must not hold on to the last ones: some are large
        notes = await receive_until(inbox, deadline)
        _distrust_the_clock(book, means, trio.current_time(), deadline)
    await _part(book, behind, inbox, means)


# --- what has happened ------------------------------------------------------------------------------------------------


def _left(book: _Book, notes: list[m.Note], means: _Means, now: float) -> list[m.Note] | None:
    """Apply all notes, up to the one with which the worker leaves: then these are the ones behind it."""
    for n, note in enumerate(notes):
        if isinstance(note, m.BeginLeave):
            return notes[n + 1 :]
        _apply(book, note, means, now)
    return None


def _apply(book: _Book, note: m.Note, means: _Means, now: float) -> None:
    match note:
        case m.ChangeStatus(revision, truth):
            book.revision, book.truth = revision, truth
            if book.registered is None:
                _postpone(book, "the worker is not registered")
        case m.LinkOpened(link):
            book.link, book.registered, book.spoken = link, None, farewell.Spoken()
        case m.LinkLost(epoch) if book.link is not None and epoch == book.link.epoch:
            if book.registered is not None and book.registered.confirmed != book.revision:
                _postpone(book, "the connection was lost")
            book.link = book.registered = None
        case m.SignalSent(epoch, at) if book.link is not None and epoch == book.link.epoch:
            book.spoken.sent(at)
        case m.WorkerRegistered() if book.link is not None and note.epoch == book.link.epoch:
            before, schedule = book.registered, Schedule(means.random, now, note.crowd or note.peers)
            owed = Owed() if before is None else before.owed
            if before is not None and before.update is not None:
                owed.add(before.update.record)  # the same link: what was sent behind the `register` is answered yet
            book.registered = Registered(book.link, note.peer_id, schedule, note.revision, note.revision, owed)
            book.unsent_said = False
        case m.FrameReceived(epoch, frame) if book.registered is not None and epoch == book.registered.link.epoch:
            _apply_frame(book, book.registered, frame, means, now)
        case _:
            pass


def _postpone(book: _Book, why: str) -> None:
    if not book.unsent_said:
        book.unsent_said = True
        announce.status_postponed(word(book.truth), why)


def _apply_frame(book: _Book, registered: Registered, frame: wire.Frame, means: _Means, now: float) -> None:
    match frame:
        case wire.MetadataStored(peer_id, stored) if peer_id == registered.peer_id:
            _take_answer(book, registered, stored, means, now)
        case wire.MetadataStored():
            means.tell(m.FrameIgnored("an acknowledgement of somebody else's update"))
        case wire.Echo(sender, nonce) if sender == registered.peer_id and nonce == registered.nonce:
            book.spoken.echoed(registered.echo_by - means.config.timing.answer)
            registered.nonce, registered.echo_by = None, math.inf
            if book.refusals.in_force:
                announce.echo_taken()
            book.refusals.disproved()
            _prove(book, registered, means, now)
        case wire.Echo(_, nonce) if not nonce.startswith(ECHO_PREFIX):
            means.tell(m.FrameIgnored("an echo that is not ours, or comes too late"))
        case wire.NotInRoom(code):
            _forget(book, registered, f"the server has forgotten this worker: it answers {code}", means)
        case wire.Foreign({"type": "error", "code": "PEER_NOT_FOUND"}) if registered.update is not None:
            registered.schedule.hurry(now)  # its answer, or another part's: the echo decides
        case wire.Foreign({"type": "error", "code": str(code), "message": str(text)}) if registered.nonce is not None:
            if code in ("PEER_NOT_IN_ROOM", "DELIVERY_FAILED") and registered.peer_id in text:
                why = f"the server has forgotten this worker: it answers our own echo with {code}"
                _forget(book, registered, why, means)
            else:
                book.refusals.suspect(code, text)
        case _:
            pass


def _prove(book: _Book, registered: Registered, means: _Means, now: float) -> None:
    registered.misses = Misses()
    book.deaf_epoch = 0
    book.refusals.proved()
    means.tell(m.PresenceProved(registered.link.epoch, now))


def _take_answer(book: _Book, registered: Registered, stored: wire.Message, means: _Means, now: float) -> None:
    """An update was answered: is what the server has stored what we know to be true?"""
    update = registered.update
    differences = () if update is None else wire.differences(stored, update.record)
    if registered.owed.settles(stored, fits=update is not None and not differences):
        return
    if update is None:
        means.tell(m.FrameIgnored("an acknowledgement of an update that is not ours"))
        return
    registered.update = None
    if book.refusals.in_force and not differences:
        _prove(book, registered, means, now)  # a server without echoes: the next best thing
    if differences:
        registered.confirmed = None
        book.repairs.found(now)
        means.tell(m.UpdateFailed(drifted=True))
        if not book.forgery_said:
            book.forgery_said = True
            announce.record_repaired(differences, forged=update.is_look)
    elif update.is_look:
        book.repairs.none()
        book.forgery_said = False
    else:
        registered.confirmed = update.revision
        if update.revision == book.revision:
            means.tell(m.StatusConfirmed(update.revision, now))


def _forget(book: _Book, registered: Registered, why: str, means: _Means) -> None:
    book.registered = None
    means.tell(m.RegistrationForgotten(registered.link.epoch, why))


def _distrust_the_clock(book: _Book, means: _Means, now: float, wake_at: float) -> None:
    """After the process was stopped or the machine suspended: prove at once, and blame nobody for the time between."""
    slept = book.suspends.since(now, means.awake())
    if slept >= OVERSLEPT:
        means.tell(m.MachineSlept(slept))
    stopped = max(now - wake_at, slept)
    if (registered := book.registered) is None or stopped < OVERSLEPT:
        return
    announce.woken(stopped)
    registered.schedule.hurry(now)
    if registered.nonce is not None:
        registered.echo_by = now + means.config.timing.answer
    if registered.update is not None:
        registered.update.answer_by = now + means.config.timing.answer


async def _part(book: _Book, notes: list[m.Note], inbox: Inbox, means: _Means) -> None:
    """Say when the last signals have arrived."""
    if (registered := book.registered) is not None and book.spoken.unheard:
        me, record = registered.peer_id, means.record(book.truth) if book.refusals.in_force else None
        earlier = int(registered.update is not None)
        await farewell.heard(notes, inbox, registered.link, me, means.nonce(), record, earlier)
    means.tell(m.SignalsHeard())


# --- what is to be done -----------------------------------------------------------------------------------------------


def _reconcile(book: _Book, means: _Means, now: float) -> float:
    """Send what is due; returns until when nothing else will be, unless a note comes."""
    registered = book.registered
    if registered is None:
        return math.inf
    _count_misses(book, registered, means, now)
    if registered.misses.too_many:
        _give_up(book, registered, means)
        return math.inf
    if registered.nonce is None and now >= registered.schedule.due:
        _probe(book, registered, means, now)
    wake_at = min(now + TICK, registered.schedule.due if registered.nonce is None else registered.echo_by)
    if registered.update is None:
        wake_at = min(wake_at, _update_when_due(book, registered, means, now))
    if registered.update is not None:
        wake_at = min(wake_at, registered.update.answer_by)
    return wake_at


def _count_misses(book: _Book, registered: Registered, means: _Means, now: float) -> None:
    within = means.config.timing.answer
    if registered.update is not None and now >= registered.update.answer_by:
        if not registered.update.is_look:
            registered.confirmed = None
        registered.misses.add(registered.update.answer_by - within, now)
        registered.owed.add(registered.update.record)
        registered.update = None
        means.tell(m.UpdateFailed(drifted=False))
    if now >= registered.echo_by:
        sent = registered.echo_by - within
        registered.nonce, registered.echo_by = None, math.inf
        if book.refusals.in_force:
            return  # it was tried once more, and the answers to full updates go on being the proof
        registered.schedule.hurry(now)
        if not book.refusals.count():
            registered.misses.add(sent, now)
        elif book.refusals.in_force:
            announce.echo_refused()


def _give_up(book: _Book, registered: Registered, means: _Means) -> None:
    """Answers are missing: register again on the same link; the second time the link itself is of no use."""
    epoch, why = registered.link.epoch, f"no answer to {registered.misses.count} frames"
    if book.deaf_epoch == epoch:
        book.registered = None
        means.tell(m.DropLink(epoch, f"{why}, also after registering again"))
    else:
        book.deaf_epoch = epoch
        _forget(book, registered, why, means)


def _probe(book: _Book, registered: Registered, means: _Means, now: float) -> None:
    proof = registered.schedule.sent(now)
    registered.look_due = registered.look_due or proof is not Proof.ECHO
    registered.full_due = registered.full_due or proof is Proof.FULL or book.refusals.in_force
    if book.refusals.worth_an_echo():
        registered.nonce = means.nonce()
        registered.echo_by = now + means.config.timing.answer
        registered.link.post(wire.echo(registered.peer_id, registered.nonce))


def _update_when_due(book: _Book, registered: Registered, means: _Means, now: float) -> float:
    """Send the one update that is due, if any: the truth at once, a repair at its pace, a look before a full one."""
    if registered.confirmed is None and registered.written == book.revision and now < book.repairs.until:
        return book.repairs.until
    stale = registered.confirmed != book.revision
    if not (stale or registered.look_due or registered.full_due):
        return math.inf
    record = means.record(book.truth)
    is_look = registered.look_due and not stale
    registered.look_due = False
    if not is_look:
        registered.full_due, registered.written = False, book.revision
    registered.update = Update(book.revision, record, now + means.config.timing.answer, is_look)
    frame = wire.look(registered.peer_id, record) if is_look else wire.update_metadata(registered.peer_id, record)
    registered.link.post(frame)
    return math.inf
