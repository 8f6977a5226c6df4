"""Python programs without the imports of `worker-state`: a process that has them behind it forks for each.

The imports are most of the CPU that a command takes, and the tests start hundreds. What is forked is a process of its
own, with the streams, variables and folder of who asked, and it ends as the interpreter ends. `make coverage` forks
nothing: there every command starts in full.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from runpy import run_module, run_path

PROGRAM = Path(sys.executable).with_name("worker-state")


class Forked:
    """A program that runs; its test holds it like a `subprocess.Popen`."""

    def __init__(self, command: Sequence[str], channel: socket.socket) -> None:
        self.command = command
        self.returncode: int | None = None
        self._channel = channel
        self.pid = int(channel.recv(16))

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                self.returncode = int(self._channel.recv(16))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.command, timeout or 0.0) from None
            self._channel.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that forks."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._requests, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, env=variables, pass_fds=[theirs.fileno()])

    def start(self, command: Sequence[str], streams: Sequence[int], variables: dict[str, str]) -> Forked:
        """This command, which `worker-state` or Python is to run, on these descriptors, in the present folder."""
        ours, theirs = socket.socketpair()
        request = json.dumps([command, variables, os.getcwd()]).encode()
        with theirs:
            socket.send_fds(self._requests, [len(request).to_bytes(4, "big")], [*streams, theirs.fileno()])
            self._requests.sendall(request)
        return Forked(command, ours)

    def close(self) -> None:
        """Waits for the end, so that all of its CPU is counted here."""
        self._requests.close()
        self._process.wait()


Request = tuple[list[str], dict[str, str], str]
"""Command, variables, folder."""


def _next_request(requests: socket.socket) -> tuple[list[int], Request | None]:
    head, descriptors, _, _ = socket.recv_fds(requests, 4, 4)
    length, text = int.from_bytes(head, "big"), b""
    while len(text) < length:
        text += requests.recv(length - len(text))
    request: Request | None = json.loads(text or "null")
    return descriptors, request


def _watch(pid: int, channel: socket.socket) -> None:
    """Say which process it is, and at its end how it has ended."""
    channel.sendall(b"%d" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):  # of who asked no longer
        channel.sendall(b"%d" % code)


def _fork(requests: socket.socket) -> list[str]:
    """Fork whenever asked, until nobody can ask any more. Returns in the children alone: the command of each."""
    while True:
        descriptors, request = _next_request(requests)
        if request is None:
            with suppress(ChildProcessError):
                while os.wait():
                    pass
            os._exit(0)
        if os.fork():
            for each in descriptors:
                os.close(each)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            continue
        requests.close()
        *streams, last = descriptors
        pid = os.fork()
        if pid:
            for each in (*streams, 0, 1, 2):
                os.close(each)
            with socket.socket(fileno=last) as channel:
                _watch(pid, channel)
            os._exit(0)
        for number, each in enumerate(streams):
            os.dup2(each, number)
        for each in descriptors:
            os.close(each)
        command, variables, folder = request
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        return command


if __name__ == "__main__":
    import worker_state.cli
    from worker_state.__main__ import main
    from worker_state.cli.app import app

    for module in iter_modules(worker_state.cli.__path__, "worker_state.cli."):
        import_module(module.name)
    with redirect_stdout(None):  # typer loads half of itself when it first reads an argument
        app(["session", "encode", "--room", "r", "--token", "t", "--peer", "p"], standalone_mode=False)
    gc.freeze()  # nobody who is forked looks through all this again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which end this process
    command = _fork(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if command[0] == str(PROGRAM):
        sys.argv, sys.path[0] = command, str(PROGRAM.parent)
        main()
    elif command[1] == "-m":
        sys.argv, sys.path[0] = command[2:], os.getcwd()
        run_module(command[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = command[1:], str(Path(command[1]).parent)
        run_path(command[1], run_name="__main__")
