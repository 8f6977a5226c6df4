"""What `make` and `.ci/run` hand on: nothing that a person or a machine has set for something else."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import DEADLINE, environment

ROOT = Path(__file__).parents[1]
FOREIGN = {
    "LANG": "tlh_QO",
    "PYTHONHOME": "/elsewhere",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": "/elsewhere",
    "PYTHONUNBUFFERED": "1",
    "VIRTUAL_ENV": "/elsewhere",
    "WORKER_STATE_TAGS": "mine",
}


def handed_on(*command: str | Path, **variables: str) -> dict[str, str]:
    """The environment that the command prints."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_g38_make_keeps_what_another_python_was_told_to_itself(tmp_path: Path) -> None:
    """An environment that is active, and variables that would bend or break our own Python, do not reach it."""
    probe = tmp_path / "probe.mk"
    probe.write_text("probe:\n\t@env\n", "utf-8")
    given = handed_on("make", "-f", "Makefile", "-f", probe, "probe", **FOREIGN)
    assert not [name for name in given if name.startswith(("PYTHON", "VIRTUAL_ENV"))]


def test_g38_the_check_runs_as_on_an_ordinary_machine(tmp_path: Path) -> None:
    """Only what leads pip to its packages comes along, and that a browser is required where there is one."""
    for name, line in (("make", "exec env"), ("chromium", ""), ("chromedriver", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    ours = {"CI": "true", "PIP_CERT": "/a certificate", "https_proxy": "http://proxy.example.org"}
    path = f"{tmp_path}:{environment()['PATH']}"
    given = handed_on(ROOT / ".ci" / "run", **FOREIGN, **ours, PATH=path)
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    expected = {**ours, "HOME": "/nonexistent", "PATH": path, "WORKER_STATE_BROWSER": "required"}
    assert {name: value for name, value in given.items() if name not in of_the_shell} == expected
