"""`worker-state serve` in a process of its own."""

import signal
import socket

import pytest

from tests.support.processes import Server, Spawn


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_the_server(server: Server, number: signal.Signals) -> None:
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


@pytest.mark.parametrize("option", ["--ws-port", "--http-port"])
def test_a_port_in_use_is_a_failed_start(spawn: Spawn, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"--ws-port": "0", "--http-port": "0"} | {option: port}
        server = spawn("serve", *(text for pair in ports.items() for text in pair))
        assert server.end() == 1
        assert server.lines == []
        assert server.errors.startswith(f"Error: Port {port} of 127.0.0.1 is in use already: ")


def test_an_address_that_is_not_ours_is_a_failed_start(spawn: Spawn) -> None:
    server = spawn("serve", "--host", "192.0.2.1", "--exposed", WORKER_STATE_DEVSERVER_EXPOSE="1")
    assert server.end() == 1
    assert server.errors.startswith("Error: The server cannot listen on 192.0.2.1")
