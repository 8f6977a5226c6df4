"""`worker-state serve` in a process of its own."""

import signal

import pytest

from tests.support.processes import Server, Spawn


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_the_server(server: Server, number: signal.Signals) -> None:
    server.running.until(f"in a browser: {server.http}/")
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
