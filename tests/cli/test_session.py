"""`worker-state session`, through typer's own runner."""

import json
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.support.processes import DEADLINE, PROGRAM, environment
from worker_state import SessionString
from worker_state.cli.app import app

GOOD = str(SessionString(room_id="1a2b3c4d", token="5e6f70", peer_id="6d0f8a1e"))
runner = CliRunner()


def test_decode_prints_room_token_and_peer() -> None:
    result = runner.invoke(app, ["session", "decode", GOOD])
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["room_id", "1a2b3c4d"],
        ["token", "5e6f70"],
        ["peer_id", "6d0f8a1e"],
    ]


def test_decode_reads_stdin_and_prints_json() -> None:
    result = runner.invoke(app, ["session", "decode", "-", "--json"], input=f"{GOOD}\n")
    assert json.loads(result.stdout) == {"room_id": "1a2b3c4d", "token": "5e6f70", "peer_id": "6d0f8a1e"}


def test_decode_does_not_let_a_session_string_write_to_the_terminal() -> None:
    evil = str(SessionString(room_id="\x1b[2J", token="t", peer_id="p"))
    result = runner.invoke(app, ["session", "decode", evil])
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    "text", ["", "nonsense", GOOD.removeprefix("sleap-session:"), GOOD[:-5], GOOD + "ä", "sleap-session:e30="]
)
def test_decode_refuses_what_is_no_session_string_without_repeating_it(text: str) -> None:
    result = runner.invoke(app, ["session", "decode", text])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(".\n")
    assert not text or text not in result.stderr


def test_decode_refuses_bytes_that_are_no_text() -> None:
    result = runner.invoke(app, ["session", "decode", "-"], input=b"\xff\xfe\x00")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: a session string")


@settings(max_examples=25)
@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_decode_gives_back_what_any_session_string_contains(room: str, token: str, peer: str) -> None:
    result = runner.invoke(app, ["session", "decode", "-", "--json"], input=str(SessionString(room, token, peer)))
    assert json.loads(result.stdout) == {"room_id": room, "token": token, "peer_id": peer}


def test_encode_prints_the_session_string_that_clients_take() -> None:
    result = runner.invoke(app, ["session", "encode", "--room", "1a2b3c4d", "--token", "5e6f70", "--peer", "6d0f8a1e"])
    assert (result.exit_code, result.stdout) == (0, GOOD + "\n")


def test_encode_takes_the_token_from_the_environment() -> None:
    result = runner.invoke(
        app,
        ["session", "encode", "--room", "1a2b3c4d", "--peer", "6d0f8a1e"],
        env={"WORKER_STATE_ROOM_TOKEN": "5e6f70"},
    )
    assert (result.exit_code, result.stdout) == (0, GOOD + "\n")


@pytest.mark.parametrize("empty", ["--room", "--token", "--peer"])
def test_encode_refuses_an_empty_part(empty: str) -> None:
    options = {"--room": "r", "--token": "t", "--peer": "p"} | {empty: " "}
    result = runner.invoke(app, ["session", "encode", *(text for pair in options.items() for text in pair)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: {empty} must not be empty.\n"


@pytest.mark.parametrize(
    ("redirection", "said"),
    [("<&-", "a session string begins with 'sleap-session:'"), ("0>/dev/null", "stdin cannot be read")],
)
@pytest.mark.parametrize("command", ["session decode -", "watch --session -"])
def test_a_stdin_that_cannot_be_read_is_bad_usage(command: str, redirection: str, said: str) -> None:
    """It is closed, or open for writing only: a sentence, never a traceback."""
    line = f'"{PROGRAM}" {command} {redirection}'
    done = subprocess.run(line, shell=True, env=environment(), check=False, capture_output=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Error: ")
    assert said.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1
