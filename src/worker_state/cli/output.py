"""Standard streams that never raise, and how a command fails: one sentence on stderr and an exit code.

A reader that has gone, or takes nothing, a full disk, a closed stream or one that lacks letters: none of this may cost
a worker its links and its orderly end, or a command its exit code.
"""

import atexit
import codecs
import errno
import io
import json
import os
import select
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from queue import SimpleQueue
from typing import Any, TextIO

import typer

ASCII = {"≥": ">=", "…": "...", "→": "->"}  # for our own texts; other letters become JSON escapes
ERRORS = "worker_state.ascii"  # the name of that rule among Python's own (`strict`, `replace`, …)
UNTAKEN = 2**20  # bytes that wait for a slow reader: a worker's lines of a day
PIECE = 4096  # bytes of one write, each of which is a sign of a reader
PATIENCE, STRETCHES = 2.0, 5  # seconds at the end without such a sign, and how many times that with signs
LEFT_OUT = "(lines that nobody took and that are left out here: {})"


class ExitCode(IntEnum):
    """Zero is a clean end."""

    FAILED = 1
    BAD_USAGE = 2
    LEFT_SOMETHING = 3  # all was well, but the server may still have an identity of ours


def fail(sentence: str, code: ExitCode = ExitCode.FAILED) -> typer.Exit:
    """Print the sentence, which holds no secret, and return what the caller raises."""
    typer.echo(f"Error: {sentence}", err=True)  # one line: a command in it can be copied from any terminal
    return typer.Exit(code)


def columns() -> int | None:
    """How wide the terminal of standard output is; None for what is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def dated(stream: TextIO) -> bool:
    """Whether a line needs a date: in a file or a pipe, but neither in a terminal nor in systemd's journal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return not stream.isatty() and os.environ.get("JOURNAL_STREAM") != f"{status.st_dev}:{status.st_ino}"


def paragraph(text: str, width: int | None, indent: int) -> str:
    """The text, with lines of `width` columns behind `indent` spaces, broken between words only."""
    if width is None:
        return " " * indent + text
    space = " " * indent
    lines = textwrap.wrap(
        text, width, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)


def bad_usage(sentence: str) -> typer.Exit:
    """The same for wrong options and configuration."""
    return fail(sentence, ExitCode.BAD_USAGE)


class Writer(threading.Thread):
    """Writes for others, so that a reader who takes nothing holds this thread alone."""

    def __init__(self) -> None:
        super().__init__(name="worker-state output", daemon=True)
        self.steps: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def run(self) -> None:
        while True:
            self.steps.get()()


class File(io.FileIO):
    """Discards everything after its first failure, `error`. Calls `on_lost` at each write that is discarded.

    With a `writer` no write waits, and `on_lost` may come from that thread. What would wait behind `UNTAKEN` bytes is
    left out; `left_out` makes a line of the number of such lines.
    """

    error: OSError | None = None
    on_lost: Callable[[], None] = staticmethod(lambda: None)
    left_out: Callable[[int], str] = staticmethod(LEFT_OUT.format)
    writer: Writer | None = None
    taken: int = 0  # bytes that the writer has written
    _given = 0  # bytes that it was given
    _missing = 0  # lines that were left out since

    def write(self, data: Any, /) -> int:
        """Write, or have it written."""
        size = len(data)
        if self.writer is None:
            return self._write(data)
        if self.error is not None:
            self.on_lost()
        elif self._given > self.taken and self._given - self.taken + size > UNTAKEN:
            self._missing += bytes(data).count(b"\n")
        else:
            self._fill_the_gap()
            self._give(bytes(data))
        return size

    def ask(self) -> threading.Event:
        """An event that is set when all that was written so far is out."""
        done = threading.Event()
        if self.writer is None or self.error is not None:
            done.set()
        else:
            self._fill_the_gap()
            self.writer.steps.put(done.set)
        return done

    def _fill_the_gap(self) -> None:
        if self._missing:
            line, self._missing = self.left_out(self._missing), 0
            self._give(f"{line}\n".encode())

    def _give(self, data: bytes) -> None:
        assert self.writer is not None
        self._given += len(data)
        self.writer.steps.put(partial(self._write_all, memoryview(data)))

    def _write_all(self, data: memoryview) -> None:
        while data:
            size = self._write(data[:PIECE])
            self.taken += size
            data = data[size:]

    def _write(self, data: Any) -> int:
        """Write, and wait where another process has made the pipe non-blocking."""
        try:
            while self.error is None:
                if (taken := super().write(data)) is not None:
                    return taken
                select.select((), (self,), ())
        except OSError as error:
            self.error = error
        self.on_lost()
        return len(data)


class Out(io.TextIOWrapper):
    """A standard stream over a `File`; Python has None for one that was closed (`>&-`)."""

    def __init__(self, stream: TextIO | None) -> None:
        # Failures end below the buffers. Python would flush a buffer again at its end, and exit with code 120.
        self.file: File = File(os.devnull, "w") if stream is None else File(stream.fileno(), "w", closefd=False)
        encoding = "utf-8" if stream is None else stream.encoding
        super().__init__(io.BufferedWriter(self.file), encoding, ERRORS, line_buffering=True)


_ours: list[Out] = []  # the standard streams, also where a program has put others in their place


def prepare() -> None:
    """Replace the standard streams. Call it once, before anything is printed or read."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout, sys.stderr = _ours[:] = Out(sys.stdout), Out(sys.stderr)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_write_yourself)


def is_prepared() -> bool:
    """Whether the process is the command's own."""
    return bool(_ours)


def hold_nobody() -> None:
    """From now on printing waits for no reader (G20), but at the end of the process, as `settle` does."""
    writers: dict[tuple[int, int], Writer] = {}  # two streams into one place have one, which keeps their order
    for file in _files():
        status = os.fstat(file.fileno())
        place = status.st_dev, status.st_ino
        if place not in writers:
            writers[place] = Writer()
            writers[place].start()
        file.writer = writers[place]
    atexit.register(settle)


def settle(patience: float | None = PATIENCE) -> None:
    """Wait until everything is out. What nobody takes any of within `patience` seconds is given up; None: nothing."""
    for file in _files():  # one after the other, for the loss of the first may be told on the second
        done = file.ask()
        for _ in range(STRETCHES):
            before = file.taken
            if done.wait(patience) or file.taken == before:
                break
        if not done.is_set():
            file.error = BrokenPipeError(errno.EPIPE, "nobody takes it")


def failed() -> bool:
    """Whether output was lost for another reason than a reader that has gone; prints it."""
    sys.stdout.flush()
    settle()
    error = sys.stdout.file.error if isinstance(sys.stdout, Out) else None
    if error is None or error.errno == errno.EPIPE:
        return False
    fail(f"Standard output cannot be written: {(error.strerror or str(error)).rstrip('.')}.")
    return True


def _files() -> list[File]:
    return [stream.file for stream in _ours if not stream.closed]


def _write_yourself() -> None:
    """In a forked child there is no writer; what waits for it is the parent's."""
    for file in _files():
        file.writer = None


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(ASCII.get(letter) or json.dumps(letter)[1:-1] for letter in letters), error.end


codecs.register_error(ERRORS, _replace)
