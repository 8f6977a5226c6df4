"""What the tests fork in place of `worker-state` is `worker-state`, as far as a test can see."""

import os
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.support.forks import PROGRAM, Forked
from tests.support.processes import DEADLINE, environment, forks, started

FORKS = pytest.mark.skipif(any(name.startswith("COVERAGE_") for name in os.environ), reason="nothing is forked here")


@FORKS
@pytest.mark.parametrize("command", ["config --json", "nonsense"])
def test_a_forked_command_says_and_returns_what_a_started_one_does(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder, with the variables and onto the streams of who asks."""
    forks()  # in another folder, at the latest
    monkeypatch.chdir(tmp_path)
    Path("sleap-rtc.toml").write_text("[worker_state]\ntags = ['of-this-folder']\n", "utf-8")
    variables = environment(WORKER_STATE_GPU_MODEL="of these variables")
    full = subprocess.run([PROGRAM, *command.split()], capture_output=True, env=variables, check=False)
    assert (b"of-this-folder" in full.stdout) == (b"of these variables" in full.stdout) == (command != "nonsense")
    with TemporaryFile() as out, TemporaryFile() as errors:
        forked = started([PROGRAM, *command.split()], out.fileno(), errors.fileno(), variables)
        assert isinstance(forked, Forked)
        code = forked.wait(DEADLINE)
        out.seek(0)
        errors.seek(0)
        assert (code, out.read(), errors.read()) == (full.returncode, full.stdout, full.stderr)


@FORKS
def test_a_signal_that_ends_a_forked_command_is_told() -> None:
    """As `subprocess.Popen` tells it; until then it runs."""
    with Path(os.devnull).open("wb") as nothing:
        forked = forks().start([str(PROGRAM), "serve", "--ws-port", "0"], [nothing.fileno()] * 3, environment())
    assert forked.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0)
    forked.kill()
    assert forked.wait(DEADLINE) == -signal.SIGKILL
    forked.terminate()  # of one that has ended nothing is asked
    assert forked.poll() == -signal.SIGKILL
