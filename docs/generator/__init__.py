"""What the documentation takes from the code: tables of the reference, and pictures.

The pages are written by hand, but for the blocks between `<!-- name -->` and `<!-- end -->`. A fact that is missing or
wrong in a block is mended where the code has it: a field's docstring, the help of an option or of a metric.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def contents() -> dict[Path, str]:
    """Each file that is generated, as a whole or in blocks, with its text as it has to be."""
    from docs.generator import commands, log_events, metrics, settings
    from docs.generator.pictures import PICTURES

    found = {DOCS / "pictures" / f"{name}.svg": draw().svg() for name, draw in PICTURES.items()}
    for page, blocks in {
        "commands": commands.blocks(),
        "log-events": log_events.blocks(),
        "metrics": metrics.blocks(),
        "settings": settings.blocks(),
    }.items():
        path = DOCS / "reference" / f"{page}.md"
        found[path] = filled(path.read_text("utf-8"), blocks)
    return found


def filled(page: str, blocks: dict[str, str]) -> str:
    """The page with these blocks. Raises `ValueError` for a block that has no place in it."""
    for name, text in blocks.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not (begin and end):
            raise ValueError(f"the page has no place for {name}")
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = ("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def _cell(text: str) -> str:
    """On one line, the ids of faults as links."""
    text = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"\(([FGT]\d\d?)\)", lambda id_: f"([{id_[1]}](faults.md#{id_[1].lower()}))", text)


def code(text: str) -> str:
    """As code, or nothing."""
    return f"`{text}`" if text else ""
