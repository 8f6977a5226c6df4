"""The development server in a process of its own that keeps users and rooms in a file, and registrations nowhere.

On the real server those live in Cognito and DynamoDB, so they outlive it, however it ends. The file is written before
the answer that tells of them, so that nothing a client knows of is lost with SIGKILL.

Run as a program: `python -m tests.real.keeper FILE WS_PORT HTTP_PORT`.
"""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import SystemRandom

import trio

from tests.support.forks import Forked
from tests.support.processes import environment, started
from worker_state.devserver import DevServer, Rooms, serve
from worker_state.devserver.model import JSON, Reply

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0
QUICK = 1.5
"""Seconds that a start may take on a machine that is not busy; it takes half a second on most."""


class KeptRooms(Rooms):
    """The rules, and a file."""

    def __init__(self, file: Path) -> None:
        super().__init__(random=SystemRandom())
        self._file = file
        if file.exists():
            users, expiry, rows = pickle.loads(file.read_bytes())
            self._identities.users.update(users)
            self._identities._expiry.update(expiry)
            self._registry.rows.update(rows)

    def sign_in(self, now: float) -> Reply:
        return self._kept(super().sign_in(now))

    def create_room(self, authorization: str | None, now: float) -> Reply:
        return self._kept(super().create_room(authorization, now))

    def delete_peer(self, body: JSON, now: float) -> Reply:
        return self._kept(super().delete_peer(body, now))

    def _kept(self, reply: Reply) -> Reply:
        new = self._file.with_suffix(".new")
        new.write_bytes(pickle.dumps((dict(self.users), self._identities._expiry, dict(self.rooms))))
        new.replace(self._file)
        return reply


class Server:
    """The process, as its test holds it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.ws_port = self.http_port = 0
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.slowness = 1.0
        """How many times slower than it should be this machine was at the last start: short deadlines have to be longer
        then."""
        self.start()

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.ws_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        """On the ports of its earlier life, if it had one. Returns when both are open."""
        began = time.monotonic()
        ports_read, ports_written = os.pipe()
        arguments = [str(self._file), str(self.ws_port), str(self.http_port)]
        command = [sys.executable, "-m", "tests.real.keeper", *arguments]
        self._process = started(command, ports_written, 2, environment())
        os.close(ports_written)
        with os.fdopen(ports_read) as out:
            ports = out.readline().split()
        assert len(ports) == 2, "the server did not start"
        self.ws_port, self.http_port = map(int, ports)
        self.slowness = min(10.0, max(1.0, (time.monotonic() - began) / QUICK))

    def kill(self) -> None:
        """SIGKILL: no clean-up, no goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE)

    def stop(self) -> None:
        """SIGSTOP: the kernel goes on accepting, and nothing else happens."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kept(self) -> tuple[set[str], set[str]]:
        """The users and the rooms that exist."""
        users, _, rows = pickle.loads(self._file.read_bytes())
        return set(users), set(rows)


@contextmanager
def keeping(folder: Path) -> Iterator[Server]:
    """A server while the context lasts."""
    server = Server(folder / "users-and-rooms")
    try:
        yield server
    finally:
        server.kill()


async def _main(file: Path, ws_port: int, http_port: int) -> None:
    async with trio.open_nursery() as nursery:
        server: DevServer = await nursery.start(
            partial(serve, ws_port=ws_port, http_port=http_port, rooms=KeptRooms(file))
        )
        sys.stdout.write(f"{server.ws_port} {server.http_port}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
