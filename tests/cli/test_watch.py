"""`worker-state watch`: in this process over real sockets, once as a process, and what it refuses."""

import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import typer
from typer.testing import CliRunner

from tests.support.processes import PROGRAM, environment
from worker_state import Config, Manager, open_state_manager
from worker_state.cli import watch_room
from worker_state.cli.app import app
from worker_state.cli.screen import Screen
from worker_state.cli.watch_room import print_changes, watch
from worker_state.devserver import DevServer, serve
from worker_state.session_string import SessionString
from worker_state.tools.roster import Entry, Roster, answered, lost
from worker_state.watched import Watched

SERVER = ["--ws", "ws://localhost:9", "--http", "http://localhost:9"]
SECRET = "a-room-token-that-nobody-must-see"
PATIENCE = 30.0
ROOM = str(SessionString("r-1", SECRET, "p-1"))
runner = CliRunner()


@pytest.fixture(autouse=True)
def _an_environment_without_our_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "SLEAP_RTC_SIGNALING_WS",
        "SLEAP_RTC_SIGNALING_HTTP",
        "WORKER_STATE_ROOM_TOKEN",
        "WORKER_STATE_API_KEY",
        "WORKER_STATE_SESSION",
        "NO_COLOR",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Scene:
    """A server, a worker, and how to watch them."""

    server: DevServer
    worker: Manager

    @property
    def config(self) -> Config:
        room = self.server.rooms.rooms[self.worker.state.room_id or ""]
        return Config(self.server.ws_url, self.server.http_url, room.room_id, room.token)

    async def left_alone(self) -> None:
        """Nobody but the worker is known to the server."""
        with trio.fail_after(PATIENCE):
            await self.server.until(lambda: set(self.server.rooms.users) == {self.worker.state.peer_id})


@pytest.fixture
async def scene(nursery: trio.Nursery) -> AsyncIterator[Scene]:
    server = await nursery.start(serve)
    capabilities = {"gpu_model": "NVIDIA RTX A5000", "gpu_memory_mb": 24576}
    async with open_state_manager(Config(server.ws_url, server.http_url, capabilities=capabilities)) as worker:
        yield Scene(server, worker)


async def test_one_look_is_a_plain_table(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    await watch(scene.config, 2.0, once=True)
    headline, headings, row = capsys.readouterr().out.splitlines()
    assert headline == f"Room {scene.worker.state.room_id}: 1 worker, 1 available"
    assert headings.split() == ["worker", "status", "job", "gpu", "memory"]
    assert "  available  " in row
    name = str(scene.worker.state.peer_id)[:8]
    assert row.split() == [name, "available", "-", "NVIDIA", "RTX", "A5000", "24", "GiB"]
    await scene.left_alone()


async def test_a_table_into_a_pipe_is_whole(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """What goes into a pipe or a file is cut off nowhere, however narrow the terminal around it is."""
    server = await nursery.start(serve)
    capabilities = {"gpu_model": "NVIDIA A100-SXM4-80GB of the third rack", "hostname": "gpu-08.lab.example.org"}
    async with open_state_manager(Config(server.ws_url, server.http_url, capabilities=capabilities)) as worker:
        worker.set_busy(job := "train-" + "x" * 30)
        await worker.synced()
        await watch(Scene(server, worker).config, 2.0, once=True)
    printed = capsys.readouterr().out
    assert all(text in printed for text in (job, *capabilities.values()))
    assert "…" not in printed


async def test_one_look_at_nobody_is_a_sentence(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    rooms, now = scene.server.rooms, time.time()
    signed_in: Any = rooms.sign_in(now).body
    room: Any = rooms.create_room(f"Bearer {signed_in['id_token']}", now).body
    await watch(Config(scene.server.ws_url, scene.server.http_url, room["room_id"], room["token"]), 2.0, once=True)
    assert "0 workers" in capsys.readouterr().out


async def test_one_look_as_json_is_one_document(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.worker.set_busy("job-1")
    await scene.worker.synced()
    await watch(scene.config, 2.0, once=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    (worker,) = document["workers"]
    assert (worker["peer_id"], worker["status"], worker["job_id"]) == (scene.worker.state.peer_id, "busy", "job-1")
    await scene.left_alone()


class Printed:
    """What has been printed so far, to wait for."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.text = ""

    async def until(self, *texts: str, times: int = 1) -> None:
        with trio.fail_after(PATIENCE):
            while not all(self.text.count(text) >= times for text in texts):
                await trio.sleep(0.02)
                self.text += self._capsys.readouterr().out


async def test_a_pipe_gets_a_line_for_each_change(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    printed = Printed(capsys)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, scene.config, 0.5)
        await printed.until("1 worker, 1 available", "NVIDIA RTX A5000  24 GiB")
        scene.worker.set_busy("job-1")
        await printed.until("available → busy, job job-1")
        scene.server.restart()
        await printed.until("no answers any more: ", "answers again, after ", "busy, job job-1")
        nursery.cancel_scope.cancel()
    assert "\x1b" not in printed.text
    await scene.left_alone()


async def test_a_program_gets_an_object_for_each_change(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """One a line, as it happens, with the fields that one look has; a change of a capability of any name is one."""
    printed = Printed(capsys)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(watch, scene.config, 0.5, as_json=True))
        await printed.until('"present"')
        scene.worker.set_busy("job-1")
        await printed.until('"status": "busy"')
        scene.worker.set_capabilities({"mounts": ["/data"]})
        await printed.until('"changed"', times=2)
        scene.server.restart()
        await printed.until('"silent"', '"answered"')
        nursery.cancel_scope.cancel()
    seen = [json.loads(line) for line in printed.text.splitlines()]
    assert {"time", "event", "room_id"} <= set.intersection(*(set(each) for each in seen))
    assert [each["event"] for each in seen][:4] == ["watching", "present", "changed", "changed"]
    watching, present, busy, mounts = seen[:4]
    assert (watching["room_id"], watching["count"]) == (scene.worker.state.room_id, 1)
    assert (present["peer_id"], present["status"], present["gpu_memory_mb"]) == (
        scene.worker.state.peer_id,
        "available",
        24576,
    )
    assert (busy["status"], busy["job_id"], mounts["status"]) == ("busy", "job-1", "busy")
    (silent,) = [each for each in seen if each["event"] == "silent"][:1]
    assert silent["reason"]
    await scene.left_alone()


class Reader:
    """A program that reads the objects of `watch --json` through a pipe."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.pipe = process.stdout
        self.read = b""

    async def until(self, lines: int) -> None:
        while self.read.count(b"\n") < lines:
            self.read += await self.pipe.receive_some()


@asynccontextmanager
async def reading(scene: Scene) -> AsyncIterator[Reader]:
    """One that has read what is there. Behind the block its end of the pipe is closed, and `watch` ends by itself."""
    config, session = scene.config, str(scene.worker.session_string)
    command: list[str] = [str(PROGRAM), "watch", "--json", "--ws", config.websocket_url, "--http", config.http_url]
    variables = environment(WORKER_STATE_SESSION=session)
    with trio.fail_after(PATIENCE):
        reader = Reader(await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env=variables))
        async with reader.pipe:
            await reader.until(2)
            yield reader
        assert await reader.process.wait() == 0
    await scene.left_alone()


async def test_a_program_reads_each_object_at_once(scene: Scene) -> None:
    """From a process, through a pipe, while it runs; a signal ends it."""
    async with reading(scene) as reader:
        scene.worker.set_busy("job-1")
        await reader.until(3)
        reader.process.terminate()
        reader.read += b"".join([piece async for piece in reader.pipe])
    assert [json.loads(line)["event"] for line in reader.read.splitlines()] == ["watching", "present", "changed"]


async def test_a_reader_that_goes_from_a_quiet_room_ends_it(scene: Scene) -> None:
    """It does not wait for the next change, as in `watch --json | head -2`."""
    async with reading(scene):
        pass


async def test_a_crowd_of_strangers_is_not_one_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond a hundred changes in one answer there is a line with their number."""
    rosters = Watched(answered(Roster("r-1"), [], 1.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(print_changes, rosters, Screen())
        await trio.testing.wait_all_tasks_blocked()
        rosters.set(answered(rosters.value, [Entry(f"w{n}", "available") for n in range(3000)], 2.0))
        await trio.testing.wait_all_tasks_blocked()
        rosters.close()
    lines = [line[10:] for line in capsys.readouterr().out.splitlines()][1:]
    assert (len(lines), lines[-1]) == (101, "and 2900 more changes")


async def test_a_pipe_is_told_when_the_reason_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """Each reason once as long as it lasts, however often it comes."""
    seen = answered(Roster("r-1"), [Entry("one", "available", tags=("sleap-rtc",))], 1.0)
    rosters = Watched(seen)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(print_changes, rosters, Screen())
        for why in ("refused", "room not found", "refused", "room not found", "\x1b[2J"):
            await trio.testing.wait_all_tasks_blocked()
            rosters.set(lost(rosters.value, why))
        await trio.testing.wait_all_tasks_blocked()
        rosters.close()
    said = [line[10:] for line in capsys.readouterr().out.splitlines() if "trying again" in line]
    assert said == [
        "no answers any more: refused; trying again",
        "still nothing new: room not found; trying again",
        "still nothing new: \\x1b[2J; trying again",  # what strangers wrote is printable
    ]


async def test_a_room_that_is_gone_is_explained(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Its worker has made another by then, and the person has to ask for the new session string."""
    printed = Printed(capsys)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, scene.config, 0.5)
        await printed.until("1 worker, 1 available")
        scene.server.rooms._registry.rows.clear()
        scene.server.restart()
        await printed.until("room not found. A worker whose room is gone makes another, with another session string")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("variables", "live"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
async def test_a_terminal_gets_a_live_screen_unless_it_asks_for_none(
    scene: Scene,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    live: bool,
) -> None:
    monkeypatch.setattr(watch_room, "TICK", 0.05)
    for name, value in ({"FORCE_COLOR": "1", "TERM": "xterm-256color"} | variables).items():
        monkeypatch.setenv(name, value)
    printed = Printed(capsys)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, scene.config, 0.5)
        await printed.until("1 worker, 1 available", "memory" if live else "NVIDIA RTX A5000")
        scene.worker.set_maintenance()
        await printed.until("maintenance")
        nursery.cancel_scope.cancel()
    assert ("\x1b[" in printed.text) is live
    await scene.left_alone()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"room_token": SECRET}, "The server refuses: wrong room token."),
        ({"room_id": "nowhere"}, "The server refuses: room not found."),
        ({"websocket_url": "ws://127.0.0.1:9"}, "No connection to ws://127.0.0.1:9: connection refused."),
        ({"http_url": "http://127.0.0.1:9"}, "The server gave no identity: "),
    ],
)
async def test_a_server_that_refuses_or_is_not_there_is_a_sentence_and_exit_code_one(
    scene: Scene, capsys: pytest.CaptureFixture[str], changes: dict[str, str], said: str
) -> None:
    config = scene.config
    fields = {"websocket_url": config.websocket_url, "http_url": config.http_url, "room_id": config.room_id}
    with pytest.raises(typer.Exit) as left:
        await watch(Config(**({**fields, "room_token": config.room_token} | changes)), 2.0, once=True)  # type: ignore[arg-type]
    assert left.value.exit_code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"Error: {said}")
    assert printed.err.count("\n") == 1
    assert SECRET not in printed.err
    await scene.left_alone()


async def test_a_look_that_is_broken_off_is_a_failure(
    scene: Scene, nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.server.mute()
    nursery.start_soon(_signal_when_registering, scene.server)
    with pytest.raises(typer.Exit) as left:
        await watch(scene.config, 2.0, once=True, as_json=True)
    assert left.value.exit_code == 1
    out, err = capsys.readouterr()
    assert out == ""
    warning, error = err.splitlines()
    assert warning.startswith("Warning: our identity could not be deleted")  # it may yet be registered
    assert error == "Error: Stopped before there was an answer."


async def _signal_when_registering(server: DevServer) -> None:
    await server.until(lambda: any(frame.get("role") == "client" for _, frame in server.frames))
    signal.raise_signal(signal.SIGINT)


async def test_a_signal_ends_it_and_nothing_stays_behind(scene: Scene) -> None:
    """A process of its own, with the session string in its environment; the room stays the worker's."""
    config = scene.config
    variables = environment(
        SLEAP_RTC_SIGNALING_WS=config.websocket_url,
        SLEAP_RTC_SIGNALING_HTTP=config.http_url,
        WORKER_STATE_SESSION=str(scene.worker.session_string),
    )
    run = partial(trio.run_process, [PROGRAM, "watch"], capture_stdout=True, capture_stderr=True, env=variables)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            process = await nursery.start(run)
            await scene.server.until(lambda: any(f["type"] == "discover_peers" for _, f in scene.server.frames))
            process.terminate()
            assert await process.wait() == 0
    await scene.left_alone()
    assert list(scene.server.rooms.rooms) == [scene.worker.state.room_id]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "No server is named"),
        (["--ws", "ws://localhost"], "--ws is given without --http"),
        (["--session", ROOM], "--session belongs to a server"),
        (SERVER, "Which room?"),
        ([*SERVER, "--session", "sleap-session:" + SECRET], "--session: "),
        ([*SERVER, "--session", "x", "--room", "r"], "--session and --room exclude each other"),
        ([*SERVER, "--room", "r"], "--room needs the room's token"),
        ([*SERVER, "--api-key", SECRET], "--api-key must begin with 'slp_'"),
        ([*SERVER, "--room", "r", "--json"], "--room needs the room's token"),
        ([*SERVER, "--room", "r", "--token", SECRET, "--every", "0.1"], "--every must be"),
        ([*SERVER, "--room", "r", "--token", SECRET, "--every", "nan"], "--every must be"),
        ([*SERVER, "--room", "r", "--token", SECRET, "--every", "often"], "--every"),
        (["--ws", "http://localhost", "--http", "http://localhost", "--room", "r", "--token", SECRET], "--ws must"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], named: str) -> None:
    result = runner.invoke(app, ["watch", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr


@pytest.mark.parametrize(
    ("variables", "arguments", "named"),
    [
        ({"WORKER_STATE_SESSION": "x", "WORKER_STATE_API_KEY": "slp_x"}, SERVER, "WORKER_STATE_SESSION: "),
        ({"WORKER_STATE_SESSION": "x"}, [*SERVER, "--room", "r", "--token", " "], "--token must not be empty"),
        ({"WORKER_STATE_API_KEY": "slp_x"}, [*SERVER, "--session", "x"], "--session: "),
    ],
)
def test_what_is_typed_counts_more_than_the_environment(
    variables: dict[str, str], arguments: list[str], named: str
) -> None:
    result = runner.invoke(app, ["watch", *arguments], env=variables)
    assert result.exit_code == 2
    assert named in result.stderr


def test_a_session_string_can_come_through_a_pipe() -> None:
    result = runner.invoke(app, ["watch", *SERVER, "--session", "-"], input="\xff")
    assert result.exit_code == 2
    assert "a session string begins with" in result.stderr


def test_it_has_help_with_an_example() -> None:
    result = runner.invoke(app, ["watch", "--help"])
    assert result.exit_code == 0
    assert "    worker-state watch" in result.stdout
    assert "registered_at" in result.stdout
