"""`worker-state` where its extra, or the checkout that `storm` needs, is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.processes import DEADLINE, environment
from worker_state.cli import storm
from worker_state.cli.app import app

PROGRAM = """
import sys
sys.modules[{missing!r}] = None  # importing it raises ModuleNotFoundError
sys.argv = ["worker-state", *{arguments}]
from worker_state.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("typer", []), ("typer", ["run"]), ("rich", ["--help"]), ("rich", ["run"]), ("h11", ["serve"])],
)
def test_a_missing_package_is_one_sentence_with_its_extra(missing: str, arguments: list[str]) -> None:
    program = PROGRAM.format(missing=missing, arguments=arguments)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Error: worker-state needs {missing}: pip install 'worker-state[cli]'\n"


def test_another_missing_module_is_a_bug_with_its_traceback() -> None:
    program = PROGRAM.format(missing="worker_state.cli.app", arguments=[])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_storm_without_a_checkout_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(storm, "CHECKOUT", tmp_path)
    result = CliRunner().invoke(app, ["storm"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "needs a checkout of the project" in result.stderr
    assert result.stderr.count("\n") == 1
