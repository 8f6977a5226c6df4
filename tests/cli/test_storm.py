"""`worker-state storm`: what it refuses, what it tells, and that Ctrl-C ends it."""

import resource
import signal

import pytest
import trio
from typer.testing import CliRunner

from benchmarks import storm_demo
from benchmarks.storm.admission import Limits, SlottedAdmission
from tests.support.processes import Spawn
from worker_state import State
from worker_state.cli.app import app
from worker_state.protocol.status import Busy

SMALL = ["storm", "--workers", "5", "--capacity", "50", "--down", "0.2"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--workers", "0"], "--workers must be"),
        (["--workers", "2001"], "--workers must be"),
        (["--workers", "many"], "--workers"),
        (["--capacity", "0"], "--capacity must be"),
        (["--capacity", "nan"], "--capacity must be"),
        (["--capacity", "inf"], "--capacity must be"),
        (["--down", "-1"], "--down must be"),
        (["--down", "inf"], "--down must be"),
    ],
)
def test_a_storm_of_no_sense_is_refused(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(app, ["storm", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("capacity", ["0", "-3", "inf", "nan"])
def test_a_server_that_registers_nobody_is_refused(capacity: str) -> None:
    result = CliRunner().invoke(app, ["serve", "--capacity", capacity])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--capacity must be" in result.stderr


def test_a_server_may_be_as_slow_as_it_is_told(spawn: Spawn) -> None:
    server = spawn("serve", "--ws-port", "0", "--http-port", "0", "--capacity", "2")
    server.addresses()
    server.process.terminate()
    assert server.end() == 0


def test_a_storm_has_help_with_an_example() -> None:
    result = CliRunner().invoke(app, ["storm", "--help"])
    assert result.exit_code == 0
    assert "    worker-state storm --workers" in result.stdout


def test_more_workers_than_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 128))
    result = CliRunner().invoke(app, ["storm", "--workers", "100"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--workers 100 needs 264 open files, and this system allows 128." in result.stderr


def test_the_limit_of_files_is_raised_as_far_as_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 1000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert storm_demo.files_missing(100) is None
    assert asked == [(264, 1000)]


def test_every_worker_is_in_one_stage() -> None:
    lost = State()
    connected = State(connected=True)
    registered = State(connected=True, registered_since=1.0)
    proved = State(connected=True, registered_since=1.0, discoverable_since=2.0, truth=Busy("7"))
    assert [storm_demo.stage(state) for state in (lost, connected, registered, proved)] == list(storm_demo.STAGES)


async def test_wasted_registrations_are_told() -> None:
    admission = SlottedAdmission(Limits(capacity=10.0))
    assert "gone" not in storm_demo.praise(storm_demo.Plan(10, 10.0, 1.0), 1.5, admission)
    admission.slots.dead = 3
    sentence = storm_demo.praise(storm_demo.Plan(10, 10.0, 1.0), 1.5, admission)
    assert "1.5 s after the server: 1.50 times the shortest possible" in sentence
    assert "3 registrations were spent on workers that had gone" in sentence


async def test_a_killed_server_comes_back_on_the_same_ports_without_registrations(nursery: trio.Nursery) -> None:
    victim = storm_demo.Victim()
    await victim.start(nursery)
    assert victim.server is not None
    addresses = victim.server.ws_url, victim.server.http_url
    await victim.kill()
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", victim.ports[0])
    await victim.start(nursery, SlottedAdmission(Limits(capacity=10.0)))
    assert (victim.server.ws_url, victim.server.http_url) == addresses
    assert not victim.shows("nobody", "7")
    await victim.kill()


@pytest.mark.slow
def test_a_small_storm_is_told_in_plain_lines(spawn: Spawn) -> None:
    storm = spawn(*SMALL, NO_COLOR="1")
    assert storm.end() == 0
    text = "\n".join(storm.lines)
    for part in ("5 workers sign in", "the server is killed", "registers 50 a second", "dialling 5", "All 5 workers"):
        assert part in text
    assert "\x1b" not in text
    assert storm.errors == ""


@pytest.mark.slow
def test_a_terminal_gets_bars_that_are_gone_at_the_end(spawn: Spawn) -> None:
    storm = spawn(*SMALL, terminal=True, COLUMNS="120")
    assert storm.end() == 0
    text = "\n".join(storm.lines)
    assert "5/5" in text
    assert "All 5 workers" in storm.lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["sign in", "is killed"])
def test_ctrl_c_ends_a_storm_in_order(spawn: Spawn, when: str) -> None:
    storm = spawn("storm", "--workers", "5", "--capacity", "1", "--down", "60")
    storm.until(when)
    storm.process.send_signal(signal.SIGINT)
    storm.until("Stopping")
    assert storm.end() == 0
    assert storm.errors == ""
