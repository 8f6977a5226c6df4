"""The cleanup actor: keeps the ledger of every identity created, and pays it at the exit.

It is the one actor that the worker's cancel reaches, and so the one who says that the worker leaves.

One sign-in is one user on the server, and each has to be deleted by its own `/delete-peer`, **before** the socket is
closed, for only then does the server delete the room too (FAULTS F33); and after the last signals have arrived, which
it would overtake. It is shielded and bounded, and it never fails: whatever goes wrong in here must not delay or spoil
the worker's shutdown.
"""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from worker_state.core import answers
from worker_state.core import messages as m
from worker_state.logs import event
from worker_state.mailbox import Mailbox

if TYPE_CHECKING:
    from worker_state.web import Http

log = logging.getLogger(__name__)

AGAIN_AFTER = (0.2, 0.4)
"""Seconds before the second and the third try at a deletion: a hiccup of the server's must leave no identity behind,
and a server that is away must not hold up who presses Ctrl-C."""


@dataclass(slots=True)
class _Ledger:
    """What is owed."""

    owed: list[str] = field(default_factory=list)
    awaited: int = 0
    """Sign-ins under way: users that may exist, whose names are not known yet."""
    heard: bool = False
    """Nothing that was sent is on its way any more."""


async def run(mailbox: Mailbox[m.Note], *, http: "Http", within: float, tell: m.Tell) -> None:
    """Collect until the worker leaves, which is a cancel, or cannot start. Then say `BeginLeave`, pay within so many
    seconds, and say `CloseLink`."""
    ledger = _Ledger()
    try:
        while _listen(ledger, mailbox.take()):
            await mailbox.filled()
    finally:
        # Also when a bug of another actor cancels this one: the identities are still owed.
        try:
            tell(m.BeginLeave())
            with trio.move_on_after(within, shield=True) as scope:
                with trio.move_on_after(within / 2):
                    await _until_heard(ledger, mailbox)
                await _pay(ledger, mailbox, http)
            if scope.cancelled_caught:
                _say_left(ledger, within)
        finally:
            # Even if a log handler of the program raises: the others wait for this, shielded.
            tell(m.CloseLink())


def _listen(ledger: _Ledger, notes: list[m.Note]) -> bool:
    """Write them all down; False when the worker cannot start."""
    aborted = False
    for note in notes:
        _apply(ledger, note)
        aborted = aborted or isinstance(note, m.StartupAborted)
    return not aborted


def _apply(ledger: _Ledger, note: m.Note) -> None:
    match note:
        case m.IdentityRequested():
            ledger.awaited += 1
        case m.IdentityCreated(identity):
            ledger.awaited -= 1
            ledger.owed.append(identity.username)
        case m.IdentityRefused():
            ledger.awaited -= 1
        case m.SignalsHeard():
            ledger.heard = True
        case _:
            pass


async def _until_heard(ledger: _Ledger, mailbox: Mailbox[m.Note]) -> None:
    """A deletion goes another way than the frames: the server would not know the last ones' sender any more."""
    while not ledger.heard:
        await mailbox.filled()
        _listen(ledger, mailbox.take())


async def _pay(ledger: _Ledger, mailbox: Mailbox[m.Note], http: "Http") -> None:
    _listen(ledger, mailbox.take())
    if len(ledger.owed) == 1 and not ledger.awaited:  # nearly always: that needs no tasks
        await _delete(ledger, ledger.owed[0], http)
        return
    async with trio.open_nursery() as nursery:
        for username in tuple(ledger.owed):
            nursery.start_soon(_delete, ledger, username, http)
        while ledger.awaited:
            await mailbox.filled()
            for note in mailbox.take():
                _apply(ledger, note)
                if isinstance(note, m.IdentityCreated):
                    nursery.start_soon(_delete, ledger, note.identity.username, http)


@trio.lowlevel.enable_ki_protection
async def _delete(ledger: _Ledger, username: str, http: "Http") -> None:
    try:
        report = await _ask(username, http)
        for pause in AGAIN_AFTER:
            if not isinstance(report, answers.HttpFailure) or not report.may_pass:
                break
            await trio.sleep(pause)
            report = await _ask(username, http)
    except Exception:  # nothing may fail a shutdown, not even a bug of ours
        log.exception("deleting an identity failed unexpectedly", extra=event("deletion_failed"))
        return
    if isinstance(report, answers.HttpFailure):
        log.error("an identity could not be deleted: %s", report.why, extra=event("deletion_failed", reason=report.why))
        return
    ledger.owed.remove(username)
    log.info("identity deleted: %s", report, extra=event("identity_deleted"))


async def _ask(username: str, http: "Http") -> str | answers.HttpFailure:
    return answers.read_deletion(await http.post("/delete-peer", body={"peer_id": username}))


def _say_left(ledger: _Ledger, within: float) -> None:
    count = len(ledger.owed) + ledger.awaited
    about = event("identities_left", count=count)
    sentence = "not everything could be deleted in %g s: %d of its identities may be left on the server"
    log.error(sentence, within, count, extra=about)
