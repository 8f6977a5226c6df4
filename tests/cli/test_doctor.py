"""`worker-state doctor` as a person and as a script meet it."""

import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.processes import DEADLINE, PROGRAM, Server, Spawn, environment
from worker_state.cli.app import app
from worker_state.cli.doctor import _as_text
from worker_state.tools.checks import Result, Step, failed

runner = CliRunner()
LINE = re.compile(r"[\w-]+ +(ok|FAILED|skipped|not tried)( +\d+ ms)?(  .*)?")


def test_every_step_has_its_line(server: Server) -> None:
    """One line each, with its time, for people; what a file says counts, and the end is good."""
    Path("sleap-rtc.toml").write_text(
        f"[environments.lab]\nsignaling_websocket = '{server.ws}'\nsignaling_http = '{server.http}'\n", "utf-8"
    )
    result = runner.invoke(app, ["doctor"], env={"SLEAP_RTC_ENV": "lab"})
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert [line.split()[0] for line in lines] == [
        *("configuration", "DNS", "TCP", "TLS", "HTTP", "sign-in", "upgrade", "room", "registration", "discovery"),
        "deletion",
    ]
    assert "sleap-rtc.toml [environments.lab]" in lines[0]
    # What the server answers, and no more: it proves nothing (faults.md, G08).
    assert "2 identities; the server answers: peer deleted successfully. Room status: " in lines[-1]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_fails_is_told_with_what_to_do(as_json: bool) -> None:
    """A failure is exit code 1 and a sentence of advice; a script gets one object."""
    addresses = ["--ws", "ws://127.0.0.1:1", "--http", "http://127.0.0.1:1"]
    result = runner.invoke(app, ["doctor", *addresses, *(["--json"] if as_json else [])])
    assert (result.exit_code, result.stderr) == (1, "")
    if as_json:
        shown = json.loads(result.stdout)
        assert shown["ok"] is False
        tcp = shown["steps"][2]
        assert (tcp["step"], tcp["outcome"]) == ("TCP", "failed")
        assert tcp["milliseconds"] > 0
        assert tcp["advice"].startswith("Nothing listens at that port")
        assert shown["steps"][3]["milliseconds"] is None
    else:
        assert "TCP            FAILED" in result.stdout
        assert "\n" + " " * 36 + "Nothing listens at that port" in result.stdout
        assert "not encrypted" not in result.stdout


@pytest.mark.parametrize("name", ["doctor", "config"])
def test_no_word_is_broken_in_a_narrow_terminal(name: str) -> None:
    """At 40 columns every line fits, and every word stands whole, as in a pipe."""
    variables = {"SLEAP_RTC_SIGNALING_WS": "ws://127.0.0.1:1", "SLEAP_RTC_SIGNALING_HTTP": "http://127.0.0.1:1"}
    piped = runner.invoke(app, [name], env=variables)
    ours, theirs = os.openpty()
    with (
        open(ours, "rb", 0) as terminal,
        subprocess.Popen(
            [PROGRAM, name], env=environment(COLUMNS="40", **variables), stdout=theirs, stderr=theirs
        ) as process,
    ):
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # how a terminal says that its last writer has gone
            while data := terminal.read(65536):
                seen += data
        assert process.wait(DEADLINE) == piped.exit_code
    lines = seen.decode().replace("\r\n", "\n").splitlines()
    assert max(map(len, lines)) <= 40
    assert words("\n".join(lines)) == words(piped.stdout + piped.stderr)


def words(text: str) -> list[str]:
    """Without times, and without the brackets that stand around an origin in a narrow terminal alone."""
    return re.sub(r"\d+ ms|[()]", "", text).split()


@pytest.mark.parametrize("width", [40, 60, 73, 100, 500])
def test_a_finding_fits_a_terminal(width: int) -> None:
    """It is in a column of its own where that is wide enough, and below its heading where it is not."""
    result = Result(Step.TCP, failed("word " * 30, "Ask somebody. " * 10), 1.0)
    text = _as_text(result, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.split() == _as_text(result, None).split()
    assert text.splitlines()[0].endswith("word") is (width >= 73)


def test_an_address_beyond_this_machine_without_tls_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be read on the way is said before anything goes there."""
    monkeypatch.setattr("trio.run", lambda *arguments: None)
    result = runner.invoke(app, ["doctor", "--ws", "ws://example.org", "--http", "https://example.org"])
    assert "not encrypted: tokens can be read on the way" in result.stdout


def test_without_a_server_it_says_how_to_try_it() -> None:
    """No server is bad usage, and the sentence shows a way."""
    result = runner.invoke(app, ["doctor"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "worker-state serve" in result.stderr


def test_a_reader_that_is_gone(server: Server) -> None:
    """Without a reader there is no traceback, and the exit code still tells."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [PROGRAM, "doctor", *server.options], stdout=writer, stderr=subprocess.PIPE, env=environment()
    ) as doctor:
        os.close(writer)
        os.close(reader)
        assert doctor.wait(DEADLINE) == 0
        assert doctor.stderr is not None
        assert doctor.stderr.read() == b""


def test_a_signal_in_the_middle_leaves_in_order(spawn: Spawn, server: Server) -> None:
    """Ctrl-C while the server stands still: the rest is not tried, and the exit code says so."""
    server.running.process.send_signal(signal.SIGSTOP)
    doctor = spawn("doctor", *server.options)
    doctor.until("TLS")
    doctor.process.send_signal(signal.SIGINT)
    doctor.until("Leaving")
    doctor.until("deletion")
    assert doctor.end() == 1
    assert doctor.errors == ""
    assert sum("interrupted" in line for line in doctor.lines) == 6
