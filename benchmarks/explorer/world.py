"""One worker, its server and the network between them, as one value that can be copied: what the explorer explores."""

import io
import json
import math
import pickle
from collections.abc import Iterable
from random import Random
from typing import Any, cast

from benchmarks.explorer.judges import Judges, shown
from benchmarks.explorer.models import Call, Cleanup, Connection, Exit, Kind, Wire
from benchmarks.explorer.parts import BEGAN, CONFIGS, TRUTHS, Clock, Ids, Pickler
from benchmarks.explorer.server import WALL, Server
from worker_state.actors.registration import RegistrationActor
from worker_state.actors.runner import PureActor
from worker_state.actors.status import StatusActor
from worker_state.protocol import events, frames
from worker_state.protocol.error_policy import Closed
from worker_state.protocol.http_api import Identity, Room
from worker_state.redact import Secrets
from worker_state.supervisor import (
    API_CALLS,
    CLEANUP,
    CONNECTION,
    FRAME_ROUTES,
    REGISTRATION,
    ROUTES,
    STATUS,
    Supervisor,
)

ORDERS = ((REGISTRATION, STATUS), (STATUS, REGISTRATION))


class World:
    """Everything. `violations` says what must not have happened."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.config = config = CONFIGS[room]
        self.clock = Clock()
        ids = Ids()
        random = cast(Random, ids)
        self.server = Server(random, BEGAN)
        if config.room_id is not None:
            self.server.give_room(config.room_id, config.room_token)
        self.registration = RegistrationActor(config, random=random, nonce=ids.nonce, awake=self.clock.awake)
        self.status = StatusActor(config, random=random, nonce=ids.nonce, awake=self.clock.awake)
        self.connection = Connection()
        self.cleanup = Cleanup(config)
        self.calls: list[Call] = []
        self.inboxes: dict[str, list[events.Event]] = {REGISTRATION: [], STATUS: []}
        self.link: events.Link | None = None  # these two as in the supervisor
        self._epoch = 0
        self.doing = "available"
        self.revision = 0
        self.leaving = False
        self.nameless: list[str] = []  # users whose sign-in was not answered
        self.judges = Judges()
        self._waiting: list[events.Event] = []
        self._publishing = False
        self.published = 0
        self.notes: list[str] | None = None  # what has happened, for people; None: nobody reads it

    # copies

    def saved(self) -> bytes:
        """This world, to be brought back with `restored`."""
        file = io.BytesIO()
        Pickler(file, protocol=5).dump(self)
        return file.getvalue()

    @staticmethod
    def restored(saved: bytes) -> "World":
        """A copy of a saved world."""
        world: World = pickle.loads(saved)
        return world

    # the supervisor

    @property
    def now(self) -> float:
        return self.clock.now

    @property
    def violations(self) -> list[str]:
        return self.judges.violations

    def publish(self, event: events.Event) -> None:
        """As `Supervisor.publish`. The models handle an event at once, the pure actors find it in their inbox."""
        self._waiting.append(event)
        if self._publishing:
            return
        self._publishing = True
        while self._waiting:
            self._dispatch(self._waiting.pop(0))
        self._publishing = False

    def is_stale(self, event: events.Event) -> bool:
        """The supervisor's own rule."""
        return Supervisor.is_stale(cast(Supervisor, self), event)

    def _dispatch(self, event: events.Event) -> None:
        if self.is_stale(event):
            return
        self.published += 1
        self._note(event)
        self.judges.published(self, event)
        names = FRAME_ROUTES[type(event.frame)] if isinstance(event, events.FrameReceived) else ROUTES[type(event)]
        for name in names:
            if name in self.inboxes:
                self.inboxes[name].append(event)
            elif name == CONNECTION:
                self._publish_all(self.connection.handle(event, self.now))
            elif name == CLEANUP:
                self._publish_all(self.cleanup.handle(event, self.now))
                self._take_deletions()
            elif name == API_CALLS:
                self._call(event)
        match event:
            case events.LinkOpened(link):
                self.link, self._epoch = link, link.epoch
            case events.LinkLost() | events.DropLink():
                self.link = None
            case events.StartLeaving():
                self.leaving = True

    def _publish_all(self, published: Iterable[events.Event]) -> None:
        for event in published:
            self.publish(event)

    def _note(self, event: events.Event) -> None:
        if self.notes is None:
            return
        match event:
            case events.FrameReceived() | events.WorkerRegistered() | events.LinkReleased():
                pass
            case events.SendFrame(_, message):
                self.notes.append(f"sends {shown(message)}")
            case _:
                self.notes.append(type(event).__name__)

    # the actors

    def run(self, name: str) -> None:
        """This actor's turn, as `run_actor` has it: all events that have come, then what is due."""
        actor: PureActor = self.registration if name == REGISTRATION else self.status
        inbox = self.inboxes[name]
        while True:
            if inbox:
                event = inbox.pop(0)
                if not self.is_stale(event):
                    self._publish_all(actor.handle(event, self.now))
            elif actor.next_deadline() <= self.now:
                self._publish_all(actor.wake(self.now))
            else:
                return

    def settle(self, order: tuple[str, ...] = ORDERS[0]) -> None:
        """The actors take turns, in this order, until none has anything to do; then what they send is sent."""
        while any(self.has_turn(name) for name in order):
            for name in order:
                self.run(name)
        self._write()

    def has_turn(self, name: str) -> bool:
        """Whether this actor has something to do."""
        actor: PureActor = self.registration if name == REGISTRATION else self.status
        return bool(self.inboxes[name]) or actor.next_deadline() <= self.now

    @property
    def settled(self) -> bool:
        """Nobody has anything to do before something happens."""
        return not (self.has_turn(REGISTRATION) or self.has_turn(STATUS))

    def _write(self) -> None:
        wire = self.connection.wire
        if wire is None:
            return
        unsent, wire.unsent = wire.unsent, []
        for text in unsent:
            self.judges.written(self, wire, text)
            if wire.there and not wire.deaf:
                wire.up.append(text)

    # what happens to the worker

    def change(self, doing: str) -> None:
        """The program sets the status."""
        self.doing = doing
        self.revision += 1
        self.publish(events.ChangeStatus(self.revision, TRUTHS[doing]))

    def leave(self) -> None:
        """The program's cancel."""
        self.calls = [call for call in self.calls if call.kind is not Kind.DELETE]
        self._publish_all(self.cleanup.leave(self.now))
        self._take_deletions()

    def signal(self) -> None:
        """Another part of the worker asks for a peer that is not there: that is answered with an error."""
        wire, peer_id = self.connection.wire, self.judges.peer_id
        assert wire is not None
        wire.post(
            json.dumps({"type": "mesh_connect", "from_peer_id": peer_id, "target_peer_id": "no", "offer": {"": ""}})
        )
        wire.others_spoke = True
        self.publish(events.SignalSent(wire.epoch, self.now))

    def open_link(self) -> None:
        """The dial succeeds."""
        wire, published = self.connection.opened(self.now)
        self.server.wires.append(wire)
        self._publish_all(published)

    def refuse_link(self) -> None:
        """The dial fails."""
        self._publish_all(self.connection.refused(self.now))

    def lose_link(self, code: int = 1006) -> None:
        """The link is over; without a code nobody has told the server."""
        self._publish_all(self.connection.end(Closed(code), self.now))
        self.server.tidy()

    def receive(self, wire: Wire) -> None:
        """The worker reads the next frame of its link."""
        received = wire.down.pop(0)
        if isinstance(received, int):
            self.lose_link(received)
        else:
            self.publish(events.FrameReceived(wire.epoch, frames.read(received, Secrets()), wire.others_spoke))

    # HTTP

    def _call(self, event: events.Event) -> None:
        by = self.now + self.config.timing.http
        match event:
            case events.RequestIdentity():
                self.calls.append(Call(Kind.SIGN_IN, by=by))
            case events.RequestRoom(id_token):
                self.calls.append(Call(Kind.CREATE_ROOM, id_token, by))
            case events.StartLeaving():
                by = self.now + self.config.timing.exit
                self.calls = [
                    call if call.kind is Kind.DELETE else Call(call.kind, call.about, by) for call in self.calls
                ]

    def _take_deletions(self) -> None:
        self.calls += self.cleanup.calls
        self.cleanup.calls.clear()
        if self.cleanup.stage is Exit.ENDED:
            self.calls.clear()

    def answer(self, call: Call, how: str = "") -> None:
        """This call is over: done, "failed", or done and "unheard". It is cut short when the worker leaves."""
        self.calls.remove(call)
        body: Any = None
        if how != "failed":
            body = self._done(call)
        lost = how != ""
        match call.kind:
            case Kind.DELETE:
                self._publish_all(self.cleanup.deleted(call.about, self.now, success=not lost))
                self._take_deletions()
            case Kind.SIGN_IN if lost:
                self.nameless += [] if body is None else [body["username"]]
                self.publish(events.IdentityFailed("no whole answer"))
            case Kind.SIGN_IN:
                self.publish(events.IdentityCreated(Identity(body["username"], body["id_token"])))
            case Kind.CREATE_ROOM if lost:
                self.publish(events.RoomFailed("no whole answer"))
            case Kind.CREATE_ROOM if "room_id" not in body:
                self.publish(events.RoomFailed("HTTP 401", 401))
            case Kind.CREATE_ROOM:
                self.publish(events.RoomCreated(Room(body["room_id"], body["token"])))

    def _done(self, call: Call) -> Any:
        rooms, wall = self.server.rooms, self.now + WALL
        if call.kind is Kind.SIGN_IN:
            return rooms.sign_in(wall).body
        if call.kind is Kind.CREATE_ROOM:
            return rooms.create_room(f"Bearer {call.about}", wall).body
        self.server.delete(call.about, self.now)
        return None

    # time

    def next_deadline(self) -> float:
        """When something happens by itself."""
        return min(
            self.registration.next_deadline(),
            self.status.next_deadline(),
            self.connection.next_deadline(),
            self.cleanup.next_deadline(),
            *(call.by for call in self.calls),
            *(wire.notice_by for wire in self.server.wires),
        )

    def pass_time(self, most: float = math.inf) -> None:
        """Time passes until something happens by itself, in so many seconds at most. Everybody is settled before and
        after."""
        before, end = self.published, self.now + most
        while self.published == before and self.now < end:
            self.clock.now = min(self.next_deadline(), end)
            self._pass()
            self.settle()

    def _pass(self) -> None:
        for wire in [wire for wire in self.server.wires if self.now >= wire.notice_by]:
            self.server.forget(wire)
            self.published += 1
        for call in [call for call in self.calls if self.now >= call.by]:
            if self.leaving and call.kind is not Kind.DELETE:
                self.calls.remove(call)  # cut short: what it may have made stays awaited
            else:
                self.answer(call, "failed")
        if self.now >= self.connection.next_deadline():
            self.published += 1
            self._publish_all(self.connection.wake(self.now))
            self.server.tidy()
        if self.now >= self.cleanup.next_deadline():
            self._publish_all(self.cleanup.wake(self.now))
            self._take_deletions()

    @property
    def ended(self) -> bool:
        """The worker has left, and its link is closed."""
        return self.cleanup.stage is Exit.ENDED and self.connection.wire is None
