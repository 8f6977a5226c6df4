"""The status actor: owns what the server has confirmed, and compares it with what is true.

Sends the newest truth only: nothing is queued, nothing replayed. There are no correlation ids, so one update is under
way at a time and its answer is compared by content. It also proves, by an echo to ourselves, that clients reach the
worker through this very socket (PROTOCOL.md, "The proof of being discoverable"). It is silent until the registration
actor says that the worker is registered, for an update before that only earns NOT_IN_ROOM (FAULTS F12).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import trio

from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.core.config import Config
from worker_state.core.probe import Schedule
from worker_state.core.status import Available, Truth, word

log = logging.getLogger(__name__)

REPAIR_PAUSE = 1.0
"""Seconds before a difference is repaired, doubled each time up to a minute: something may be writing against us."""
MISSES = 2
"""Answers in a row that may be lost before the registration is called forgotten."""


@dataclass
class _Update:
    """The one `update_metadata` under way."""

    revision: int
    record: wire.Message
    answer_by: float


@dataclass
class _Registered:
    """A registration and what is known of it. Made anew by each, gone with it: nothing old can be mistaken for new."""

    link: m.Link
    peer_id: str
    schedule: Schedule
    confirmed: int | None
    """The revision that the server has stored, or None when it was seen to have stored something else."""
    update: _Update | None = None
    full_due: bool = False
    nonce: str | None = None
    """The echo under way."""
    echo_by: float = float("inf")
    misses: int = 0


@dataclass
class _Book:
    """What this actor knows; nobody else sees it."""

    truth: Truth = field(default_factory=Available)
    revision: int = 0
    link: m.Link | None = None
    registered: _Registered | None = None
    repairs: int = 0
    repair_at: float = 0.0
    drift_said: bool = False
    unsent_said: bool = False


async def run(
    mailbox: trio.MemoryReceiveChannel[m.Note],
    *,
    config: Config,
    random: Random,
    nonce: Callable[[], str],
    tell: m.Tell,
) -> None:
    """Until `BeginLeave`. Speaks `StatusConfirmed`, `PresenceProved`, `RegistrationForgotten`."""
    book = _Book()
    while True:
        wake_at = _reconcile(book, config, nonce, tell, trio.current_time())
        with trio.move_on_at(wake_at):
            note = await mailbox.receive()
            while True:
                if isinstance(note, m.BeginLeave):
                    return
                _apply(book, note, config, random, tell, trio.current_time())
                if not mailbox.statistics().current_buffer_used:
                    break
                note = mailbox.receive_nowait()


# --- what has happened ------------------------------------------------------------------------------------------------


def _apply(book: _Book, note: m.Note, config: Config, random: Random, tell: m.Tell, now: float) -> None:
    match note:
        case m.ChangeStatus(revision, truth):
            book.revision, book.truth = revision, truth
            if book.registered is None and not book.unsent_said:
                book.unsent_said = True
                log.error("status %s cannot be sent, the worker is not registered: it follows later", word(truth))
        case m.LinkOpened(link):
            book.link, book.registered = link, None
        case m.LinkLost(epoch) if book.link is not None and epoch == book.link.epoch:
            book.link = book.registered = None
        case m.WorkerRegistered() if book.link is not None and note.epoch == book.link.epoch:
            schedule = Schedule(random, now, note.peers)
            book.registered = _Registered(book.link, note.peer_id, schedule, confirmed=note.revision)
            book.unsent_said = False
        case m.FrameReceived(epoch, frame) if book.registered is not None and epoch == book.registered.link.epoch:
            _apply_frame(book, book.registered, frame, tell, now)
        case _:
            pass


def _apply_frame(book: _Book, registered: _Registered, frame: wire.Frame, tell: m.Tell, now: float) -> None:
    match frame:
        case wire.MetadataStored(peer_id) if peer_id != registered.peer_id or registered.update is None:
            tell(m.FrameIgnored("an acknowledgement of an update that is not ours"))
        case wire.MetadataStored(_, stored):
            assert registered.update is not None
            _compare(book, registered, registered.update, stored, tell, now)
        case wire.Echo(sender, nonce) if sender == registered.peer_id and nonce == registered.nonce:
            registered.nonce, registered.echo_by, registered.misses = None, float("inf"), 0
            tell(m.PresenceProved(registered.link.epoch, now))
        case wire.Echo():
            tell(m.FrameIgnored("an echo that is not ours, or comes too late"))
        case wire.NotInRoom(code):
            _forget(book, registered, f"it answers {code}", tell)
        case _:
            pass


def _compare(
    book: _Book, registered: _Registered, update: _Update, stored: wire.Message, tell: m.Tell, now: float
) -> None:
    """An update was answered: is what the server has stored what the update said?"""
    registered.update, registered.misses = None, 0
    differences = wire.differences(stored, update.record)
    if not differences:
        registered.confirmed = update.revision
        book.repairs, book.drift_said = max(0, book.repairs - 1), False
        if update.revision == book.revision:
            tell(m.StatusConfirmed(update.revision, now))
        return
    registered.confirmed = None
    book.repair_at = now + min(60.0, REPAIR_PAUSE * 2.0**book.repairs)
    book.repairs = min(book.repairs + 1, 20)
    if not book.drift_said:
        book.drift_said = True
        log.warning("the server's record of this worker differs in %s: repairing it", ", ".join(differences))


def _forget(book: _Book, registered: _Registered, why: str, tell: m.Tell) -> None:
    book.registered = None
    tell(m.RegistrationForgotten(registered.link.epoch, why))


# --- what is to be done -----------------------------------------------------------------------------------------------


def _reconcile(book: _Book, config: Config, nonce: Callable[[], str], tell: m.Tell, now: float) -> float:
    """Send what is due; returns until when nothing else will be, unless a note comes."""
    registered = book.registered
    if registered is None:
        return float("inf")
    _judge_misses(book, registered, tell, now)
    if book.registered is None:
        return float("inf")
    if registered.nonce is None and now >= registered.schedule.due:
        _send_echo(registered, config, nonce, now)
    stale = registered.confirmed != book.revision
    if registered.update is None and (stale or registered.full_due):
        # Drift is repaired at a bounded rate; a change of the truth itself never waits.
        wait_until = book.repair_at if registered.confirmed is None else now
        if now < wait_until:
            return min(wait_until, registered.echo_by, registered.schedule.due)
        _send_update(book, registered, config, now)
    answer_by = registered.update.answer_by if registered.update is not None else float("inf")
    due = registered.schedule.due if registered.nonce is None else float("inf")
    return min(answer_by, registered.echo_by, due)


def _judge_misses(book: _Book, registered: _Registered, tell: m.Tell, now: float) -> None:
    if registered.update is not None and now >= registered.update.answer_by:
        registered.update, registered.confirmed = None, None
        registered.misses += 1
    if now >= registered.echo_by:
        registered.nonce, registered.echo_by = None, float("inf")
        registered.misses += 1
        registered.schedule.hurry(now)
    if registered.misses >= MISSES:
        _forget(book, registered, f"{registered.misses} frames in a row were not answered", tell)


def _send_echo(registered: _Registered, config: Config, nonce: Callable[[], str], now: float) -> None:
    registered.nonce = nonce()
    registered.echo_by = now + config.timing.answer
    registered.full_due = registered.schedule.sent(now)
    if not registered.link.post(wire.echo(registered.peer_id, registered.nonce)):
        log.debug("could not send an echo, the link is gone")


def _send_update(book: _Book, registered: _Registered, config: Config, now: float) -> None:
    record = wire.metadata(config.tags, config.capabilities, book.truth)
    registered.update = _Update(book.revision, record, now + config.timing.answer)
    registered.full_due = False
    if not registered.link.post(wire.update_metadata(registered.peer_id, record)):
        log.error("could not send update_metadata, the link is gone: the next registration carries the status")
