"""What one held connection weighs: opens many in this fresh process and watches its resident memory grow.

Started by `benchmarks.cycle`, once for each measurement, since memory that a process has once had it seldom gives back.
Reads the seats as JSON from standard input, prints one JSON object. Resident memory and its high-water mark are the
kernel's (`/proc/self`), without tracemalloc, which would weigh more than what it measures; where there is no `/proc`
those two are null.
"""

import argparse
import gc
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from benchmarks.clients import hold_bare, hold_worker
from benchmarks.server import Seat

CLIENTS = {"worker_state": hold_worker, "bare": hold_bare}


def memory(process: int | str = "self") -> dict[str, float] | None:
    """KiB resident now, and at most so far."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text("ascii", "replace").splitlines() if ":" in line)
    return {"now": float(fields["VmRSS"].split()[0]), "peak": float(fields["VmHWM"].split()[0])}


def settled() -> tuple[dict[str, float] | None, int, int]:
    """Memory, objects that the collector tracks, and tasks, after a collection."""
    gc.collect()
    return memory(), len(gc.get_objects()), trio.lowlevel.current_statistics().tasks_living


async def measure(kind: str, ws_url: str, http_url: str, seats: list[Seat]) -> dict[str, Any]:
    """Open and close one for everything that is made only once, then hold all others at the same time."""
    hold = CLIENTS[kind]
    async with hold(ws_url, http_url, seats[0]):
        pass
    before, objects_before, tasks_before = settled()
    async with AsyncExitStack() as stack:
        for seat in seats[1:]:
            await stack.enter_async_context(hold(ws_url, http_url, seat))
        peak = memory()
        held, objects_held, tasks_held = settled()
    each = len(seats) - 1
    result: dict[str, Any] = {
        "objects": (objects_held - objects_before) / each,
        "tasks": (tasks_held - tasks_before) / each,
    }
    if before is not None and peak is not None and held is not None:
        result["kib"] = (held["now"] - before["now"]) / each
        result["kib_at_peak"] = (peak["peak"] - before["now"]) / each
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=CLIENTS)
    kind = parser.parse_args().kind
    order = json.load(sys.stdin)
    seats = [Seat(**seat) for seat in order["seats"]]
    print(json.dumps(trio.run(measure, kind, order["ws_url"], order["http_url"], seats)))


if __name__ == "__main__":
    main()
