"""What a person sees while a command runs: lines with a time, in one form for everything that speaks.

Changes of state, narration and the library's log all come through here, so that a line is never printed twice and never
in two forms. What strangers sent must be made printable before it comes in.
"""

import logging
import os
from collections.abc import Callable
from datetime import datetime

from rich.console import Console
from rich.text import Text

LEVEL_STYLES = {logging.DEBUG: "dim", logging.INFO: "dim", logging.WARNING: "yellow"}


def do_nothing() -> None:
    """The default of `Screen.on_gone`."""


class Screen:
    """Prints lines at or above a level of the logging module: WARNING is quiet, INFO usual, DEBUG verbose."""

    on_gone: Callable[[], None]
    """Called when nobody reads any more (`worker-state run | head`); printing never raises."""

    def __init__(self, level: int = logging.INFO) -> None:
        self.level = level
        self.on_gone = do_nothing
        # rich keeps bold and dim under NO_COLOR; a person who asks for no colour wants no escape codes at all.
        plain = bool(os.environ.get("NO_COLOR"))
        self._console = Console(highlight=False, markup=False, emoji=False, color_system=None if plain else "auto")

    @property
    def console(self) -> Console:
        """For what draws itself anew; it must not let a broken pipe end the program."""
        return self._console

    def line(self, text: str, style: str = "", *, level: int = logging.INFO) -> None:
        """Print one line, with the time of day before it."""
        if level < self.level:
            return
        time = datetime.now().astimezone().strftime("%H:%M:%S")
        self._print(Text.assemble((time, "dim"), "  ", (text, style)))

    def result(self, name: str, value: str) -> None:
        """Print what the command was run for: with its name, or, when quiet, the bare value for a script."""
        if self.level > logging.INFO:
            self._print(value)
        else:
            self.line(f"{name}: {value}", "bold")

    def plain(self, text: str) -> None:
        """Print text as it is, whatever the level."""
        self._print(text)

    def _print(self, text: Text | str) -> None:
        try:
            self._console.print(text, soft_wrap=True)
        except SystemExit:
            # rich has met a broken pipe, has turned itself off, and wants the program to end on the spot;
            # a worker leaves in order instead.
            self.on_gone()


class LogHandler(logging.Handler):
    """Shows log records as lines of the screen."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(screen.level)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """One record, one line (and a traceback below it, if the record brings one)."""
        text = self.format(record)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        self._screen.line(text, LEVEL_STYLES.get(record.levelno, "red"), level=record.levelno)


def show_log(screen: Screen) -> None:
    """Show what the package logs, and only here: a handler of the root logger would print it a second time."""
    logger = logging.getLogger("worker_state")
    logger.handlers[:] = [LogHandler(screen)]
    logger.setLevel(screen.level)
    logger.propagate = False
