"""What the documentation takes from the code: tables of the reference, and pictures.

The pages are written by hand, but for the blocks between `<!-- name -->` and `<!-- end -->`.
"""

from pathlib import Path

DOCS = Path(__file__).parents[1]


def contents() -> dict[Path, str]:
    """Each file that is generated, as a whole or in blocks, with its text as it has to be."""
    from docs.generator.pictures import PICTURES

    return {DOCS / "pictures" / f"{name}.svg": draw().svg() for name, draw in PICTURES.items()}
