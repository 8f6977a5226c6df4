"""The README as a test: its examples are run word for word, its picture is the screen, and a package index shows it."""

import asyncio
import html
import json
import re
import shutil
import statistics
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from trio.testing import MockClock

from benchmarks import watch_picture
from docs.package_page import PackagePage, page
from tests.support.served import PATIENCE, Served, until
from tests.support.worlds import World, scenario

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRIO, ASYNCIO = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@scenario
async def test_example(world: World) -> None:
    """The example serves an offer, refuses a second one while it is busy, and leaves at `quit`, leaving nothing."""
    training, trained = trio.Event(), trio.Event()

    async def train(job_id: str) -> None:
        training.set()
        await trained.wait()

    example: dict[str, Any] = {"new_job_id": lambda: "job-1", "train": train}
    exec(TRIO, example)
    done = trio.Event()

    async def run() -> None:
        await example["worker"](world.config())
        done.set()

    world.nursery.start_soon(run)
    await world.until(lambda: any(world.rooms.peers(room) for room in world.rooms.rooms))
    (room_id,) = world.rooms.rooms
    (peer_id,) = world.rooms.peers(room_id)

    async with world.client_in(room_id) as client:
        offer = {"type": "offer", "sender": client.peer_id, "target": peer_id, "sdp": "v=0"}
        await client.send(offer)
        await training.wait()
        await world.until(lambda: world.rooms.peers(room_id)[peer_id].metadata["properties"]["status"] == "busy")
        await client.send(offer)
        await world.until(lambda: world.sent("error"))
        trained.set()
        await world.until(lambda: len(world.sent("register")) == 2)
        await client.send({"type": "quit", "sender": client.peer_id, "target": peer_id})
        await done.wait()

    (refusal,) = world.sent("error")
    assert refusal == {"type": "error", "target": client.peer_id, "reason": "worker_busy"}
    assert peer_id not in world.rooms.users


def test_example_for_asyncio(served: Served) -> None:
    """The example serves an offer, refuses a second one while it is busy, and leaves at `quit`, leaving nothing."""
    training, trained = threading.Event(), threading.Event()

    def train(job_id: str) -> None:
        training.set()
        assert trained.wait(PATIENCE)

    example: dict[str, Any] = {"new_job_id": lambda: "job-1", "train": train}
    exec(ASYNCIO, example)
    rooms, frames = served.server.rooms, served.server.frames
    thread = threading.Thread(target=lambda: asyncio.run(example["worker"](served.config)), daemon=True)
    thread.start()
    until(lambda: any(rooms.peers(room) for room in rooms.rooms))
    ((worker,),) = [rooms.peers(room) for room in rooms.rooms]

    def shown() -> tuple[Any, Any]:
        peer = rooms.peer(worker)
        assert peer is not None
        return peer.metadata["properties"]["status"], peer.metadata["properties"]["current_job_id"]

    def sent(type_: str) -> list[dict[str, Any]]:
        return [frame for _, frame in frames if frame.get("type") == type_]

    served.say(worker, {"type": "offer", "sdp": "v=0"})
    until(training.is_set)
    until(lambda: shown() == ("busy", "job-1"))
    served.say(worker, {"type": "offer", "sdp": "v=0"})
    until(lambda: sent("error"))
    trained.set()
    until(lambda: len(sent("register")) == 2 and shown() == ("available", None))
    served.say(worker, {"type": "quit"})
    thread.join(PATIENCE)
    assert not thread.is_alive()
    (refusal,) = sent("error")
    assert refusal == {"type": "error", "target": worker, "reason": "worker_busy"}
    assert worker not in rooms.users


def test_the_picture_of_watch() -> None:
    """The picture says what the screen says: else run `python -m benchmarks.watch_picture`."""

    def words(picture: str) -> list[str]:
        return [html.unescape(text).replace("\xa0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", picture)]

    drawn = words(trio.run(watch_picture.draw, clock=MockClock(autojump_threshold=0)))
    assert any("2 busy" in text for text in drawn)
    assert drawn == words(watch_picture.PICTURE.read_text("utf-8"))


def test_the_table_has_the_measured_figures() -> None:
    """Workers that were ever back, the time until they were, and seconds late are those of the committed results."""
    results = ROOT / "benchmarks" / "results"
    live = {
        (run["scenario"], run["rule"]): run
        for run in json.loads((results / "storm_live.json").read_text("utf-8"))["runs"]
    }
    small = json.loads((results / "storm_small.json").read_text("utf-8"))["small"]
    mine = {cell["cell"]: cell["mean"] for cell in small if cell["rule"] == "worker_state"}
    rows = [line.strip("| ").split(" | ") for line in README.splitlines() if line.startswith("|")]
    rules, roomy, narrow, happy, fleets = (row[-4:] for row in rows[:1] + rows[2:6])
    ours = set()
    for rule, back, time, back_at_once, late in zip(rules, roomy, narrow, happy, fleets, strict=True):
        rule = rule.strip("`")
        assert back == f"{live['roomy', rule]['back']:,}"
        assert back_at_once == f"{live['happy', rule]['back']:,}"
        assert time == f"{live['narrow', rule]['r99']:.2f}"
        cells = [cell for cell in small if cell["rule"] == rule and not (cell["hammers"] or cell["loses"])]
        ours.add(f"{statistics.fmean(mine[cell['cell']] for cell in cells):.1f}")
        if rule != "worker_state":
            assert late == f"{statistics.fmean(cell['mean'] for cell in cells):.1f}"
    assert fleets[0] == f"{min(ours)} to {max(ours)}"


@pytest.mark.parametrize("address", ["", "https://example.org/them/worker_state"])
def test_on_a_package_index(address: str, tmp_path: Path) -> None:
    """Every link and picture of the package's page is absolute, to a file that exists, or there is none."""
    shutil.copy(ROOT / "README.md", tmp_path)
    metadata: dict[str, Any] = {"version": "1.2.3"}
    PackagePage(str(tmp_path), {"address": address}).update(metadata)
    page, urls = metadata["readme"]["text"], [*metadata["urls"].values()]
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", page)
    assert bool(links) == bool(urls) == bool(address)
    assert len(links) == len(re.findall(r"\]\(", README)) * bool(address)
    for picture, link in links:
        way = "raw" if picture else "blob"
        assert link.startswith(f"{address}/{way}/v1.2.3/")
    assert "```python\n" + TRIO + "```" in page


def test_what_is_built_has_that_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata have the page as the description, in Markdown, and name no address that nobody has given."""
    monkeypatch.chdir(ROOT)
    core = ProjectMetadata(str(ROOT), PluginManager()).core
    assert core.readme_content_type == "text/markdown"
    assert core.readme == page(README, "", core.version)
    assert core.urls == {}


def test_the_length() -> None:
    """Nobody reads more than this before trying it."""
    assert len(README.splitlines()) <= 120
