"""Draw the picture of `worker-state watch`: the real screen of a room, in virtual time, as docs/pictures/watch.svg.

    .venv/bin/python -m benchmarks.watch_picture

The same seed draws the same picture, so a test sees when the screen has changed.
"""

import re
import sys
from io import StringIO
from pathlib import Path

import trio
from rich.console import Console
from trio.testing import MockClock

from worker_state import Manager, run_state_manager
from worker_state.cli.watch_room import view
from worker_state.testing import MemoryKit, in_memory
from worker_state.tools.observer import open_roster

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "watch.svg"
EVERY = 2.0  # seconds between two searches
WIDTH, HEIGHT = 134, 24
WORKERS = (
    ("gpu-01", "NVIDIA A100", 81920),
    ("gpu-01", "NVIDIA A100", 81920),
    ("gpu-02", "NVIDIA RTX A5000", 24576),
    ("gpu-03", "NVIDIA RTX A5000", 24576),
    ("lab-pc", "NVIDIA GeForce RTX 3090", 24576),
)
FONTS = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)  # they would be fetched from elsewhere


async def _workers(kit: MemoryKit, room: dict[str, str], nursery: trio.Nursery) -> list[Manager]:
    managers: list[Manager] = []
    for host, gpu, memory in WORKERS:
        capabilities = {"hostname": host, "gpu_model": gpu, "gpu_memory_mb": memory}
        managers.append(await nursery.start(run_state_manager, kit.config(**room, capabilities=capabilities)))
    return managers


async def draw() -> str:
    """The picture, as SVG."""
    async with in_memory(seed=4) as kit, trio.open_nursery() as nursery:
        room = kit.given_room()
        first, second, third, _, last = await _workers(kit, room, nursery)
        last.set_maintenance()
        await last.synced()
        await trio.sleep(1200)
        config = kit.config(**room)
        async with open_roster(config, every=EVERY) as rosters:
            await trio.sleep(300)
            first.set_busy("train-7f3a")
            await trio.sleep(100)
            second.set_busy("train-91c0")
            await trio.sleep(42)
            third.set_reserved("train-5d2e")
            await trio.sleep(5.5)
            screen = view(rosters.value, trio.current_time(), EVERY, WIDTH, HEIGHT)
        nursery.cancel_scope.cancel()
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen)
    return FONTS.sub("", console.export_svg(title="worker-state watch", unique_id="watch"))


def main() -> None:
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(trio.run(draw, clock=MockClock(autojump_threshold=0)), "utf-8")
    print(PICTURE, file=sys.stderr)


if __name__ == "__main__":
    main()
