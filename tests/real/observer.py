"""Who looks at a worker for a day, and knows what is true. Times are in seconds of one clock."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

FOUND = 60.0
"""Seconds within which docs/explanation/promises.md promises that the worker is found again."""


@dataclass
class Look:
    """One that did not find the worker as it is."""

    at: float
    seen: str
    excused: bool


@dataclass
class Observer:
    """Compares what anybody sees with what is true. Only for some seconds after a disturbance may they differ."""

    now: Callable[[], float]
    true: tuple[str, str | None] = ("available", None)
    peer_id: str | None = None
    looks: int = 0
    right: int = 0  # looks that found the worker as it is
    held: int = 0  # looks that had to
    wrong: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)  # seconds until it was found again, by what was before
    moves: int = 0  # to another room
    room: str | None = None
    _since: float = 0.0  # the disturbance that is the reason
    _until: float = math.inf
    _why: str = "the start"
    _spell: list[Look] = field(default_factory=list)  # in a row

    def disturbed(self, why: str, within: float = FOUND) -> None:
        """What happens now may be seen for so long."""
        self._since, self._until, self._why = self.now(), self.now() + within, why

    def held_up(self, seconds: float, *, badly: bool) -> None:
        """The machine has held processes up for so long since the last look: that is not theirs. So `badly` that it is
        a disturbance of its own?"""
        if self._until >= self.now():
            self._until += seconds
        elif badly:
            self.disturbed("the machine")
        if badly:
            self._until = max(self._until, self.now() + FOUND)
            if self._spell:  # it may have begun before the last look
                self._spell[-1].excused = True

    @contextmanager
    def disturbance(self, why: str, within: float = FOUND) -> Iterator[None]:
        """What happens in the block may be seen, and for so long after it."""
        self.disturbed(why, math.inf)
        yield
        self.disturbed(why, within)

    def looked(self, at: float, found: list[dict[str, Any]]) -> None:
        """This was found by a look that began then."""
        self.looks += 1
        excused = at <= self._until
        self.held += not excused
        if [(each["peer_id"], each["status"], each["job_id"]) for each in found] != [(self.peer_id, *self.true)]:
            self._spell.append(Look(at, f"{found} in place of {self.true}", excused))
            return
        self.right += 1
        before, self.room = self.room, found[0]["room_id"]
        moved = before not in {None, self.room}
        self.moves += moved
        self.end_spell(moved=moved)

    def end_spell(self, *, moved: bool = False) -> None:
        """Judge the looks that were wrong. A worker that `moved`, unasked, has a room that was renewed."""
        if not self._spell:
            return
        first, last = self._spell[0].at, self._spell[-1].at
        since, why = (first, "a new room") if moved and first > self._until else (self._since, self._why)
        self.slowest[why] = max(self.slowest.get(why, 0.0), last - since)
        if why == "a new room" and last - first <= FOUND:
            self._spell.clear()
        self.wrong += [
            f"minute {look.at / 60:.1f}, after {why}: {look.seen}" for look in self._spell if not look.excused
        ]
        self._spell.clear()
