"""A manager without a worker behind it: it shows a snapshot, and at most folds into it what it is told."""

from worker_state import Manager
from worker_state.protocol import events as m
from worker_state.protocol.counters import Counters
from worker_state.protocol.state import State, fold
from worker_state.signal_buffer import SignalBuffer
from worker_state.supervisor import Supervisor
from worker_state.watched import Watched


class Shown(Supervisor):
    """Stands in for the supervisor of a running worker; runs nothing."""

    def __init__(self, states: Watched[State], counts: Counters) -> None:
        self.state = states
        self.counts = counts
        self.link = None
        self.signals = SignalBuffer(1, 1)

    def publish(self, event: m.Event) -> None:
        self.state.set(fold(self.state.value, event, 0.0))

    def check_thread(self) -> None:
        pass

    def backlog(self) -> dict[str, int]:
        return {}


def showing(states: Watched[State] | State, counts: Counters | None = None) -> Manager:
    """A manager that shows these states."""
    return Manager(Shown(states if isinstance(states, Watched) else Watched(states), counts or Counters()))
