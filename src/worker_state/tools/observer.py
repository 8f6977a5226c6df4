"""Watching a room: a client of our own that asks for its workers, again and again, and has itself deleted at the end.

    async with open_roster(config) as rosters:
        async for roster in rosters:
            print(roster.entries)

The thin shell around `tools.roster`: one task owns socket, identity and roster. What is shown to people is not known
here, and no worker is touched: searches only.
"""

import logging
import math
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from random import Random, SystemRandom

import trio

from worker_state.background import open_background
from worker_state.core import http_api, wire
from worker_state.core import verdict as v
from worker_state.core.config import Config
from worker_state.core.errors import ConfigError, ObservationFailed
from worker_state.core.listing import Listing
from worker_state.core.pace import Deadlines, Pace
from worker_state.core.verdict import Cause, Closed, DialFailure
from worker_state.core.words import shown
from worker_state.logs import event
from worker_state.net.websocket import Dial, Socket, WebSocketDial, close
from worker_state.watched import Watched
from worker_state.web import Http, HttpxHttp

__all__ = ["ObservationFailed", "Outside", "open_roster"]

log = logging.getLogger(__name__)

CLOSED = 1000
LEAST, MOST = 0.5, 300.0
"""Seconds between two searches: what a server can be asked for without being pressed, and what is still watching."""
RECORD: wire.Message = {"tags": ["sleap-rtc", "worker-state-watch"], "properties": {}}


@dataclass(frozen=True, slots=True)
class Outside:
    """The outside world, and chance: what tests replace."""

    dial: Dial
    http: Http
    random: Random = field(default_factory=SystemRandom)

    @classmethod
    def real(cls, config: Config) -> "Outside":
        """The network."""
        timing = config.timing
        return cls(
            dial=WebSocketDial(config.websocket_url, unacknowledged_within=timing.unacknowledged),
            http=HttpxHttp(config.http_url, within=timing.http),
        )


@asynccontextmanager
async def open_roster(
    config: Config, *, every: float = 2.0, outside: Outside | None = None
) -> AsyncIterator[Watched[Roster]]:
    """Watch the room of `config` (`room_id` and `room_token`, or `api_key`), asking `every` so many seconds.

    Gives the newest roster, and each newer one to who iterates, from the first answer on. Raises `ConfigError` for a
    configuration without a room, `ObservationFailed` when that first answer does not come; later trouble stands in
    `Roster.trouble`, and is tried again. At the end the server is asked to delete the identity, within
    `timing.exit + timing.close` seconds, or once more `timing.exit` in the middle of a sign-in.
    """
    if config.creates_room:
        raise ConfigError(
            "room_id is missing: a room that exists is watched, with room_id and room_token or an api_key"
        )
    if isinstance(every, bool) or not isinstance(every, int | float) or not LEAST <= every <= MOST:
        raise ConfigError(f"every must be a number of seconds from {LEAST:g} to {MOST:g}")
    for url in config.exposed_urls:
        about = event("not_encrypted", url=url)
        log.warning("%s is not encrypted and leaves this machine: tokens can be read on the way", url, extra=about)
    observer = _Observer(config, every, outside or Outside.real(config))
    try:
        async with open_background(observer.run) as rosters:
            yield rosters
    finally:
        observer.rosters.close()


@dataclass(frozen=True, slots=True)
class _End:
    """Why there is no link (any more)."""

    why: str
    cause: Cause = Cause.CLOSED
    code: int = 1006
    hint: float | None = None


class _Observer:
    """The one task that keeps the roster, and another that hears the cancel."""

    def __init__(self, config: Config, every: float, outside: Outside) -> None:
        self.rosters = Watched(Roster(config.room_id or ""))
        self._decided = trio.Event()
        """The first answer has come, or it will not."""
        self._failure: str | None = None
        self._config = config
        self._every = every
        self._outside = outside
        self._pace = Pace(outside.random)
        self._identity: http_api.Identity | None = None
        self._peer_id = f"watch-{secrets.token_hex(4)}"
        """With an API key there is no sign-in that would give one."""
        self._owed: dict[str, Listing] = {}
        """Identities that have to be deleted, but not while the server may list them: with the last one in a room it
        deletes the room, which is not ours. Its workers may just be reconnecting (FAULTS F11, G01)."""
        self._lost_sign_ins = 0
        """Sign-ins that were cut short: each may have created an identity."""
        self._waiting: list[tuple[trio.CancelScope, float]] = []
        self._leaving = False
        self._gone_by = math.inf
        """When all of the exit is over, from the closing handshake on."""
        self._entered = False
        self._unanswered = False
        """A `register` is."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: "trio.TaskStatus[Watched[Roster]]") -> None:
        """Keep the roster until cancelled. Raises `ObservationFailed` when the first answer does not come."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            try:
                await self._decided.wait()
                if self._failure is None:
                    task_status.started(self.rosters)
                    await trio.sleep_forever()
            finally:
                self._leave()
        if self._failure is not None:
            raise ObservationFailed(self._failure)

    def _leave(self) -> None:
        """End, in bounded time: whatever is being waited for is cut short."""
        self._leaving = True
        if self._waiting:
            scope, grace = self._waiting[-1]
            scope.deadline = min(scope.deadline, trio.current_time() + grace)

    @trio.lowlevel.enable_ki_protection
    async def _keep(self) -> None:
        """The cancel does not reach this, only `_leave` does: what it has created must be deleted."""
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = True
            while not self._leaving:
                end = await self._link(nursery)
                if self._leaving:
                    break
                now = trio.current_time()
                pause = self._pace.lost(now, end.cause, end.code, end.hint)
                if not self._decided.is_set():
                    self._failure = end.why
                    break
                self.rosters.set(roster.lost(self.rosters.value, end.why))
                with self._interruptible():
                    await trio.sleep(pause)
            self._decided.set()
            with trio.move_on_at(min(self._gone_by, trio.current_time() + self._config.timing.exit)):
                await self._pay()
            if left := [*map(shown, self._owed), *("its name is not known",) * self._lost_sign_ins]:
                about = event("identities_left", count=len(left))
                log.warning(
                    "our identity could not be deleted, and may be left on the server: %s", ", ".join(left), extra=about
                )

    @contextmanager
    def _interruptible(self, grace: float = 0.0) -> Iterator[None]:
        """What stands in here ends so many seconds after `_leave`."""
        with trio.CancelScope(deadline=trio.current_time() + grace if self._leaving else math.inf) as scope:
            self._waiting.append((scope, grace))
            try:
                yield
            finally:
                self._waiting.pop()

    # One link.

    async def _link(self, nursery: trio.Nursery) -> _End:
        """From the sign-in to the end of a socket."""
        self._entered = self._unanswered = False
        end = _End("it is over")
        deadlines = self._pace.dialling(trio.current_time())
        refusal = await self._sign_in()
        if refusal is not None:
            return refusal
        with self._interruptible():
            socket = await self._outside.dial(deadlines, nursery)
            if isinstance(socket, DialFailure):
                where = self._config.websocket_url.partition("?")[0]
                return _End(f"no connection to {where}: {socket}", socket.cause, hint=v.hint(socket.retry_after))
            try:
                end = await self._serve(socket, deadlines)
            finally:
                await socket.abort()
                if self._peer_id in self._owed and (self._entered or self._unanswered):
                    closed, unanswered = Closed(end.code).by_server, self._unanswered
                    self._owed[self._peer_id].lost(trio.current_time(), closed=closed, unanswered=unanswered)
        return end

    async def _sign_in(self) -> _End | None:
        if self._identity is not None or self._config.api_key is not None:
            return None
        answer: http_api.HttpAnswer | http_api.HttpFailure = http_api.HttpFailure("it was cut short")
        self._lost_sign_ins += 1
        # A sign-in whose answer is not waited for would leave an identity that nobody knows.
        with self._interruptible(grace=self._config.timing.exit):
            answer = await self._outside.http.post("/anonymous-signin")
            self._lost_sign_ins -= 1
        identity = http_api.read_identity(answer)
        if isinstance(identity, http_api.HttpFailure):
            cause = Cause.REFUSED if identity.status is None else Cause.REJECTED
            return _End(f"the server gave no identity: {identity.why}", cause)
        self._identity = identity
        self._owed[identity.username] = Listing()
        self._peer_id = identity.username
        return None

    async def _serve(self, socket: Socket, deadlines: Deadlines) -> _End:
        end: _End | None = None
        with self._interruptible():
            end = await self._enter(socket, deadlines)
            if end is None:
                end = await self._watch(socket)
        # Not behind a `register` that is unanswered: that leaves a ghost (FAULTS F31).
        if self._leaving and self._entered:
            timing = self._config.timing
            self._gone_by = trio.current_time() + timing.exit + timing.close
            if await close(socket, timing.close + timing.exit / 2):
                return _End("it is over", code=CLOSED)
        return _End("it is over") if end is None else end

    async def _enter(self, socket: Socket, deadlines: Deadlines) -> _End | None:
        """Register as a client; None when the server has let us in."""
        self._unanswered = True
        await socket.send(wire.encode(self._registration()))
        until = socket.connected_at + deadlines.register
        while True:
            match await _next_frame(socket, until):
                case wire.RegistrationAccepted(room_id=room_id):
                    self._entered, self._unanswered = True, False
                    self._pace.answered(trio.current_time())
                    if not self._config.room_id and room_id != self.rosters.value.room_id:
                        self.rosters.set(Roster(room_id))
                    return None
                case wire.Refusal() as refusal:
                    self._unanswered = False
                    return await self._refused(refusal)
                case Closed() as closed:
                    return _End(str(closed), closed.cause, closed.code, v.hint_in(closed.reason))
                case None:
                    return _End(str(Cause.UNREGISTERED), Cause.UNREGISTERED)

    def _registration(self) -> wire.Message:
        config = self._config
        if config.api_key is not None:
            return wire.register_by_key(self._peer_id, config.api_key, RECORD, role="client")
        assert self._identity is not None
        return wire.register(
            self._peer_id, config.room_id or "", config.room_token or "", self._identity.id_token, RECORD, role="client"
        )

    async def _refused(self, refusal: wire.Refusal) -> _End:
        verdict = v.of_refusal(refusal, own_room=False)
        if isinstance(verdict, v.Renew):
            # Tokens live for an hour, and watching may take longer: the next link has a new identity.
            self._identity = None
            await self._pay()
        room_gone = isinstance(verdict, v.GiveUp) and refusal.reason in ("Room not found", "Room expired")
        advice = ". A worker whose room is gone makes another, with another session string" if room_gone else ""
        return _End(f"the server refuses: {verdict.reason}{advice}", Cause.REJECTED)

    async def _watch(self, socket: Socket) -> _End:
        """Ask, and tell what is answered, until the link ends."""
        while True:
            asked_at = trio.current_time()
            await socket.send(wire.encode(wire.discover_workers(self._peer_id)))
            found = await self._answer(socket, asked_at + self._config.timing.answer)
            if isinstance(found, _End):
                return found
            now = trio.current_time()
            self.rosters.set(roster.answered(self.rosters.value, found, now))
            self._decided.set()
            # Reading goes on meanwhile: an end is noticed at once, and unread frames would block the pongs.
            while (frame := await _next_frame(socket, max(now, asked_at + self._every))) is not None:
                if isinstance(frame, Closed):
                    return _End(str(frame), frame.cause, frame.code, v.hint_in(frame.reason))

    async def _answer(self, socket: Socket, until: float) -> tuple[roster.Entry, ...] | _End:
        while True:
            match await _next_frame(socket, until):
                case wire.Foreign(message) if (found := roster.read_answer(message)) is not None:
                    return found
                case wire.NotInRoom():
                    return _End("the server does not know us any more", Cause.DROPPED)
                case Closed() as closed:
                    return _End(str(closed), closed.cause, closed.code, v.hint_in(closed.reason))
                case None:
                    return _End(f"no answer in {self._config.timing.answer:g} s", Cause.SILENT)

    async def _pay(self) -> None:
        """Delete what was created; what cannot be deleted now stays owed."""
        for username, listing in tuple(self._owed.items()):
            if not listing.ends_soon(trio.current_time()):
                continue
            await trio.sleep_until(listing.until)
            answer = await self._outside.http.post("/delete-peer", body={"peer_id": username})
            deletion = http_api.read_deletion(answer)
            if not isinstance(deletion, http_api.HttpFailure):
                del self._owed[username]


async def _next_frame(socket: Socket, until: float) -> wire.Frame | Closed | None:
    """What comes next, or None when nothing has come by then."""
    with trio.move_on_at(until):
        text = await socket.receive()
        return text if isinstance(text, Closed) else wire.read(text)
    return None
