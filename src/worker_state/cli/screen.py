"""What a person sees while a command runs: lines with a time, in one form for everything that speaks.

Changes of state, narration and the library's log all come through here, so that a line is never printed twice and never
in two forms. What strangers sent must be made printable before it comes in.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime

import typer
from rich.console import Console
from rich.text import Text

from worker_state import logs
from worker_state.cli.output import Out, do_nothing
from worker_state.cli.refusal import ExitCode, refuse

Show = Callable[[logging.LogRecord, str], None]
"""Prints a record; the text is the record formatted for a person."""
LEVEL_STYLES = {logging.DEBUG: "dim", logging.INFO: "dim", logging.WARNING: "yellow"}


class Screen:
    """Prints lines at or above a level of the logging module: WARNING is quiet, INFO usual, DEBUG verbose."""

    on_gone: Callable[[], None]
    """Called when nobody reads any more (`worker-state run | head`), or no disk takes it; printing never raises."""

    def __init__(self, level: int = logging.INFO, *, as_json: bool = False) -> None:
        self.level = level
        self.as_json = as_json
        """Every line is a JSON object, for programs; see `logs.JsonFormatter`."""
        self.left_something = False
        """The library has logged that identities may be left on the server: that is an exit code of its own."""
        self.on_gone = do_nothing
        self._out = sys.stdout
        if isinstance(self._out, Out):
            self._out.file.on_lost = self._gone
        self._console = Console(
            file=self._out,
            highlight=False,
            markup=False,
            emoji=False,
            # rich keeps bold and dim under NO_COLOR; a person who asks for no colour wants no escape codes at all.
            color_system=None if os.environ.get("NO_COLOR") else "auto",
        )

    @property
    def console(self) -> Console:
        """For what draws itself anew."""
        return self._console

    @property
    def gone(self) -> bool:
        """Whether nobody reads any more, or no disk takes it."""
        return isinstance(self._out, Out) and self._out.file.error is not None

    def line(self, text: str, style: str = "", *, level: int = logging.INFO, about: logs.About = logs.NOTHING) -> None:
        """Print one line, with the time of day before it; to a program also say the event that it is about."""
        if level < self.level:
            return
        if self.as_json:
            self._json(level, text, about)
            return
        self._line(text, style)

    def result(self, name: str, value: str) -> None:
        """Print what the command was run for: with its name, or, when quiet, the bare value for a script."""
        if self.as_json:
            self._json(logging.INFO, f"{name}: {value}", logs.About("result", {name.replace(" ", "_"): value}))
        elif self.level > logging.INFO:
            self._print(value)
        else:
            self.line(f"{name}: {value}", "bold")

    def failed(self, sentence: str, code: ExitCode = ExitCode.STARTUP_FAILED) -> typer.Exit:
        """Say why the command has failed, to a program among the other lines; the caller raises what comes back."""
        if not self.as_json:
            return refuse(sentence, code)
        self._json(logging.ERROR, sentence, logs.About("failed", {}))
        return typer.Exit(code)

    def plain(self, text: str) -> None:
        """Print text as it is, whatever the level."""
        self._print(text)

    def record(self, record: logging.LogRecord, text: str) -> None:
        """Print what was logged; `text` is the record formatted for a person."""
        if self.as_json:
            self._print(logs.JsonFormatter().format(record))
            return
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        style = LEVEL_STYLES.get(record.levelno, "red")
        if record.levelno >= self.level:
            self._line(text, style, logs.pairs(logs.About.of(record)))

    def _line(self, text: str, style: str, tail: str = "") -> None:
        clock = datetime.now().astimezone().strftime("%H:%M:%S")
        self._print(Text.assemble((clock, "dim"), "  ", (text, style), (f"  {tail}" if tail else "", "dim")))

    def _gone(self) -> None:
        self.on_gone()

    def _json(self, level: int, text: str, about: logs.About) -> None:
        self._print(json.dumps(logs.json_line(time.time(), level, text, about), ensure_ascii=False))

    def _print(self, text: Text | str) -> None:
        self._console.print(text, soft_wrap=True)


class LogHandler(logging.Handler):
    """Shows log records, as lines of the screen or else as `show` does it."""

    def __init__(self, screen: Screen, show: Show | None = None) -> None:
        super().__init__(screen.level)
        self._screen = screen
        self._show = show or screen.record

    def emit(self, record: logging.LogRecord) -> None:
        """One record, one line (and a traceback below it, if the record brings one)."""
        if logs.About.of(record).event == "identities_left":
            self._screen.left_something = True
        try:
            self._show(record, self.format(record))
        except Exception:  # noqa: BLE001 - as in every handler: who logs must not fail because of it
            self.handleError(record)


def show_log(screen: Screen, show: Show | None = None) -> None:
    """Show what the package logs, and only here: a handler of the root logger would print it a second time."""
    logger = logging.getLogger("worker_state")
    logger.handlers[:] = [LogHandler(screen, show)]
    logger.setLevel(screen.level)
    logger.propagate = False
