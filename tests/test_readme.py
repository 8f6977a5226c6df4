"""The README as a test: its example is run word for word, and its picture is the table's."""

import re
from pathlib import Path
from typing import Any

import trio

from tests.support.worlds import World, scenario
from worker_state.protocol.registration_fsm import mermaid

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@scenario
async def test_example(world: World) -> None:
    """The example serves an offer, refuses a second one while it is busy, and leaves at `quit`, leaving nothing."""
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    training, trained = trio.Event(), trio.Event()

    async def train(job_id: str) -> None:
        training.set()
        await trained.wait()

    example: dict[str, Any] = {"new_job_id": lambda: "job-1", "train": train}
    exec(source, example)
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


def test_picture() -> None:
    """The picture of the registration's states is drawn from the table."""
    assert f"```mermaid\n{mermaid()}\n```" in README
