"""Real runs whose logs stand in `what-happens-when.md`: a worker in its own process, a server that misbehaves.

    python -m benchmarks.stories [NAME…]

Each story starts a development server and `worker-state run`, lets one thing go wrong, and puts what the worker printed
between the story's two marks in that page (session strings shortened: they are secrets). Three minutes for all of them.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio
from trio_websocket import open_websocket_url

from worker_state import SessionString
from worker_state.devserver import DevServer, serve
from worker_state.devserver.rules import Rooms

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "what-happens-when.md"
SECRET = re.compile(r"sleap-session:[\w=+/-]+")
DATE = re.compile(r"^\d{4}-\d\d-\d\d ")  # what a pipe gets, and no terminal
LIVED = 31.0
"""Seconds: a link that was lost sooner is taken for one that never really came back, and is waited for longer."""
WITHIN = 120.0
"""Seconds for one story."""


@dataclass
class Stage:
    """A server and a worker that has registered with it, unless the server is not there yet."""

    nursery: trio.Nursery
    server: DevServer
    serving: trio.CancelScope
    process: trio.Process
    lines: list[str] = field(default_factory=list)
    more: trio.Event = field(default_factory=trio.Event)

    async def until(self, text: str, times: int = 1) -> None:
        """Wait until the worker has printed this."""
        while sum(text in line for line in self.lines) < times:
            await self.more.wait()

    async def read(self) -> None:
        """Take what the worker prints."""
        rest = ""
        assert self.process.stdout is not None
        async for data in self.process.stdout:
            *whole, rest = (rest + data.decode()).split("\n")
            self.lines += [DATE.sub("", line.rstrip()) for line in whole]
            self.more.set()
            self.more = trio.Event()

    @property
    def session(self) -> SessionString:
        found = [match[0] for line in self.lines if (match := SECRET.search(line))]
        return SessionString.parse(found[-1])

    async def restart(self, away: float) -> None:
        """The server goes for so many seconds and comes back, with its rooms and without its registrations."""
        self.serving.cancel()
        await trio.sleep(away)
        await self.come()

    async def come(self) -> None:
        """The server that has gone comes back."""
        server = self.server
        self.serving, self.server = await started(self.nursery, server.rooms, server.ws_port, server.http_port)


async def started(
    nursery: trio.Nursery, rooms: Rooms, ws_port: int = 0, http_port: int = 0
) -> tuple[trio.CancelScope, DevServer]:
    """A server, and the scope that ends it."""
    scope = trio.CancelScope()

    async def run(task_status: "trio.TaskStatus[DevServer]") -> None:
        with scope:
            await serve(rooms=rooms, ws_port=ws_port, http_port=http_port, task_status=task_status)

    return scope, await nursery.start(run)


async def fails(stage: Stage) -> None:
    await stage.process.wait()


async def waits(stage: Stage) -> None:
    await trio.sleep(65)
    await stage.come()
    await stage.until("discoverable")


async def restart(stage: Stage) -> None:
    await trio.sleep(LIVED)
    await stage.restart(away=5)
    await stage.until("re-registered")
    await stage.until("  discoverable", times=2)


async def sleep(stage: Stage) -> None:
    await trio.sleep(1)
    stage.process.send_signal(signal.SIGSTOP)
    await trio.sleep(20)
    stage.server.cut(stage.session.peer_id)
    stage.process.send_signal(signal.SIGCONT)
    await stage.until("re-registered")
    await stage.until("  discoverable", times=2)


async def token(stage: Stage) -> None:
    await stage.until("the ID token was renewed")
    await trio.sleep(1)


async def refused(stage: Stage) -> None:
    await trio.sleep(6)
    stage.server.cut(stage.session.peer_id)
    await stage.until("re-registered")
    await stage.until("  discoverable", times=2)


async def room(stage: Stage) -> None:
    rooms: Any = stage.server.rooms
    rooms._registry.rows.pop(stage.session.room_id)
    await stage.restart(away=1)
    await stage.until("the room is a new one")
    await stage.until("  discoverable", times=2)


async def impostor(stage: Stage) -> None:
    session = stage.session
    for number in range(1, 6):
        signed_in: Any = stage.server.rooms.sign_in(time.time()).body
        frame: dict[str, Any] = {
            "type": "register",
            "peer_id": session.peer_id,
            "room_id": session.room_id,
            "token": session.token,
        }
        frame |= {"id_token": signed_in["id_token"], "role": "worker", "metadata": {"tags": [], "properties": {}}}
        async with open_websocket_url(stage.server.ws_url) as socket:
            await socket.send_message(json.dumps(frame))
            await socket.get_message()
        await stage.until("re-registered", times=number)
        await trio.sleep(0.5)


@dataclass(frozen=True)
class Story:
    """What goes wrong, and what the server is like."""

    happens: Callable[[Stage], Awaitable[None]]
    rules: dict[str, Any] = field(default_factory=dict)
    absent: bool = False
    """The server is not there at the start."""
    options: tuple[str, ...] = ()


STORIES = {
    "fails": Story(fails, absent=True),
    "waits": Story(waits, absent=True, options=("--wait",)),
    "restart": Story(restart),
    "sleep": Story(sleep),
    "token": Story(token, {"token_life": 62.0}),
    "refused": Story(refused, {"token_life": 5.0}),
    "room": Story(room),
    "impostor": Story(impostor),
}


async def tell(story: Story) -> str:
    """The worker's lines, from its start to its leave."""
    async with trio.open_nursery() as nursery:
        serving, server = await started(nursery, Rooms(random=Random(), **story.rules))
        program = str(Path(sys.executable).with_name("worker-state"))
        command = [program, "run", "--ws", server.ws_url, "--http", server.http_url, *story.options]
        if story.absent:
            serving.cancel()
        start = partial(trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        process = await nursery.start(partial(start, env={**os.environ, "NO_COLOR": "1"}))
        stage = Stage(nursery, server, serving, process)
        nursery.start_soon(stage.read)
        with trio.fail_after(WITHIN):
            if not story.absent:
                await stage.until("discoverable")
            await story.happens(stage)
            process.send_signal(signal.SIGINT)
            await process.wait()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    return SECRET.sub("sleap-session:…", "\n".join(stage.lines))


def put(page: str, name: str, text: str) -> str:
    """The page with this text between the story's marks."""
    begin, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}```\n{text}\n```\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stories", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *STORIES], metavar="NAME", help=f"of: {', '.join(STORIES)}")
    for name in parser.parse_args().names or STORIES:
        text = trio.run(tell, STORIES[name])
        print(f"--- {name}\n{text}")
        PAGE.write_text(put(PAGE.read_text("utf-8"), name, text), "utf-8")


if __name__ == "__main__":
    main()
