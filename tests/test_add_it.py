"""The page "Add it to a worker that you have" as tests: its programs run word for word, and its names exist."""

import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.served import PATIENCE, serving, until
from worker_state import Config, Manager, State, aio, blocking
from worker_state.protocol.frames import Message

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial" / "add-it.md").read_text("utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PLAYERS: dict[str, Callable[[Any, Config], object]] = {
    "asyncio": lambda main, config: asyncio.run(main(config)),
    "trio": trio.run,
    "threads": lambda main, config: main(config),
}


async def answer_to(sdp: str, ice_servers: tuple[Message, ...]) -> str:
    assert ice_servers == ()
    return f"the answer to {sdp}"


@pytest.mark.parametrize("world", PLAYERS)
def test_a_program_of_the_page(world: str) -> None:
    """It registers, takes an offer, is busy while it trains, registers anew, and leaves nothing behind at `quit`."""
    training, trained = threading.Event(), threading.Event()

    def train(job_id: str) -> None:
        training.set()
        assert trained.wait(PATIENCE)

    program: dict[str, Any] = {"new_job_id": lambda: "job-1", "train": train, "answer_to": answer_to}
    exec(PROGRAMS[[*PLAYERS].index(world)], program)
    with serving() as served:
        rooms = served.server.rooms
        config = Config(served.server.ws_url, served.server.http_url)
        thread = threading.Thread(target=PLAYERS[world], args=(program["main"], config), daemon=True)
        thread.start()
        until(lambda: any(rooms.peers(room) for room in rooms.rooms))
        ((worker,),) = [rooms.peers(room) for room in rooms.rooms]

        def registrations() -> int:
            return sum(frame.get("type") == "register" for _, frame in served.server.frames)

        def shown() -> tuple[Any, Any]:
            peer = rooms.peer(worker)
            assert peer is not None
            return peer.metadata["properties"]["status"], peer.metadata["properties"]["current_job_id"]

        served.say(worker, {"type": "offer", "sdp": "an offer"})
        until(training.is_set)
        until(lambda: shown() == ("busy", "job-1"))
        assert registrations() == 1
        if world == "asyncio":  # the one of the three that tells others why not
            served.say(worker, {"type": "offer", "sdp": "another offer"})
            refusal = {"type": "refused", "status": "busy"}
            until(lambda: any(frame.get("payload") == refusal for _, frame in served.server.frames))
        trained.set()
        until(lambda: shown() == ("available", None) and registrations() == 2)
        answers = [frame["sdp"] for frame in served.answers()]
        assert answers == (["the answer to an offer"] if world == "asyncio" else [])
        served.say(worker, {"type": "quit"})
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert not rooms.users
        assert not rooms.rooms


def test_the_names_of_the_page_exist() -> None:
    """Every method, field of the state and setting that the page names is there."""
    for name in re.findall(r"manager\.state\.(\w+)", PAGE):
        assert hasattr(State, name) or name in State.__dataclass_fields__, name
    for name in re.findall(r"manager\.(\w+)", PAGE):
        assert all(hasattr(each, name) for each in (Manager, aio.Manager, blocking.BlockingManager)), name
    named = re.findall(r"(\w+)=", " ".join(re.findall(r"(?:Config|load_config)\(([^)]*)\)", PAGE)))
    assert {"peer_id", "admin", "api_key", "capabilities"} <= set(named) <= {each.name for each in fields(Config)}
    for name in ("serve_health", "notify_systemd", "load_config"):
        assert hasattr(aio, name)
        assert hasattr(blocking, name)
