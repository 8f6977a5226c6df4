"""`worker-state run` as a person meets it: a real process, a real pipe, a real terminal, real signals."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.test_exit_codes import SENTENCE
from tests.support.processes import DEADLINE, PROGRAM, Server, Spawn, environment

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  [^\x1b]+")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_demonstration_tells_a_whole_life_within_ten_seconds(spawn: Spawn) -> None:
    began = time.monotonic()
    demo = spawn("run", "--demo")
    for told in (
        "so one runs inside: ws://127.0.0.1:",
        "session string: sleap-session:",
        "now finds: available",
        "now finds: reserved, job demo-1",
        "now finds: busy, job demo-1",
        "now finds: available",
        "connection is cut",
        "now finds nobody",
        "not connected",
        "now finds: busy, job demo-2",
        "now finds: available",
        "nothing was left behind: users 0, rooms 0",
    ):
        demo.until(told)
    # What other processes take away from a busy machine is not the demonstration's.
    took = time.monotonic() - began - demo.kept_waiting()
    assert demo.end() == 0
    assert demo.errors == ""
    assert took < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_leaves_in_order(spawn: Spawn, number: signal.Signals) -> None:
    worker = spawn("run", "--verbose")
    worker.until("  discoverable")
    worker.process.send_signal(number)
    worker.until("Leaving (once more to force it).")
    worker.until("nothing was left behind")
    assert worker.end() == 0
    assert worker.errors == ""
    # Into a pipe everything is plain, has its time, and is said once.
    assert all(LINE.fullmatch(line) for line in worker.lines)
    for once in ("sleap-session:", "worker registered in room"):
        assert sum(once in line for line in worker.lines) == 1


def test_ctrl_c_while_everything_is_loaded_is_no_traceback(spawn: Spawn, tmp_path: Path) -> None:
    """The first of what is loaded takes for ever here; only the interpreter's own start is before that."""
    (tmp_path / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    worker = spawn("run", PYTHONPATH=str(tmp_path))
    worker.until("loading")
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == -signal.SIGINT
    assert worker.errors == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_a_server_that_hangs(
    spawn: Spawn, server: Server, number: signal.Signals
) -> None:
    worker = spawn("run", *server.options)
    worker.until("  discoverable")
    server.running.process.send_signal(signal.SIGSTOP)
    worker.process.send_signal(number)
    worker.until("Leaving")
    while worker.process.poll() is None:  # what comes at once is taken for the first signal, handed on twice
        worker.process.send_signal(number)
        time.sleep(0.1)
    assert worker.end() == 128 + number
    assert worker.errors == ""


def test_a_signal_that_arrives_twice_at_once_is_one(spawn: Spawn, server: Server) -> None:
    """`timeout` and shells hand a signal to the process and to its group: the worker leaves in order all the same."""
    worker = spawn("run", *server.options)
    worker.until("  discoverable")
    worker.process.terminate()
    worker.process.terminate()
    assert worker.end() == 0
    assert any("asked to delete an identity" in line for line in worker.lines)


def test_as_json_every_line_is_an_object_with_its_event(spawn: Spawn) -> None:
    """Where the server is, the steps of a demonstration, the health address and the farewell have names, too."""
    worker = spawn("run", "--demo", "--health", "0", "--log-format", "json")
    assert worker.end() == 0
    events = [json.loads(line)["event"] for line in worker.lines]
    assert None not in events
    assert {"server_inside", "health", "registered", "state", "step", "connection_lost", "left"} <= set(events)


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_asks_for_none(
    spawn: Spawn, variables: dict[str, str], coloured: bool
) -> None:
    worker = spawn("run", terminal=True, **variables)
    worker.until("  discoverable")
    worker.process.terminate()
    assert worker.end() == 0
    assert any("\x1b[" in line for line in worker.lines) is coloured


def test_quiet_prints_the_bare_session_string(spawn: Spawn) -> None:
    worker = spawn("run", "--quiet")
    worker.until("sleap-session:")
    worker.process.terminate()
    assert worker.end() == 0
    assert [line.partition(":")[0] for line in worker.lines] == ["sleap-session"]


def test_a_worker_says_that_its_server_went_and_came_back(spawn: Spawn) -> None:
    ports = ["--ws-port", str(free_port()), "--http-port", str(free_port())]
    before = spawn("serve", *ports)
    server = Server(before, *before.addresses())
    worker = spawn("run", *server.options)
    worker.until("  discoverable")
    before.process.kill()
    worker.until("  not connected, dialling again")
    spawn("serve", *ports)
    worker.until("  connected, not registered yet")
    worker.process.terminate()
    assert worker.end() == 0


def test_a_reader_that_goes_away_ends_the_worker_in_order(server: Server) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [PROGRAM, "run", *server.options], stdout=writer, stderr=subprocess.PIPE, env=environment()
    ) as worker:
        os.close(writer)
        with os.fdopen(reader, "rb") as lines:
            assert any(b"  discoverable" in line for line in lines)
        server.running.process.kill()  # gives the worker something to say, and leaves its identity there
        assert worker.wait(DEADLINE) == 3
        assert worker.stderr is not None
        assert worker.stderr.read() == SENTENCE.encode()
