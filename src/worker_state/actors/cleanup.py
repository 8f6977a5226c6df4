"""The cleanup actor: keeps the ledger of every identity created, and has each of them deleted.

It is the one actor that the worker's cancel reaches, and so the one that publishes that the worker leaves.

One sign-in is one user on the server, and each needs its own `/delete-peer`: replaced identities at once, the last one
and the one that gives the peer id at the exit, after the last signals have arrived, which the deletion would overtake.
A room of our own goes with it if the deletion comes **before** the socket is closed (F33). A room that was given
to the worker stays if it comes **after** (faults.md, G01). The exit is shielded and bounded, and it never fails.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from worker_state import logs
from worker_state.actors.runner import Inbox
from worker_state.config import Timing
from worker_state.protocol import events
from worker_state.protocol.http_api import HttpFailure
from worker_state.protocol.peer_listing import PeerListing
from worker_state.redact import shown

if TYPE_CHECKING:
    from worker_state.net.http_client import ServerApi

log: logs.Logger = logs.Logger(__name__)

AGAIN_AFTER = (0.2, 0.4)
"""Seconds before the second and the third try at a deletion: a hiccup of the server must leave no identity behind,
and a server that is away must not hold up the exit."""


class CleanupActor:
    """The ledger of one worker's identities."""

    def __init__(
        self, api: "ServerApi", timing: Timing, *, peer_id: str | None, keeps_room: bool, publish: events.Publish
    ) -> None:
        """`peer_id`: a chosen one, which no sign-in gave. `keeps_room`: close the link first, so that the server does
        not delete the room with its last peer."""
        self._api = api
        self._timing = timing
        self._keeps_room = keeps_room
        self._publish = publish
        self._undeleted: list[str] = []  # usernames, the oldest first
        self._peer_id = peer_id  # chosen, or the first of all usernames: the worker registers under it for good
        self._chosen = peer_id
        self._awaited = 0  # sign-ins under way: users that may exist, whose names are not known yet
        self._asked: set[str] = set()  # those whose deletion is under way
        self._linked = False
        self._listing = PeerListing()
        self._flushed = False  # nothing that was sent is on its way any more

    async def run(self, inbox: Inbox) -> None:
        """Collect until the worker leaves, which is a cancel, or cannot start. Then publish `StartLeaving`, delete
        within `timing.exit` seconds, and publish `CloseLink`; the other way round where the room is to stay."""
        try:
            async with trio.open_nursery() as nursery:
                event: events.Event | None = None
                while not isinstance(event, events.StartupAborted):
                    event = await self._next(inbox)
                    if isinstance(event, events.IdentityCreated):
                        # ID tokens are good without their user, and only the newest is used (G09).
                        self._delete_soon(self._undeleted[:-1], nursery, {self._peer_id})
                nursery.cancel_scope.cancel()
        finally:
            # Also when a bug of another actor cancels this one: the identities still have to go.
            try:
                self._publish(events.StartLeaving())
                await self._leave(inbox)
            finally:
                # Even if a log handler of the program raises: the other actors wait for this, shielded.
                self._publish(events.CloseLink(self._timing.close))

    async def _leave(self, inbox: Inbox) -> None:
        timing, kept = self._timing, None
        over_at = trio.current_time() + timing.exit + (timing.close if self._keeps_room else 0.0)
        with trio.CancelScope(deadline=over_at, shield=True):
            async with trio.open_nursery() as nursery:
                if self._chosen is not None and self._undeleted and not self._keeps_room:
                    self._undeleted.insert(0, self._chosen)  # the room goes with the last peer, not with a user
                self._delete_soon(self._undeleted[1:], nursery)  # these are listed nowhere: nothing to wait for
                with trio.move_on_after(timing.exit / 2):
                    while not self._flushed:
                        await self._next(inbox)
                if self._keeps_room:
                    # The server's answer decides whether the identity may be deleted: it has nearly all the time.
                    self._publish(events.CloseLink(over_at - timing.exit / 4 - trio.current_time()))
                    await self._until_unlisted(inbox)
                    kept = self._peer_id if trio.current_time() < self._listing.until else None
                await self._delete_all(inbox, nursery, kept)
        if self._undeleted or self._awaited:
            self._log_left(for_the_room=kept is not None)

    async def _next(self, inbox: Inbox) -> events.Event:
        event = await inbox.receive()
        self._apply(event)
        return event

    def _apply(self, event: events.Event) -> None:
        match event:
            case events.RequestIdentity():
                self._awaited += 1
            case events.IdentityCreated(identity):
                self._awaited -= 1
                self._undeleted.append(identity.username)
                self._peer_id = self._peer_id or identity.username
            case events.IdentityFailed():
                self._awaited -= 1
            case events.LinkOpened():
                self._linked = True
            case events.LinkReleased(by_server, registered, unanswered):
                self._linked = False
                if registered:
                    self._listing.lost(trio.current_time(), closed=by_server, unanswered=unanswered)
            case events.SignalsFlushed():
                self._flushed = True

    async def _until_unlisted(self, inbox: Inbox) -> None:
        """Until the link is closed, and the server has had a moment to forget the peer that it belonged to."""
        while self._linked:
            await self._next(inbox)
        if self._undeleted and self._listing.ends_soon(trio.current_time()):
            await trio.sleep_until(self._listing.until)

    async def _delete_all(self, inbox: Inbox, nursery: trio.Nursery, kept: str | None) -> None:
        with suppress(trio.WouldBlock):
            while True:
                self._apply(inbox.receive_nowait())
        tried = {kept, *self._asked}
        while True:
            usernames = [username for username in self._undeleted if username not in tried]
            tried.update(usernames)
            self._delete_soon(usernames, nursery)
            if not self._awaited:
                break
            await self._next(inbox)

    def _delete_soon(self, usernames: Iterable[str], nursery: trio.Nursery, kept: Iterable[str | None] = ()) -> None:
        for username in usernames:
            if username not in (*kept, *self._asked):
                self._asked.add(username)
                nursery.start_soon(self._delete, username)

    @trio.lowlevel.enable_ki_protection
    async def _delete(self, username: str) -> None:
        try:
            report = await self._api.delete_peer(username)
            for pause in AGAIN_AFTER:
                if not isinstance(report, HttpFailure) or not report.may_pass:
                    break
                await trio.sleep(pause)
                report = await self._api.delete_peer(username)
        except Exception:  # nothing may fail a shutdown, not even a bug of ours
            log.exception("deleting an identity failed unexpectedly", extra=logs.event("deletion_failed"))
            return
        finally:
            self._asked.discard(username)
        if isinstance(report, HttpFailure):
            about = logs.event("deletion_failed", reason=report.why)
            log.error("an identity could not be deleted: %s", report.why, extra=about)
            return
        self._undeleted.remove(username)
        # A 200 proves nothing: the server says it also when it could not delete the identity (faults.md, F34, G08).
        log.info("asked to delete an identity, the server answers: %s", report, extra=logs.event("identity_deleted"))

    def _log_left(self, *, for_the_room: bool) -> None:
        left = [*map(shown, self._undeleted), *("one whose name is not known",) * self._awaited]
        why = " (the server may still list the worker, and would delete somebody else's room with its last peer)"
        sentence = "not everything could be deleted, %d of its identities may be left on the server: %s%s"
        about = logs.event("identities_left", count=len(left))
        log.error(sentence, len(left), ", ".join(left), why if for_the_room else "", extra=about)
