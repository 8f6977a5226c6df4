"""The unit file and the probes that people copy, held to the code and to systemd's own judgement."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import typer
from typer.testing import CliRunner

from tests.integrations.test_health import PATHS, served
from tests.support.showing import showing
from worker_state import State, Timing
from worker_state.cli.output import ExitCode
from worker_state.cli.run import DRAIN_TIMEOUT, run_command
from worker_state.integrations.health.server import BOUND, REMEMBERED

EXAMPLES = Path(__file__).parents[1] / "examples"
UNIT = (EXAMPLES / "worker-state.service").read_text(encoding="utf-8")
PROBES = (EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8")
LEAVING = DRAIN_TIMEOUT + Timing().exit + Timing().close


def of_unit(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(value)


def of_probes(name: str) -> list[str]:
    return re.findall(rf"^ *{name}: (\S+)", PROBES, re.MULTILINE)


def command_of_probes() -> list[str]:
    (listed,) = re.findall(r"command: \[(.*)\]", PROBES)
    return [word.strip(' "') for word in listed.split(",")]


@pytest.mark.parametrize("command", [shlex.split(of_unit("ExecStart")), command_of_probes()])
def test_the_options_exist(command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the files start is a command with a handler and options that there are."""
    (tmp_path / "my_worker.py").write_text("def handle(job): pass\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert command[0].endswith("worker-state")
    assert command[1:3] == ["run", "my_worker:handle"]
    ran: list[bool] = []
    monkeypatch.setattr("trio.run", lambda *_: ran.append(True))
    app = typer.Typer()
    app.command()(run_command)
    result = CliRunner().invoke(app, command[2:])
    assert (result.exit_code, ran, result.stderr) == (0, [True], "")


def test_the_times_fit() -> None:
    """Both wait for longer than leaving takes, and for longer than a loop may lag before it is called stuck."""
    assert float(of_unit("TimeoutStopSec")) > LEAVING
    assert float(of_probes("terminationGracePeriodSeconds")[0]) > LEAVING
    assert float(of_unit("WatchdogSec")) > 2 * BOUND
    assert float(of_probes("periodSeconds")[0]) <= REMEMBERED


def test_g06_a_start_may_wait_for_the_server() -> None:
    """What the files start waits for a server that is away, and neither a time-out nor a probe ends that."""
    for command in (shlex.split(of_unit("ExecStart")), command_of_probes()):
        assert {"--wait", "--health"} <= set(command)
    assert of_unit("TimeoutStartSec") == "infinity"
    assert "startupProbe" not in PROBES


def test_g39_what_no_restart_mends() -> None:
    """The unit is not started again after bad usage, nor after an end that has left something on the server."""
    assert of_unit("Restart") == "on-failure"
    assert of_unit("RestartPreventExitStatus") == str(int(ExitCode.BAD_USAGE))
    assert of_unit("SuccessExitStatus") == str(int(ExitCode.LEFT_SOMETHING))


async def test_the_probes_ask_for_what_is_answered() -> None:
    """The paths of the probes are answered, the one with life, the other with readiness."""
    alive, ready = of_probes("path")
    assert {alive, ready} <= set(PATHS)
    assert set(of_probes("port")) == {"health"}
    command = command_of_probes()
    assert of_probes("containerPort") == [command[command.index("--health") + 1]]
    async with served(showing(State(unregistered_since=trio.current_time()))) as client:
        assert (await client.get(alive)).status_code == 200
        assert (await client.get(ready)).status_code == 503


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd itself finds nothing to complain about, once the program stands where the file says."""
    unit = tmp_path / "worker-state.service"
    unit.write_text(UNIT.replace("/opt/worker/.venv/bin/worker-state", sys.executable), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "worker-state.service" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
