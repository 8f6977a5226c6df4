"""Output that nobody takes (faults.md, G20): a full pipe, a stopped terminal; and what holds the loop."""

import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import DEADLINE, PROGRAM, Server, Spawn, environment
from worker_state.cli.status import found_workers

POLL = 0.02  # seconds between two looks at what a process does
ROOM_TO_READ = 2**16  # bytes of one look into a pipe


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe without room."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def stopped_terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal after Ctrl-S."""
    reader, writer = os.openpty()
    termios.tcflow(writer, termios.TCOOFF)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def running(out: int, *command: object, err: int = subprocess.PIPE, **extra: str) -> Iterator[Any]:
    with subprocess.Popen(
        [*map(str, command)], stdout=out, stderr=err, env=environment(TERM="xterm", **extra)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(wanted: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    give_up_at = time.monotonic() + DEADLINE
    while not wanted():
        assert process.poll() is None, process.returncode
        assert time.monotonic() < give_up_at, "it has not come"
        time.sleep(POLL)


def asked(url: str) -> Any:
    """What is answered there, or None."""
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            return json.load(answer)
    except OSError:
        return None


def read_until(reader: int, text: bytes) -> bytes:
    """What comes, up to the end of the line with this text."""
    read = b""
    while b"\n" not in read.partition(text)[2]:
        assert select.select([reader], [], [], DEADLINE)[0], read[-1000:]
        data = os.read(reader, ROOM_TO_READ)
        assert data, read[-1000:]
        read += data
    return read


def opened(process: "subprocess.Popen[bytes]") -> set[str]:
    """What it has open, as Linux names it."""
    names = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was open a moment ago
            names.add(os.readlink(link))
    return names


def connected(process: "subprocess.Popen[bytes]", ws: str) -> bool:
    """Whether it has a connection to this WebSocket address: then it listens to signals, and has its identity."""
    names, port = opened(process), int(ws.rpartition(":")[2])
    rows = [line.split() for line in Path(f"/proc/{process.pid}/net/tcp").read_text("ascii").splitlines()[1:]]
    return any(f"socket:[{row[9]}]" in names and int(row[2].rpartition(":")[2], 16) == port for row in rows)


@pytest.fixture
def url_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Callable[[subprocess.Popen[bytes]], str]":
    """Where a worker that prints nothing answers, once it does."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def find(worker: "subprocess.Popen[bytes]") -> str:
        until(lambda: worker.pid in found_workers(), worker)
        return found_workers()[worker.pid]

    return find


PLACES = pytest.mark.parametrize("place", [full_pipe, pytest.param(stopped_terminal, marks=pytest.mark.slow)])


@PLACES
def test_g20_a_worker_lives_and_leaves_although_nobody_takes_its_lines(
    place: Callable[[], AbstractContextManager[tuple[int, int]]],
    server: Server,
    url_of: Callable[[Any], str],
    tmp_path: Path,
) -> None:
    """It becomes ready, goes on to answer, and one SIGTERM ends it in order, with both streams stuck."""
    command = (PROGRAM, "run", "--available", *server.options, "--health", "0", "--verbose")
    with (
        place() as (_, writer),
        running(writer, *command, err=writer, XDG_RUNTIME_DIR=str(tmp_path)) as worker,
    ):
        url = url_of(worker)
        until(lambda: asked(f"{url}/ready"), worker)
        assert len(asked(f"{server.http}/workers.json")["workers"]) == 1
        worker.terminate()
        assert worker.wait(DEADLINE) == 0
    assert asked(f"{server.http}/workers.json")["workers"] == []


def test_g20_a_reader_that_comes_late_gets_every_line_in_order(
    server: Server, url_of: Callable[[Any], str], tmp_path: Path
) -> None:
    """What was printed while nobody read is kept, and the end of the run is there as well."""
    command = (PROGRAM, "run", "--available", *server.options, "--health", "0")
    with (
        full_pipe() as (reader, writer),
        running(writer, *command, err=writer, XDG_RUNTIME_DIR=str(tmp_path)) as worker,
    ):
        url = url_of(worker)
        until(lambda: asked(f"{url}/ready"), worker)
        worker.terminate()
        text = read_until(reader, b"asked to delete an identity").decode()
        assert worker.wait(DEADLINE) == 0
    told = ["health: ", "sleap-session:", "  discoverable", "Leaving", "asked to delete an identity"]
    places = [text.index(each) for each in told]
    assert places == sorted(places)


@pytest.mark.slow
def test_g20_a_server_serves_and_leaves_although_nobody_takes_its_lines(spawn: Spawn) -> None:
    ports = ("--ws-port", "0", "--http-port", "0")
    with full_pipe() as (reader, writer), running(writer, PROGRAM, "serve", *ports, err=writer) as serving:
        text = read_until(reader, b"browser: ").decode()
        http = next(word for word in text.split() if word.startswith("http:"))
        ws = next(word for word in text.split() if word.startswith("ws:"))
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"." * 4096)
        except BlockingIOError:
            os.set_blocking(writer, True)
        spawn("run", "--available", "--ws", ws, "--http", http).until("  discoverable")
        serving.terminate()
        assert serving.wait(DEADLINE) == 0


@pytest.mark.slow
def test_g20_clients_come_to_their_end_although_nobody_takes_their_lines(spawn: Spawn, server: Server) -> None:
    """`offer` and `doctor` end by themselves, `watch` by one signal."""
    worker = spawn("run", "worker_state.cli.handler:example_handler", *server.options, "-q")
    session = worker.until("sleap-session:").split()[-1]
    for command, ends in (("doctor", True), ("offer --session", True), ("watch --session", False)):
        told = [*command.split(), *([session] if "session" in command else []), *server.options]
        with full_pipe() as (_, writer), running(writer, PROGRAM, *told, err=writer) as client:
            if not ends:
                until(lambda client=client: connected(client, server.ws), client)  # type: ignore[misc]
                client.terminate()
            assert client.wait(DEADLINE) == 0, command


@pytest.mark.slow
def test_g20_a_pager_gets_all_of_one_look(spawn: Spawn, server: Server) -> None:
    """What a command is run for is not given up after some seconds: its reader may read slowly."""
    worker = spawn("run", "--available", *server.options, "-q")
    session = worker.until("sleap-session:").split()[-1]
    command = (PROGRAM, "watch", *server.options, "--session", session, "--once", "--json")
    with full_pipe() as (reader, writer), running(writer, *command) as look:
        until(lambda: "anon_inode:[eventpoll]" in opened(look), look)  # trio runs in it
        time.sleep(4)  # longer than it takes to look, and than the patience with what nobody waits for
        assert look.poll() is None
        assert json.loads(read_until(reader, b"\n}").lstrip(b"."))["count"] == 1
        assert look.wait(DEADLINE) == 0


# --- the streams themselves ------------------------------------------------------------------------------------------

MANY = """
import json, logging, sys
from worker_state.cli import output, screen
output.prepare()
out = screen.Screen(as_json=True)
for number in range(2000):
    out.line("x" * 1000, about=screen.logs.About("line", {"number": number}))
print("printed", file=sys.stderr)
sys.stderr.flush()
sys.stdin.read()
out.line("the last", about=screen.logs.About("last", {}))
"""


def test_g20_what_is_too_much_is_left_out_and_counted() -> None:
    """Lines wait up to a bound. Behind it they are left out whole, and a line like the others says how many."""
    program = (sys.executable, "-c", MANY)
    env = environment()
    pipe = subprocess.PIPE
    with (
        full_pipe() as (reader, writer),
        subprocess.Popen(program, stdin=pipe, stdout=writer, stderr=pipe, env=env) as printing,
    ):
        assert printing.stdin is not None
        assert printing.stderr is not None
        assert printing.stderr.readline() == b"printed\n"
        read = read_until(reader, b'"number": 100,')
        printing.stdin.close()
        read += read_until(reader, b"the last")
        assert printing.wait(DEADLINE) == 0
    lines = [json.loads(line) for line in read.decode().lstrip(".").splitlines() if line.endswith("}")]
    numbers = [line["number"] for line in lines if line["event"] == "line"]
    assert numbers == list(range(len(numbers)))
    assert [line["lines"] for line in lines if line["event"] == "output_left_out"] == [2000 - len(numbers)]
    assert 100 < len(numbers) < 2000


TWO_STREAMS = """
import sys
from worker_state.cli import output
output.prepare()
output.hold_nobody()
for number in range(2000):
    print(number, file=(sys.stdout, sys.stderr)[number % 2])
"""


def test_g20_two_streams_into_one_pipe_keep_their_order() -> None:
    """As with `2>&1`; whatever thread writes, a person reads what happened in the order in which it did."""
    command = [sys.executable, "-c", TWO_STREAMS]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), check=True)
    assert [int(line) for line in done.stdout.split()] == list(range(2000))


FORKING = """
import multiprocessing, sys
from worker_state.cli import output
output.prepare()
output.hold_nobody()
print("parent", flush=True)
output.settle()
child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
child.start()
child.join()
print("parent again", child.exitcode)
"""


def test_g20_what_a_forked_child_prints_is_there() -> None:
    """It has not inherited the thread that writes, and writes itself."""
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, env=environment(), check=True)
    assert done.stdout == b"parent\nchild\nparent again 0\n"


# --- the second signal -----------------------------------------------------------------------------------------------

STUCK = """
import time, trio
from worker_state.cli import output, screen, signals
output.prepare()
async def main():
    shown = screen.Screen()
    async with signals.ending_on_signal(shown, "Leaving") as scope:
        with scope:
            shown.plain("stuck")
            time.sleep(600)
trio.run(main)
"""


def test_g20_a_second_signal_ends_a_process_whose_loop_is_stuck(spawn: Spawn) -> None:
    """A handler that blocks, say: nothing in the loop hears of a signal any more."""
    stuck = spawn("-c", STUCK, program=(sys.executable,))
    stuck.until("stuck")
    give_up_at = time.monotonic() + DEADLINE
    while stuck.process.poll() is None:  # what comes at once is taken for the first signal, handed on twice
        assert time.monotonic() < give_up_at
        stuck.process.terminate()
        time.sleep(0.1)
    assert stuck.end() == 128 + signal.SIGTERM


LATE = """
import os, signal, time, trio
from worker_state.cli import output, screen, signals
output.prepare()
async def main():
    shown = screen.Screen()
    async with signals.ending_on_signal(shown, "Leaving") as scope:
        with scope:
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()
trio.run(main)
for _ in range(3):
    signal.raise_signal(signal.SIGTERM)
print("it has left in order", flush=True)
time.sleep(signals.TERMINATED_AGAIN)
signal.raise_signal(signal.SIGTERM)
"""


def test_g20_a_signal_that_is_handed_on_when_all_is_done() -> None:
    """SLURM signals a job and its shell, which hands it on: a worker that has left meanwhile ends with its own code.
    What comes a second later ends the process, though its output may still wait for a reader."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, env=environment(), check=False)
    assert done.stdout.endswith(b"it has left in order\n")
    assert done.returncode == 128 + signal.SIGTERM


PARENT = """
import hashlib, multiprocessing, trio
def lives(here):
    here.set()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)
from worker_state.cli import output, screen, signals
output.prepare()
async def main():
    shown = screen.Screen()
    async with signals.ending_on_signal(shown, "Leaving") as scope:
        with scope:
            here = multiprocessing.get_context("fork").Event()
            child = multiprocessing.get_context("fork").Process(target=lives, args=(here,))
            child.start()
            here.wait()  # Python forgets what comes while it forks
            child.terminate()
            child.join()
            shown.plain(f"the child's end: {child.exitcode}, cancelled: {scope.cancel_called}")
trio.run(main)
"""


def test_g20_a_forked_child_ends_by_its_own_signal(spawn: Spawn) -> None:
    """Nobody listens there, so SIGTERM ends it, as multiprocessing wants it, also in a long call in C. Its parent hears
    nothing of that."""
    parent = spawn("-c", PARENT, program=(sys.executable,))
    assert parent.until("the child's end").endswith(f"{-signal.SIGTERM}, cancelled: False")
    assert parent.end() == 0
