"""`worker-state offer` to a room, by its token or an API key: the worker is looked for there."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import typer
from trio.testing import MockClock
from typer.testing import CliRunner

from tests.support.processes import PROGRAM, environment
from worker_state import Config, Job, SessionString, open_state_manager, serve_jobs
from worker_state.cli import offer_job
from worker_state.cli.app import app
from worker_state.cli.offer_job import offer
from worker_state.cli.screen import Screen
from worker_state.devserver.identities import ApiKey
from worker_state.protocol.frames import Message
from worker_state.redact import Secrets
from worker_state.testing import on_sockets

KEY = "slp_lab"
SERVER = ("--ws", "ws://127.0.0.1:1", "--http", "http://127.0.0.1:1")
IN_ROOM = {"WORKER_STATE_ROOM_ID": "r", "WORKER_STATE_ROOM_TOKEN": "t"}


async def handle(job: Job) -> None:
    """A job that is done at once, and repeats the client's own key."""
    await job.send({"type": "note", "text": f"you came with {KEY}"})


async def test_an_offer_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    """The offer goes to the worker that is named, or to any that is available; there may be none."""
    with trio.fail_after(30):
        async with on_sockets(generation="v3", api_keys={KEY: ApiKey("0badcafe")}) as kit:
            config = kit.config(api_key=KEY)
            async with open_state_manager(config) as manager, trio.open_nursery() as nursery:
                nursery.start_soon(serve_jobs, manager, handle)
                await offer(config, None, {"sdp": "v=0"}, 20)
                await manager.wait_for(lambda state: state.status == "available" and state.synced)
                await offer(config, manager.state.peer_id, {"sdp": "v=0"}, 20)
                printed = capsys.readouterr().out
                assert (printed.count('"done"'), printed.count("you came with [secret]")) == (2, 2)
                manager.set_maintenance()
                await manager.synced()
                for worker, why in ((None, "no worker of the room is available"), ("x", "no such worker")):
                    with pytest.raises(typer.Exit) as left:
                        await offer(config, worker, {"sdp": "v=0"}, 20)
                    assert left.value.exit_code == 1
                    assert why in capsys.readouterr().err
                nursery.cancel_scope.cancel()


async def test_an_offer_to_a_given_room() -> None:
    """The variables of a room are enough: the offer goes to a worker of that room which is available."""
    with trio.fail_after(30):
        async with on_sockets() as kit:
            room = kit.given_room()
            variables = {"WORKER_STATE_ROOM_ID": room["room_id"], "WORKER_STATE_ROOM_TOKEN": room["room_token"]}
            async with open_state_manager(kit.config(**room)) as manager, trio.open_nursery() as nursery:
                nursery.start_soon(serve_jobs, manager, handle)
                command = [str(PROGRAM), "offer", "--ws", kit.websocket_url, "--http", kit.http_url]
                done = await trio.run_process(command, env={**environment(), **variables}, capture_stdout=True)
                assert b'"done"' in done.stdout
                nursery.cancel_scope.cancel()


class OddServer:
    """A client of a server whose answer to a search has these peers."""

    peer_id = "client-1"

    def __init__(self, peers: object) -> None:
        self._peers = peers
        self.sent: list[str] = []

    async def send(self, message: Message) -> None:
        self.sent.append(message["type"])

    async def receive(self) -> Message:
        return {"type": "peer_list", "peers": self._peers}

    @asynccontextmanager
    async def open_client(self, _: Config) -> "AsyncIterator[OddServer]":
        yield self


class LoudRoom(OddServer):
    """A client with a worker that says nothing, and a stranger that does not stop."""

    def __init__(self) -> None:
        super().__init__([{"peer_id": "w"}])

    async def receive(self) -> Message:
        if self.sent == ["discover_peers"]:
            return await super().receive()
        await trio.sleep(0.02)
        return {"type": "peer_message", "from_peer_id": "stranger", "payload": {"type": "done"}}


class DeafWorker(OddServer):
    """A client of a worker whose job goes on and on, and says so."""

    secrets = Secrets()

    async def receive(self) -> Message:
        await trio.sleep(1)
        return {"type": "peer_message", "from_peer_id": "w", "payload": {"type": "progress"}}


class MuteServer(OddServer):
    """A client of one that does not answer; who waits for it is interrupted."""

    async def receive(self) -> Message:
        signal.raise_signal(signal.SIGINT)
        return await trio.sleep_forever()


@pytest.mark.parametrize("peers", [None, 7, [None], ["w"], [{}], [{"peer_id": 7}], [{"peer_id": "w", "metadata": []}]])
async def test_an_odd_answer_to_the_search_names_no_worker(
    peers: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no list, no record or no id is passed over, and the end is a sentence."""
    monkeypatch.setattr(offer_job, "open_client", OddServer(peers).open_client)
    with pytest.raises(typer.Exit) as left:
        await offer(Config("ws://127.0.0.1:1", "http://127.0.0.1:1"), None, {"sdp": "v=0"}, 1.0)
    assert left.value.exit_code == 1
    assert capsys.readouterr().err == "Error: The job was not done: no worker of the room is available.\n"


@pytest.mark.parametrize("worker", [None, "w"])
async def test_a_search_that_is_interrupted_cancels_no_job(
    worker: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was offered: nobody is told to cancel, nothing is waited for, and how it ends is known."""
    server = MuteServer([])
    monkeypatch.setattr(offer_job, "open_client", server.open_client)
    with pytest.raises(typer.Exit) as left:
        await offer(Config("ws://127.0.0.1:1", "http://127.0.0.1:1"), worker, {"sdp": "v=0"}, 1.0)
    assert left.value.exit_code == 1
    assert capsys.readouterr().err == "Error: The job was not done: stopped before there was an answer.\n"
    assert server.sent == ["discover_peers"]


async def test_what_strangers_say_does_not_lengthen_the_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--wait is for the worker's next message."""
    monkeypatch.setattr(offer_job, "open_client", LoudRoom().open_client)
    with trio.fail_after(30):
        with pytest.raises(typer.Exit) as left:
            await offer(Config("ws://127.0.0.1:1", "http://127.0.0.1:1"), "w", {"sdp": "v=0"}, 0.5)
    assert left.value.exit_code == 1
    assert capsys.readouterr() == ("", "Error: The job was not done: the worker has said nothing for 0.5 s.\n")


async def test_a_job_that_ignores_its_cancel_is_left(autojump_clock: MockClock) -> None:
    """However much it says: after Ctrl-C its end is waited for so long and no longer."""
    client: Any = DeafWorker([])
    ending = await offer_job._follow(client, "w", 60.0, Screen(), offer_job.CANCEL_WITHIN)
    assert (ending, trio.current_time()) == ("it has not ended in 10 s", 10.0)


@pytest.mark.parametrize(
    ("typed", "variables", "room", "worker"),
    [
        (("--room", "r", "--token", "t"), {}, ("r", "t", None), None),
        ((), IN_ROOM, ("r", "t", None), None),
        (("--worker", "w"), IN_ROOM, ("r", "t", None), "w"),
        (("--room", "other"), IN_ROOM, ("other", "t", None), None),
        ((), {**IN_ROOM, "WORKER_STATE_SESSION": str(SessionString("s", "u", "p"))}, ("s", "u", None), "p"),
        (("--room", "r", "--token", "t"), {"WORKER_STATE_SESSION": "nonsense"}, ("r", "t", None), None),
        (("--api-key", KEY), IN_ROOM, (None, None, KEY), None),
    ],
)
def test_how_the_room_is_named(
    typed: tuple[str, ...],
    variables: dict[str, str],
    room: tuple[str | None, str | None, str | None],
    worker: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options, then a session string of the environment, then the variables of a room, as for `watch`."""
    ran: list[tuple[Config, str | None]] = []
    monkeypatch.setattr("trio.run", lambda _, config, worker, *__: ran.append((config, worker)))
    result = CliRunner().invoke(app, ["offer", *SERVER, *typed], env=variables)
    assert (result.exit_code, result.stderr) == (0, "")
    ((config, chosen),) = ran
    assert ((config.room_id, config.room_token, config.api_key), chosen) == (room, worker)
