"""Simulated time and its events, and the pipes that things travel in.

The network and the server live on a heap of events, not in tasks: so they go on while the workers' process is stopped
(`Net.stop_workers`), as the rest of the world does.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")


class Net:
    """The world's clock. It runs with the workers' clock, but for the time that these were suspended."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._ahead = 0.0
        """How far the world's clock is ahead of the workers', which stood still while they were suspended."""
        self._inside: float | None = None
        clock._autojump = self._go_on  # type: ignore[method-assign]

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self._inside if self._inside is not None else trio.current_time() + self._ahead

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do this then. In order, also among what is due at the same time."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

    def _go_on(self) -> None:
        """Every task waits: time goes on to the next deadline or event, whichever comes first.

        In place of the clock's own jump to the next deadline. Events in a task of their own would cost twice the CPU.
        """
        now = trio.current_time()
        to_deadline = trio.lowlevel.current_statistics().seconds_to_next_deadline
        to_event = self._heap[0][0] - self._ahead - now if self._heap else math.inf
        step = min(to_deadline, to_event)
        if 0 < step < math.inf:
            self._clock.jump(step)
        if to_event <= to_deadline:
            # A little beyond: sums of times are rounded, and what is due must not be waited for without end.
            self._run_until(now + max(0.0, step) + self._ahead + 1e-6)

    def stop_workers(self, seconds: float, *, their_clock_runs: bool) -> None:
        """The workers' process does nothing for so long, everything else goes on.

        A stopped process (SIGSTOP) sees that its clock has jumped; on a suspended machine the monotonic clock stood
        still as well (faults.md, T18).
        """
        self._run_until(self.now + seconds)
        if their_clock_runs:
            self._clock.jump(seconds)
        else:
            self._ahead += seconds

    def _run_until(self, end: float) -> None:
        heap = self._heap
        before = self._inside
        while heap and heap[0][0] <= end:
            when, _, act = heapq.heappop(heap)
            self._inside = when
            act()
        self._inside = before


class Pipe(Generic[T]):
    """One direction of one connection: in order, after a latency; can be stalled, slowed down and cut."""

    WINDOW = 32
    """Things under way before a sender has to wait: the kernels' buffers."""

    def __init__(self, net: Net, latency: float, deliver: Callable[[T], None]) -> None:
        self._net = net
        self._latencies = [latency]
        self._deliver = deliver
        self._under_way: deque[T] = deque()
        self._arrived = 0
        self._free_at = 0.0
        self._stalls = 0
        self._moved = trio.Event()
        self.cut = False
        self.on_push: Callable[[T], bool] | None = None
        """A fault that waits for the next thing: True when it has taken it."""
        self.pace: Callable[[T], list[tuple[T, float]]] | None = None
        """A slow line: the pieces in which a thing travels, and the seconds that each takes."""
        self._hurried = 0
        self.on_lost: Callable[[], None] = lambda: None
        """Something was sent that will never arrive."""

    @property
    def stalled(self) -> bool:
        return self._stalls > 0

    @property
    def latency(self) -> float:
        return max(self._latencies)

    def slow(self, latency: float) -> Callable[[], None]:
        """At least so slow, until what this returns is called; of several at once the slowest holds."""
        self._latencies.append(latency)
        return lambda: self._latencies.remove(latency)

    @property
    def full(self) -> bool:
        return len(self._under_way) >= self.WINDOW and not self.cut

    async def wait_for_room(self) -> None:
        await self._moved.wait()

    def push(self, item: T) -> None:
        """Send. Never waits: who wants to be slowed down looks at `full` before."""
        if self.cut:
            self.on_lost()
            return
        if self.on_push is not None and self.on_push(item):
            return
        self.put(item)

    def put(self, item: T) -> None:
        """Past the fault that waits."""
        for piece, seconds in [(item, 0.0)] if self.pace is None else self.pace(item):
            self._free_at = max(self._net.now + self.latency, self._free_at) + seconds
            self._under_way.append(piece)
            self._net.at(self._free_at, partial(self._arrive, self._hurried))

    def hurry(self) -> None:
        """The line is fast again: what is under way arrives now."""
        self.pace = None
        self._hurried += 1
        self._free_at = self._net.now
        self._arrived = len(self._under_way)
        self._flush()

    def stall(self) -> Callable[[], None]:
        """Nothing arrives any more, until what this returns is called. Stalls add up."""
        self._stalls += 1

        def release() -> None:
            self._stalls -= 1
            self._flush()

        return release

    def cut_off(self) -> None:
        """What is under way is lost, and so is everything that follows."""
        self.cut = True
        if self._under_way:
            self.on_lost()
        self._under_way.clear()
        self._arrived = 0
        self._wake()

    def _arrive(self, hurried: int) -> None:
        if not self.cut and hurried == self._hurried:
            self._arrived += 1
            self._flush()

    def _flush(self) -> None:
        moved = False
        while self._arrived and not self._stalls and not self.cut:
            self._arrived -= 1
            moved = True
            self._deliver(self._under_way.popleft())
        if moved:
            self._wake()

    def _wake(self) -> None:
        if self._moved.statistics().tasks_waiting:
            self._moved.set()
            self._moved = trio.Event()
