"""What the dependency group `ops` installs, in an environment of its own."""

from pathlib import Path

import pytest

BIN = Path(__file__).parents[2] / ".venv-ops" / "bin"


def needs(program: str) -> Path:
    """The program; without it the test is skipped."""
    if not (BIN / program).exists():
        pytest.skip(f"there is no .venv-ops/bin/{program}: make installs it, where the packages can be had")
    return BIN / program
