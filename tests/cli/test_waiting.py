"""A start without its server (faults.md, G06): what a person, a probe and systemd are told, with --wait and without."""

import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import trio
from typer.testing import CliRunner

from tests.cli.test_run_worker import Kept, worker_run, working
from tests.integrations.test_systemd import bound
from tests.support.processes import Spawn
from worker_state.cli import run_worker
from worker_state.cli.app import app
from worker_state.devserver import ApiKey, Rooms, serve

KEY = "slp_lab"
runner = CliRunner()


@dataclass(frozen=True)
class Absent:
    """A server that is not there, on two ports that nobody else gets."""

    ws_port: int
    http_port: int

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.ws_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def options(self) -> list[str]:
        return ["--ws", self.ws_url, "--http", self.http_url]

    async def come(self, nursery: trio.Nursery) -> None:
        """From now on it is there."""
        rooms = Rooms(random=Random(1), generation="v3", api_keys={KEY: ApiKey("0badcafe")})
        await nursery.start(partial(serve, rooms=rooms, ws_port=self.ws_port, http_port=self.http_port))


@pytest.fixture
def absent() -> Iterator[Absent]:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield Absent(one.getsockname()[1], two.getsockname()[1])


def patient(screen: Kept, absent: Absent, **changes: Any) -> run_worker.WorkerRun:
    return worker_run(screen, absent, wait_for_server=True, **changes)


@pytest.mark.parametrize("way", [[], ["--api-key", KEY]], ids=["anonymous", "api key"])
def test_g06_without_wait_one_sentence_says_why_and_what_to_do(absent: Absent, way: list[str]) -> None:
    """The start fails with the cause and both ways on, and no further dial is promised."""
    result = runner.invoke(app, ["run", *absent.options, *way])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for told in (": connection refused.", "`worker-state doctor`", "--wait"):
        assert told in result.stderr
    assert "follows in" not in result.stdout


def test_g06_waiting_is_no_advice_against_a_refusal(absent: Absent, spawn: Spawn) -> None:
    """A room that does not exist is not waited for, and nobody is told to."""
    server = spawn("serve", "--ws-port", str(absent.ws_port), "--http-port", str(absent.http_port))
    server.addresses()
    result = runner.invoke(app, ["run", *absent.options, "--wait", "--room", "nowhere", "--token", "x"])
    assert result.exit_code == 1
    assert "room not found. `worker-state doctor`, with the same options, looks closer.\n" in result.stderr


@pytest.mark.parametrize(
    ("way", "trouble"), [({}, "sign-in failed: connection refused"), ({"api_key": KEY}, "connection refused")]
)
async def test_g06_waiting_is_told_with_its_cause(
    absent: Absent, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], trouble: str
) -> None:
    """The first failure is one loud line, then it is said now and then that the server is waited for, and why."""
    monkeypatch.setattr(run_worker, "FIRST_REPORT", 0.05)
    monkeypatch.setattr(run_worker, "REPORT_AGAIN", 0.2)
    screen = Kept()
    screen.show_log()
    async with working(patient(screen, absent, **way)):
        await screen.until(f"Waiting for the server, for 0 s: {trouble}. `worker-state doctor` looks closer.")
        with trio.fail_after(30):
            while sum("Waiting for the server" in line for line in screen.lines) < 3:
                await trio.sleep(0.01)
        if way:  # an anonymous one would ask again after some seconds
            await absent.come(nursery)
            await screen.until("  discoverable")


def test_g06_waiting_is_told_ever_more_rarely() -> None:
    """In two minutes it is said three times, in a day less than thirty times, and at least once an hour."""
    said = [run_worker.FIRST_REPORT]
    while said[-1] < 86400:
        said.append(run_worker.next_report(said[-1]))
    assert said[:4] == [5, 60, 120, 240]
    assert len(said) < 40
    assert max(later - sooner for sooner, later in pairwise(said)) == 3600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("by", ["option", "variable", "file"])
def test_g06_a_signal_ends_the_waiting_at_once(absent: Absent, spawn: Spawn, number: signal.Signals, by: str) -> None:
    """Nothing was created, so nothing is owed: exit code 0, within a moment."""
    if by == "file":
        Path("sleap-rtc.toml").write_text("[worker_state]\nwait_for_server = true\n", "utf-8")
    variables = {"WORKER_STATE_WAIT_FOR_SERVER": "yes"} if by == "variable" else {}
    waiting = spawn("run", *absent.options, *(["--wait"] if by == "option" else []), **variables)
    waiting.until("sign-in failed: connection refused")
    asked_at = time.monotonic()
    waiting.process.send_signal(number)
    waiting.until("Leaving")
    assert waiting.end() == 0
    assert waiting.errors == ""
    assert time.monotonic() - asked_at < 2 + waiting.kept_waiting()


def test_g06_with_a_server_inside_there_is_nothing_to_wait_for(spawn: Spawn) -> None:
    """--wait without a server named anywhere is harmless."""
    inside = spawn("run", "--wait")
    inside.until("  discoverable")
    inside.process.terminate()
    assert inside.end() == 0


async def test_g06_probes_are_answered_while_it_waits(
    absent: Absent, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is alive, not ready, and says why; when the server has come it is ready."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    screen = Kept()
    async with (
        working(patient(screen, absent, api_key=KEY, health=(0, None))),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        url = (await screen.until("health: ")).removeprefix("health: ").partition("/health")[0]
        with trio.fail_after(30):
            while "connection refused" not in (answer := await client.get(f"{url}/ready")).json()["reason"]:
                await trio.sleep(0.01)
            assert (answer.status_code, answer.json()["reason"]) == (503, "not registered: connection refused")
            assert (await client.get(f"{url}/health")).status_code == 200
            assert (await client.get(f"{url}/worker")).json()["trouble"] == "connection refused"
            await absent.come(nursery)
            while (await client.get(f"{url}/ready")).status_code != 200:
                await trio.sleep(0.01)


async def test_g06_systemd_is_told_what_is_waited_for(
    absent: Absent, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """STATUS says why the worker cannot be found, and READY=1 comes with the registration, not before."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with bound(str(tmp_path / "notify"), monkeypatch) as systemd:
        async with working(patient(Kept(), absent, api_key=KEY)):
            assert "READY=1" not in await systemd.until("STATUS=available, not registered: connection refused")
            await absent.come(nursery)
            assert "READY=1" in await systemd.until("STATUS=available, discoverable")
        assert systemd.heard()[-1] == "STOPPING=1"
