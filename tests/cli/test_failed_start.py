"""What can only be known by trying: exit code 1, a sentence on stderr."""

import json
import socket
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from worker_state.cli.app import app

runner = CliRunner()


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[str]:
    """Nobody listens there, and nobody can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield str(bound.getsockname()[1])


def test_serve_names_the_port_that_is_in_use(taken_port: str) -> None:
    result = runner.invoke(app, ["serve", "--ws-port", taken_port, "--http-port", "0"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: Port {taken_port} of 127.0.0.1 is in use already: ")


def test_serve_cannot_listen_on_an_address_of_another_machine() -> None:
    result = runner.invoke(
        app, ["serve", "--host", "192.0.2.1", "--exposed"], env={"WORKER_STATE_DEVSERVER_EXPOSE": "1"}
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: The server cannot listen on 192.0.2.1")


def test_run_needs_a_server_that_is_there(silent_port: str) -> None:
    result = runner.invoke(
        app, ["run", "--ws", f"ws://127.0.0.1:{silent_port}", "--http", f"http://127.0.0.1:{silent_port}"]
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_as_json_the_failure_is_a_line_among_the_others(silent_port: str) -> None:
    """Whoever collects both streams parses every line of them."""
    nobody = ["--ws", f"ws://127.0.0.1:{silent_port}", "--http", f"http://127.0.0.1:{silent_port}"]
    result = runner.invoke(app, ["run", "--log-format", "json", *nobody])
    assert (result.exit_code, result.stderr) == (1, "")
    *_, last = map(json.loads, result.stdout.splitlines())
    assert (last["event"], last["level"]) == ("failed", "error")
    assert last["message"].startswith("the server gave this worker no identity")
