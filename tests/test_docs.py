"""The documents as tests: what they name exists, and what the sources cite is there."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "NOTES.md",
    "docs",
    "benchmarks/results/README.md",
)
FILES = sorted(file for page in PAGES for file in ([*(ROOT / page).rglob("*.md")] or [ROOT / page]))
REFERENCE = ROOT / "docs" / "reference"
FAULTS = (REFERENCE / "faults.md").read_text("utf-8")
CITABLE = {page.stem: page for page in (ROOT / "docs").rglob("*.md")}
NAMED = re.compile(r"(tests/[\w/]+\.py)?(?:::(test_[\w*]+))?")
CITED = re.compile(r"\b(faults|protocol|storms)\.md, ([A-Z]?\d+|[A-G]\b)((?:, [A-Z]?\d+)*)")
BARE = re.compile(r"\(([FGT]\d{1,2}(?:, [FGT]\d{1,2})*)[):]")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_tests(text: str) -> int:
    """How many tests, or files of tests, are named in this text. Each has to be there."""
    file, named = "", 0
    for path, test in NAMED.findall(text):
        file = path or file
        if file:
            names = re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text("utf-8"), re.MULTILINE)
            named += bool(path or test)
            assert not test or any(fnmatch(name, test) for name in names), (file, test)
    return named


@pytest.mark.parametrize("page", FILES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the repository, and to a heading in it, resolves."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text("utf-8")), target


def test_the_catalogue_names_tests_that_exist() -> None:
    """Each entry of the fault catalogue is "open" or names tests, and those exist."""
    for entry in re.split(r"^### ", FAULTS, flags=re.MULTILINE)[1:]:
        line = re.search(r"^- \*\*Tests\*\*: (.*?)(?=^- |\Z|^## )", entry, re.MULTILINE | re.DOTALL)
        assert line is not None, entry
        assert named_tests(line[1]) or "**open**" in line[1], entry


def test_each_bound_is_set_and_held_where_its_row_says() -> None:
    """Every row of the bounds names constants that their files have, and tests that exist."""
    rows = re.findall(r"^\| (?!what|stage|---)(.*) \|$", (REFERENCE / "bounds.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 25
    for row in rows:
        *_, places, tests = row.split(" | ")
        for place in places.split("; "):
            file, *names = re.findall(r"`([^`]+)`", place)
            text = (ROOT / "src" / "worker_state" / file).read_text("utf-8")
            assert names, row
            for name in names:
                assert re.search(rf"^ *(?:def |[\w, ]*\b){name.removeprefix('timing.')}\b", text, re.MULTILINE), name
        assert named_tests(tests), row


def test_what_the_sources_cite_is_there() -> None:
    """A comment that cites "faults.md, F31" finds that heading; so do numbers and letters of the other pages."""
    for folder in ("src", "tests", "benchmarks"):
        for source in (ROOT / folder).rglob("*.py"):
            for page, first, more in CITED.findall(source.read_text("utf-8")):
                text = CITABLE[page].read_text("utf-8")
                for name in [first, *re.findall(r"\w+", more)]:
                    heading = rf"^(?:#+ {name}(?:\.|$)|{name}\. )"
                    assert re.search(heading, text, re.MULTILINE), f"{source.name}: {page}.md, {name}"


def test_what_the_sources_cite_by_its_id_alone_is_there() -> None:
    """An id like (F31) is an entry of the fault catalogue."""
    for source in (ROOT / "src").rglob("*.py"):
        for name in re.findall(r"\w+", " ".join(BARE.findall(source.read_text("utf-8")))):
            assert re.search(rf"^### {name}$", FAULTS, re.MULTILINE), f"{source.name}: {name}"


def test_notes_are_decisions() -> None:
    """The notes stay short enough to be read."""
    assert len((ROOT / "NOTES.md").read_text("utf-8").splitlines()) < 250


def test_each_promise_names_tests_that_exist() -> None:
    """Every promise says which tests hold it, and those exist."""
    page = (ROOT / "docs" / "explanation" / "promises.md").read_text("utf-8")
    promised, _, _ = page.partition("## What is not promised")
    promises = re.split(r"^- (?=\*\*)", promised, flags=re.MULTILINE)[1:]
    assert len(promises) > 25
    for promise in promises:
        assert named_tests(promise.partition("Held by")[2]), promise
