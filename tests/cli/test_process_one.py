"""`worker-state` as process 1 of a container, for which the kernel ignores every signal without a handler (G26)."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.processes import PROGRAM, Spawn

ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
"""Runs a command as process 1 of a namespace of its own, and ends with its exit code."""


def can_be_alone() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*ALONE, "true"], check=False).returncode == 0


NEEDS_A_NAMESPACE = pytest.mark.skipif(not can_be_alone(), reason="this system gives no process id namespace to us")


@NEEDS_A_NAMESPACE
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_g26_process_one_ends_by_a_signal_while_it_loads(spawn: Spawn, tmp_path: Path, number: signal.Signals) -> None:
    """The first of what is loaded takes for ever here. The exit code is what a shell says of a process that a signal
    has ended."""
    (tmp_path / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    around = spawn("run", program=(*ALONE, PROGRAM), PYTHONPATH=str(tmp_path))
    around.until("loading")
    (child,) = Path(f"/proc/{around.process.pid}/task/{around.process.pid}/children").read_text("ascii").split()
    os.kill(int(child), number)
    assert around.end() == 128 + number
    assert around.errors == ""


def test_g26_any_other_process_ends_by_the_signal_itself(spawn: Spawn, tmp_path: Path) -> None:
    """It needs no handler, which would wait for what is being loaded; systemd calls this a clean end."""
    (tmp_path / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    worker = spawn("run", PYTHONPATH=str(tmp_path))
    worker.until("loading")
    worker.process.terminate()
    assert worker.end() == -signal.SIGTERM


def test_g26_a_signal_in_the_first_milliseconds_ends_it(spawn: Spawn) -> None:
    """However early it comes, nothing is left that runs on."""
    for pause in (0.0, 0.01, 0.03, 0.1):
        worker = spawn("run", PYTHONUTF8="1")  # started in full
        time.sleep(pause)
        worker.process.terminate()
        assert worker.end() == -signal.SIGTERM
