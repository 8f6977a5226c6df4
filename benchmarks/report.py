"""How the benchmarks show and store what they measured: medians with ranges, tables, JSON.

Tables are rich's on a terminal and plain text anywhere else, so that they can be kept and compared.
"""

import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


def percentile(values: Iterable[float], part: float) -> float:
    """The smallest value that this part of all does not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)] if ordered else 0.0


@dataclass(frozen=True)
class Sample:
    """One figure, measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def show(self, digits: int = 2) -> str:
        """`median (least – most)`."""
        return f"{self.median:.{digits}f} ({min(self.values):.{digits}f} – {max(self.values):.{digits}f})"

    def over(self, other: "Sample") -> "Sample":
        """The ratio, taken repeat by repeat: what disturbed one side of a repeat disturbed the other as well."""
        return Sample(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def as_json(self) -> dict[str, Any]:
        return {"median": self.median, "min": min(self.values), "max": max(self.values), "values": list(self.values)}


@dataclass(frozen=True)
class Table:
    """The first column is text, all others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def show(self) -> None:
        if sys.stdout.isatty():
            self._show_rich()
        else:
            self._show_plain()

    def _show_rich(self) -> None:
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for number, name in enumerate(self.columns):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        console.print()
        console.print(table)

    def _show_plain(self) -> None:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        print(f"\n{self.title}\n")
        for number, line in enumerate(lines):
            cells = [text.rjust(width) for text, width in zip(line, widths, strict=True)]
            cells[0] = line[0].ljust(widths[0])
            print("  ".join(cells).rstrip())
            if number == 0:
                print("  ".join("-" * width for width in widths))


def surroundings() -> dict[str, Any]:
    """What the figures depend on beside the code; nothing that tells whose machine it is."""
    packages = ("trio", "trio-websocket", "wsproto", "httpx")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def write_json(path: Path | None, benchmark: str, results: dict[str, Any]) -> None:
    """Write everything that was measured, when the caller has asked for it."""
    if path is not None:
        report = {"benchmark": benchmark, "surroundings": surroundings(), **results}
        path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
