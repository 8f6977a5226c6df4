"""Checks the prose of the pages and of the public docstrings with proselint: `make lint` runs it.

    .venv/bin/python docs/words.py [PAGE …]

proselint reads plain text, so it is given the prose alone: code, names in backticks, links' targets and comments are
blotted out, each line staying where it is. `[tool.words]` of pyproject.toml says which of its checks are off, and why,
and how long a sentence may be.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT = Path(__file__).parents[1]
ALL = ("*.md", "docs/**/*.md", "benchmarks/results/*.md", "src/**/*.py")
CODE = re.compile(
    r"^( *)```.*?^ *```$|^    .*?$|<!--.*?-->|(?<=\])\([^)\s]*\)|`[^`]*`|\b[FGT]\d+\b", re.MULTILINE | re.DOTALL
)
EXAMPLE = re.compile(r"^ *(?:>>>|\\b).*?(?=\n\n|\Z)|`[^`]*`", re.MULTILINE | re.DOTALL)
BLOT = "·"  # no word, so that the words around it are not neighbours
BETWEEN = re.compile(r"(\n\s*\n|\n *(?:-|\d+\.|#+) |\||·{8,}|[.!?:;](?=\s))")  # sentences


def blotted(text: str, code: re.Pattern[str]) -> str:
    """The text with dots in place of the code, as many lines of it."""
    return code.sub(lambda found: re.sub(r"[^\n]", BLOT, found[0]), text)


def docstrings(source: str) -> str:
    """The docstrings of what is public, on their lines."""
    lines = source.splitlines()
    kept = [""] * len(lines)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) and not getattr(node, "name", "").startswith("_"):
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno or 0
            kept[first:last] = (line.replace('"""', "") for line in lines[first:last])
    return blotted("\n".join(kept), EXAMPLE)


def prose(path: Path) -> str:
    """What a person reads in this file."""
    text = path.read_text("utf-8")
    return docstrings(text) if path.suffix == ".py" else blotted(text, CODE)


def long_sentences(text: str, most: int) -> Iterator[tuple[int, str]]:
    """The line of each sentence of more than so many words, and a sentence about it."""
    at = 0
    for sentence in BETWEEN.split(text):
        if (words := len(re.findall(r"[A-Za-z][\w'-]*|·+", sentence))) > most:
            yield text.count("\n", 0, at) + 1, f"words.long: a sentence of {words} words"
        at += len(sentence)


def settings() -> tuple[dict[str, str], int]:
    """The checks that are off, with their reasons, and the longest sentence in words."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["words"]
    return table["off"], table["longest-sentence"]


def complaints(*paths: Path) -> Iterator[str]:
    """A line for each finding in these files."""
    CheckRegistry().register_many(__register__)
    off, most = settings()
    for path in paths:
        text = prose(path)
        found = list(long_sentences(text, most))
        for result in LintFile(str(path), content=text).lint(DEFAULT) if text.strip() else ():
            name = result.check_result.check_path
            if not any(f"{name}.".startswith(f"{each}.") for each in off):
                found.append((result.pos[0], f"{name}: {result.check_result.message}"))
        for line, sentence in sorted(set(found)):  # a check may be registered twice
            yield f"{path.relative_to(ROOT)}:{line}: {' '.join(sentence.split())}"


def main(named: list[str]) -> int:
    """Print what is found in these files, or in all; 1 if there is something."""
    files = [Path(name).resolve() for name in named] or sorted({file for each in ALL for file in ROOT.glob(each)})
    found = [*complaints(*files)]
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
