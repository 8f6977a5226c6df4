"""Standard streams that never raise, and how a command fails: one sentence on stderr and an exit code.

A reader that has gone, a full disk, a closed stream or one that lacks letters: none of this may cost a worker its
orderly end, or a command its exit code.
"""

import codecs
import errno
import io
import json
import os
import select
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TextIO

import typer

ASCII = {"≥": ">=", "…": "...", "→": "->"}  # for our own texts; other letters become JSON escapes
ERRORS = "worker_state.ascii"  # the name of that rule among Python's own (`strict`, `replace`, …)


class ExitCode(IntEnum):
    """Zero is a clean end."""

    FAILED = 1
    BAD_USAGE = 2
    LEFT_SOMETHING = 3  # all was well, but the server may still have an identity of ours


def fail(sentence: str, code: ExitCode = ExitCode.FAILED) -> typer.Exit:
    """Print the sentence, which holds no secret, and return what the caller raises."""
    typer.echo(f"Error: {sentence}", err=True)
    return typer.Exit(code)


def bad_usage(sentence: str) -> typer.Exit:
    """The same for wrong options and configuration."""
    return fail(sentence, ExitCode.BAD_USAGE)


class File(io.FileIO):
    """Discards everything after its first failure, `error`. Calls `on_lost` at each write that is discarded."""

    error: OSError | None = None
    on_lost: Callable[[], None] = staticmethod(lambda: None)

    def write(self, data: Any, /) -> int:
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


def prepare() -> None:
    """Replace the standard streams. Call it once, before anything is printed or read."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout, sys.stderr = Out(sys.stdout), Out(sys.stderr)


def failed() -> bool:
    """Whether output was lost for another reason than a reader that has gone; prints it."""
    sys.stdout.flush()
    error = sys.stdout.file.error if isinstance(sys.stdout, Out) else None
    if error is None or error.errno == errno.EPIPE:
        return False
    fail(f"Standard output cannot be written: {(error.strerror or str(error)).rstrip('.')}.")
    return True


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(ASCII.get(letter) or json.dumps(letter)[1:-1] for letter in letters), error.end


codecs.register_error(ERRORS, _replace)
