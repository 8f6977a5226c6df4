"""Real processes of the command line. A test waits for lines, never for a time; the deadlines only end a hang."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from tests.support.forks import PROGRAM as PROGRAM
from tests.support.forks import Forked, Forks

DEADLINE = 30.0
OWN_VARIABLES = ("SLEAP_RTC_", "WORKER_STATE_", "NO_COLOR", "FORCE_COLOR", "COLUMNS")


def environment(**extra: str) -> dict[str, str]:
    """What a process of a test is given: nothing that a person or a machine has set, and what the test adds."""
    # Programs have to be found, and `make coverage` measures the children as well. Not even `HOME` is the person's, who
    # may have a `~/.sleap-rtc`.
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "TMPDIR", "COVERAGE_"))}
    return {**kept, "HOME": "/nonexistent", **extra}


class Running:
    """A process and the lines that it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, out: IO[bytes], errors: IO[bytes]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors = ""
        self._errors = errors
        self._read: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._take, args=(out,), daemon=True)
        self._reader.start()

    def _take(self, out: IO[bytes]) -> None:
        try:
            for line in out:
                self._read.put(line.decode().rstrip("\r\n"))
        except OSError:
            pass  # how a terminal says that its last writer has gone
        self._read.put(None)

    def until(self, text: str) -> str:
        """The next line that contains the text."""
        give_up_at = time.monotonic() + DEADLINE
        try:
            while (line := self._read.get(timeout=max(0.0, give_up_at - time.monotonic()))) is not None:
                self.lines.append(line)
                if text in line:
                    return line
        except queue.Empty:
            raise AssertionError(f"no {text!r} within {DEADLINE:g} s: {self.lines}") from None
        raise AssertionError(f"the output ended without {text!r}: {self.lines}")

    def catch_up(self) -> None:
        """Take the lines that have been printed by now, so that the next ones are new."""
        for _ in range(self._read.qsize()):
            line = self._read.get()
            if line is None:
                raise AssertionError(f"the output has ended: {self.lines}")
            self.lines.append(line)

    def addresses(self) -> tuple[str, str]:
        """The two addresses that a server prints."""
        return self.until("ws://").split()[-1], self.until("http://").split()[-1]

    def kept_waiting(self) -> float:
        """Seconds for which the process wanted to run and the machine had no core for it, where that is known."""
        try:
            return int(Path(f"/proc/{self.process.pid}/schedstat").read_text("ascii").split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def end(self) -> int:
        """Wait for the process; afterwards `lines` and `errors` (its stderr) are complete."""
        code = self.process.wait(DEADLINE)
        self.errors = self._errors.read().decode()
        while (line := self._read.get(timeout=DEADLINE)) is not None:
            self.lines.append(line)
        return code


@dataclass(frozen=True)
class Server:
    """A development server and where it listens."""

    running: Running
    ws: str
    http: str

    @property
    def options(self) -> list[str]:
        """What names it to `worker-state run`."""
        return ["--ws", self.ws, "--http", self.http]


Spawn = Callable[..., Running]


@contextmanager
def spawning() -> Iterator[Spawn]:
    """Start `worker-state`, or another program, with these arguments; what still runs at the end is killed."""
    with ExitStack() as stack:

        def start(
            *arguments: str, program: tuple[str | Path, ...] = (PROGRAM,), terminal: bool = False, **extra: str
        ) -> Running:
            process_side, test_side = os.openpty()[::-1] if terminal else os.pipe()[::-1]
            out = stack.enter_context(os.fdopen(test_side, "rb"))
            errors_read, errors_written = os.pipe()
            errors = stack.enter_context(os.fdopen(errors_read, "rb"))
            variables = environment(**({"TERM": "xterm-256color"} | extra))
            process = started([*program, *arguments], process_side, errors_written, variables)
            os.close(process_side)
            os.close(errors_written)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return Running(process, out, errors)

        yield start


@cache
def forks() -> Forks:
    """What forks for all tests of this process; it is closed at their end."""
    return Forks(environment())


def started(
    command: Sequence[str | Path], out: int, errors: int, variables: dict[str, str]
) -> subprocess.Popen[bytes] | Forked:
    """This command in a process, on these descriptors: forked, if that makes no difference but in CPU.

    It does under `make coverage`, and for what is told to an interpreter at its start.
    """
    told = "-c" in command[1:2] or any(name.startswith(("COVERAGE_", "PYTHON")) for name in variables)
    with open(os.devnull) as nothing:
        if command[0] in (PROGRAM, sys.executable) and not told:
            return forks().start([*map(str, command)], (nothing.fileno(), out, errors), variables)
        return subprocess.Popen(command, stdin=nothing, stdout=out, stderr=errors, env=variables)
