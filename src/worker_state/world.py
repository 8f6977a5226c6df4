"""Everything outside the process, and chance: what tests, simulations and benchmarks replace."""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random, SystemRandom

import trio

from worker_state.config import Config
from worker_state.net.dial import Dial, WebSocketDial
from worker_state.net.http_client import Http, HttpxHttp, ServerApi
from worker_state.protocol.reconnect import ReconnectParameters
from worker_state.redact import Secrets

_CHANCE = SystemRandom()  # from the operating system: forked workers must not draw alike (T17). It has no state.


@dataclass(frozen=True, slots=True)
class World:
    """The network, chance, and a clock beside trio's."""

    dial: Dial
    http: Http
    random: Random
    nonce: Callable[[], str]
    pace: ReconnectParameters = field(default_factory=ReconnectParameters)
    awake: Callable[[], float] = trio.current_time
    """A clock in seconds that goes on while the machine is suspended (trio's own does not, faults.md, T18)."""

    def api(self, secrets: Secrets) -> ServerApi:
        """The server's HTTP API. It learns what is secret, and nothing of that comes out of it in a text."""
        return ServerApi(self.http, secrets)

    @classmethod
    def around(cls, config: Config) -> "World":
        """What this worker lives in: the real world, unless this run of trio has another (`replaced`)."""
        return (_another.get() or cls.real)(config)

    @classmethod
    def real(cls, config: Config) -> "World":
        """The network, and randomness from the operating system."""
        timing = config.timing
        return cls(
            dial=WebSocketDial(config.websocket_url, unacknowledged_within=timing.unacknowledged),
            http=HttpxHttp(config.http_url, within=timing.http),
            random=_CHANCE,
            nonce=lambda: secrets.token_hex(16),
            pace=ReconnectParameters.patient(timing.register),
            awake=_awake,
        )


# A variable of the run: a program starts its worker as ever, and other threads with a trio of their own see nothing.
_another: trio.lowlevel.RunVar[Callable[[Config], World] | None] = trio.lowlevel.RunVar("worker_state_world", None)


@contextmanager
def replaced(make: Callable[[Config], World]) -> Iterator[None]:
    """While the block lasts, whatever starts in this run of trio lives in the world that `make` gives to its
    configuration. Raises `RuntimeError` inside another such block."""
    if _another.get() is not None:
        raise RuntimeError("the world of this run of trio has been replaced already: one kit in memory at a time")
    _another.set(make)
    try:
        yield
    finally:
        _another.set(None)


def _awake() -> float:
    # Linux counts suspended time only in CLOCK_BOOTTIME; elsewhere the wall clock is the next best thing.
    if sys.platform == "linux" and hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time()
