"""Real processes of the command line. A test waits for lines, never for a time; the deadlines only end a hang."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROGRAM = Path(sys.executable).with_name("worker-state")
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

    def __init__(self, process: subprocess.Popen[bytes], out: IO[bytes]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors = ""
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
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read().decode()
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
            process = subprocess.Popen(
                [*program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=process_side,
                stderr=subprocess.PIPE,
                env=environment(**({"TERM": "xterm-256color"} | extra)),
            )
            os.close(process_side)
            stack.enter_context(process)
            stack.callback(process.kill)
            return Running(process, out)

        yield start
