"""What is printed, how often, and in which form."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment
from worker_state.cli.output import dated
from worker_state.cli.screen import Screen
from worker_state.logs import event

LINE = re.compile(r"\d\d:\d\d:\d\d  (.*)")


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("worker_state.somewhere.inside")


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    found = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    return [match[1] for match in found if match is not None]


def test_a_line_has_a_time_and_is_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(["word"] * 100)
    Screen().line(text)
    assert printed(capsys) == [text]


@pytest.mark.parametrize("place", ["a file", "a terminal", "the journal", "another journal"])
def test_a_line_has_a_date_where_nothing_else_says_the_day(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a file; a terminal is read today, and systemd's journal has a time of its own."""
    with (tmp_path / "log").open("w+", encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        if place == "a terminal":
            monkeypatch.setattr(file, "isatty", lambda: True)
        if "journal" in place:
            inode = status.st_ino + (place == "another journal")
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{inode}")
        assert dated(file) is (place in ("a file", "another journal"))
        monkeypatch.setattr(sys, "stdout", file)
        Screen().line("text")
        file.seek(0)
        written = re.sub(r"\x1b\[\d*m", "", file.read())
    date = r"\d{4}-\d\d-\d\d " if place in ("a file", "another journal") else ""
    assert re.fullmatch(date + r"\d\d:\d\d:\d\d  text\n", written)


def test_what_looks_like_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().line("[bold]job[/bold] :smile:")
    assert printed(capsys) == ["[bold]job[/bold] :smile:"]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.DEBUG, ["fine", "usual", "warning: odd", "error: bad"]),
        (logging.INFO, ["usual", "warning: odd", "error: bad"]),
        (logging.WARNING, ["warning: odd", "error: bad"]),
    ],
)
def test_the_log_is_shown_from_a_level_on(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], level: int, shown: list[str]
) -> None:
    Screen(level).show_log()
    log.debug("fine")
    log.info("usual")
    log.warning("odd")
    log.error("bad")
    assert printed(capsys) == shown


def test_a_log_line_is_shown_once_however_often_the_log_is_asked_for(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().show_log()
    Screen().show_log()
    log.info("once")
    assert printed(capsys) == ["once"]


def test_the_event_stands_behind_the_sentence(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    Screen().show_log()
    log.warning("late", extra=event("woken", stopped=1.25))
    assert printed(capsys) == ["warning: late  event=woken stopped=1.25"]


def test_every_line_can_be_json(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(logging.WARNING, as_json=True)
    screen.show_log()
    log.warning("late", extra=event("woken", stopped=1.25))
    screen.line("not shown, the screen is quiet")
    screen.result("session string", "sleap-session:x")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["event"], first["stopped"], first["level"], first["message"]) == ("woken", 1.25, "warning", "late")
    assert (second["event"], second["session_string"], second["level"]) == ("result", "sleap-session:x", "info")


def test_a_quiet_result_is_the_bare_value(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(logging.INFO).result("address", "ws://localhost")
    assert printed(capsys) == ["address: ws://localhost"]
    Screen(logging.WARNING).result("address", "ws://localhost")
    assert capsys.readouterr().out == "ws://localhost\n"


def test_a_reader_that_has_gone_is_reported_and_nothing_is_raised() -> None:
    program = """if True:
        import sys
        from worker_state.cli import output
        from worker_state.cli.screen import Screen
        output.prepare()
        screen = Screen()
        screen.on_gone = lambda: print("gone", file=sys.stderr)
        screen.line("nobody reads this")
    """
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"gone\n")
