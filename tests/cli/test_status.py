"""`worker-state status`: which workers it finds, what it says of them, and what a script learns from it."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.integrations.test_systemd import Systemd
from tests.protocol.test_state import PROVED, after
from tests.support.processes import Server, Spawn
from worker_state.cli import status
from worker_state.cli.app import app
from worker_state.integrations.readiness import account

PID = os.getpid()
READY: dict[str, Any] = {"pid": PID, **account(after(*PROVED), 7.0)}
UNREADY = READY | {"ready": False, "reason": "not registered: connection refused", "reason_seconds": 300.0}
runner = CliRunner()


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories of our own: nobody else's workers are found."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return runtime


class Worker:
    """Answers `/worker` like one."""

    def __init__(self) -> None:
        self.answer: object = READY
        self.asked: list[str] = []
        worker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                worker.asked.append(self.path)
                body = worker.answer if isinstance(worker.answer, bytes) else json.dumps(worker.answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):  # who asks does not read everything
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    thread = threading.Thread(target=worker.server.serve_forever, args=(0.01,))
    thread.start()
    yield worker
    worker.server.shutdown()
    thread.join()
    worker.server.server_close()


def complain(why: str) -> None:
    raise AssertionError(why)


def leave(directory: Path, name: str, content: object) -> Path:
    directory.mkdir(0o700, exist_ok=True)
    file = directory / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_nobody() -> None:
    """When nothing is found, it says how to start what can be, and fails."""
    result = runner.invoke(app, ["status"])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {status.NOBODY}\n")
    result = runner.invoke(app, ["status", "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])


def test_a_ready_worker(worker: Worker) -> None:
    """A worker is found while it is there, with what it does and since when; and not afterwards."""
    with status.published(worker.url, complain):
        result = runner.invoke(app, ["status"])
        assert result.exit_code == 0
        assert result.stdout == f"worker {PID}: available, ready: discoverable for 1 s; {worker.url}\n"
        assert worker.asked == ["/worker"]
        result = runner.invoke(app, ["status", "--json"])
        (shown,) = json.loads(result.stdout)
        assert (result.exit_code, shown) == (0, {"url": worker.url, "answered": True, **READY})
    assert runner.invoke(app, ["status"]).exit_code == 1


def test_a_worker_that_is_not_ready(worker: Worker) -> None:
    """Why not, and since when; the exit code says it too."""
    worker.answer = UNREADY | {"status": "busy", "job_id": "a\x1b[31m"}
    with status.published(worker.url, complain):
        result = runner.invoke(app, ["status"])
    assert result.exit_code == 1
    assert result.stdout == (
        f"worker {PID}: busy (job a\\x1b[31m), not ready for 5 min: not registered: connection refused; {worker.url}\n"
    )


def test_a_worker_that_starts(worker: Worker) -> None:
    """One that has no status yet says what it is waiting for."""
    worker.answer = {"pid": PID, "ready": False, "reason": "the worker is starting", "reason_seconds": 9000.0}
    with status.published(worker.url, complain):
        result = runner.invoke(app, ["status"])
    assert (result.exit_code, result.stdout) == (
        1,
        f"worker {PID}: not ready for 2 h: the worker is starting; {worker.url}\n",
    )


def test_a_port(worker: Worker) -> None:
    """A port that is named is asked, whatever else there is."""
    result = runner.invoke(app, ["status", "--port", str(worker.port)])
    assert (result.exit_code, result.stdout.split(":")[0]) == (0, f"worker {PID}")


@pytest.mark.parametrize("answer", [[], {}, {"ready": True}, {"ready": True, "pid": "1"}, b"no JSON", b"\xff", None])
def test_somebody_else(worker: Worker, answer: object) -> None:
    """What does not answer as a worker does is none."""
    worker.answer = answer
    result = runner.invoke(app, ["status", "--port", str(worker.port)])
    assert (result.exit_code, result.stdout) == (1, f"worker: no answer at {worker.url}\n")
    result = runner.invoke(app, ["status", "--port", str(worker.port), "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (1, [{"pid": None, "url": worker.url, "answered": False}])


def test_another_worker_has_the_port_by_now(worker: Worker) -> None:
    """The answer of another process is not taken for the one that left its address."""
    worker.answer = READY | {"pid": PID + 1}
    with status.published(worker.url, complain):
        assert runner.invoke(app, ["status"]).stdout == f"worker {PID}: no answer at {worker.url}\n"


def test_nobody_listens_any_more() -> None:
    """A port where nothing is, and an address that is none, give no answer and no traceback."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        for each in (url, "http://[", "http://x:y", "", "http://a b"):
            assert status.ask(each) is None


def test_what_was_left_by_the_dead_is_removed(runtime: Path) -> None:
    """The file of a process that has gone is skipped and removed, and so is what is no file of ours; strangers stay."""
    directory, gone = runtime / "worker-state", dead_pid()
    stale = leave(directory, f"{gone}.json", {"pid": gone, "url": "http://127.0.0.1:1"})
    torn = leave(directory, f"{dead_pid()}.json", "{")
    endless = leave(directory, "9" * 30 + ".json", {"pid": int("9" * 30), "url": "x"})
    kept = [
        leave(directory, "notes.json", {}),
        leave(directory, f"{PID}.json", {"pid": 1, "url": "http://127.0.0.1:1"}),
        leave(directory, "notes.txt", ""),
    ]
    assert status.found_workers() == {}
    assert not any(file.exists() for file in (stale, torn, endless))
    assert all(file.exists() for file in kept)


def test_the_directory_is_private(runtime: Path) -> None:
    """The directory is for its owner only, and the file is gone at the end."""
    with status.published("http://127.0.0.1:1", complain):
        assert stat.S_IMODE((runtime / "worker-state").stat().st_mode) == 0o700
        assert status.found_workers() == {PID: "http://127.0.0.1:1"}
    assert list((runtime / "worker-state").iterdir()) == []


@pytest.mark.parametrize("value", ["", "relative", "/nowhere/at/all"])
def test_without_a_runtime_directory(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a usable $XDG_RUNTIME_DIR it is a directory below the one for temporary files."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert status.directories() == [tmp_path / f"worker-state-{os.getuid()}"]
    with status.published("http://127.0.0.1:1", complain):
        assert len(status.found_workers()) == 1


def test_g36_no_directory_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written nobody is found, and that is a sentence; who publishes is told why."""

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    said: list[str] = []
    with status.published("http://127.0.0.1:1", said.append):
        result = runner.invoke(app, ["status"])
    assert (result.exit_code, result.stderr) == (1, f"Error: {status.NOBODY}\n")
    assert len(said) == 1
    assert "no directory for temporary files" in said[0]


def test_g36_a_full_disk_leaves_no_file_behind(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written to its end is removed when the worker leaves."""

    def full(file: Path, *_: object) -> None:
        file.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    said: list[str] = []
    with status.published("http://127.0.0.1:1", said.append):
        pass
    assert len(said) == 1
    assert list((runtime / "worker-state").iterdir()) == []


def test_a_service_with_another_environment_is_found(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    """A worker that was started without $XDG_RUNTIME_DIR is found from a shell that has one."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with status.published("http://127.0.0.1:1", complain):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        assert len(status.found_workers()) == 1


@pytest.mark.parametrize("spoil", ["open to others", "a link", "a file"])
def test_a_directory_that_cannot_be_believed(spoil: str, runtime: Path, tmp_path: Path) -> None:
    """Where others may write, nothing is left and nothing is believed; the worker says so and goes on."""
    directory = runtime / "worker-state"
    if spoil == "open to others":
        leave(directory, f"{PID}.json", {"pid": PID, "url": "http://127.0.0.1:1"})
        directory.chmod(0o777)
    elif spoil == "a link":
        leave(tmp_path / "elsewhere", f"{PID}.json", {"pid": PID, "url": "http://127.0.0.1:1"})
        directory.symlink_to(tmp_path / "elsewhere")
    else:
        directory.write_text("")
    assert status.found_workers() == {}
    said: list[str] = []
    with status.published("http://127.0.0.1:2", said.append):
        assert status.found_workers() == {}
    assert len(said) == 1
    assert "will not find this worker" in said[0]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, " for 0 s"), (119, " for 119 s"), (120, " for 2 min"), (None, ""), (True, "")]
)
def test_how_long(seconds: object, words: str) -> None:
    """A time in the unit that a person would choose; none where there is none."""
    assert status._for(seconds) == words


def test_a_real_worker(spawn: Spawn, server: Server, tmp_path: Path, runtime: Path) -> None:
    """A worker with --health and NOTIFY_SOCKET, as systemd would run it: told, found, and gone without a trace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        variables = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "30000000",
            "XDG_RUNTIME_DIR": str(runtime),
        }
        running = spawn("run", "--available", "--health", "0", *server.options, **variables)
        url = running.until("health: http://").split("health: ")[1].split("/health")[0]
        running.until("  discoverable")
        result = runner.invoke(app, ["status"])
        assert (result.exit_code, result.stdout.endswith(f"; {url}\n")) == (0, True)
        assert result.stdout.startswith(f"worker {running.process.pid}: available, ready: discoverable for ")
        running.process.terminate()
        assert running.end() == 0
        heard = Systemd(ear).heard()
    assert {"READY=1", "WATCHDOG=1", "STATUS=available, discoverable"} <= set(heard)
    assert heard[-1] == "STOPPING=1"
    assert list((runtime / "worker-state").iterdir()) == []
    assert running.errors == ""


# --- whatever answers there -------------------------------------------------------------------------------------------

DEEP = "[" * 700 + "]" * 700
HUGE = "1" + "0" * 400
BODIES = {
    "deep": "[" * 30_000,
    "deep and closed": "[" * 30_000 + "]" * 30_000,
    "deep inside": json.dumps(READY | {"job_id": "DEEP", "more": "DEEP", "status": "DEEP"}).replace('"DEEP"', DEEP),
    "deep where it counts": json.dumps(READY | {"ready": "DEEP"}).replace('"DEEP"', DEEP),
    "a deep pid": json.dumps(READY | {"pid": "DEEP"}).replace('"DEEP"', DEEP),
    "huge seconds": json.dumps(UNREADY | {"reason_seconds": "HUGE"}).replace('"HUGE"', HUGE),
    "huge pid": json.dumps(READY | {"pid": "HUGE"}).replace('"HUGE"', HUGE),
    "endless seconds": json.dumps(UNREADY | {"reason_seconds": "HUGE"}).replace('"HUGE"', "1e999"),
    "NaN": json.dumps(UNREADY | {"reason_seconds": float("nan"), "status": float("inf")}),
    "digits": json.dumps(UNREADY | {"status_seconds": "HUGE"}).replace('"HUGE"', "9" * 5000),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_g37_odd_answers(body: str, arguments: list[str], worker: Worker) -> None:
    """JSON that is deeper, or has greater numbers, than Python can show, is a line like any other, and exit code 1."""
    worker.answer = body.encode()
    for where in (["--port", str(worker.port)], []):
        with status.published(worker.url, complain):
            result = runner.invoke(app, ["status", *where, *arguments])
        assert result.exit_code == (0 if body is BODIES["deep inside"] else 1)  # the rest of that one is a worker's
        assert not isinstance(result.exception, Exception)
        if arguments:
            (row,) = json.loads(result.stdout, parse_constant=complain)
            assert row["url"] == worker.url
        else:
            (line,) = result.stdout.splitlines()
            assert line.startswith("worker")
            assert len(line) < 1000


SAYINGS = {
    "a head in drops": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a body in drops": (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{", b" "),
    "chunks in drops": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "one 100 after the other": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize(("first", "again"), SAYINGS.values(), ids=SAYINGS)
def test_g37_an_answer_that_never_ends(first: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers a byte at a time, for ever, is a worker without an answer after a bounded time."""
    monkeypatch.setattr(status, "TIMEOUT", 0.3)
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(first)
            while not over.wait(0.02):
                connection.sendall(again)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=drip, args=(listener.accept()[0],)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=serve)]
        threads[0].start()
        port = listener.getsockname()[1]
        ended = threading.Timer(30.0, over.set)  # a hang is a failure, not a wait
        ended.start()
        result = runner.invoke(app, ["status", "--port", str(port)])
        assert not over.is_set()
        ended.cancel()
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    assert (result.exit_code, result.stdout) == (1, f"worker: no answer at http://127.0.0.1:{port}\n")


def test_g37_an_endless_body(worker: Worker) -> None:
    """Of a body without an end only so much is read as a worker says."""
    worker.answer = b"{" + b" " * 2**24
    result = runner.invoke(app, ["status", "--port", str(worker.port)])
    assert (result.exit_code, result.stdout) == (1, f"worker: no answer at {worker.url}\n")


def test_g37_a_deep_file(runtime: Path) -> None:
    """A file that is no worker's is passed over."""
    leave(runtime / "worker-state", f"{PID}.json", "[" * 4000)
    assert runner.invoke(app, ["status"]).exit_code == 1


def test_g37_many_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are asked at the same time: many that hang cost no more than one."""
    monkeypatch.setattr(status, "found_workers", lambda: dict.fromkeys(range(status.AT_ONCE), "http://127.0.0.1:1"))
    waiting = threading.Barrier(status.AT_ONCE)
    monkeypatch.setattr(status, "ask", lambda url, pid: waiting.wait(30.0) and None)
    result = runner.invoke(app, ["status"])
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, status.AT_ONCE)
