"""Looking over the manager's shoulder: every event that goes through its `publish` is counted and put on the timeline.

The one place that takes a private part of the product's: `manager.Supervisor`, replaced by a subclass for a run.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.trace import Trace
from worker_state import manager
from worker_state.config import Config
from worker_state.protocol import events as m
from worker_state.world import World

DEEPEST = 1000
"""Notes that may wait in one inbox."""


def branch(note: m.Event) -> str | None:
    """Which branch of the product this note shows, in words without numbers; None for what is too common."""
    match note:
        case m.LinkLost(_, closed, _):
            return f"link lost: {closed.cause.name}"
        case m.DialFailed(failure, _):
            return f"dial failed: {failure.cause.name}"
        case m.DropLink(_, why):
            return f"link dropped: {why.split(' in ')[0]}"
        case m.RegistrationLost(_, why):
            return "forgotten: " + re.sub(r"\d+ ", "", why)
        case m.RegistrationRejected(why):
            return f"held: {why}"
        case m.FrameIgnored(why):
            return f"ignored: {why[:40]}"
        case m.FrameReceived() | m.SendFrame():
            return None
        case _:
            return type(note).__name__


@contextmanager
def recorded(trace: Trace, now: Callable[[], float], hear: Callable[[str, m.Event], None]) -> Iterator[None]:
    """For the time of a run, every supervisor counts."""
    product: Any = manager
    original: Any = product.Supervisor

    class Recorded(original):  # type: ignore[misc]
        def __init__(self, config: Config, world: World) -> None:
            super().__init__(config, world)
            self._who = str(config.capabilities["hostname"])
            self._told = 0

        def publish(self, note: m.Event) -> None:
            name = branch(note)
            if name is not None:
                trace.branches[name] += 1
                if not isinstance(note, m.PresenceProved | m.StatusConfirmed | m.ChangeStatus | m.FrameIgnored):
                    trace.note(now(), self._who, ": %s", name)
            hear(self._who, note)
            self._told += 1
            if self._told % 32 == 0:
                depth = max(self.backlog().values())
                trace.deepest = max(trace.deepest, depth)
            super().publish(note)

    product.Supervisor = Recorded
    try:
        yield
    finally:
        product.Supervisor = original
