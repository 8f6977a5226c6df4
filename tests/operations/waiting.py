"""Waiting for what other programs do."""

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds after which waiting has failed


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    give_up_at = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {patience:g} s: {what}"
        time.sleep(0.1)
