"""What was seen of one storm, and what follows from it: who was back when, dials, slots, costs, and whether it counts.

Times come in as seconds of the machine's monotonic clock, which all processes share, and go out relative to the
server's last return. Nothing here talks to anybody.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from benchmarks.report import percentile

REGISTERED, TRUE, PROVED = 1, 2, 3
"""How far a worker has come in the server's eyes: registered, with the current status, and an echo has proved it."""
NEARLY_ALL = 0.99
LATE = 0.05
"""Seconds. Clients whose loop is later than this, at the 99th percentile, measure their own machine."""
SHORT = 0.97
"""A server that offers less than this of its slots is not the one that was asked for."""

SHOWN_BEFORE = 5.0
"""Seconds before the server goes from which on things are shown by the second."""

Line = dict[str, Any]


@dataclass
class Record:
    """Fed with the lines of both sides while it happens."""

    workers: int
    capacity: float
    lag_matters: bool = True
    """Not where all begin in one moment: whoever has that much to do at once is late."""
    phase: str = "preparing"
    down_at: float = math.inf
    up_at: float = math.inf
    steps: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[float, str, int]] = field(default_factory=list)
    servers: list[list[Line]] = field(default_factory=list)
    """The lines of each server process."""
    clients: list[list[Line]] = field(default_factory=list)
    """The lines of each clients' process."""
    cuts: dict[str, float] = field(default_factory=dict)
    """When whose link was cut."""
    _heard: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def new_server(self) -> Callable[[Line], None]:
        """Where the lines of one more server go."""
        self.servers.append([])
        return partial(self._of_server, self.servers[-1])

    def _of_server(self, lines: list[Line], line: Line) -> None:
        lines.append(line)
        for at, peer_id, step in line.pop("changes"):
            self.changes.append((at, peer_id, step))
            # What a killed server had still to say is heard after its end.
            if self.down_at is math.inf or at > self.down_at:
                self.steps[peer_id] = step
        self._heard.unpark_all()

    def new_clients(self) -> Callable[[Line], None]:
        """Where the lines of one more clients' process go."""
        self.clients.append([])
        return self.clients[-1].append

    def goes(self, at: float) -> None:
        """The server has gone; the first time counts as the beginning of the storm."""
        self.down_at = at
        self.steps.clear()

    def returns(self, at: float) -> None:
        self.up_at = at

    def standing(self, step: int) -> int:
        """How many have come so far by now."""
        return sum(each >= step for each in self.steps.values())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the server's lines until the condition is true."""
        while not condition():
            await self._heard.park()

    # what follows from it

    def reached(self, step: int) -> list[float]:
        """Seconds from the return until 1, 2, 3 … workers stood at this step or higher at the same time."""
        standing: set[str] = set()
        reached: list[float] = []
        for at, peer_id, now in sorted(self.changes):
            if at < self.up_at:
                continue
            if now < step:
                standing.discard(peer_id)
            else:
                standing.add(peer_id)
            if len(standing) > len(reached):
                reached.append(at - self.up_at)
        return reached

    def after_cut(self, step: int) -> list[float]:
        """Seconds from each cut until that worker stood at this step again, as far as it did."""
        found: dict[str, float] = {}
        for at, peer_id, now in sorted(self.changes):
            cut = self.cuts.get(peer_id)
            if cut is not None and at > cut and now >= step and peer_id not in found:
                found[peer_id] = at - cut
        return sorted(found.values())

    def curve(self) -> list[float]:
        """When each percent of all had been back and proved, in seconds after the return, as far as that came."""
        reached = self.reached(PROVED)
        counts = (math.ceil(percent * self.workers / 100) for percent in range(1, 101))
        return [round(reached[count - 1], 2) for count in counts if count <= len(reached)]

    def by_second(self) -> dict[str, dict[int, int]]:
        """Dials by outcome and slots by use, in each second relative to the last return."""
        found: dict[str, Counter[int]] = {}
        for lines in (*self.clients, *self.servers):
            before: Counter[str] = Counter()
            for line in lines:
                now = _counted(line)
                if line["at"] >= self.down_at - SHOWN_BEFORE:
                    for name in now:
                        if now[name] != before[name]:
                            second = math.floor(line["at"] - self.up_at)
                            found.setdefault(name, Counter())[second] += now[name] - before[name]
                before = now
        return {name: dict(sorted(counts.items())) for name, counts in sorted(found.items())}

    def summary(self) -> dict[str, Any]:
        """The figures of a return. `r99`: the time until 99 % were back and proved over the shortest possible one."""
        reached = self.reached(PROVED)
        nearly, all_back = (
            reached[count - 1] if count <= len(reached) else None
            for count in (math.ceil(NEARLY_ALL * self.workers), self.workers)
        )
        slots, seconds = _since(self.servers[-1], self.up_at, _slots)
        dials = sum((_since(lines, self.up_at, _counted)[0] for lines in self.clients), Counter[str]())
        measured = slots["granted"] / seconds
        figures = {
            "back": self.standing(PROVED),
            "registered": self.standing(REGISTERED),
            "t99": _rounded(nearly),
            "t100": _rounded(all_back),
            # Without a capacity there is no shortest time.
            "r99": _rounded(nearly and measured and nearly * measured / (NEARLY_ALL * self.workers), 4) or None,
            "r100": _rounded(all_back and measured and all_back * measured / self.workers, 4) or None,
            "dials_each": round(dials["dials"] / self.workers, 3),
            "outcomes": {
                name[5:]: count for name, count in sorted(dials.items()) if name.startswith("dial ") and count
            },
            "slots": {name: slots[name] for name in ("used", "dead", "idle", "missed")},
            "refused": slots["refused"],
            "capacity_measured": round(measured, 3),
            "slot_late": round(self.servers[-1][-1]["late"], 4),
            "watched": round(seconds, 2),
            **self.costs(self.up_at, self.up_at + all_back if all_back else math.inf),
        }
        return {**figures, "void": self._void(figures)}

    def summary_of_cuts(self) -> dict[str, Any]:
        """The figures of single links that were cut."""
        figures: dict[str, Any] = {"cut": len(self.cuts)}
        for name, step in (("true", TRUE), ("proved", PROVED)):
            times = self.after_cut(step)
            shares = {"median": 0.5, "p99": 0.99, "longest": 1.0}
            figures[name] = {
                "back": len(times),
                **{each: _rounded(percentile(times, p), 4) for each, p in shares.items()},
            }
        figures |= self.costs(min(self.cuts.values()), math.inf)
        late = figures["lag_p99"] > LATE
        return {**figures, "void": [f"the clients' loop was {figures['lag_p99'] * 1e3:.0f} ms late"] if late else []}

    def costs(self, begin: float, end: float) -> dict[str, Any]:
        """What both sides needed in this time, and how often they had to wait for a core."""
        found: dict[str, Any] = {}
        for side, processes in (("client", self.clients), ("server", self.servers[-1:])):
            used = [_since(lines, begin, _used, end) for lines in processes]
            found[f"{side}_cpu_ms_each"] = round(sum(each["cpu"] for each, _ in used) / self.workers * 1e3, 3)
            found[f"{side}_cpu_share"] = round(sum(each["cpu"] / seconds for each, seconds in used), 4)
            found[f"{side}_waited_share"] = round(sum(each["waited"] / seconds for each, seconds in used), 4)
            first, last = ([lines[at]["kib"] for lines in processes] for at in (0, -1))
            found[f"{side}_kib"] = sum(last) if None not in last else None
            if None not in first + last:
                found[f"{side}_kib_each"] = round((sum(last) - sum(first)) / self.workers, 1)
        found["client_resident_kib_each"] = found["client_kib"] and round(found["client_kib"] / self.workers, 1)
        registrations = _since(self.servers[-1], begin, _counted, end)[0]["registrations"]
        found["client_cpu_ms_per_registration"] = (
            round(found["client_cpu_ms_each"] * self.workers / registrations, 3) if registrations else None
        )
        # The slowest process decides: one that is late looks less often, and would be outvoted.
        lags = [
            [lag for line in lines if begin <= line["at"] <= end + 1 for lag in line["lags"]] for lines in self.clients
        ]
        found["lag_p99"] = round(max(percentile(each, 0.99) for each in lags), 4)
        found["lag_most"] = round(max(percentile(each, 1.0) for each in lags), 4)
        return found

    def _void(self, figures: dict[str, Any]) -> list[str]:
        """Why the run does not count."""
        reasons = []
        if self.lag_matters and figures["lag_p99"] > LATE:
            reasons.append(f"the clients' loop was {figures['lag_p99'] * 1e3:.0f} ms late")
        if 0 < figures["capacity_measured"] < SHORT * self.capacity:
            reasons.append(f"the server offered {figures['capacity_measured']:.1f} slots a second")
        return reasons


def _since(
    lines: list[Line], begin: float, read: Callable[[Line], Counter[str]], end: float = math.inf
) -> tuple[Counter[str], float]:
    """What has been added since the last line before `begin`, up to the first one after `end`; and in how many seconds.

    A process that began later has counted from zero; its first line is where the seconds begin.
    """
    earlier = [line for line in lines if line["at"] < begin]
    later = [line for line in lines if line["at"] >= begin]
    last = next((line for line in later if line["at"] >= end), later[-1])
    added = read(last)
    if earlier:
        added.subtract(read(earlier[-1]))
    return added, last["at"] - max(begin, earlier[-1]["at"] if earlier else begin)


def _counted(line: Line) -> Counter[str]:
    """What a line of either side has counted since its process began."""
    if "dials" in line:
        return Counter({"dials": line["dials"], **{f"dial {name}": n for name, n in line["outcomes"].items()}})
    slots = {f"slot {name}": count for name, count in (line["slots"] or {}).items()}
    return Counter({"registrations": line["registrations"], "503": line["refused"], **slots})


def _slots(line: Line) -> Counter[str]:
    return Counter({"granted": line["granted"], "refused": line["refused"], **(line["slots"] or {})})


def _used(line: Line) -> Counter[str]:
    return Counter({name: line[name] for name in ("cpu", "waited")})


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
