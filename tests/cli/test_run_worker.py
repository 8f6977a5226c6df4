"""What `worker-state run` does, in this process: over real sockets, with a server that the test can spoil."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import pytest
import trio
import trio.lowlevel
import typer

from worker_state import Config, Job, SessionString, open_state_manager
from worker_state.cli import run_worker
from worker_state.cli.run import DRAIN_TIMEOUT
from worker_state.cli.run_worker import MOST_LINES, WorkerRun
from worker_state.cli.screen import Screen
from worker_state.devserver import DevServer, serve
from worker_state.logs import NOTHING, About
from worker_state.settings import KEYS, Setting, resolve
from worker_state.tools.observer import open_roster

PATIENCE = 30.0


class Kept(Screen):
    """A screen whose lines the test can wait for."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.lines: list[str] = []
        self._changed = trio.Event()

    def line(self, text: str, style: str = "", *, level: int = logging.INFO, about: About = NOTHING) -> None:
        super().line(text, style, level=level, about=about)
        self.lines.append(text)
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, text: str) -> str:
        with trio.fail_after(PATIENCE):
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                await self._changed.wait()


class Addresses(Protocol):
    """A server, or the addresses of none."""

    @property
    def ws_url(self) -> str: ...
    @property
    def http_url(self) -> str: ...


def worker_run(screen: Screen, server: Addresses | None = None, **changes: Any) -> WorkerRun:
    """A `worker-state run` with these settings and fields of `WorkerRun`."""
    settings = {name: changes.pop(name) for name in KEYS if name in changes}
    if server is not None:
        settings |= {"signaling_websocket": server.ws_url, "signaling_http": server.http_url}
    given = {name: Setting(value, rank=0) for name, value in settings.items()}
    return WorkerRun(resolve(given, {}, {}), screen, **({"drain_timeout": DRAIN_TIMEOUT} | changes))


@asynccontextmanager
async def working(run: WorkerRun) -> AsyncIterator[None]:
    """A `worker-state run` until the end of the block, which ends it as a signal would."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.run)
        yield
        run.screen.on_gone()


async def start_spoiled(
    spoil: Callable[[DevServer], None], *, task_status: trio.TaskStatus[DevServer] = trio.TASK_STATUS_IGNORED
) -> None:
    """A server to run inside that does something else than it should."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        spoil(server)
        task_status.started(server)


async def test_a_message_for_the_other_parts_is_shown_without_what_it_carries(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    server, screen = await nursery.start(serve), Kept()
    async with working(worker_run(screen, server)):
        session = SessionString.parse((await screen.until("sleap-session:")).split()[-1])
        offer = {"type": "offer", "sender": session.peer_id, "target": session.peer_id, "sdp": "what-it-carries"}
        server.perform(server.rooms.receive("client", json.dumps(offer), server.clock()))
        assert await screen.until("received") == f"received: offer from {session.peer_id}"
    assert "what-it-carries" not in capsys.readouterr().out


async def test_the_session_string_and_its_token_can_be_withheld(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    server, screen = await nursery.start(serve), Kept()
    screen.show_log()
    async with working(worker_run(screen, server, show_session_string=False)):
        await screen.until("  discoverable")
        (room,) = server.rooms.rooms.values()
    shown = capsys.readouterr().out
    assert "sleap-session:" not in shown
    assert room.token is not None
    assert room.token not in shown


async def test_who_watches_is_not_what_the_worker_has_left_behind() -> None:
    screen = Kept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker_run(screen).run)
        ws, _, http = (await screen.until("so one runs inside: ")).split()[-3:]
        assert (await screen.until("in a browser: ")).endswith(f"{http}/")
        room = SessionString.parse((await screen.until("sleap-session:")).split()[-1])
        async with open_roster(Config(ws, http, room.room_id, room.token)):
            screen.on_gone()
            await screen.until("nothing was left behind: users 0, rooms 0")


async def test_a_worker_joins_the_room_of_another(nursery: trio.Nursery) -> None:
    server, screen = await nursery.start(serve), Kept()
    async with open_state_manager(Config(server.ws_url, server.http_url)) as first:
        assert first.session_string is not None
        room = SessionString.parse(first.session_string)
        async with working(worker_run(screen, server, room_id=room.room_id, room_token=room.token)):
            mine = SessionString.parse((await screen.until("sleap-session:")).split()[-1])
    assert mine.room_id == room.room_id
    assert mine.peer_id != room.peer_id


async def test_a_start_that_takes_long_says_so(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing is waited for, and the person knows for what; once it answers, all is well."""
    monkeypatch.setattr(run_worker, "FIRST_REPORT", 0.05)
    server, screen = await nursery.start(serve), Kept()
    server.hold_registers()
    async with working(worker_run(screen, server)):
        await screen.until("Still starting")
    assert not any("discoverable" in line for line in screen.lines)


async def test_a_wrong_room_token_is_a_failed_start_that_does_not_repeat_it(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    server, screen = await nursery.start(serve), Kept()
    screen.show_log()
    async with open_state_manager(Config(server.ws_url, server.http_url)) as first:
        room = first.state.room_id
        with pytest.raises(typer.Exit) as left:
            await worker_run(screen, server, room_id=room, room_token="wrong-token").run()
    assert left.value.exit_code == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1
    assert "wrong-token" not in shown.out + shown.err


async def test_what_is_left_on_the_server_inside_is_told(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Kept()
    start = partial(start_spoiled, lambda server: server.fail_http("/delete-peer", 500, "no", times=100))
    nursery.start_soon(_leave_when_discoverable, screen)
    with pytest.raises(typer.Exit) as left:
        await worker_run(screen, start_server=start).run()
    assert left.value.exit_code == 3
    assert "left something behind on the server: users 1, rooms 1" in capsys.readouterr().err


async def test_what_a_killed_client_has_left_is_not_the_workers(capsys: pytest.CaptureFixture[str]) -> None:
    """A user of the server inside whom nobody has deleted, and who is not the worker's, is no failure of the worker."""
    screen = Kept()

    def spoil(server: DevServer) -> None:
        server.rooms.sign_in(server.clock())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave_when_discoverable, screen)
        await worker_run(screen, start_server=partial(start_spoiled, spoil)).run()
    await screen.until("nothing was left behind: users 0, rooms 0")
    assert capsys.readouterr().err == ""


async def test_a_client_that_has_gone_is_one_line(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """The errors about messages to it, which are all the same, are one line that names their code."""
    server, screen = await nursery.start(serve), Kept(logging.INFO)

    async def handle(job: Job) -> None:
        job.client = "gone"
        for step in range(3):
            await job.send({"type": "progress", "step": step})
        handled.set()

    handled = trio.Event()
    async with working(worker_run(screen, server, handler=handle)):
        session = SessionString.parse((await screen.until("sleap-session:")).split()[-1])
        offer = {"type": "offer", "sender": session.peer_id, "target": session.peer_id, "sdp": "v=0"}
        server.perform(server.rooms.receive("client", json.dumps(offer), server.clock()))
        with trio.fail_after(PATIENCE):
            await handled.wait()
            while sum("received: error" in line for line in screen.lines) < 3:
                await trio.sleep(0.01)
    assert capsys.readouterr().out.count("received: error PEER_NOT_IN_ROOM from the server") == 1


async def test_a_flood_of_messages_is_not_one_of_lines(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that sends thousands of messages fills no disk: beyond some there is one line at each power of two."""
    server, screen = await nursery.start(serve), Kept(logging.INFO)
    async with working(worker_run(screen, server)):
        session = SessionString.parse((await screen.until("sleap-session:")).split()[-1])
        ids = {"from_peer_id": session.peer_id, "to_peer_id": session.peer_id}
        for number in range(3 * MOST_LINES):
            message = {"type": "peer_message", **ids, "payload": {"number": number}}
            server.perform(server.rooms.receive("client", json.dumps(message), server.clock()))
            await trio.lowlevel.checkpoint()
        await screen.until(f"received: {2 * MOST_LINES} messages within a minute")
    assert capsys.readouterr().out.count("received: peer_message") == MOST_LINES


async def test_leaving_while_it_starts_is_no_failure(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The room of a worker that was never registered cannot be deleted: that is told, and the end is a clean one."""
    monkeypatch.setattr(run_worker, "FIRST_REPORT", 0.5)
    screen = Kept()

    async def leave() -> None:
        await screen.until("Still starting")
        screen.on_gone()

    nursery.start_soon(leave)
    await worker_run(screen, start_server=partial(start_spoiled, lambda server: server.hold_registers())).run()
    await screen.until("has left before it was registered; what stays until it runs out: users 0, rooms 1.")
    assert capsys.readouterr().err == ""


async def _leave_when_discoverable(screen: Kept) -> None:
    await screen.until("  discoverable")
    screen.on_gone()


async def test_a_demonstration_that_hangs_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left:
        await worker_run(Kept(), demo=True, demo_timeout=0.01).run()
    assert left.value.exit_code == 1
    assert "not over in 0.01 s" in capsys.readouterr().err
