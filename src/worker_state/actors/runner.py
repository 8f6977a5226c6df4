"""Actors that decide, and what runs them: it waits for an event or the deadline, calls the actor, publishes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import trio

from worker_state.protocol import events

Inbox = trio.MemoryReceiveChannel[events.Event]
IsStale = Callable[[events.Event], bool]  # whether an event belongs to an older link; the supervisor knows


class PureActor(ABC):
    """An actor without I/O and without `await`. Times are in seconds of the caller's clock.

    Events are applied first, all that have come; then `wake` starts what is due. Of these only a frame comes from
    outside: what handling it raises costs that frame, and anything else is a bug that ends the worker.
    """

    def __init__(self) -> None:
        self._wake_at = -math.inf  # when something is due; -inf after each event, since that may change it
        self._published: list[events.Event] = []

    def handle(self, event: events.Event, now: float) -> list[events.Event]:
        """Take one event; returns the events that the actor publishes."""
        self._look_at_the_clock(now)
        try:
            self._apply(event, now)
        except Exception as error:
            if not isinstance(event, events.FrameReceived):
                raise
            why = f"{type(event.frame).__name__} could not be handled: {type(error).__name__}"
            self._publish(events.FrameIgnored(why, error))
        self._wake_at = -math.inf
        return self._take_published()

    def next_deadline(self) -> float:
        """When `wake` is to be called, if no event comes before."""
        return self._wake_at

    def wake(self, now: float) -> list[events.Event]:
        """The deadline has come; returns the events that the actor publishes."""
        self._look_at_the_clock(now)
        self._wake_at = self._start_what_is_due(now)
        return self._take_published()

    def _publish(self, event: events.Event) -> None:
        self._published.append(event)

    def _take_published(self) -> list[events.Event]:
        published, self._published = self._published, []
        return published

    def _overslept(self, now: float) -> float:
        """For how many seconds nothing was called although something was due."""
        return 0.0 if self._wake_at == -math.inf else max(0.0, now - self._wake_at)

    @abstractmethod
    def _look_at_the_clock(self, now: float) -> None:
        """Before anything else: has the process stood still?"""

    @abstractmethod
    def _apply(self, event: events.Event, now: float) -> None: ...

    @abstractmethod
    def _start_what_is_due(self, now: float) -> float:
        """Returns when something is due next, unless an event comes before."""


# Ctrl-C must not strike in a task of ours: inside trio it can leave a task that is woken twice, or never.
@trio.lowlevel.enable_ki_protection
async def run_actor(actor: PureActor, inbox: Inbox, *, publish: events.Publish, is_stale: IsStale) -> None:
    """Run this actor until its inbox is closed. All events that have come are handled before it is woken."""
    while True:
        try:
            event = await _next_event(inbox, actor.next_deadline())
        except trio.EndOfChannel:
            return
        now, published = trio.current_time(), list[events.Event]()
        if event is None:
            published = actor.wake(now)
        elif not is_stale(event):
            published = actor.handle(event, now)
        del event  # an idle worker must not keep the last one, which may be large
        for each in published:
            publish(each)


async def _next_event(inbox: Inbox, deadline: float) -> events.Event | None:
    """The next event, or None when the deadline comes first. Shielded: a worker that leaves publishes an event."""
    try:
        return inbox.receive_nowait()
    except trio.WouldBlock:
        if deadline <= trio.current_time():
            return None
    # The deadline surrounds the waiting for an event and nothing else, so that it can cut nothing short.
    with trio.CancelScope(deadline=deadline, shield=True):
        return await inbox.receive()
    return None
