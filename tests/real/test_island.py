"""A network that is really gone, where the system lets us make one of our own."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.real.keeper import ROOT
from tests.support.processes import environment

NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]


@cache
def why_not() -> str:
    """Why there can be no island here; empty when there can."""
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    if missing:
        return f"this system has no {' and no '.join(missing)}"
    tried = subprocess.run(
        [*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, timeout=10, check=False
    )
    return f"no network namespace may be made here: {tried.stderr.strip()}" if tried.returncode else ""


def test_a_worker_is_found_when_a_network_that_was_gone_is_back(tmp_path: Path) -> None:
    """When the interface was down, or every packet was lost, the worker is found as soon as packets arrive again."""
    if reason := why_not():
        pytest.skip(reason)
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "tests.real.island", tmp_path],
        cwd=ROOT,
        env=environment(PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT)])),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "link down: found" in done.stdout
    assert "no packet arrives: " in done.stdout
