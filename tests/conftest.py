"""What every test is given."""

import logging
import re
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import forks

if TYPE_CHECKING:
    from tests.support.served import Served

# Hypothesis without its clocks: a busy machine is no finding. Here, before any test is read, for a test's own settings
# add to what holds when they are made.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

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


ON_THE_CLOCK = re.compile(r"tests/(simulation|browser|real|cli|scenarios|test_(tutorial|testing|webrtc|stories))\b|\[real|\[on sock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test comes first. Behind it, those that wait for a real clock are dealt out among those that only
    compute, or the processors would idle in one half and be fought for in the other."""
    longest = [item for item in items if "tests/simulation/" in item.nodeid]
    others = [item for item in items if "tests/simulation/" not in item.nodeid]
    place: dict[pytest.Item, float] = {}
    for kind in (True, False):
        alike = [item for item in others if (ON_THE_CLOCK.search(item.nodeid) is None) is kind]
        place.update((item, at / len(alike)) for at, item in enumerate(alike))
    items[:] = [*longest, *sorted(others, key=lambda item: place[item])]


def pytest_unconfigure() -> None:
    """End what the tests have had in common."""
    if forks.cache_info().currsize:
        forks().close()
