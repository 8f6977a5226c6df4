"""Standard output that cannot take what is written: a full disk, a reader that has gone, letters that it has not."""

import errno
import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tests.support.processes import DEADLINE, PROGRAM, Server, environment
from worker_state.cli.output import ERRORS, Out, lost, prepare
from worker_state.cli.screen import LogHandler, Screen

FULL = Path("/dev/full")
SENTENCE = b"Error: Standard output cannot be written: No space left on device.\n"


class Broken(io.StringIO):
    """Takes nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.EPIPE, 0, ""),
        (errno.ENOSPC, 1, "Error: Standard output cannot be written: No space left on device.\n"),
    ],
)
def test_a_failure_is_said_once_and_nothing_is_raised(
    number: int, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """That the reader has gone is no failure: he knows."""
    gone: list[None] = []
    out = Out(Broken(number), lambda: gone.append(None))
    assert out.write("one") == 3
    out.write("two")
    out.flush()
    assert (len(gone), capsys.readouterr().err) == (1, said)
    assert out.end is not None
    assert out.end.exit_code == code


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("command", ["run", "run --log-format json", "run --demo", "serve --ws-port 0 --http-port 0"])
def test_a_full_disk_ends_what_runs_in_order(command: str) -> None:
    """The actors' own log lines fail as well, and the worker still leaves."""
    with FULL.open("wb") as full:
        done = subprocess.run(
            [PROGRAM, *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=DEADLINE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, SENTENCE)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("options", ["", "--log-format json", "--verbose"])
def test_a_full_disk_for_everything_leaves_the_exit_code(options: str) -> None:
    """As with `>log 2>&1`: there is nowhere to say why, and the worker leaves all the same."""
    command = [str(PROGRAM), "run", *options.split()]
    with FULL.open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.STDOUT, env=environment(), timeout=DEADLINE, check=False
        )
    assert done.returncode == 1


def test_an_output_that_is_closed_is_nowhere() -> None:
    """As with `>&-`, for which Python has no stream at all."""
    command = ["sh", "-c", f"exec {PROGRAM} run --demo >&- 2>&-"]
    assert subprocess.run(command, env=environment(), timeout=DEADLINE, check=False).returncode == 0


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize(
    "command", ["run --help", "config", "config --json", "session encode --room a --token b --peer c"]
)
def test_a_full_disk_is_a_sentence(command: str) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [PROGRAM, *command.split()], stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert (done.returncode, done.stderr) == (1, SENTENCE)


def test_a_reader_that_has_gone_gets_one_look_without_a_traceback(server: Server) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([PROGRAM, "run", *server.options, "-q"], stdout=subprocess.PIPE, env=environment()) as worker:
        assert worker.stdout is not None
        session = worker.stdout.readline().decode().strip()
        command = [str(PROGRAM), "watch", *server.options, "--session", session, "--once"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False)
        os.close(writer)
        worker.terminate()
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_stream_without_our_letters_gets_others() -> None:
    """As JSON would write them, so that a line of JSON stays one."""
    program = "from worker_state.cli import output; output.prepare(); print('≥ 2 s … → ä \\U0001f600')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, check=True)
    assert done.stdout == b">= 2 s ... -> \\u00e4 \\ud83d\\ude00\n"


def test_only_what_cannot_be_encoded_is_replaced() -> None:
    prepare()
    assert "≥ä".encode("latin-1", ERRORS) == b">=\xe4"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", ERRORS)


def test_a_stream_without_a_file_can_be_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(lost(OSError(errno.EIO, "Input/output error"), io.StringIO()), typer.Exit)
    assert capsys.readouterr().err == "Error: Standard output cannot be written: Input/output error.\n"


def test_a_log_line_that_cannot_be_formatted_does_not_fail_who_logs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    LogHandler(Screen()).handle(logging.LogRecord("x", logging.INFO, "x", 1, "%d", ("no number",), None))
    assert capsys.readouterr().out == ""


def test_completion_that_cannot_be_installed_is_a_sentence(tmp_path: Path) -> None:
    """A home that is no directory stands for one that nobody may write to: it stops root as well."""
    (tmp_path / "home").touch()
    home = environment(HOME=str(tmp_path / "home"), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    command = [str(PROGRAM), "--install-completion", "bash"]
    done = subprocess.run(command, env=home, check=False, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {tmp_path / 'home'}")
    assert done.stderr.endswith(" cannot be written: File exists.\n")
