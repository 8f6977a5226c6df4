"""What every test is given."""

import gc
import logging
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import forks

if TYPE_CHECKING:
    from tests.support.served import Served

# Hypothesis without its clocks: a busy machine is no finding. Here, before any test is read, for a test's own settings
# add to what holds when they are made.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

# Thousands of tests are collected, none of them garbage: a third of the time that collecting takes.
gc.disable()

# A shell starts what it leaves in the background with Ctrl-C ignored, `nohup` with the end of the terminal, and every
# process of the tests inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def served() -> "Iterator[Served]":
    """The development server in a thread of its own."""
    from tests.support.served import serving

    with serving() as served:
        yield served


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """What runs trio beside a program of another kind ends with it."""
    before = set(threading.enumerate())
    yield
    assert {thread for thread in threading.enumerate() if "portal" in thread.name} <= before


@pytest.fixture(autouse=True)
def _the_log_as_it_was() -> Iterator[None]:
    """A command takes the package's logger over: right for a program, wrong for the tests that come after it."""
    logger = logging.getLogger("worker_state")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the longest come first, and the others are shuffled, the same way each
    time: in one file many wait for a real clock, in another all compute. A group keeps its order."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        group = item.get_closest_marker("xdist_group")
        return "tests/simulation/" not in item.nodeid, crc32((group.args[0] if group else item.nodeid).encode())

    if hasattr(config, "workerinput"):
        items.sort(key=place)


def pytest_collection_finish() -> None:
    """From now on garbage is looked for again, and not among the tests."""
    gc.enable()
    gc.freeze()


def pytest_unconfigure() -> None:
    """End what the tests have had in common."""
    if forks.cache_info().currsize:
        forks().close()
