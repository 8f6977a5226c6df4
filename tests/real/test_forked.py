"""A forked child (multiprocessing, a DataLoader): what it must not keep (G24), and what it must not wait for (G25)."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.real.keeper import Server
from tests.support.processes import DEADLINE, Spawn, environment, spawning

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this system")


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts `worker-state` with these arguments."""
    with spawning() as start:
        yield start


COPIED = """
import os, sys, trio
from worker_state.net import tcp

async def main():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    stream = await tcp.open_tcp_stream(*listeners[0].socket.getsockname()[:2], 10)
    peer = await listeners[0].accept()
    copy = os.dup(stream.socket.fileno())  # of a child that does not come to close it
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    await tcp.abort(stream)
    try:
        with trio.fail_after(float(sys.argv[1])):
            await peer.receive_some()
    except trio.BrokenResourceError:
        pass

trio.run(main)
"""


def test_g24_an_abort_ends_the_connection_although_another_process_has_a_copy() -> None:
    """The peer hears of the end at once, not when the last copy is closed."""
    command = [sys.executable, "-W", "ignore", "-c", COPIED, str(DEADLINE)]
    done = subprocess.run(command, capture_output=True, env=environment(), check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# A handler that forks, as a DataLoader does, and says so. The child outlives its parent.
FORKS = """
import multiprocessing, sys, time
from worker_state.cli import handler

def lives_on(pipe):
    pipe.send("here")
    time.sleep(600)

async def handle(job):
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=lives_on, args=(theirs,))
    child.start()
    ours.recv()
    print("the child's pid:", child.pid, flush=True)
    import trio
    await trio.sleep_forever()
"""


@contextmanager
def ending(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.kill(pid, 9)


@pytest.mark.slow
def test_g24_after_a_kill_nothing_of_the_worker_is_left_in_its_child(
    server: Server, spawn: Spawn, tmp_path: "os.PathLike[str]"
) -> None:
    """The server knows that the worker is gone, and its health port is free again, while the child lives on."""
    module = os.path.join(tmp_path, "forks.py")
    with open(module, "w", encoding="utf-8") as file:
        file.write(FORKS)
    places = ("--ws", server.ws_url, "--http", server.http_url)
    extra = {"PYTHONPATH": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    worker = spawn("run", "forks:handle", *places, "--health", "0", **extra)
    port = int(worker.until("health: ").partition("127.0.0.1:")[2].partition("/")[0])
    session = worker.until("sleap-session:").split()[-1]
    worker.until("  discoverable")
    spawn("offer", "--session", session, *places)
    with ending(int(worker.until("the child's pid:").split()[-1])):
        watching = spawn("watch", "--session", session, *places)
        watching.until("Room ")
        worker.process.kill()
        watching.until("gone")
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
            again.listen()


# --- the bridge ------------------------------------------------------------------------------------------------------

BLOCKING = """
import os, sys, worker_state.blocking as blocking
from worker_state import Config

def raises(call):
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"

def in_the_child(manager):
    calls = (
        manager.set_available, manager.reregister, lambda: manager.synced(timeout=2), manager.draining,
        lambda: manager.send_signal({"type": "x"}), lambda: next(iter(manager.signals)),
        lambda: next(iter(manager.states)),
        lambda: manager.ages, lambda: manager.busy("another").__enter__(), lambda: manager.wait_for(bool),
        lambda: blocking.serve_health(manager, 0).__enter__(),
    )
    print({raises(call) for call in calls}, flush=True)
    print(manager.status, flush=True)

with blocking.start_state_manager(Config(sys.argv[1], sys.argv[2])) as manager:
    with blocking.notify_systemd(manager), blocking.serve_health(manager, 0), manager.busy("a job"):
        child = os.fork()
        if child == 0:
            in_the_child(manager)
            sys.exit(7)
        print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        manager.synced()
        print("parent:", manager.status, manager.state.registered, flush=True)
print("left", flush=True)
"""
ASYNCIO = """
import asyncio, os, sys, worker_state.aio as aio
from worker_state import Config

async def main():
    block = aio.open_state_manager(Config(sys.argv[1], sys.argv[2]))
    async with block as manager:
        child = os.fork()
        if child == 0:
            for call in (manager.synced, manager.draining, manager.signals.receive):
                try:
                    await call()
                except RuntimeError as error:
                    print({str(error)}, flush=True)
            await block.__aexit__(None, None, None)
            os._exit(7)  # as multiprocessing does: asyncio's own loop is not for two processes
        print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        await manager.synced()
        print("parent:", manager.status, manager.state.registered, flush=True)
    print("left", flush=True)

asyncio.run(main())
"""
REFUSED = "{'the manager is in the process that this one was forked from, and cannot be reached here'}"


def forked(program: str, server: Server) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-c", program, server.ws_url, server.http_url]
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=DEADLINE, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_g25_in_a_forked_child_every_call_of_the_bridge_raises_and_leaving_does_nothing(server: Server) -> None:
    """`sys.exit` leaves every block there and ends the child; its parent's worker is what it was."""
    assert forked(BLOCKING, server) == [REFUSED, "busy", "child: 7", "parent: busy True", "left"]


def test_g25_in_a_forked_child_the_asyncio_bridge_raises_as_well(server: Server) -> None:
    assert forked(ASYNCIO, server) == [*[REFUSED] * 3, "child: 7", "parent: available True", "left"]
