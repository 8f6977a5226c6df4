"""The cleanup actor: keeps the ledger of every identity created, and deletes each of them.

It is the one actor that the worker's cancel reaches, and so the one who says that the worker leaves.

One sign-in is one user on the server, and each has to be deleted by its own `/delete-peer`: those that were replaced at
once, the last one and the one that gives the peer id at the exit, after the last signals have arrived, which the
deletion would overtake. A room of our own goes with it, if the deletion comes **before** the socket is closed (FAULTS
F33); a room that was given to the worker stays, if it comes **after** (G01). The exit is shielded and bounded, and it
never fails: whatever goes wrong in here must not delay or spoil the worker's shutdown.
"""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from worker_state import logs
from worker_state.actors.runner import Inbox
from worker_state.core import http_api
from worker_state.core import messages as m
from worker_state.core.config import Timing
from worker_state.core.listing import Listing
from worker_state.core.words import shown
from worker_state.net import api

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
    """Usernames, the oldest first."""
    peer_id: str | None = None
    """The first of all usernames: the worker registers under it for as long as it lives."""
    awaited: int = 0
    """Sign-ins under way: users that may exist, whose names are not known yet."""
    asked: set[str] = field(default_factory=set)
    """Those whose deletion is under way."""
    linked: bool = False
    listing: Listing = field(default_factory=Listing)
    kept: str | None = None
    """The username that is not deleted, for the sake of somebody else's room."""
    heard: bool = False
    """Nothing that was sent is on its way any more."""

    @property
    def replaced(self) -> list[str]:
        """Those that nobody needs: ID tokens are good without their user, and only the newest is used (FAULTS G09)."""
        return [username for username in self.owed[:-1] if username not in (self.peer_id, *self.asked)]


async def run(inbox: Inbox, *, http: "Http", timing: Timing, keeps_room: bool, publish: m.Publish) -> None:
    """Collect until the worker leaves, which is a cancel, or cannot start. Then say `BeginLeave`, pay within
    `timing.exit` seconds, and say `CloseLink`; the other way round where the room is to stay (`keeps_room`)."""
    ledger = _Ledger()
    try:
        async with trio.open_nursery() as nursery:
            aborted = False
            while not aborted:
                event = await _next(ledger, inbox)
                aborted = isinstance(event, m.StartupAborted)
                if isinstance(event, m.IdentityCreated):
                    _delete_soon(ledger, ledger.replaced, nursery, http)
            nursery.cancel_scope.cancel()
    finally:
        # Also when a bug of another actor cancels this one: the identities are still owed.
        try:
            publish(m.BeginLeave())
            over_at = trio.current_time() + timing.exit + (timing.close if keeps_room else 0.0)
            with trio.CancelScope(deadline=over_at, shield=True):
                async with trio.open_nursery() as nursery:
                    # The others are listed nowhere: nothing has to be waited for.
                    _delete_soon(ledger, ledger.owed[1:], nursery, http)
                    with trio.move_on_after(timing.exit / 2):
                        await _until_heard(ledger, inbox)
                    if keeps_room:
                        # The server's answer decides whether the identity may be deleted: it has nearly all the time.
                        publish(m.CloseLink(over_at - timing.exit / 4 - trio.current_time()))
                        await _until_let_go(ledger, inbox)
                        if trio.current_time() < ledger.listing.until:
                            ledger.kept = ledger.peer_id
                    await _pay(ledger, inbox, nursery, http)
            if ledger.owed or ledger.awaited:
                _say_left(ledger)
        finally:
            # Even if a log handler of the program raises: the others wait for this, shielded.
            publish(m.CloseLink(timing.close))


def _apply(ledger: _Ledger, event: m.Event) -> None:
    match event:
        case m.RequestIdentity():
            ledger.awaited += 1
        case m.IdentityCreated(identity):
            ledger.awaited -= 1
            ledger.owed.append(identity.username)
            ledger.peer_id = ledger.peer_id or identity.username
        case m.IdentityRefused():
            ledger.awaited -= 1
        case m.LinkOpened():
            ledger.linked = True
        case m.LinkReleased(by_server, registered, unanswered):
            ledger.linked = False
            if registered:
                ledger.listing.lost(trio.current_time(), closed=by_server, unanswered=unanswered)
        case m.SignalsHeard():
            ledger.heard = True
        case _:
            pass


async def _next(ledger: _Ledger, inbox: Inbox) -> m.Event:
    event = await inbox.receive()
    _apply(ledger, event)
    return event


async def _until_heard(ledger: _Ledger, inbox: Inbox) -> None:
    """A deletion goes another way than the frames: the server would not know the last ones' sender any more."""
    while not ledger.heard:
        await _next(ledger, inbox)


async def _until_let_go(ledger: _Ledger, inbox: Inbox) -> None:
    """Until the link is closed, and the server has had a moment to forget who was registered through it."""
    while ledger.linked:
        await _next(ledger, inbox)
    if ledger.owed and ledger.listing.ends_soon(trio.current_time()):
        await trio.sleep_until(ledger.listing.until)


async def _pay(ledger: _Ledger, inbox: Inbox, nursery: trio.Nursery, http: "Http") -> None:
    with suppress(trio.WouldBlock):
        while True:
            _apply(ledger, inbox.receive_nowait())
    tried = {ledger.kept, *ledger.asked}
    while True:
        usernames = [username for username in ledger.owed if username not in tried]
        tried.update(usernames)
        _delete_soon(ledger, usernames, nursery, http)
        if not ledger.awaited:
            break
        await _next(ledger, inbox)


def _delete_soon(ledger: _Ledger, usernames: Iterable[str], nursery: trio.Nursery, http: "Http") -> None:
    for username in usernames:
        ledger.asked.add(username)
        nursery.start_soon(_delete, ledger, username, http)


@trio.lowlevel.enable_ki_protection
async def _delete(ledger: _Ledger, username: str, http: "Http") -> None:
    try:
        report = await api.delete_peer(http, username)
        for pause in AGAIN_AFTER:
            if not isinstance(report, http_api.HttpFailure) or not report.may_pass:
                break
            await trio.sleep(pause)
            report = await api.delete_peer(http, username)
    except Exception:  # nothing may fail a shutdown, not even a bug of ours
        log.exception("deleting an identity failed unexpectedly", extra=logs.event("deletion_failed"))
        return
    finally:
        ledger.asked.discard(username)
    if isinstance(report, http_api.HttpFailure):
        log.error(
            "an identity could not be deleted: %s", report.why, extra=logs.event("deletion_failed", reason=report.why)
        )
        return
    ledger.owed.remove(username)
    # A 200 proves nothing: the server says it also when it could not delete the identity (FAULTS F34, G08).
    log.info("asked to delete an identity, the server answers: %s", report, extra=logs.event("identity_deleted"))


def _say_left(ledger: _Ledger) -> None:
    left = [*map(shown, ledger.owed), *("one whose name is not known",) * ledger.awaited]
    why = "the server may still list the worker, and would delete somebody else's room along with the last one in it"
    about = logs.event("identities_left", count=len(left))
    sentence = "not everything could be deleted, %d of its identities may be left on the server: %s%s"
    log.error(sentence, len(left), ", ".join(left), "" if ledger.kept is None else f" ({why})", extra=about)
