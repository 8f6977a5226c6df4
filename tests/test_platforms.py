"""Other systems (faults.md, G40): scenarios over sockets in a process that has been robbed of what they lack."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

ROOT = Path(__file__).parents[1]
ROBBERY = "tests/test_platforms.py::test_g40_what_was_taken_away_is_missing"
A_FEW = (
    ROBBERY,
    "tests/net/test_tcp.py",
    "tests/integrations/test_systemd.py::test_a_real_worker",
    "tests/cli/test_run_worker.py::test_a_message_for_the_other_parts_is_shown_without_what_it_carries",
)
ALL = (
    ROBBERY,
    "tests/scenarios",
    "tests/net",
    "tests/integrations",
    "tests/cli/test_run_worker.py",
    "tests/test_aio.py",
)
ROBBED = "tests.support.lacking"


@pytest.mark.skipif(ROBBED not in sys.modules, reason="it runs in the robbed process alone")
def test_g40_what_was_taken_away_is_missing() -> None:
    """The other tests would else prove nothing."""
    import os
    import signal
    import socket
    import time

    lacking = ((socket, "TCP_USER_TIMEOUT"), (time, "CLOCK_BOOTTIME"), (signal, "SIGHUP"), (os, "register_at_fork"))
    assert not any(hasattr(module, name) for module, name in lacking)


@pytest.mark.skipif(ROBBED in sys.modules, reason="this is the robbed process")
@pytest.mark.parametrize("tests", [A_FEW, pytest.param(ALL, marks=pytest.mark.slow)], ids=["a few", "all"])
def test_g40_workers_live_without_what_other_systems_lack(tests: tuple[str, ...]) -> None:
    """No TCP_USER_TIMEOUT, no CLOCK_BOOTTIME, no SIGHUP, no `os.register_at_fork`, and a connect that
    says EWOULDBLOCK."""
    command = [sys.executable, "-m", "pytest", "-p", ROBBED, "-q", "-n", "0", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
