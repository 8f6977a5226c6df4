"""How far a benchmark of storms is: one line that changes on a terminal, and a line now and then anywhere else."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from benchmarks.storm.record import PROVED, Record
from benchmarks.storm.run import Plan

EVERY = 10.0
"""Seconds between two lines where they stay."""


class Progress:
    """For as long as the runs last."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._run = 0
        self._title = ""
        self._began = self._said = time.monotonic()
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._status = Status("", console=self._console) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def begins(self, title: str, plan: Plan) -> None:
        self._run += 1
        self._title = f"{self._run} of {self._runs}: {title}, at best {plan.ideal:.0f} s"
        self._began = time.monotonic()

    def shows(self, record: Record) -> None:
        """What one run is doing just now."""
        dials = sum(lines[-1]["dials"] for lines in record.clients if lines)
        text = (
            f"{self._title} | {time.monotonic() - self._began:4.0f} s | {record.phase}:"
            f" {record.standing(PROVED)} of {record.workers} back, {dials} dials"
        )
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._said > EVERY:
            self.line(text)

    def line(self, text: str) -> None:
        """A line that stays."""
        self._said = time.monotonic()
        self._console.print(text, soft_wrap=True)
