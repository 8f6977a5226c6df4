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

REGISTERED, TRUE, PROVED = 1, 2, 3
"""How far a worker has come in the server's eyes: registered, with the current status, and an echo has proved it."""
NEARLY_ALL = 0.99
LATE = 0.05
"""Seconds. Clients whose loop is later than this, at the 99th percentile, measure their own machine."""
SHORT = 0.97
"""A server that offers less than this of its slots is not the one that was asked for."""

Line = dict[str, Any]


def percentile(values: list[float], part: float) -> float:
    """The smallest value that this part of all does not exceed; 0 of nothing."""
    return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)] if values else 0.0


@dataclass
class Record:
    """Fed with the lines of both sides while it happens."""

    workers: int
    capacity: float
    phase: str = "preparing"
    down_at: float = math.inf
    up_at: float = math.inf
    steps: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[float, str, int]] = field(default_factory=list)
    servers: list[list[Line]] = field(default_factory=list)
    """The lines of each server process."""
    clients: list[Line] = field(default_factory=list)
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

    def of_clients(self, line: Line) -> None:
        self.clients.append(line)

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

    def curve(self) -> list[float]:
        """When each percent of all had been back and proved, in seconds after the return, as far as that came."""
        reached = self.reached(PROVED)
        counts = (math.ceil(percent * self.workers / 100) for percent in range(1, 101))
        return [round(reached[count - 1], 2) for count in counts if count <= len(reached)]

    def by_second(self) -> dict[str, dict[int, int]]:
        """Dials by outcome and slots by use, in each second relative to the last return."""
        found: dict[str, Counter[int]] = {}

        def add(name: str, at: float, amount: int) -> None:
            if amount:
                found.setdefault(name, Counter())[math.floor(at - self.up_at)] += amount

        for before, after in zip(self.clients, self.clients[1:], strict=False):
            if after["at"] >= self.down_at - 5:
                add("dials", after["at"], after["dials"] - before["dials"])
                for name, count in after["outcomes"].items():
                    add(f"dial {name}", after["at"], count - before["outcomes"].get(name, 0))
        for lines in self.servers:
            for before, after in zip([None, *lines], lines, strict=False):
                if after["slots"] is not None:
                    for name, count in after["slots"].items():
                        add(f"slot {name}", after["at"], count - (before["slots"][name] if before else 0))
                add("registrations", after["at"], after["registrations"] - (before["registrations"] if before else 0))
                add("503", after["at"], after["refused"] - (before["refused"] if before else 0))
        return {name: dict(sorted(counts.items())) for name, counts in sorted(found.items())}

    def summary(self) -> dict[str, Any]:
        """The figures of the run. `r99`: the time until 99 % were back and proved over the shortest possible one."""
        last = [line for line in self.servers[-1] if line["at"] >= self.up_at]
        # From the last line before the return: no dial of the storm is left out.
        before = [line for line in self.clients if line["at"] < self.up_at][-1]
        dialled = [before, *(line for line in self.clients if line["at"] >= self.up_at)]
        lags = [lag for line in self.clients if line["at"] >= self.up_at - 5 for lag in line["lags"]]
        seconds = last[-1]["at"] - last[0]["at"]
        measured = (last[-1]["granted"] - last[0]["granted"]) / seconds
        reached = self.reached(PROVED)
        nearly, all_back = (
            reached[count - 1] if count <= len(reached) else None
            for count in (math.ceil(NEARLY_ALL * self.workers), self.workers)
        )
        outcomes = Counter(dialled[-1]["outcomes"])
        outcomes.subtract(dialled[0]["outcomes"])
        figures = {
            "back": self.standing(PROVED),
            "registered": self.standing(REGISTERED),
            "t99": _rounded(nearly),
            "t100": _rounded(all_back),
            "r99": _rounded(nearly and nearly / (NEARLY_ALL * self.workers / measured), 4),
            "r100": _rounded(all_back and all_back / (self.workers / measured), 4),
            "dials_each": round((dialled[-1]["dials"] - dialled[0]["dials"]) / self.workers, 3),
            "outcomes": {name: count for name, count in sorted(outcomes.items()) if count},
            "slots": last[-1]["slots"],
            "refused": last[-1]["refused"],
            "capacity_measured": round(measured, 3),
            "slot_late": round(last[-1]["late"], 4),
            "lag_p99": round(percentile(lags, 0.99), 4),
            "client_cpu_ms_each": round((dialled[-1]["cpu"] - dialled[0]["cpu"]) / self.workers * 1e3, 3),
            "client_cpu_share": round((dialled[-1]["cpu"] - dialled[0]["cpu"]) / seconds, 4),
            "server_cpu_share": round((last[-1]["cpu"] - last[0]["cpu"]) / seconds, 4),
            "client_kib": dialled[-1]["kib"],
            "server_kib": last[-1]["kib"],
            "watched": round(last[-1]["at"] - self.up_at, 2),
        }
        return {**figures, "void": self._void(figures)}

    def _void(self, figures: dict[str, Any]) -> list[str]:
        """Why the run does not count."""
        reasons = []
        if figures["lag_p99"] > LATE:
            reasons.append(f"the clients' loop was {figures['lag_p99'] * 1e3:.0f} ms late")
        if figures["capacity_measured"] < SHORT * self.capacity:
            reasons.append(f"the server offered {figures['capacity_measured']:.1f} slots a second")
        return reasons


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
