"""Streams that cannot take what is written: a full disk, a reader that has gone, letters that they have not."""

import errno
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.support.processes import DEADLINE, PROGRAM, Server, environment, started
from worker_state.cli.output import ERRORS, Out
from worker_state.cli.screen import Screen

FULL = Path("/dev/full")
SENTENCE = b"Error: Standard output cannot be written: No space left on device.\n"
NEEDS_FULL = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
SHELL = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""Otherwise typer looks at who has started the tests, and knows not every shell."""
MOSTLY_BUFFERED = pytest.mark.parametrize(
    "python",
    [pytest.param({}, id="buffered"), pytest.param({"PYTHONUNBUFFERED": "1"}, id="unbuffered", marks=pytest.mark.slow)],
)
"""An ordinary machine buffers."""
PRINTING = (
    "--help",
    "--version",
    "--show-completion bash",
    "config",
    "session encode --room a --token b --peer c",
)
BAD_USAGE = (
    "",
    "nonsense",
    "config --nonsense",
    "doctor",
    "run --quiet --verbose",
    "serve --ws-port 1 --http-port 1",
    "session decode nonsense",
    "storm --workers 0",
    "watch",
)
RUNNING = (
    "run",
    "run --log-format json",
    "run --verbose",
    "run --demo",
    "serve --ws-port 0 --http-port 0",
    "storm --workers 2 --down 0",
)


def ended(command: str, streams: str, **variables: str) -> tuple[int, bytes, bytes]:
    """Exit code and output of `worker-state`, with its streams as a shell is told to open them."""
    if "&-" not in streams:
        return _ended_on_files(command.split(), streams.split(), environment(**SHELL, **variables))
    line = ["sh", "-c", f'exec "$0" {command} {streams}', str(PROGRAM)]
    done = subprocess.run(
        line, capture_output=True, env=environment(**SHELL, **variables), timeout=DEADLINE, check=False
    )
    return done.returncode, done.stdout, done.stderr


def _ended_on_files(command: list[str], streams: list[str], variables: dict[str, str]) -> tuple[int, bytes, bytes]:
    with TemporaryFile() as out, TemporaryFile() as errors, FULL.open("wb") as full:
        opened = {"1": out.fileno(), "2": errors.fileno()}
        for each in streams:
            number, _, target = each.rpartition(">")
            opened[number or "1"] = opened["1"] if target == "&1" else full.fileno()
        code = started([PROGRAM, *command], opened["1"], opened["2"], variables).wait(DEADLINE)
        out.seek(0)
        errors.seek(0)
        return code, out.read(), errors.read()


@NEEDS_FULL
@MOSTLY_BUFFERED
@pytest.mark.parametrize(
    ("command", "code"), [*((line, 1) for line in (*PRINTING, *RUNNING)), *((line, 2) for line in BAD_USAGE)]
)
def test_g38_a_full_disk_for_everything_leaves_the_exit_code(command: str, code: int, python: dict[str, str]) -> None:
    """As with `>log 2>&1`: there is nowhere to say why, and what runs leaves all the same."""
    assert ended(command, ">/dev/full 2>&1", **python) == (code, b"", b"")


@NEEDS_FULL
@MOSTLY_BUFFERED
@pytest.mark.parametrize("command", [*PRINTING, *RUNNING])
def test_a_full_disk_is_a_sentence(command: str, python: dict[str, str]) -> None:
    """It is said once, whatever else the actors still log, and what runs ends in order."""
    assert ended(command, ">/dev/full", **python) == (1, b"", SENTENCE)


@NEEDS_FULL
@MOSTLY_BUFFERED
@pytest.mark.parametrize(("command", "code"), [("config", 0), ("status --json", 1), ("nonsense", 2)])
def test_g38_warnings_that_cannot_be_written_change_nothing(
    command: str, code: int, python: dict[str, str], tmp_path: Path
) -> None:
    """With a full disk under stderr alone, a command prints and ends as always, however much it has to warn of."""
    variables = {"WORKER_STATE_TAG": "misspelt", "TMPDIR": str(tmp_path), **python}
    always = ended(command, "", **variables)
    assert (always[0], bool(always[2])) == (code, command != "status --json")
    assert ended(command, "2>/dev/full", **variables) == (*always[:2], b"")


@MOSTLY_BUFFERED
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("command", "code"), [("config", 0), ("session decode -", 2)])
def test_g38_streams_that_are_closed_are_nowhere(command: str, code: int, streams: str, python: dict[str, str]) -> None:
    """Python has no stream at all for these; the exit code is the command's own."""
    assert ended(command, streams, **python)[0] == code


@MOSTLY_BUFFERED
@pytest.mark.parametrize(("command", "code"), [*((line, 0) for line in PRINTING), ("nonsense", 2)])
def test_g38_a_reader_that_has_gone_is_no_failure(command: str, code: int, python: dict[str, str]) -> None:
    """As with `| head -1`: he knows, and nothing is said."""
    reader, writer = os.pipe()
    os.close(reader)
    with TemporaryFile() as errors:
        variables = environment(**SHELL, **python)
        process = started([PROGRAM, *command.split()], writer, writer if code else errors.fileno(), variables)
        os.close(writer)
        assert process.wait(DEADLINE) == code
        errors.seek(0)
        assert errors.read() == b""


@NEEDS_FULL
def test_a_disk_that_is_full_before_the_worker_begins_ends_it(server: Server) -> None:
    """The address of a server that the environment names is printed before anybody listens to the loss."""
    variables = {"SLEAP_RTC_SIGNALING_WS": server.ws, "SLEAP_RTC_SIGNALING_HTTP": server.http}
    assert ended("run", ">/dev/full", **variables) == (1, b"", SENTENCE)


@NEEDS_FULL
def test_a_stream_that_is_lost_says_so_at_every_line() -> None:
    """Nothing is raised, the first failure is kept, and who listens late hears of it, too."""
    with FULL.open("w") as full, Out(full) as out:
        print("one", file=out)
        told: list[None] = []
        out.file.on_lost = lambda: told.append(None)
        print("two", file=out)
        assert len(told) == 1
        assert out.file.error is not None
        assert out.file.error.errno == errno.ENOSPC


def test_a_pipe_that_must_not_block_is_waited_for() -> None:
    """Somebody else has set it so, and a slow reader gets everything all the same."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "x" * 1_000_000

    def print_it() -> None:
        with os.fdopen(writer, "w") as pipe, Out(pipe) as out:
            out.write(text)

    printing = threading.Thread(target=print_it)
    printing.start()
    with os.fdopen(reader) as lines:
        assert lines.read() == text
    printing.join(DEADLINE)


def test_a_life_without_any_output_is_one() -> None:
    """A worker whose streams are closed lives and leaves as any other."""
    assert ended("run --demo", ">&- 2>&-") == (0, b"", b"")


def test_a_reader_that_has_gone_gets_one_look_without_a_traceback(server: Server) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [PROGRAM, "run", "--available", *server.options, "-q"], stdout=subprocess.PIPE, env=environment()
    ) as worker:
        assert worker.stdout is not None
        session = worker.stdout.readline().decode().strip()
        command = [str(PROGRAM), "watch", *server.options, "--session", session, "--once"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False)
        os.close(writer)
        worker.terminate()
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_stream_without_our_letters_gets_others() -> None:
    """As JSON would write them, so that a line of JSON stays one."""
    program = f"from worker_state.cli import output; output.prepare(); print({'≥ 2 s … → ä 😀'!a})"
    env = environment(PYTHONIOENCODING="ascii")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, check=True)
    assert done.stdout == b">= 2 s ... -> \\u00e4 \\ud83d\\ude00\n"


def test_only_what_cannot_be_encoded_is_replaced() -> None:
    """Reading knows no such rule, and what has a letter keeps it."""
    assert "≥ä".encode("latin-1", ERRORS) == b">=\xe4"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", ERRORS)


def test_a_log_line_that_cannot_be_formatted_does_not_fail_who_logs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    Screen().handle(logging.LogRecord("x", logging.INFO, "x", 1, "%d", ("no number",), None))
    assert capsys.readouterr().out == ""


def test_completion_that_cannot_be_installed_is_a_sentence(tmp_path: Path) -> None:
    """A home that is no directory stands for one that nobody may write to: it stops root as well."""
    (tmp_path / "home").touch()
    home = environment(HOME=str(tmp_path / "home"), **SHELL)
    command = [str(PROGRAM), "--install-completion", "bash"]
    done = subprocess.run(command, env=home, check=False, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {tmp_path / 'home'}")
    assert done.stderr.endswith(" cannot be written: File exists.\n")
