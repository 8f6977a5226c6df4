"""What is async in the worker, as pure models: the connection actor, the cleanup actor, the HTTP calls, the wire."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum

from worker_state.actors.connection import LEAVES, MOVE
from worker_state.config import Config
from worker_state.protocol import events, frames
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.peer_listing import PeerListing
from worker_state.protocol.reconnect import ReconnectParameters

BLIP, REDIAL = 0.15, 1.0  # seconds from a lost link, and from a failed dial, to the next dial
DIAL = 5.3  # seconds that a dial may take
NOTICED = 50.0  # seconds after which the server has noticed for sure that a socket is dead (seen: up to 47)
LONGEST_REGISTER = ReconnectParameters().longest
CLOSE = ""  # stands for a Close frame in a queue of texts


async def no_send(kind: str, text: str) -> bool:
    """Nobody sends through an `events.Link` here."""
    raise NotImplementedError(kind, text)


@dataclass(slots=True)
class Wire:
    """One WebSocket: both ends, and what is on its way."""

    name: str  # of the connection, to the server's rules
    epoch: int
    unsent: list[str] = field(default_factory=list)  # queued by the worker, not in the socket yet
    up: list[str] = field(default_factory=list)  # for the server
    down: list[str | int] = field(default_factory=list)  # for the worker: texts, and the code of a Close frame
    here: bool = True  # the worker has it open
    there: bool = True  # the server believes that it is alive
    deaf: bool = False  # nothing gets through any more, and pings are answered: a proxy without its backend
    others_spoke: bool = False
    over: Closed | None = None  # a Close frame is queued, for this reason
    closing: Closed | None = None
    close_by: float = math.inf
    notice_by: float = math.inf

    def post(self, text: str) -> None:
        """Queue a frame; nothing goes out behind a Close frame."""
        if self.over is None:
            self.unsent.append(text)

    def send_close(self) -> None:
        """Queue a Close frame."""
        if self.over is None:
            self.over = self.closing
            self.unsent.append(CLOSE)


class Stage(Enum):
    """What the connection actor does."""

    IDLE = "not asked to dial yet"
    DIALS = "dials"
    SERVES = "serves a link"
    PAUSES = "waits before the next dial"
    ENDED = "dials no more"


class Connection:
    """`actors/connection.py` and `link.py`. Returns the events to publish."""

    def __init__(self) -> None:
        self.stage = Stage.IDLE
        self.epoch = 0
        self.wire: Wire | None = None
        self.until = math.inf  # when the pause, or the dial, is over
        self.leaving = False
        self.closing = False

    def handle(self, event: events.Event, now: float) -> list[events.Event]:
        """One event of the supervisor's."""
        match event:
            case events.StartDialing():
                self._dial(now)
            case events.SendFrame(_, {"type": "register"}) if self.leaving:
                return [events.RegisterWithdrawn(self.epoch)]
            case events.SendFrame(_, message) if self.wire is not None:
                self.wire.post(frames.encode(message))
            case events.DropLink(_, why, cause, polite) if self.wire is not None:
                closed = Closed(reason=why, cause=cause)
                if not polite:
                    return self.end(closed, now)
                return self._end_within(closed, MOVE, now, close=True)
            case events.StartLeaving():
                return self._leave()
            case events.CloseLink(within):
                self.closing = True
                return self._end_within(LEAVES, within, now)
            case events.SendClose() if self.wire is not None:
                self.wire.send_close()
        return []

    def _dial(self, now: float) -> None:
        if self.leaving:
            self.stage, self.until = Stage.ENDED, math.inf
            return
        self.epoch += 1
        self.stage, self.until = Stage.DIALS, now + DIAL

    def _leave(self) -> list[events.Event]:
        self.leaving = True
        if self.wire is None:
            self.stage, self.until = Stage.ENDED, math.inf
            return []
        kept = [text for text in self.wire.unsent if not is_register(text)]
        withdrawn, self.wire.unsent = len(self.wire.unsent) - len(kept), kept
        return [events.RegisterWithdrawn(self.epoch)] * withdrawn

    def opened(self, now: float) -> tuple[Wire, list[events.Event]]:
        """The dial has succeeded."""
        self.stage, self.until = Stage.SERVES, math.inf
        self.wire = Wire(f"link{self.epoch}", self.epoch)
        return self.wire, [events.LinkOpened(events.Link(self.epoch, now + LONGEST_REGISTER, no_send))]

    def refused(self, now: float, cause: Cause = Cause.REFUSED) -> list[events.Event]:
        """The dial has failed."""
        self.stage, self.until = Stage.PAUSES, now + REDIAL
        return [events.DialFailed(DialFailure(cause), REDIAL)]

    def end(self, closed: Closed, now: float) -> list[events.Event]:
        """The link is over, for this reason or the one that was there before."""
        assert self.wire is not None
        wire, self.wire = self.wire, None
        if wire.over is not None:
            closed = replace(wire.over, code=closed.code)  # the answer to our Close frame, or nothing
        wire.here, wire.close_by, wire.notice_by = False, math.inf, now + NOTICED
        wire.unsent.clear()
        wire.down.clear()
        pause = None if self.leaving else BLIP
        self.stage, self.until = (Stage.ENDED, math.inf) if self.leaving else (Stage.PAUSES, now + BLIP)
        return [events.LinkLost(self.epoch, closed, pause)]

    def _end_within(self, closed: Closed, seconds: float, now: float, *, close: bool = False) -> list[events.Event]:
        if self.wire is None:
            return []
        if self.wire.over is not None:
            return self.end(closed, now)
        self.wire.closing, self.wire.close_by = closed, now + seconds
        if close:
            self.wire.send_close()
        return []

    def next_deadline(self) -> float:
        """When `wake` is due."""
        return min(self.until, math.inf if self.wire is None else self.wire.close_by)

    def wake(self, now: float) -> list[events.Event]:
        """Do what is due."""
        if self.wire is not None and now >= self.wire.close_by:
            return self.end(self.wire.closing or Closed(), now)
        if now >= self.until:
            if self.stage is Stage.DIALS:
                return self.refused(now, Cause.NO_ANSWER)
            self._dial(now)
        return []


class Kind(Enum):
    """An HTTP call."""

    SIGN_IN = "sign-in"
    CREATE_ROOM = "room creation"
    DELETE = "deletion"


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP call under way. `about`: the ID token, or the username to delete."""

    kind: Kind
    about: str = ""
    by: float = math.inf  # it is given up then


class Exit(Enum):
    """How far the cleanup actor has come."""

    COLLECTS = "collects identities"
    FLUSHES = "waits for the last signals"
    UNLINKS = "waits for the end of the link"
    UNLISTS = "waits until the server has let go"
    DELETES = "deletes"
    ENDED = "over"


class Cleanup:
    """`actors/cleanup.py`. `calls` are those that it wants to be made from now on."""

    def __init__(self, config: Config) -> None:
        self.stage = Exit.COLLECTS
        self.undeleted: list[str] = []
        self.asked: list[str] = []
        self.calls: list[Call] = []
        self.kept: str | None = None  # for the room's sake
        self._timing = config.timing
        self._keeps_room = config.keeps_room
        self._peer_id: str | None = None
        self._awaited = 0
        self._linked = False
        self._listing = PeerListing()
        self._flushed = False
        self._tried: list[str] = []
        self._over_at = math.inf
        self._until = math.inf  # when the present stage is over

    def handle(self, event: events.Event, now: float) -> list[events.Event]:
        """One event of the supervisor's; returns what to publish."""
        match event:
            case events.RequestIdentity():
                self._awaited += 1
            case events.IdentityCreated(identity):
                self._awaited -= 1
                self.undeleted.append(identity.username)
                self._peer_id = self._peer_id or identity.username
                if self.stage is Exit.COLLECTS:
                    self._delete_soon(name for name in self.undeleted[:-1] if name != self._peer_id)
            case events.IdentityFailed():
                self._awaited -= 1
            case events.LinkOpened():
                self._linked = True
            case events.LinkReleased(by_server, registered, unanswered):
                self._linked = False
                if registered:
                    self._listing.lost(now, closed=by_server, unanswered=unanswered)
            case events.SignalsFlushed():
                self._flushed = True
            case events.StartupAborted() if self.stage is Exit.COLLECTS:
                return self.leave(now)
        return self.wake(now)

    def leave(self, now: float) -> list[events.Event]:
        """The worker's cancel."""
        timing = self._timing
        self._over_at = now + timing.exit + (timing.close if self._keeps_room else 0.0)
        self.stage, self._until = Exit.FLUSHES, now + timing.exit / 2
        self.asked.clear()  # what was under way is cancelled
        self._delete_soon(self.undeleted[1:])
        return [events.StartLeaving()]

    def _delete_soon(self, usernames: Iterable[str]) -> None:
        for username in usernames:
            if username not in self.asked:
                self.asked.append(username)
                self.calls.append(Call(Kind.DELETE, username))

    def deleted(self, username: str, now: float, *, success: bool) -> list[events.Event]:
        """A deletion is over."""
        self.asked.remove(username)
        if success:
            self.undeleted.remove(username)
        return self.wake(now)

    def next_deadline(self) -> float:
        """When `wake` is due."""
        return min(self._until, self._over_at)

    def wake(self, now: float) -> list[events.Event]:
        """Go on as far as possible."""
        published: list[events.Event] = []
        if self.stage is Exit.FLUSHES and (self._flushed or now >= self._until):
            self.stage, self._until = Exit.UNLINKS, math.inf
            if self._keeps_room:
                published.append(events.CloseLink(self._over_at - self._timing.exit / 4 - now))
        if self.stage is Exit.UNLINKS and not (self._keeps_room and self._linked):
            self.stage, self._until = Exit.UNLISTS, now
            if self._keeps_room and self.undeleted and self._listing.ends_soon(now):
                self._until = max(now, self._listing.until)
        if self.stage is Exit.UNLISTS and now >= self._until:
            self.stage, self._until = Exit.DELETES, math.inf
            self.kept = self._peer_id if self._keeps_room and now < self._listing.until else None
            self._tried = [*self.asked, *([] if self.kept is None else [self.kept])]
        if self.stage is Exit.DELETES:
            fresh = [name for name in self.undeleted if name not in self._tried]
            self._tried += fresh
            self._delete_soon(fresh)
        finished = self.stage is Exit.DELETES and not self._awaited and not self.asked
        if self.stage not in (Exit.COLLECTS, Exit.ENDED) and (finished or now >= self._over_at):
            self.stage, self._over_at, self._until = Exit.ENDED, math.inf, math.inf
            self.asked.clear()
            published.append(events.CloseLink(self._timing.close))
        return published


def is_register(text: str) -> bool:
    """Whether this is the text of a `register`."""
    return text.startswith('{"type":"register"')
