"""The files that people copy for their operations, held to the code and to systemd's own judgement.

The targets of `make help` that end with `-test` run them for real.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from worker_state.integrations.metrics import exposition
from worker_state.protocol.counters import Counters

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
UNIT = (EXAMPLES / "worker-state.service").read_text(encoding="utf-8")
PROBES = (EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8")
IMAGE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
MONITORING = {
    name: (EXAMPLES / "monitoring" / name).read_text(encoding="utf-8")
    for name in ("dashboard.json", "rules.yml", "rules_test.yml")
}
SBATCH = sorted((EXAMPLES / "slurm").glob("*.sbatch"))
KILL_WAIT = 30.0  # seconds, of SLURM's defaults
LEAVING = DRAIN_TIMEOUT + Timing().exit + Timing().close


def of_unit(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(value)


def of_probes(name: str) -> list[str]:
    return re.findall(rf"^ *{name}: (\S+)", PROBES, re.MULTILINE)


def command_of_probes() -> list[str]:
    (listed,) = re.findall(r"command: \[(.*)\]", PROBES)
    return [word.strip(' "') for word in listed.split(",")]


def command_of(script: Path) -> list[str]:
    """What a script runs, without what `sbatch` is given for it."""
    (line,) = re.findall(r"(worker-state run .*?) \"\$@\"", script.read_text("utf-8"))
    return shlex.split(line)


def entry_point() -> list[str]:
    (listed,) = re.findall(r"^ENTRYPOINT (\[.*\])$", IMAGE, re.MULTILINE)
    return [str(word) for word in json.loads(listed)]


@pytest.mark.parametrize("command", [shlex.split(of_unit("ExecStart")), command_of_probes(), *map(command_of, SBATCH)])
def test_the_options_exist(command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the files start is a command with a handler and options that there are."""
    (tmp_path / "my_worker.py").write_text("def handle(job): pass\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert command[0].endswith("worker-state")
    assert command[1:3] == ["run", "my_worker:handle"]
    accepted(command[2:], monkeypatch)


def test_the_image_takes_a_handler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The image's entry point is a command with options that there are, and the handler is added to it."""
    (tmp_path / "my_worker.py").write_text("def handle(job): pass\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    command = entry_point()
    assert command[:2] == ["worker-state", "run"]
    assert {"--wait", "--withhold-session-string", "--health"} <= set(command)
    accepted([*command[2:], "my_worker:handle"], monkeypatch)


def test_the_image_is_given_what_builds_the_package() -> None:
    """What pyproject.toml names for the build is copied, and Docker is allowed to see it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "src",
        project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["path"],
    }
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", IMAGE, re.MULTILINE) for word in line.split()}
    seen = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    assert needed <= copied == set(seen)


def accepted(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`worker-state run` comes as far as the event loop with these options."""
    ran: list[bool] = []
    monkeypatch.setattr("trio.run", lambda *_: ran.append(True))
    app = typer.Typer()
    app.command()(run_command)
    result = CliRunner().invoke(app, options)
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


def test_the_image_is_asked_for_what_kubernetes_asks_for() -> None:
    """One port and one path, in the image's health check, its entry point and the pod; and neither runs as root."""
    command, (port,) = entry_point(), of_probes("containerPort")
    assert command[command.index("--health") + 1] == port
    assert re.findall(r"HTTPConnection\('127\.0\.0\.1', (\d+)", IMAGE) == [port]
    assert re.findall(r"'GET', '([^']+)'", IMAGE) == of_probes("path")[:1]
    (user,) = re.findall(r"^USER (\d+):\d+$", IMAGE, re.MULTILINE)
    assert int(user) > 0
    assert of_probes("runAsNonRoot") == ["true"]


@pytest.mark.parametrize("name", MONITORING)
def test_alerts_and_panels_ask_for_metrics_that_there_are(name: str) -> None:
    """Every metric that they name, and every status, result and outcome, is one of a worker's own."""
    _, text = exposition(State(), Counters(), now=0.0, lag=0.0, wall_ahead=0.0)
    known = set(re.findall(r"^worker_state_\w+", text.decode(), re.MULTILINE))
    asked_for = set(re.findall(r"worker_state_\w+", MONITORING[name]))
    assert len(asked_for) > 8
    assert asked_for <= known
    labels = r'\b((?:status|result|outcome)=\\?"\w+)'
    assert {each.replace("\\", "") for each in re.findall(labels, MONITORING[name])} <= set(
        re.findall(labels, text.decode())
    )


def test_every_alert_is_tried_and_explained() -> None:
    """An alert fires in a test of promtool's, and the page says what it means and what to do."""
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text("utf-8")
    alerts = re.findall(r"- alert: (\w+)", MONITORING["rules.yml"])
    assert len(alerts) > 8
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == alerts
    assert set(re.findall(r"alertname: (\w+)\n +exp_alerts:", MONITORING["rules_test.yml"])) == set(alerts)
    severities = re.findall(r"severity: (\w+)\}\n +annotations", MONITORING["rules.yml"])
    assert re.findall(r"^### \w+\n\n\*(\w+)\.\*", page, re.MULTILINE) == severities


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


# SLURM's scripts


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, in which `worker-state` is a program that tells how it was started."""
    program = tmp_path / "worker-state"
    ending = "trap 'echo \"$CUDA_VISIBLE_DEVICES terminated\"; exit ${CUDA_VISIBLE_DEVICES:-0}' TERM"
    program.write_text(f'#!/bin/bash\n{ending}\necho "$$ $*"\nwhile :; do sleep 0.05; done\n', "utf-8")
    program.chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NAME": "fleet",
        "SLURM_JOB_ID": "7",
        "HERE": str(tmp_path),
    }


@pytest.mark.parametrize("script", SBATCH, ids=lambda script: script.name)
def test_what_slurm_is_told(script: Path) -> None:
    """SLURM reads its options before the first command, and the job has the time to leave that the script says."""
    head, _, _ = script.read_text("utf-8").partition("\n\n# The environment into which")
    lines = [line for line in head.splitlines() if not line.startswith("# ") and line not in ("", "#")]
    assert lines[0] == "#!/bin/bash"
    options = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines[1:])
    assert {"requeue", "signal", "time", "output", "open-mode"} <= set(options)
    assert all(line.startswith("#SBATCH --") for line in lines[1:])
    kind, _, seconds = options["signal"].partition("@")
    command = command_of(script)
    drain = float(command[command.index("--drain-timeout") + 1])
    assert kind == "B:TERM"
    assert drain + Timing().exit + Timing().close < min(float(seconds), KILL_WAIT)
    assert {"--wait", "--withhold-session-string"} <= set(command)


@contextmanager
def submitted(script: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The script as `sbatch` starts it, with all that it has started in a session of its own."""
    command = ["bash", str(EXAMPLES / "slurm" / script), *arguments]
    here = variables.pop("HERE")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=here, env=variables, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_the_worker_takes_the_place_of_the_script(slurm: dict[str, str]) -> None:
    """What SLURM signals is the worker itself, which is given what follows the file's name."""
    with submitted("worker.sbatch", "--health", "0", **slurm) as process:
        assert process.stdout is not None
        started = shlex.join([*command_of(EXAMPLES / "slurm" / "worker.sbatch")[1:], "--health", "0"])
        assert process.stdout.readline() == f"{process.pid} {started}\n"
        process.terminate()
        assert process.communicate(timeout=30)[0] == " terminated\n"
        assert process.returncode == 0


def test_each_of_several_workers_gets_the_signal(slurm: dict[str, str], tmp_path: Path) -> None:
    """Each has a GPU and a log of its own; the script hands SIGTERM on, and ends after them with the highest code."""
    logs = [tmp_path / f"fleet-7-{number}.log" for number in range(3)]
    with submitted("workers.sbatch", **slurm, SLURM_NTASKS="3", CUDA_VISIBLE_DEVICES="4,6,5") as process:
        while not all(log.exists() and log.read_text("utf-8") for log in logs):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 6
    assert [log.read_text("utf-8").splitlines()[-1] for log in logs] == [f"{gpu} terminated" for gpu in (4, 6, 5)]


def test_each_of_several_workers_can_have_a_port(slurm: dict[str, str], tmp_path: Path) -> None:
    """The commented option of workers.sbatch, put where it says, gives each worker a port of its own."""
    text = (EXAMPLES / "slurm" / "workers.sbatch").read_text("utf-8")
    (option,) = re.findall(r"^#     (--health .*)$", text, re.MULTILINE)
    script = tmp_path / "monitored.sbatch"
    script.write_text(text.replace('20 "$@"', f'20 {option} "$@"'), "utf-8")
    logs = [tmp_path / f"fleet-7-{number}.log" for number in range(2)]
    with submitted(str(script), **slurm, SLURM_NTASKS="2") as process:
        while not all(log.exists() and log.read_text("utf-8") for log in logs):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    ports = [re.findall(r"--health (\d+) --health-host 0\.0\.0\.0", log.read_text("utf-8")) for log in logs]
    assert ports == [["30000"], ["30001"]]


def test_prometheus_is_told_of_workers_with_a_known_port_alone() -> None:
    """targets.sh asks for the jobs of worker.sbatch by their name, which those of workers.sbatch do not have."""
    alone, together = (
        re.findall(r"^#SBATCH --job-name=(\S+)$", script.read_text("utf-8"), re.MULTILINE) for script in SBATCH
    )
    targets = (EXAMPLES / "slurm" / "targets.sh").read_text("utf-8")
    assert re.findall(r"--name=\"\$\{1:-(\S+)\}\"", targets) == alone != together
