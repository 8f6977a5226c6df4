"""`worker-state config`, and that `run` takes its values from the same places."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.processes import Server, Spawn
from worker_state.cli.app import app
from worker_state.cli.shared_options import server_of

SECRET = "slp_that-nobody-must-see"
FILE = f"""
[environments.lab]
signaling_websocket = "wss://lab.example.org"
signaling_http = "https://lab.example.org"
[worker_state]
api_key = "{SECRET}"
show_session_string = false
wait_for_server = true
tag = []
[worker_state.timing]
http = 2.5
"""
runner = CliRunner()


@pytest.fixture
def file() -> Path:
    path = Path("sleap-rtc.toml")
    path.write_text(FILE, "utf-8")
    return path


def test_every_value_has_its_origin_and_secrets_are_hidden(file: Path) -> None:
    """The table shows name, value and origin, the files, and nothing that is secret."""
    result = runner.invoke(app, ["config", "--gpu-model", "RTX"], env={"SLEAP_RTC_ENV": "lab"})
    assert result.exit_code == 0
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    for row in (
        ["environment", "lab", "SLEAP_RTC_ENV"],
        ["signaling_http", "https://lab.example.org", "sleap-rtc.toml [environments.lab]"],
        ["room_id", "-", "default"],
        ["api_key", "(hidden)", "sleap-rtc.toml [worker_state]"],
        ["show_session_string", "false", "sleap-rtc.toml [worker_state]"],
        ["wait_for_server", "true", "sleap-rtc.toml [worker_state]"],
        ["delete_given_room", "false", "default"],
        ["capabilities.gpu_model", "RTX", "--gpu-model"],
        ["timing.http", "2.5", "sleap-rtc.toml [worker_state.timing]"],
        ["sleap-rtc.toml:", "read"],
        ["~/.sleap-rtc/config.toml:", "not", "there"],
    ):
        assert row in rows
    assert "tags                              sleap-rtc, training-worker, inference-worker  default" in result.stdout
    assert result.stderr == "Warning: sleap-rtc.toml has an unknown key 'tag' in [worker_state]; did you mean tags?\n"
    assert SECRET not in result.output


def test_what_follows_an_address_is_hidden() -> None:
    """A query may hold a token."""
    addresses = ["--ws", f"wss://example.org/ws?token={SECRET}", "--http", "https://example.org"]
    result = runner.invoke(app, ["config", *addresses])
    assert "wss://example.org/ws?(hidden)" in result.stdout
    assert SECRET not in result.output


@pytest.mark.parametrize(
    ("value", "shown"),
    [("[0, 1.5]", "0, 1.5"), ("[true, 'x']", "true, x"), ("[['a'], []]", "a, "), ("{ a = 1 }", "{'a': 1}")],
)
def test_a_capability_may_be_whatever_json_can_say(value: str, shown: str) -> None:
    """A worker advertises it, so it has its line: a list of numbers, too."""
    Path("sleap-rtc.toml").write_text(f"[worker_state.capabilities]\nslots = {value}\n", "utf-8")
    result = runner.invoke(app, ["config"])
    assert result.exit_code == 0
    assert ["capabilities.slots", *shown.split(), "sleap-rtc.toml"] in [
        line.split()[:-1] for line in result.stdout.splitlines()
    ]


def test_a_script_gets_the_same_as_json(file: Path) -> None:
    """With --json there is one object, with the unknown keys in it."""
    result = runner.invoke(app, ["config", "--json"], env={"SLEAP_RTC_ENV": "lab"})
    shown = json.loads(result.stdout)
    assert shown["environment"] == {"value": "lab", "origin": "SLEAP_RTC_ENV"}
    assert shown["settings"]["api_key"] == {"value": "(hidden)", "origin": "sleap-rtc.toml [worker_state]"}
    assert shown["settings"]["timing.http"] == {"value": 2.5, "origin": "sleap-rtc.toml [worker_state.timing]"}
    assert shown["files"] == {"sleap-rtc.toml": True, "~/.sleap-rtc/config.toml": False}
    assert len(shown["unknown"]) == 1


@pytest.mark.parametrize("command", ["config", "run"])
@pytest.mark.parametrize(
    ("content", "variables", "sentence"),
    [
        ("[worker_state\n", {}, "sleap-rtc.toml is no TOML: "),
        (FILE, {"SLEAP_RTC_ENV": "lap"}, "SLEAP_RTC_ENV names the environment 'lap', which no file defines"),
        (FILE, {"SLEAP_RTC_ENV": "lab", "WORKER_STATE_TIMING_SEND": "-1"}, "WORKER_STATE_TIMING_SEND must be a pos"),
        (
            FILE.replace("https://", "wss://"),
            {"SLEAP_RTC_ENV": "lab"},
            "signaling_http in sleap-rtc.toml [environments.lab] must begin with http://",
        ),
        (
            "[environments.production]\nsignaling_http = 'http://localhost'",
            {},
            "signaling_http in sleap-rtc.toml [environments.production] is given without --ws",
        ),
        ("[worker_state]\nroom_token = 'x'", {}, "room_token in sleap-rtc.toml [worker_state] belongs to a server"),
    ],
)
def test_what_is_no_good_is_one_sentence_and_exit_code_2(
    command: str, content: str, variables: dict[str, str], sentence: str
) -> None:
    """The sentence names the file or the variable; nothing is printed that looks like a result."""
    Path("sleap-rtc.toml").write_text(content, "utf-8")
    result = runner.invoke(app, [command], env=variables)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"Error: {sentence}")
    assert "Traceback" not in result.stderr
    assert SECRET not in result.output


def test_the_worker_goes_where_the_file_says(spawn: Spawn, server: Server) -> None:
    """`run` without options uses file and environment, and says once what it does not know."""
    Path("sleap-rtc.toml").write_text(
        f"[environments.production]\nsignaling_websocket = '{server.ws}'\nsignaling_http = '{server.http}'\n"
        "[worker_state]\nshow_session_string = false\ntag = 'x'\n",
        "utf-8",
    )
    worker = spawn("run", WORKER_STATE_GPU_MEMORY_MB="24576")
    assert worker.until("The server: ").endswith("(sleap-rtc.toml [environments.production])")
    worker.until("  discoverable")
    worker.process.terminate()
    assert worker.end() == 0
    assert worker.errors == ("Warning: sleap-rtc.toml has an unknown key 'tag' in [worker_state]; did you mean tags?\n")
    assert not any("one runs inside" in line or "sleap-session:" in line for line in worker.lines)


def test_the_demonstration_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that a file names does not keep anybody from the demonstration, nor does it get a worker."""
    Path("sleap-rtc.toml").write_text("[no toml", "utf-8")
    seen: list[object] = []
    monkeypatch.setattr("trio.run", lambda run: seen.append((server_of(run.__self__.settings), run.__self__.demo)))
    assert runner.invoke(app, ["run", "--demo"], env={"SLEAP_RTC_ENV": "lab"}).exit_code == 0
    assert seen == [(None, True)]
