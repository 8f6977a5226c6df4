"""The search: breadth first through all orders of moves, no state twice, and the shortest way to a violation."""

import time
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from benchmarks.explorer.canonical import fingerprint
from benchmarks.explorer.moves import TURNS, Move, Turns, moves, take, turns
from benchmarks.explorer.parts import BEGAN
from benchmarks.explorer.quiet import QuietEnds, is_found, step
from benchmarks.explorer.world import ORDERS, World

STEADY = 100.0  # seconds after its registration at which a worker has sent its early echoes


@dataclass(frozen=True, slots=True)
class Start:
    """Where the search begins."""

    room: str  # "own" or "given"
    registered: bool

    def world(self) -> World:
        """The world there."""
        world = World(self.room)
        world.settle()
        while self.registered and not (is_found(world) and world.now > BEGAN + STEADY):
            step(world)
        return world

    def __str__(self) -> str:
        room = "with a room of its own" if self.room == "own" else "in a given room"
        return f"a worker {room}, {'registered for a while' if self.registered else 'at its start'}"


STARTS = tuple(Start(room, registered) for registered in (True, False) for room in ("own", "given"))


@dataclass(frozen=True, slots=True)
class Limits:
    """How far the search goes. `troubles`: moves on one way that do not happen by themselves."""

    depth: int = 6
    troubles: int = 99
    seconds: float = 540.0
    unread: bool = True  # events may come before the actors have read the one before
    every: int = 1  # a quiet end from each so many states


@dataclass(slots=True)
class Found:
    """What the search has seen."""

    states: int = 0
    transitions: int = 0
    quiet_ends: int = 0
    depth: int = 0  # up to here everything was seen
    seconds: float = 0.0
    finished: bool = False  # all was seen within the limits
    longest: float = 0.0  # quiet end, in seconds of the worker's clock
    by_depth: list[int] = field(default_factory=list)
    violation: str | None = None
    steps: int = 0  # on the way to the violation
    trace: list[str] = field(default_factory=list)


class Search:
    """One search. `progress` is called now and then."""

    def __init__(self, limits: Limits, progress: Callable[[Found], object] = lambda found: None) -> None:
        self.found = Found()
        self._limits = limits
        self._progress = progress
        self._ends = QuietEnds()
        self._least: dict[int, int] = {}  # troubles with which a state was reached, by its fingerprint
        self._parents, self._labels = array("q"), array("l")
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._starts: dict[int, Start] = {}

    def run(self, starts: tuple[Start, ...]) -> Found:
        """Search from these starts, until the limits or a violation."""
        found, limits, began = self.found, self._limits, time.process_time()
        level: deque[tuple[int, int, bytes]] = deque()
        for start in starts:
            world = start.world()
            number = self._add(-1, str(start))
            self._starts[number] = start
            self._least[fingerprint(world)] = 0
            level.append((number, 0, _packed(world)))
            if not self._is_right(world, number):
                return found
        found.by_depth.append(len(level))
        while level and found.depth < limits.depth:
            following: deque[tuple[int, int, bytes]] = deque()
            last = found.depth + 1 == limits.depth
            while level:
                number, troubles, packed = level.popleft()
                found.seconds = time.process_time() - began
                if found.seconds > limits.seconds:
                    return found
                saved = zlib.decompress(packed)
                for world, trouble, label in self._successors(saved, allowed=limits.troubles - troubles):
                    found.transitions += 1
                    if found.transitions % 5000 == 0:
                        self._progress(found)
                    key = fingerprint(world)
                    known = self._least.get(key)
                    if world.violations:
                        self._is_right(world, self._add(number, label))
                        return found
                    if known is not None and known <= troubles + trouble:
                        continue
                    self._least[key] = troubles + trouble
                    child = self._add(number, label)
                    if not last:
                        following.append((child, troubles + trouble, _packed(world)))
                    if known is None:
                        found.states += 1
                        if not self._is_right(world, child):
                            return found
            found.depth += 1
            found.by_depth.append(len(self._least) - sum(found.by_depth))
            level = following
        found.finished = True
        found.seconds = time.process_time() - began
        return found

    def _successors(self, saved: bytes, allowed: int) -> Iterator[tuple[World, bool, str]]:
        before = World.restored(saved)
        unread = self._limits.unread and before.settled
        for move in moves(before):
            if move.trouble and not allowed:
                continue
            world = _moved(saved, move)
            orders = turns(world, unread=unread)
            for order in orders:
                if order is not orders[0]:
                    world = _moved(saved, move)
                _caught(world, partial(take, order=order))
                if not world.violations and world.settled:
                    world.judges.look(world)
                yield world, move.trouble, move.label + TURNS[order]

    def _is_right(self, world: World, number: int) -> bool:
        """Judge a new state, which is used up; False: there is a violation, and its trace is found."""
        complaint = next(iter(world.violations), None)
        if complaint is None and self.found.states % self._limits.every == 0:
            self.found.quiet_ends += 1
            try:
                complaint = next(self._ends.complaints(world), None)
            except Exception as error:  # noqa: BLE001 - whatever a pure actor raises is a finding
                complaint = f"{type(error).__name__}: {error}"
            self.found.longest = self._ends.longest
        if complaint is not None:
            self.found.violation = complaint
            start, labels = self._way(number)
            self.found.steps, self.found.trace = len(labels), trace(start, labels, complaint)
        return complaint is None

    def _add(self, parent: int, label: str) -> int:
        if label not in self._numbers:
            self._numbers[label] = len(self._names)
            self._names.append(label)
        self._parents.append(parent)
        self._labels.append(self._numbers[label])
        return len(self._parents) - 1

    def _way(self, number: int) -> tuple[Start, list[str]]:
        labels: list[str] = []
        while number not in self._starts:
            labels.append(self._names[self._labels[number]])
            number = self._parents[number]
        return self._starts[number], labels[::-1]


def _packed(world: World) -> bytes:
    return zlib.compress(world.saved(), 1)


def _moved(saved: bytes, move: Move) -> World:
    world = World.restored(saved)
    _caught(world, move.do)
    return world


def _caught(world: World, do: Callable[[World], None]) -> None:
    """Do this; what an actor raises is a violation."""
    try:
        do(world)
    except Exception as error:  # noqa: BLE001 - whatever a pure actor raises is a finding
        world.violations.append(f"{type(error).__name__}: {error}")


def follow(start: Start, labels: list[str]) -> Iterator[tuple[str, World]]:
    """Go this way again: each label with the world after it."""
    world = start.world()
    world.notes = []
    yield str(start), world
    names: dict[str, Turns] = {text: order for order, text in TURNS.items() if text}
    for label in labels:
        text = next((text for text in names if label.endswith(text)), "")
        (move,) = [move for move in moves(world) if move.label == label.removesuffix(text)]
        _caught(world, move.do)
        _caught(world, partial(take, order=names.get(text, ORDERS[0])))
        yield label, world


def trace(start: Start, labels: list[str], complaint: str) -> list[str]:
    """A way as lines for people: when, what happens, and what the worker publishes."""
    lines: list[str] = []
    for n, (label, world) in enumerate(follow(start, labels)):
        notes, world.notes = world.notes or [], []
        then = f"  -> {', '.join(notes)}" if notes else ""
        lines.append(f"{n:3}  {world.now - BEGAN:9.2f} s  {label}{then}")
    return [*lines, f"  violated: {complaint}"]
