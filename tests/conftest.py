"""What every test is given."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _the_log_as_it_was() -> Iterator[None]:
    """A command takes the package's logger over: right for a program, wrong for the tests that come after it."""
    logger = logging.getLogger("worker_state")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)
