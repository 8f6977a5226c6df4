"""A systemd of the tests' own: process 1 of new namespaces. It needs root, and Linux's `unshare` and `nsenter`."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.operations.waiting import PATIENCE, until

BOOT = Path(__file__).with_name("boot_systemd.sh")
SYSTEMD = Path("/lib/systemd/systemd")
CONTROL_GROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
TARGETS = ("test", "sysinit", "basic", "shutdown", "network-online", "multi-user")
QUIET = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8", "COLUMNS": "120"}


class Systemd:
    """It runs. `place` is its directory: `units`, `opt` (as /opt/worker) and `env` (as /etc/worker-state.env)."""

    def __init__(self, place: Path, process_one: int) -> None:
        self.place = place
        self._enter = ["nsenter", "--target", str(process_one), "--all", "--root", "--wd=/"]

    def run(self, *command: str, check: bool = True) -> str:
        """What a command prints, among those who live under this systemd."""
        done = subprocess.run(
            [*self._enter, *command], env=QUIET, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.run("systemctl", "show", unit, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in shown.splitlines())


def skip_where_it_cannot_run() -> None:
    """Skips the test with a sentence that says why."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can start a systemd in namespaces of its own")
    for program in ("setpriv", "unshare", "nsenter", "chroot", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    if not SYSTEMD.exists():
        pytest.skip("systemd is not installed here")
    if _control_groups() is None:
        pytest.skip("control groups of version 2 are not mounted here, or may not be changed")
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "true"]
    tried = subprocess.run(namespaces, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if tried.returncode != 0:
        pytest.skip(f"new namespaces are not allowed here: {tried.stderr.strip()}")


def _control_groups() -> Path | None:
    return next((each for each in CONTROL_GROUPS if os.access(each / "cgroup.procs", os.W_OK) and _is_v2(each)), None)


def _is_v2(group: Path) -> bool:
    return (group / "cgroup.controllers").exists()


@contextmanager
def systemd(place: Path, *readable: Path) -> Iterator[Systemd]:
    """Boot it over an overlay of the root. With the block all that runs in it ends, and its control groups are gone."""
    (place / "units").mkdir(exist_ok=True)
    for target in TARGETS:  # none of the machine's
        (place / "units" / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n", "ascii")
    top = _control_groups()
    assert top is not None
    group = top / f"worker-state-{os.getpid()}"
    group.mkdir()
    with (place / "boot.log").open("wb") as log:
        # Were the tests killed, it would not outlive them.
        command = ["setpriv", "--pdeathsig", "KILL", "bash", str(BOOT), str(group), str(place), *map(str, readable)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        until(lambda: process.poll() is not None or children.read_text().split(), "the namespaces are there")
        assert process.poll() is None, (place / "boot.log").read_text()
        here = Systemd(place, int(children.read_text().split()[0]))
        until(lambda: here.run("systemctl", "is-system-running", check=False) == "running", "systemd has booted")
        yield here
    finally:
        if process.poll() is None:
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)  # the end of a process 1 is that of all in its namespace
        process.wait(PATIENCE)
        until(lambda: _removed(group), "its control groups are gone")


def _removed(group: Path) -> bool:
    folders = sorted((each for each in group.rglob("*") if each.is_dir()), reverse=True)
    try:
        for folder in (*folders, group):
            folder.rmdir()
    except OSError:  # what was in it is still ending
        return False
    return True
