"""`worker-state run MODULE:FUNCTION`: the function is found, and runs the jobs that `worker-state offer` sends."""

import json
import sys
from pathlib import Path

import pytest
import trio

from tests.cli.test_run_worker import Kept, worker_run, working
from tests.support.processes import Server, Spawn
from worker_state import Job, SessionString
from worker_state.cli.handler import NoHandler, example_handler, load_handler
from worker_state.devserver import serve

WHERE = ("--ws", "ws://127.0.0.1:1", "--http", "http://127.0.0.1:1", "--session", str(SessionString("r", "t", "p")))
WORKER = """
import time

import trio

class Wrong:
    text = "no function"

async def handle(job):
    for step in range(job.offer.get("steps", 3)):
        await job.send({"type": "progress", "step": step})
    if job.offer.get("forever"):
        await trio.sleep_forever()

def plain(job):
    job.send({"type": "progress", "step": 7})
    if job.offer.get("blocks"):
        time.sleep(20)

def nothing():
    pass

def numbers(job):
    yield 1
"""


@pytest.fixture
def worker_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current directory."""
    name = f"my_worker_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(WORKER, "utf-8")
    (tmp_path / f"{name}_broken.py").write_text("import nothing_of_that_name", "utf-8")
    (tmp_path / f"{name}_wrong.py").write_text("1 / 0", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return name


def test_a_handler_is_found(worker_module: str) -> None:
    """A function of a module in the current directory is found."""
    assert load_handler(f"{worker_module}:handle").__name__ == "handle"
    assert load_handler(f"{worker_module}:plain").__name__ == "plain"


def test_a_current_directory_that_is_gone(worker_module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has deleted it: what is installed is found all the same."""
    monkeypatch.syspath_prepend(tmp_path)
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_handler(f"{worker_module}:handle").__name__ == "handle"


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("handle", "'handle' must be MODULE:FUNCTION, as in my_worker:handle"),
        (":handle", "must be MODULE:FUNCTION"),
        ("../my_worker:handle", "'../my_worker' must be a module's name, without a path and without .py"),
        ("my_worker.py:handle", "must be a module's name"),
        ("no.such.module:handle", "there is no module no"),
        ("{}:missing", "{} has no function missing"),
        ("{}:Wrong.text", "must be a function"),
        ("{}:numbers", "must be a function"),
        ("{}:nothing", "must take one argument, the job"),
        ("{}_broken:handle", "{}_broken cannot be imported: there is no module nothing_of_that_name"),
        ("{}_wrong:handle", "{}_wrong cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_handler_that_is_none(worker_module: str, named: str, sentence: str) -> None:
    """A handler that cannot be had is refused in words."""
    with pytest.raises(NoHandler) as caught:
        load_handler(named.format(worker_module))
    assert sentence.format(worker_module) in str(caught.value)


async def test_without_a_handler_the_worker_is_in_maintenance(nursery: trio.Nursery) -> None:
    """Nobody would serve the clients: the first `register` says so, and the screen says why."""
    server, screen = await nursery.start(serve), Kept()
    async with working(worker_run(screen, server, idle=True)):
        await screen.until("In maintenance, for no function is named")
        session = SessionString.parse((await screen.until("sleap-session:")).split()[-1])
        peer = server.rooms.peer(session.peer_id)
        assert peer is not None
        assert peer.metadata["properties"]["status"] == "maintenance"
    assert not any("cannot be sent" in line for line in screen.lines)


async def test_the_example(autojump_clock: trio.testing.MockClock) -> None:
    """The example handler tells the client how far it is."""
    said: list[object] = []

    class Told(Job):
        def __init__(self) -> None:
            pass

        async def send(self, payload: object) -> None:
            said.append(payload)

    await example_handler(Told())
    assert said[-1] == {"type": "progress", "step": 10, "of": 10}


def run_worker(spawn: Spawn, server: Server, *arguments: str) -> str:
    """A worker's session string."""
    worker = spawn("run", *arguments, "--log-format", "json", *server.options, PYTHONPATH=str(Path.cwd()))
    session = json.loads(worker.until('"session_string"'))["session_string"]
    worker.until('"discoverable"')
    return str(session)


@pytest.mark.parametrize("function", ["handle", "plain"])
def test_a_job_from_the_command_line(spawn: Spawn, server: Server, worker_module: str, function: str) -> None:
    """`offer` sends a job, prints what the worker says, and ends with 0 when it is done."""
    session = run_worker(spawn, server, f"{worker_module}:{function}")
    client = spawn("offer", *server.options, "--session", session, "--data", '{"steps": 2}')
    assert client.end() == 0, client.errors
    payloads = [json.loads(line) for line in client.lines]
    assert [payload["type"] for payload in payloads][:: len(payloads) - 1] == ["accepted", "done"]
    assert payloads[1]["step"] == (0 if function == "handle" else 7)


def test_a_job_that_is_cancelled_from_the_command_line(spawn: Spawn, server: Server, worker_module: str) -> None:
    """Ctrl-C at `offer` cancels the job, and the worker is available again."""
    session = run_worker(spawn, server, f"{worker_module}:handle")
    client = spawn("offer", *server.options, "--session", session, "--data", '{"forever": true}')
    client.until("progress")
    client.process.terminate()
    assert client.end() == 1
    assert client.errors == "Error: The job was not done: cancelled.\n"
    again = spawn("offer", *server.options, "--session", session)
    assert again.end() == 0


def test_a_job_that_hears_of_no_cancel(spawn: Spawn, server: Server, worker_module: str) -> None:
    """A job that blocks goes on after Ctrl-C at `offer`, which does not say that it was not done."""
    session = run_worker(spawn, server, f"{worker_module}:plain")
    client = spawn("offer", *server.options, "--session", session, "--data", '{"blocks": true}', "--wait", "5")
    client.until("progress")
    client.process.terminate()
    assert client.end() == 1
    assert client.errors == "Error: How the job ends is not known: the worker has said nothing for 5 s.\n"


def test_a_job_whose_end_nobody_hears(spawn: Spawn, server: Server, worker_module: str) -> None:
    """When the server goes away the job may go on: `offer` does not say that it was not done."""
    session = run_worker(spawn, server, f"{worker_module}:handle")
    client = spawn("offer", *server.options, "--session", session, "--data", '{"forever": true}')
    client.until("progress")
    server.running.process.kill()
    assert client.end() == 1
    assert client.errors.startswith("Error: How the job ends is not known: the connection has ended")


def test_the_example_serves(spawn: Spawn) -> None:
    """With the server inside, `run` says how to send it a job, and the example runs that."""
    worker = spawn("run")
    session = worker.until("session string: ").split()[-1]
    hint = worker.until("Send it a job, from another terminal: worker-state offer ")
    worker.until("  discoverable")
    client = spawn(*hint.split("worker-state ", 1)[1].replace("SESSION-STRING", session).split())
    assert json.loads(client.until("progress")) == {"type": "progress", "step": 1, "of": 10}
    client.process.terminate()
    assert client.end() == 1


def test_a_worker_without_a_handler_refuses(spawn: Spawn, server: Server) -> None:
    """An offer to a worker in maintenance ends with 1 and a sentence."""
    session = run_worker(spawn, server)
    client = spawn("offer", *server.options, "--session", session)
    assert client.end() == 1
    assert client.errors == "Error: The job was not done: refused.\n"


def test_an_offer_to_nobody(spawn: Spawn, server: Server) -> None:
    """A worker that is not there, and a server that is not, are sentences and exit code 1."""
    session = SessionString.parse(run_worker(spawn, server))
    gone = str(SessionString(session.room_id, session.token, "somebody else"))
    client = spawn("offer", *server.options, "--session", gone)
    assert client.end() == 1
    assert client.errors == "Error: The job was not done: there is no such worker in the room.\n"
    nobody = spawn("offer", *WHERE)
    assert nobody.end() == 1
    assert nobody.errors.startswith("Error: The job was not done: the server gave no identity")
    assert "Traceback" not in nobody.errors


def test_the_end_of_the_worker_is_told(spawn: Spawn, server: Server, worker_module: str) -> None:
    """A client whose job ends with the worker is told at once."""
    worker = spawn("run", f"{worker_module}:handle", "--log-format", "json", "--drain-timeout", "0", *server.options)
    session = json.loads(worker.until('"session_string"'))["session_string"]
    worker.until('"discoverable"')
    client = spawn("offer", *server.options, "--session", session, "--data", '{"forever": true}')
    client.until("progress")
    worker.process.terminate()
    assert client.end() == 1
    assert client.errors == "Error: The job was not done: cancelled.\n"
    assert worker.end() == 0


def test_available_without_a_handler(spawn: Spawn, server: Server) -> None:
    """A worker that is only said to be available takes no job."""
    session = run_worker(spawn, server, "--available")
    client = spawn("offer", *server.options, "--session", session, "--wait", "0.5")
    assert client.end() == 1
    assert client.errors == "Error: The job was not done: the worker has said nothing for 0.5 s.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "no_such_module:handle"), "Error: there is no module no_such_module.\n"),
        (
            ("run", "json:dumps", "--available"),
            "--available is for a worker without a function: leave it out.\n",
        ),
        (("run", "json:dumps", "--demo"), "--demo walks through a life of its own: leave out the function.\n"),
        (("offer",), "Error: Which worker? Give its --session, or its room: --room and --token, or --api-key.\n"),
        (("offer", *WHERE, "--data", '{"a": NaN}'), "--data must be a JSON object.\n"),
        (("offer", *WHERE, "--data", '{"type": "quit"}'), "--data must not contain 'type': that is the offer's own.\n"),
        (("offer", "--session", "nonsense"), "session string"),
    ],
)
def test_bad_usage(spawn: Spawn, arguments: tuple[str, ...], sentence: str) -> None:
    """What cannot be run is a sentence and exit code 2."""
    done = spawn(*arguments)
    assert done.end() == 2
    assert sentence in done.errors
