"""`worker-state serve` in a process of its own."""

import signal

import pytest
from typer.testing import CliRunner

from tests.support.processes import Server, Spawn
from worker_state.cli.app import app


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_the_server(server: Server, number: signal.Signals) -> None:
    server.running.until(f"in a browser: {server.http}/")
    server.running.until(f"worker-state run --ws {server.ws} --http {server.http}")
    server.running.process.send_signal(number)
    server.running.until("Stopping")
    assert server.running.end() == 0
    assert server.running.errors == ""


def test_quiet_prints_the_two_addresses_only(spawn: Spawn) -> None:
    server = spawn("serve", "--ws-port", "0", "--http-port", "0", "--quiet", "--generation", "v3")
    ws, http = server.addresses()
    server.process.terminate()
    assert server.end() == 0
    assert server.lines == [ws, http]


def test_the_keys_that_its_help_names_get_what_they_say(spawn: Spawn) -> None:
    """As v3 the server takes `slp_good`, and refuses `slp_revoked`, `slp_expired` and any other each for its reason."""
    running = spawn("serve", "--ws-port", "0", "--http-port", "0", "--generation", "v3")
    server = Server(running, *running.addresses())
    said = {
        key: CliRunner().invoke(app, ["doctor", *server.options, "--api-key", key])
        for key in ("slp_good", "slp_revoked", "slp_expired", "slp_other")
    }
    assert [result.exit_code for result in said.values()] == [0, 1, 1, 1]
    for key, reason in (("revoked", "Token revoked"), ("expired", "Token expired"), ("other", "Invalid API key")):
        assert f"refused: {reason}" in said[f"slp_{key}"].stdout
    assert all(key in CliRunner().invoke(app, ["serve", "--help"]).stdout for key in list(said)[:3])
