"""What `worker-state run` does, in this process: over real sockets, with a server that the test can spoil."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import typer

from worker_state import Config, SessionString, open_state_manager
from worker_state.cli import run_worker
from worker_state.cli.run_worker import Plan, run
from worker_state.cli.screen import Screen
from worker_state.devserver import DevServer, serve
from worker_state.logs import NOTHING, About
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


def plan(server: DevServer | None = None, **changes: object) -> Plan:
    def configure(websocket_url: str, http_url: str) -> Config:
        return Config(websocket_url, http_url, show_session_string=False, **options)  # type: ignore[arg-type]

    fields = ("room_id", "room_token", "api_key", "wait_for_server")
    options = {name: changes.pop(name) for name in fields if name in changes}
    addresses = None if server is None else (server.ws_url, server.http_url)
    return Plan(configure, addresses, **({"demo": False, "show_session_string": True} | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def working(plan: Plan, screen: Screen) -> AsyncIterator[None]:
    """A `worker-state run` until the end of the block, which ends it as a signal would."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, plan, screen)
        yield
        screen.on_gone()


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
    async with working(plan(server), screen):
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
    async with working(plan(server, show_session_string=False), screen):
        await screen.until("  discoverable")
        (room,) = server.rooms.rooms.values()
    shown = capsys.readouterr().out
    assert "sleap-session:" not in shown
    assert room.token is not None
    assert room.token not in shown


async def test_who_watches_is_not_what_the_worker_has_left_behind() -> None:
    screen = Kept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, plan(), screen)
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
        async with working(plan(server, room_id=room.room_id, room_token=room.token), screen):
            mine = SessionString.parse((await screen.until("sleap-session:")).split()[-1])
    assert mine.room_id == room.room_id
    assert mine.peer_id != room.peer_id


async def test_a_start_that_takes_long_says_so(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing is waited for, and the person knows for what; once it answers, all is well."""
    monkeypatch.setattr(run_worker, "FIRST_REPORT", 0.05)
    server, screen = await nursery.start(serve), Kept()
    server.hold_registers()
    async with working(plan(server), screen):
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
            await run(plan(server, room_id=room, room_token="wrong-token"), screen)
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
        await run(plan(), screen, start)
    assert left.value.exit_code == 3
    assert "left something behind on the server: users 1, rooms 1" in capsys.readouterr().err


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
    await run(plan(), screen, partial(start_spoiled, lambda server: server.hold_registers()))
    await screen.until("has left before it was registered; what stays until it runs out: users 0, rooms 1.")
    assert capsys.readouterr().err == ""


async def _leave_when_discoverable(screen: Kept) -> None:
    await screen.until("  discoverable")
    screen.on_gone()


async def test_a_demonstration_that_hangs_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left:
        await run(plan(demo=True, demo_timeout=0.01), Kept())
    assert left.value.exit_code == 1
    assert "not over in 0.01 s" in capsys.readouterr().err
