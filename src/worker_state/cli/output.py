"""Streams that fail: nobody reads any more, the disk is full, the terminal is gone or has no such letters.

None of this may cost a worker its life in order, a person a traceback, or a command its exit code. What is printed is
the commands' business.
"""

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO

from worker_state.cli.refusal import ExitCode, refuse

PLAIN = {"≥": ">=", "…": "...", "→": "->"}
"""How our own words read without their letters. Anything else becomes what JSON would write."""
ERRORS = "worker_state.plain"
"""The name of that rule among Python's own (`strict`, `replace`, …)."""


def do_nothing() -> None:
    """The default of whatever is called when a stream is lost."""


class File(io.FileIO):
    """What a stream writes into: it never raises. After its first failure everything goes nowhere."""

    error: OSError | None = None
    """That failure."""
    on_lost: Callable[[], None] = staticmethod(do_nothing)
    """Called each time that something goes nowhere: who comes late hears of it at the next line."""

    def write(self, data: Any, /) -> int:
        """As every file's. A pipe that somebody has made non-blocking is waited for as any other."""
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
    """A standard stream that has every letter and never raises."""

    def __init__(self, stream: TextIO | None) -> None:
        # It does not raise below the buffers: what one of them kept would fail again when the interpreter ends, and
        # Python makes exit code 120 of that. Of a stream that was closed (`>&-`) Python makes None.
        self.file = File(os.devnull, "w") if stream is None else File(stream.fileno(), "w", closefd=False)
        encoding = "utf-8" if stream is None else stream.encoding
        super().__init__(io.BufferedWriter(self.file), encoding, ERRORS, line_buffering=True)


def prepare() -> None:
    """Make both streams what they are for us, whatever Python was told. Once, before anything is printed or read."""
    if sys.stdin is None:  # it was closed (`<&-`), and nothing is read
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout, sys.stderr = Out(sys.stdout), Out(sys.stderr)


def failed() -> bool:
    """Whether something could not be printed, and then say why. That its reader has gone is no failure: he knows."""
    sys.stdout.flush()
    error = sys.stdout.file.error if isinstance(sys.stdout, Out) else None
    if error is None or error.errno == errno.EPIPE:
        return False
    why = (error.strerror or str(error)).rstrip(".")
    refuse(f"Standard output cannot be written: {why}.", ExitCode.STARTUP_FAILED)
    return True


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter) or _escaped(letter) for letter in letters), error.end


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


codecs.register_error(ERRORS, _plain)
