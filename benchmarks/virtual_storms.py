"""The storms that the virtual benchmark lets every rule go through: those that ours was tuned on, and those held out.

The parameters of `core.pace` were chosen while looking at `TUNED` only. `HELD_OUT` was drawn by a die from the whole
space and run when they stood; so was `LARGE`. What was looked at later says so below; `UNSEEN` was not. All last
fifteen seconds or more at best, for in a shorter one the way to the server is longer than the queue: those are `SHORT`,
and what counts there is seconds, not ratios.
"""

import math
from random import Random
from typing import Any

from benchmarks.queues import Storm

LARGEST = 200_000
"""More workers than this only when they are asked for by name: such a run takes minutes."""
SMALL = 5_000
"""All rules go through the storms of up to so many workers. Ours goes through all."""

TUNED: dict[str, Storm] = {
    # What runs live, too: accepts everything, a large queue, a small one.
    "all accepted, 2,000 at 50": Storm(workers=2_000, capacity=50),
    "queue 1,024, 2,000 at 50": Storm(workers=2_000, capacity=50, backlog=1_024),
    "queue 128, 2,000 at 50": Storm(workers=2_000, capacity=50, backlog=128),
    "queue 128, 2,000 at 100": Storm(workers=2_000, capacity=100, backlog=128),
    # Other sizes and times.
    "queue 128, 1,000 at 50, D 0": Storm(workers=1_000, capacity=50, down=0, backlog=128),
    "queue 4,096, 10,000 at 200, D 60": Storm(workers=10_000, capacity=200, down=60, backlog=4_096),
    "queue 4,096, 20,000 at 100": Storm(workers=20_000, capacity=100, backlog=4_096),
    "queue 128, 20,000 at 1,000": Storm(workers=20_000, capacity=1_000, backlog=128),
    "queue 128, 100,000 at 1,000": Storm(workers=100_000, capacity=1_000, backlog=128),
    "all accepted, 10,000 at 100, D 0": Storm(workers=10_000, capacity=100, down=0),
    "all accepted, 20,000 at 100, D 60": Storm(workers=20_000, capacity=100, down=60),
    "queue 128, 2,000 at 50, 100 ms away": Storm(workers=2_000, capacity=50, backlog=128, rtt=0.1),
    # Servers that send away.
    "503, 2,000 at 50": Storm(workers=2_000, capacity=50, room=128),
    "503, 20,000 at 100, D 0": Storm(workers=20_000, capacity=100, down=0, room=128),
    "503, 20,000 at 1,000, D 60": Storm(workers=20_000, capacity=1_000, down=60, room=128),
    "503 in 30 s, 2,000 at 50": Storm(workers=2_000, capacity=50, room=128, retry_after=30),
    "503 with ticket, 2,000 at 50": Storm(workers=2_000, capacity=50, room=128, retry_after="ticket"),
    "503 with ticket, 20,000 at 100": Storm(workers=20_000, capacity=100, room=128, retry_after="ticket"),
    # Other trouble.
    "front closes, 2,000 at 50, D 60": Storm(workers=2_000, capacity=50, down=60, backlog=1_024, front="closes"),
    "front holds, 2,000 at 50, D 60": Storm(workers=2_000, capacity=50, down=60, backlog=1_024, front="holds"),
    "flaps 5 s, 2,000 at 50": Storm(workers=2_000, capacity=50, backlog=1_024, flaps=((5, 5),) * 5),
    "first start, 2,000 at 50": Storm(workers=2_000, capacity=50, down=0, backlog=128, first_start=True),
    "slow answers, 2,000 at 50": Storm(workers=2_000, capacity=50, backlog=1_024, service=5),
    # A first set that was held out: since it has been looked at, it counts as tuned on.
    "all accepted, 3,000 at 100": Storm(workers=3_000, capacity=100),
    "all accepted, 100,000 at 500, D 60": Storm(workers=100_000, capacity=500, down=60),
    "all accepted, 50,000 at 500, D 0": Storm(workers=50_000, capacity=500, down=0),
    "queue 128, 5,000 at 250, D 0": Storm(workers=5_000, capacity=250, down=0, backlog=128),
    "queue 128, 3,000 at 50, D 60": Storm(workers=3_000, capacity=50, down=60, backlog=128),
    "queue 128, 50,000 at 500": Storm(workers=50_000, capacity=500, backlog=128),
    "queue 512, 8,000 at 200, D 600": Storm(workers=8_000, capacity=200, down=600, backlog=512),
    "queue 4,096, 50,000 at 1,000, D 0": Storm(workers=50_000, capacity=1_000, down=0, backlog=4_096),
    "queue 4,096, 20,000 at 50, D 20": Storm(workers=20_000, capacity=50, down=20, backlog=4_096),
    "queue 256, 4,000 at 100, told (1012)": Storm(workers=4_000, capacity=100, backlog=256, code=1012),
    "queue 128, 4,000 at 100, 40 ms away": Storm(workers=4_000, capacity=100, backlog=128, rtt=0.04),
    "queue 128, 4,000 at 100, clocks ± 10 %": Storm(workers=4_000, capacity=100, backlog=128, clocks=0.1),
    "503, 5,000 at 200, D 20": Storm(workers=5_000, capacity=200, down=20, room=64),
    "503, 50,000 at 500": Storm(workers=50_000, capacity=500, room=1_024),
    "503, 5,000 at 50, D 600": Storm(workers=5_000, capacity=50, down=600, room=256),
    "503, 5,000 at 100, clocks ± 10 %": Storm(workers=5_000, capacity=100, room=128, clocks=0.1),
    "503 in 10 s, 5,000 at 100": Storm(workers=5_000, capacity=100, room=128, retry_after=10),
    "503 in 120 s, 5,000 at 50": Storm(workers=5_000, capacity=50, room=128, retry_after=120),
    "503 with ticket, 5,000 at 100, D 0": Storm(workers=5_000, capacity=100, down=0, room=64, retry_after="ticket"),
    "503 with ticket, 50,000 at 200": Storm(workers=50_000, capacity=200, room=256, retry_after="ticket"),
    "front closes, 8,000 at 200, D 600": Storm(workers=8_000, capacity=200, down=600, backlog=512, front="closes"),
    "front holds, 10,000 at 50, D 20": Storm(workers=10_000, capacity=50, down=20, front="holds"),
    "stopped 60 s, 1,000 at 50": Storm(workers=1_000, capacity=50, down=60, backlog=4_096, front="stopped", spread=8),
    "stopped 60 s, 4,000 at 100": Storm(workers=4_000, capacity=100, down=60, backlog=128, front="stopped", spread=8),
    "network gone for 60 s, 4,000 at 100": Storm(
        workers=4_000, capacity=100, down=60, backlog=128, front="silent", spread=8
    ),
    "flaps 8/20 s, 8,000 at 200": Storm(workers=8_000, capacity=200, down=20, backlog=4_096, flaps=((8, 20),) * 3),
    "flaps 2/1 s, 3,000 at 100": Storm(workers=3_000, capacity=100, down=1, backlog=128, flaps=((2, 1),) * 20),
    "first start, 20,000 at 500": Storm(workers=20_000, capacity=500, down=0, backlog=4_096, first_start=True),
    "slow answers, 5,000 at 100": Storm(workers=5_000, capacity=100, down=0, service=20),
}


def drawn(count: int, seed: int) -> dict[str, Storm]:
    """Storms that nobody has chosen: every property drawn by itself."""
    chance = Random(seed)
    storms = {}
    for number in range(1, count + 1):
        capacity = round(math.exp(chance.uniform(math.log(50), math.log(1_000))))
        workers = min(50_000, round(capacity * math.exp(chance.uniform(math.log(15), math.log(300)))))
        chosen: dict[str, Any] = {
            "workers": workers,
            "capacity": capacity,
            "down": round(chance.choice([0, chance.uniform(1, 15), chance.uniform(15, 120), chance.uniform(120, 600)])),
            "rtt": round(math.exp(chance.uniform(math.log(0.0002), math.log(0.2))), 4),
            "clocks": chance.choice([0.0, 0.0001, 0.05]),
            "service": chance.choice([0.0, 0.0, 0.0, round(chance.uniform(0.5, 10), 1)]),
            "code": chance.choice([1006, 1006, 1006, 1012]),
            "spread": chance.choice([0.0, 0.0, round(chance.uniform(0.5, 10), 1)]),
        }
        kind = chance.choice(["accepts all", "queue", "queue", "queue", "503", "ticket"])
        if kind == "queue":
            chosen["backlog"] = chance.choice([128, 128, 512, 1_024, 4_096])
            kind += f" {chosen['backlog']}"
        elif kind != "accepts all":
            chosen["room"] = chance.choice([64, 128, 512, 2_048])
            chosen["retry_after"] = "ticket" if kind == "ticket" else chance.choice([None, None, None, 5.0, 20.0])
        front = chosen["front"] = chance.choice([*["refuses"] * 6, "silent", "closes", "holds", "stopped"])
        if front == "refuses" and chance.random() < 0.2:
            chosen["flaps"] = ((round(chance.uniform(1, 20), 1), round(chance.uniform(1, 30), 1)),) * chance.randint(
                2, 6
            )
            front = "flaps"
        name = f"{number}: {kind}, {workers:,} at {capacity:,}, D {chosen['down']}, {front}"
        storms[name] = Storm(**chosen)
    return storms


HELD_OUT = drawn(40, 2_026)
"""Looked at since, while the rule for a front that closes or holds was made."""
FRONTS = {
    name: storm
    for name, storm in drawn(600, 777).items()
    if storm.front in ("closes", "holds")
    and storm.down > 20
    and storm.workers < 12_000
    and storm.workers < 150 * storm.capacity
}
"""Short storms behind a front that took every connection while the server was away: that rule was made on these."""
FRESH = drawn(40, 2_027)
"""Run once, when everything stood; its worst, a front that holds, was looked at since."""
UNSEEN = drawn(40, 2_028)
"""Run once, when the range of the polls and the pause after a dial that was held stood, and not looked into."""

NEW = drawn(60, 2_029)
"""Run once, when the present rule stood."""

SHORT: dict[str, Storm] = {
    "queue 128, 1,000 at 1,000": Storm(workers=1_000, capacity=1_000, backlog=128),
    "queue 128, 1,000 at 1,000, D 60": Storm(workers=1_000, capacity=1_000, down=60, backlog=128),
    "all accepted, 1,000 at 1,000, D 600": Storm(workers=1_000, capacity=1_000, down=600),
    "503, 2,000 at 500": Storm(workers=2_000, capacity=500, room=128),
}

LARGE: dict[str, Storm] = {
    "a million at 1,000, queue 4,096": Storm(workers=1_000_000, capacity=1_000, backlog=4_096),
    "a million at 1,000, queue 128, D 60": Storm(workers=1_000_000, capacity=1_000, down=60, backlog=128),
    "a million at 1,000, all accepted": Storm(workers=1_000_000, capacity=1_000),
    "a million at 1,000, all accepted, D 0": Storm(workers=1_000_000, capacity=1_000, down=0),
    "a million at 1,000, 503": Storm(workers=1_000_000, capacity=1_000, room=4_096),
    "a million at 1,000, 503 with ticket": Storm(workers=1_000_000, capacity=1_000, room=4_096, retry_after="ticket"),
    "a million at 50, queue 4,096": Storm(workers=1_000_000, capacity=50, backlog=4_096),
    "a million at 50, all accepted": Storm(workers=1_000_000, capacity=50),
}
"""Held out as well."""
