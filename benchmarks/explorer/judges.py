"""What must hold in every state, watched from outside: what is published, what is written, and what is there after."""

import math
from typing import TYPE_CHECKING, Any

from benchmarks.explorer.models import CLOSE, Kind, Wire, is_register
from worker_state.advertised import TAGS
from worker_state.protocol import events, frames, probe

if TYPE_CHECKING:
    from benchmarks.explorer.world import World

RECORDS = {"available": ("available", None, None), "busy": ("busy", "j1", None), "reserved": ("reserved", None, "j2")}
"""What clients must see, by what the worker is doing: status, job, and job to come."""
KEYS = ("status", "current_job_id", "pending_job_id")


def is_true(metadata: Any, doing: str) -> bool:
    """Whether clients that see this record see the truth."""
    tags, properties = metadata.get("tags") or (), metadata.get("properties") or {}
    told = tuple(properties.get(key) for key in KEYS)
    return told == RECORDS[doing] and set(TAGS) <= set(tags) and properties.get("gpu_memory_mb") == 24576


def shown(message: frames.Message) -> str:
    """A frame of the worker's, in some words."""
    properties = message.get("metadata", {}).get("properties", {})
    return " ".join([str(message["type"]), *(str(value) for value in properties.values() if isinstance(value, str))])


class Judges:
    """Watches one world. A violation is a sentence."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.peer_id: str | None = None  # of the first `register`
        self.room: tuple[str, str | None] | None = None  # of the last registration, with its token
        self.registered = False  # accepted, as far as the worker knows
        self.confirmed: int | None = None  # the newest revision that the worker calls confirmed
        self.asked = False  # the program wants to register again
        self._update_by = -math.inf  # an update is under way until then, unless it is answered
        self._next_at = -math.inf  # no update is due before that
        self._register_at = -math.inf  # when the last `register` was sent on this link

    def _object(self, sentence: str) -> None:
        self.violations.append(sentence)

    def published(self, world: "World", event: events.Event) -> None:
        """Something was published."""
        match event:
            case events.SendFrame(_, {"type": "register"} as message):
                self._sends_register(world, message)
            case events.SendFrame(_, {"type": "update_metadata"} as message) if not world.leaving:
                self._sends_update(world, message)
            case events.FrameReceived(_, frames.MetadataUpdated()):
                self._update_by = -math.inf
            case events.LinkOpened():
                self._update_by = self._register_at = -math.inf
            case events.WorkerRegistered(revision=revision, room_id=room_id, token=token):
                self.registered, self.confirmed, self._update_by = True, revision, -math.inf
                self.room = room_id, token
            case events.RegistrationLost() | events.RegistrationRejected() | events.LinkLost() | events.DropLink():
                self.registered, self.confirmed = False, None
            case events.StatusConfirmed(revision):
                self.confirmed = revision
            case events.UpdateFailed():
                self.confirmed = None
            case events.Reregister():
                self.asked = True
            case events.RequestIdentity() | events.RequestRoom():
                if any(call.kind is not Kind.DELETE for call in world.calls):
                    self._object("two HTTP calls for credentials are under way at once")

    def _sends_register(self, world: "World", message: frames.Message) -> None:
        if self._register_at == world.now and not self.asked:
            self._object("a register follows the one before without any pause")
        self._register_at, self.asked = world.now, False
        self.peer_id = self.peer_id or message["peer_id"]
        if message["peer_id"] != self.peer_id:
            self._object("the peer id changes")
        if not is_true(message["metadata"], world.doing):
            self._object(f"a register says something else than {world.doing}")

    def _sends_update(self, world: "World", message: frames.Message) -> None:
        if world.now < self._update_by:
            self._object("a second update is sent while one is under way")
        self._update_by = world.now + world.config.timing.answer
        self._next_at = world.now + probe.UPDATES_APART
        record = message["metadata"]
        if "status" in record["properties"] and not is_true(record, world.doing):
            self._object(f"an update says something else than {world.doing}")

    def written(self, world: "World", wire: Wire, text: str) -> None:
        """A frame goes out."""
        if world.leaving and is_register(text):
            self._object("a register goes out although leaving has begun")
        if text == CLOSE and any(map(is_register, wire.up)):
            self._object("a Close frame goes out behind an unanswered register")

    def look(self, world: "World") -> None:
        """What must hold whenever the actors have nothing to do."""
        late = self.confirmed is not None and self.confirmed != world.revision
        if late and self.registered and not world.leaving and world.now >= max(self._update_by, self._next_at):
            self._object("a change is not told although nothing is under way")
        users = [user for user in world.server.rooms.users if user not in world.server.strangers + world.nameless]
        if sorted(users) != sorted(world.cleanup.undeleted):
            self._object(f"{len(users)} identities exist, and {len(world.cleanup.undeleted)} are to be deleted")
        if world.config.keeps_room and world.server.deleted_rooms:
            self._object("a room that others have created is deleted")
