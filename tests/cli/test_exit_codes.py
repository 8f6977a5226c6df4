"""Exit code 3 (faults.md, G39): all was well, and an identity may be left on the server."""

import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
import typer

from tests.cli.test_run_worker import Kept, start_spoiled, worker_run
from tests.support.processes import Server, Spawn
from worker_state import Config, open_state_manager
from worker_state.cli.offer_job import offer
from worker_state.cli.watch_room import watch
from worker_state.devserver import DevServer, serve
from worker_state.devserver.model import Reply

SENTENCE = "Error: An identity of this worker may be left on the server, as its log says.\n"


async def code_of(command: Any, *arguments: Any) -> int:
    """The exit code of a command in this process."""
    try:
        await command(*arguments)
    except typer.Exit as end:
        return end.exit_code
    return 0


async def test_g39_an_identity_that_could_not_be_deleted(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker whose deletion fails ends with 3, a line of the log and one sentence."""
    server, screen = await nursery.start(serve), Kept()
    screen.show_log()
    server.fail_http("/delete-peer", 500, "no", times=3)
    nursery.start_soon(leave_after, screen, "  discoverable")
    assert await code_of(worker_run(screen, server).run) == 3
    printed = capsys.readouterr()
    assert "1 of its identities may be left on the server" in printed.out
    assert printed.err == SENTENCE


async def leave_after(screen: Kept, text: str) -> None:
    await screen.until(text)
    screen.on_gone()


@dataclass
class Silent:
    """A server that takes connections and says nothing."""

    listener: trio.SocketListener

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.listener.socket.getsockname()[1]}"

    @property
    def http_url(self) -> str:
        return self.ws_url.replace("ws://", "http://")

    async def interrupt(self, command: Any, *arguments: Any) -> int:
        """The exit code of a command that is told to leave when it has asked for something."""
        codes = []

        async def run() -> None:
            codes.append(await code_of(command, *arguments))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            async with await self.listener.accept() as stream:
                await stream.receive_some()
                signal.raise_signal(signal.SIGINT)
                while not codes:
                    await trio.sleep(0.01)
        return codes[0]


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield Silent(listener)


async def test_g39_a_start_that_is_interrupted(silent: Silent, capsys: pytest.CaptureFixture[str]) -> None:
    """A sign-in whose answer nobody waits for any more may leave an identity: 3, although the worker never was."""
    screen = Kept()
    screen.show_log()
    assert await silent.interrupt(worker_run(screen, silent).run) == 3
    assert capsys.readouterr().err == SENTENCE


async def test_g39_a_start_that_fails(nursery: trio.Nursery) -> None:
    """A start that fails and leaves an identity ends with 1: that it has failed is the more important news."""
    server, screen = await nursery.start(serve), Kept()
    screen.show_log()
    server.fail_http("/create-room", 500, "no")
    server.fail_http("/delete-peer", 500, "no", times=3)
    assert await code_of(worker_run(screen, server).run) == 1
    assert screen.identities_left


@pytest.mark.parametrize("trouble", ["refused", "unanswered"])
async def test_g39_watching(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], trouble: str) -> None:
    """Who has watched and whose identity could not be deleted ends with 3, and gets what was asked for."""
    server = await nursery.start(serve)
    async with open_state_manager(Config(server.ws_url, server.http_url)) as manager:
        room = server.rooms.rooms[manager.state.room_id or ""]
        config = Config(server.ws_url, server.http_url, room.room_id, room.token)
        if trouble == "refused":
            server.fail_http("/delete-peer", 500, "no")
        else:
            server.hang_http("/delete-peer")
        assert await code_of(partial(watch, once=True, as_json=True), config, 2.0) == 3
        server.release_http()
    printed = capsys.readouterr()
    assert json.loads(printed.out)["count"] == 1
    assert printed.err.startswith("Warning: our identity could not be deleted, and may be left on the server: ")
    assert printed.err.count("\n") == 1


async def test_g39_watching_that_is_interrupted(silent: Silent, capsys: pytest.CaptureFixture[str]) -> None:
    """A sign-in of `watch` that is cut short is told, too; that nothing was seen is the more important news."""
    config = Config(silent.ws_url, silent.http_url, "r", "t")
    assert await silent.interrupt(partial(watch, once=True), config, 2.0) == 1
    assert "may be left on the server: its name is not known." in capsys.readouterr().err


async def test_g39_an_offer_whose_way_in_is_interrupted(silent: Silent, capsys: pytest.CaptureFixture[str]) -> None:
    """As for `watch`, and as soon: the way in is not waited for, which a server may keep for half a minute."""
    with trio.fail_after(15):
        assert await silent.interrupt(offer, Config(silent.ws_url, silent.http_url, "r", "t"), None, {}, 60.0) == 1
    printed = capsys.readouterr()
    assert "may be left on the server: its name is not known" in printed.out
    assert printed.err == "Error: The job was not done: stopped before there was an answer.\n"


def test_g39_a_server_that_goes_first(spawn: Spawn, server: Server) -> None:
    """The process of a worker whose server has gone ends with 3, at the first signal."""
    worker = spawn("run", "--log-format", "json", *server.options)
    worker.until('"discoverable"')
    server.running.process.kill()
    worker.until('"connection_lost"')
    worker.process.terminate()
    assert worker.end() == 3
    assert worker.errors == ""
    events = [json.loads(line)["event"] for line in worker.lines]
    assert events[-2:] == ["identities_left", "failed"]
    assert "status_postponed" not in events  # without a job it does not say maintenance first


async def test_g08_what_the_server_inside_is_known_to_have_done(capsys: pytest.CaptureFixture[str]) -> None:
    """A deletion whose answer was lost has been done all the same: the server inside can be asked, and that counts."""
    screen = Kept()
    screen.show_log()

    def lose_the_answer(server: DevServer) -> None:
        delete = server.rooms.delete_peer
        server.rooms.delete_peer = lambda body, now: (delete(body, now), Reply(500, {}))[1]  # type: ignore[method-assign]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave_after, screen, "  discoverable")
        assert await code_of(worker_run(screen, start_server=partial(start_spoiled, lose_the_answer)).run) == 0
    assert "nothing was left behind: users 0, rooms 0" in capsys.readouterr().out


async def test_g39_a_clean_end(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """Where everything could be deleted the exit code is 0."""
    server, screen = await nursery.start(serve), Kept()
    screen.show_log()
    nursery.start_soon(leave_after, screen, "  discoverable")
    assert await code_of(worker_run(screen, server).run) == 0
    assert not server.rooms.users
    assert capsys.readouterr().err == ""
