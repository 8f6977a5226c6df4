"""Standard output that fails: nobody reads any more, the disk is full, the terminal has no such letters.

None of this may cost a worker its life in order, or a person a traceback. What is printed is the commands' business.
"""

import codecs
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import typer

from worker_state.cli.refusal import ExitCode, refuse

PLAIN = {"≥": ">=", "…": "...", "→": "->"}
"""How our own words read without their letters. Anything else becomes what JSON would write."""
ERRORS = "worker_state.plain"
"""The name of that rule among Python's own (`strict`, `replace`, …)."""


def prepare() -> None:
    """Let both streams take every letter, whatever their encoding. Once, before anything is printed or read."""
    codecs.register_error(ERRORS, _plain)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed (`>&-`): what is printed goes nowhere, and nothing is read
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors=ERRORS)


def write(text: str) -> None:
    """Print a line on standard output; raises `typer.Exit` when that is not possible."""
    try:
        typer.echo(text)
    except OSError as error:
        raise lost(error, sys.stdout) from None


def lost(error: OSError, stream: TextIO) -> typer.Exit:
    """Say why the stream takes nothing more, and let it swallow what follows. That its reader has gone is no failure.

    The caller raises what comes back, sooner or later.
    """
    with suppress(OSError, ValueError):  # no file behind it: then there is nothing that the end could flush
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, stream.fileno())
        os.close(sink)
    if error.errno == errno.EPIPE:
        return typer.Exit()
    why = (error.strerror or str(error)).rstrip(".")
    return refuse(f"Standard output cannot be written: {why}.", ExitCode.STARTUP_FAILED)


class Out:
    """A stream that never raises. What is written after its failure goes nowhere."""

    def __init__(self, stream: TextIO, on_lost: Callable[[], None]) -> None:
        self._stream = stream
        self._on_lost = on_lost
        self.end: typer.Exit | None = None
        """What to raise when the command is over, once something could not be written."""

    def __getattr__(self, name: str) -> Any:
        # Whoever asks for the encoding, or for a terminal, means the stream behind.
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As every stream's."""
        self._do(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """As every stream's."""
        self._do(self._stream.flush)

    def _do(self, action: Callable[[], object]) -> None:
        if self.end is not None:
            return
        try:
            action()
        except OSError as error:
            self.end = lost(error, self._stream)
            self._on_lost()


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter) or _escaped(letter) for letter in letters), error.end


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
