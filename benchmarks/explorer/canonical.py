"""One number for all worlds that behave alike: times count from now, and identifiers are renamed by appearance.

What decides nothing is left out: what only log lines are made of, when something was granted whose age nobody asks for,
an old `register` that was answered. What is further away than `FAR` counts as equal.
"""

import math
import re
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import repeat
from operator import attrgetter
from typing import Any

from benchmarks.explorer.judges import Judges
from benchmarks.explorer.models import Cleanup
from benchmarks.explorer.parts import BEGAN
from benchmarks.explorer.server import WALL, Server
from benchmarks.explorer.world import World
from worker_state.actors.log_lines import Registrations
from worker_state.actors.registration import RegistrationActor
from worker_state.actors.status import StatusActor
from worker_state.devserver.model import Peer, Registry
from worker_state.protocol.credentials import Credentials
from worker_state.protocol.pending_register import PendingRegister

FAR, LONG_AGO = 600.0, 400.0  # seconds
REVISIONS = frozenset({"revision", "_revision", "confirmed", "written"})
NAMED = REVISIONS | {"epoch", "_epoch", "_deaf_epoch", "_swallowed_on"}
"""Attributes whose numbers are names: only whether two are equal means anything."""
SLACK = frozenset(
    {"_register_at", "_not_before", "until", "_update_by", "_next_at"}
)  # once past, it does not matter since when
LEFT_OUT: dict[type, frozenset[str]] = {
    RegistrationActor: frozenset(
        {"_config", "_random", "_nonce", "_awake", "_advertised", "_wake_at", "_published", "_expected_peers"}
    ),
    StatusActor: frozenset(
        {"_config", "_random", "_nonce", "_awake", "_advertised", "_wake_at", "_published", "_forgery_logged"}
        | {"_unsent_logged", "_suspends"}
    ),
    Credentials: frozenset({"_by_key", "_own_room", "_random"}),
    Registrations: frozenset({"_show", "_room", "_epoch", "_lost_at", "_refusal", "_failures", "_unsent_logged"}),
    Cleanup: frozenset({"_timing", "_keeps_room"}),
    Judges: frozenset({"violations"}),
    Peer: frozenset({"connected_at", "since", "role"}),
    Registry: frozenset({"failures", "fails_late"}),
}
IDENTIFIER = re.compile(r"(eyJ[\w.-]+|link\d+|0[0-9a-f]{7}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b0[0-9a-f]{5,7}\b)")

_getters: dict[type, tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]] = {}
_parts: dict[str, list[str]] = {}


def fingerprint(world: World) -> int:
    """The number of this world's kind."""
    walk = _Walk(world.now)
    walk.name((True, world.revision))
    walk.name((False, world._epoch))
    walk.add((world.doing, world.leaving, world.link is None, *world.inboxes.values(), world.calls))
    walk.add((world.registration, world.status, world.connection, world.cleanup, world.judges))
    walk.server(world.server)
    return hash(tuple(walk.found))


class _Walk:
    """Goes through the parts of one world, and finds what distinguishes it."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.found: list[object] = []
        self._names: dict[object, int] = {}

    def name(self, what: object) -> None:
        self.found.append(self._names.setdefault(what, len(self._names)))

    def add(self, values: Iterable[Any], attributes: Iterable[str] = repeat("")) -> None:
        """These values, each of which is that attribute of something."""
        append = self.found.append
        for value, attribute in zip(values, attributes, strict=False):
            kind = type(value)
            if kind is float:
                append(self._time(value, attribute))
            elif value is None or kind is bool:
                append(value)
            elif kind is str:
                self._text(value)
            elif kind is int:
                if attribute in NAMED:
                    self.name((attribute in REVISIONS, value))
                else:
                    append(value)
            elif kind is list or kind is tuple:
                append(len(value))
                self.add(value, repeat(attribute))
            elif kind is dict:
                append(len(value))
                self.add(value)
                self.add(value.values())
            elif isinstance(value, Enum):
                append(value.name)
            else:
                self._object(value, kind)

    def _text(self, value: str) -> None:
        parts = _parts.get(value)
        if parts is None:
            _parts[value] = parts = IDENTIFIER.split(value)
        self.found.append(parts[0])
        for n in range(1, len(parts), 2):
            self.name(parts[n])
            self.found.append(parts[n + 1])

    def _object(self, value: Any, kind: type) -> None:
        if kind is PendingRegister and value.answer_by == math.inf and not value.doubtful:
            self.add((value.epoch, value.unanswered, value._swallowed_on), ("epoch", "", "_swallowed_on"))
            return
        self.found.append(kind.__name__)
        names, getter = _getters.get(kind) or _getter(value, kind)
        self.add(getter(value), names)

    def _time(self, value: float, attribute: str) -> object:
        if value < self.now and attribute in SLACK:
            return "past"
        if value < BEGAN / 2 or value == math.inf:
            return str(value)
        ahead = value - (self.now + WALL if value > WALL else self.now)
        if ahead > FAR:
            return "later"
        return "long ago" if ahead < -LONG_AGO else round(ahead, 3) + 1e6

    def server(self, server: Server) -> None:
        """The server's side, last: only tokens that somebody holds are of interest, and those have names by now."""
        rooms, registry = server.rooms, server.rooms._registry
        self.add((server.wires, server.hijacked, server.written_by_worker, len(server.deleted_rooms)))
        self.add((registry.rows, registry.admins, registry._peers, registry._room_of, rooms._bound, list(rooms.users)))
        for token in rooms._identities._expiry:
            if token in self._names:
                self.add((self._names[token], server.token_is_good(token, self.now)))


def _getter(value: object, kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    slots = [slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ())]
    left_out = LEFT_OUT.get(kind, frozenset()) | {"send"}
    names = tuple(name for name in slots or getattr(value, "__dict__", {}) if name not in left_out)
    getter = attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)
    _getters[kind] = found = names, getter
    return found
