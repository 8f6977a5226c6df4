"""Everything that is refused before anything runs: exit code 2, a sentence on stderr, nothing on stdout."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker_state import SessionString
from worker_state.cli.app import app

SERVER = ["--ws", "ws://localhost:8080", "--http", "http://localhost:8001"]
SECRET = "a-room-token-that-nobody-must-see"
runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--ws", "ws://localhost:8080"], "--http"),
        (["--http", "http://localhost:8001"], "--ws"),
        (["--ws", "http://localhost", "--http", "http://localhost"], "--ws must begin with ws://"),
        (["--ws", "ws://localhost", "--http", "ws://localhost"], "--http must begin with http://"),
        ([*SERVER, "--demo"], "--demo"),
        (["--room", "1a2b3c4d", "--token", SECRET], "--ws and --http"),
        (["--token", SECRET], "--ws and --http"),
        (["--api-key", "slp_" + SECRET], "--ws and --http"),
        ([*SERVER, "--room", "1a2b3c4d"], "--token"),
        ([*SERVER, "--token", SECRET], "--room"),
        ([*SERVER, "--api-key", SECRET], "--api-key must begin"),
        ([*SERVER, "--room", " ", "--token", SECRET], "--room must not be empty"),
        (["--tag", ""], "--tag"),
        (["--gpu-memory-mb", "much"], "--gpu-memory-mb"),
        (["--gpu-memory-mb", "-1"], "--gpu-memory-mb"),
        (["--health", "65536"], "--health"),
        (["--health-host", "127.0.0.1"], "--health-host needs a port"),
        (["--quiet", "--verbose"], "--quiet and --verbose"),
        (["--unknown"], "--unknown"),
    ],
)
def test_run_refuses_options_that_make_no_sense(arguments: list[str], named: str) -> None:
    result = runner.invoke(app, ["run", *arguments])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr


@pytest.mark.parametrize(
    ("variables", "arguments", "named"),
    [
        ({"SLEAP_RTC_SIGNALING_WS": "ws://localhost"}, [], "SLEAP_RTC_SIGNALING_HTTP"),
        ({"SLEAP_RTC_SIGNALING_HTTP": "http://localhost"}, [], "SLEAP_RTC_SIGNALING_WS"),
        (
            {"SLEAP_RTC_SIGNALING_WS": "ws://localhost", "SLEAP_RTC_SIGNALING_HTTP": "http://localhost"},
            ["--demo"],
            "SLEAP_RTC_SIGNALING_WS",
        ),
        ({"WORKER_STATE_ROOM_TOKEN": SECRET}, SERVER, "WORKER_STATE_ROOM_TOKEN"),
    ],
)
def test_run_hears_the_environment_and_names_it(variables: dict[str, str], arguments: list[str], named: str) -> None:
    result = runner.invoke(app, ["run", *arguments], env=variables)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert SECRET not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--ws-port", "65536"], "--ws-port"),
        (["--generation", "v4"], "--generation"),
        (["--host", "example.org"], "example.org"),
        (["--host", "192.0.2.1"], "--exposed"),
        (["--quiet", "--verbose"], "--quiet and --verbose"),
        (["--ws-port", "9000", "--http-port", "9000"], "--ws-port and --http-port are both 9000"),
    ],
)
def test_serve_refuses_options_that_make_no_sense(arguments: list[str], named: str) -> None:
    result = runner.invoke(app, ["serve", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        *([], ["run"], ["config"], ["doctor"], ["serve"], ["status"], ["storm"], ["watch"]),
        *(["session"], ["session", "decode"], ["session", "encode"]),
    ],
)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_with_an_example(command: list[str], option: str) -> None:
    result = runner.invoke(app, [*command, option])
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert "    worker-state " in result.stdout


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"worker-state {version('worker-state')}\n")


@pytest.mark.parametrize(
    ("typed", "offered"), [("worker-state wa", "watch"), ("worker-state run --log", "--log-format")]
)
def test_the_shell_completes_commands_and_options(typed: str, offered: str) -> None:
    variables = {"_WORKER_STATE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert offered in runner.invoke(app, [], prog_name="worker-state", env=variables).stdout.split()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (SERVER, "--session, or its room: --room and --token, or --api-key"),
        ([*SERVER, "--session", "sleap-session:x", "--api-key", "slp_x"], "--session and --api-key exclude each other"),
        ([*SERVER, "--session", "x", "--room", "r", "--token", "t"], "--session and --room exclude each other"),
        ([*SERVER, "--room", "r"], "--room needs the room's token"),
        ([*SERVER, "--session", str(SessionString("r", "t", "p")), "--worker", "x"], "--session names its worker"),
    ],
)
def test_offer_wants_one_worker(arguments: list[str], named: str) -> None:
    """A worker is named once, by its session string or in a room."""
    result = runner.invoke(app, ["offer", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr


@pytest.mark.parametrize(
    "file",
    [
        '[environments.production]\nsignaling_websockt = "ws://a"\nsignaling_htp = "http://a"',
        '[environment.production]\nsignaling_websocket = "ws://a"\nsignaling_http = "http://a"',
        '[worker_state]\nsignaling_websocket = "ws://a"\nsignaling_http = "http://a"',
        'signaling_websocket = "ws://a"\nsignaling_http = "http://a"',
    ],
    ids=["keys", "table", "another table", "no table"],
)
def test_a_misspelt_address_starts_no_server_inside(file: str) -> None:
    """Who names a server, in a way that nobody reads, does not get another one."""
    Path("sleap-rtc.toml").write_text(file, "utf-8")
    result = runner.invoke(app, ["run"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Warning: sleap-rtc.toml has a" in result.stderr
    assert "so none is started inside: correct that" in result.stderr


def test_a_misspelt_variable_starts_no_server_inside() -> None:
    """The same for a variable of the environment."""
    result = runner.invoke(app, ["run"], env={"SLEAP_RTC_SIGNALLING_WS": "ws://a"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean SLEAP_RTC_SIGNALING_WS?" in result.stderr
    assert "so none is started inside" in result.stderr
