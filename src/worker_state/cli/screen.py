"""What a running command prints. Changes of state, narration and the log come through here, each line once.

Make text from strangers printable before it comes here.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable

import typer
from rich.console import Console
from rich.text import Text

from worker_state import logs
from worker_state.cli.output import LEFT_OUT, ExitCode, Out, dated, fail, hold_nobody

STATUS_STYLES = {"available": "green", "reserved": "yellow", "busy": "blue", "maintenance": "magenta"}
LEVEL_STYLES = {logging.DEBUG: "dim", logging.INFO: "dim", logging.WARNING: "yellow"}


class Screen(logging.Handler):
    """Prints lines from `level` on: WARNING is quiet, DEBUG verbose. `as_json`: each line is a JSON object.

    Printing never raises, and never waits for a reader. `on_gone` is called, in any thread, when output is lost: the
    reader has gone, or the disk is full.
    """

    def __init__(self, level: int = logging.INFO, *, as_json: bool = False) -> None:
        super().__init__(level)
        hold_nobody()
        self.as_json = as_json
        self.identities_left: int = 0  # on the server, as the log says
        self.on_gone: Callable[[], None] = lambda: None
        self._out = sys.stdout
        self._time = "%Y-%m-%d %H:%M:%S" if dated(self._out) else "%H:%M:%S"
        if isinstance(self._out, Out):
            self._out.file.on_lost = lambda: self.on_gone()  # noqa: PLW0108 - it is set later
            self._out.file.left_out = self._left_out
        self.console: Console = Console(
            file=self._out,
            highlight=False,
            markup=False,
            emoji=False,
            color_system=None if os.environ.get("NO_COLOR") else "auto",  # rich would keep bold and dim
        )

    @property
    def gone(self) -> bool:
        """Whether output was lost."""
        return isinstance(self._out, Out) and self._out.file.error is not None

    def show_log(self) -> None:
        """Show the package's log here alone, not a second time through the root logger."""
        logger = logging.getLogger("worker_state")
        logger.handlers[:] = [self]
        logger.setLevel(self.level)
        logger.propagate = False

    def line(self, text: str, style: str = "", *, level: int = logging.INFO, about: logs.About = logs.NOTHING) -> None:
        """Print a line with its time, or as JSON with the event that it is about."""
        if level >= self.level:
            self.plain(self._json(level, text, about)) if self.as_json else self._timed(text, style)

    def result(self, name: str, value: str) -> None:
        """Print what the command is run for: with its name, or when quiet the bare value."""
        if self.as_json:
            about = logs.About("result", {name.replace(" ", "_"): value})
            self.plain(self._json(logging.INFO, f"{name}: {value}", about))
        elif self.level > logging.INFO:
            self.plain(value)
        else:
            self.line(f"{name}: {value}", "bold")

    def failed(self, sentence: str, code: ExitCode = ExitCode.FAILED) -> typer.Exit:
        """As `fail`, but as JSON among the other lines."""
        if not self.as_json:
            return fail(sentence, code)
        self.plain(self._json(logging.ERROR, sentence, logs.About("failed", {})))
        return typer.Exit(code)

    def plain(self, text: Text | str) -> None:
        """Print text as it is, at any level."""
        self.console.print(text, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        about = logs.About.of(record)
        if about.event == "identities_left":
            count = about.fields.get("count")
            self.identities_left += count if isinstance(count, int) else 1
        try:
            self.record(record, self.format(record))
        except Exception:  # noqa: BLE001 - a caller that logs must not fail because of it
            self.handleError(record)

    def record(self, record: logging.LogRecord, text: str) -> None:
        """Print a log record, whose text is formatted for a person."""
        if self.as_json:
            self.plain(logs.JsonFormatter().format(record))
            return
        label = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        tail = logs.pairs(logs.About.of(record))
        self._timed(label + text, LEVEL_STYLES.get(record.levelno, "red"), f"  {tail}" if tail else "")

    def _timed(self, text: str, style: str, tail: str = "") -> None:
        self.plain(Text.assemble((time.strftime(self._time), "dim"), "  ", (text, style), (tail, "dim")))

    def _json(self, level: int, text: str, about: logs.About) -> str:
        return json.dumps(logs.json_line(time.time(), level, text, about), ensure_ascii=False)

    def _left_out(self, lines: int) -> str:
        text = LEFT_OUT.format(lines)
        about = logs.About("output_left_out", {"lines": lines})
        return self._json(logging.WARNING, text, about) if self.as_json else text


def duration(seconds: float) -> str:
    """Rounded down: "12 s", "3 min", "2 h 5 min", "4 d 1 h"."""
    s = max(0, int(seconds))
    if s < 3600:
        return f"{s} s" if s < 60 else f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60} min" if s < 86400 else f"{s // 86400} d {s % 86400 // 3600} h"
