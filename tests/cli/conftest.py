"""What the tests of the command line are given."""

import logging
from collections.abc import Iterator

import pytest

from tests.support.processes import Server, Spawn, spawning


@pytest.fixture(autouse=True)
def _the_log_as_it_was() -> Iterator[None]:
    """A command takes the package's logger over: right for a program, wrong for the tests that come after it."""
    logger = logging.getLogger("worker_state")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts `worker-state` with these arguments."""
    with spawning() as start:
        yield start


@pytest.fixture
def server(spawn: Spawn) -> Server:
    """A development server in a process of its own."""
    running = spawn("serve", "--ws-port", "0", "--http-port", "0")
    return Server(running, *running.addresses())
