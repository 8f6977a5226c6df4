"""Runs an actor that decides: waits for its next event or its deadline, calls it, publishes what it answers.

An actor's inbox is an unbounded memory channel of trio's: a ring of bounded ones can deadlock. The deadline surrounds
the waiting for an event and nothing else, so that it can cut nothing short.
"""

from collections.abc import Callable
from typing import Protocol

import trio

from worker_state.core import messages as m

Inbox = trio.MemoryReceiveChannel[m.Event]
IsStale = Callable[[m.Event], bool]
"""Whether an event belongs to an older link; the supervisor knows."""


class Actor(Protocol):
    """An actor without I/O and without `await`. Times are in seconds of trio's clock."""

    def handle(self, event: m.Event, now: float) -> list[m.Event]:
        """Take one event; returns the events that it publishes."""

    def next_deadline(self) -> float:
        """When `wake` is to be called, if no event comes before."""

    def wake(self, now: float) -> list[m.Event]:
        """The deadline has come; returns the events that the actor publishes."""


# Ctrl-C must not strike in a task of ours: inside trio it can leave a task that is woken twice, or never.
@trio.lowlevel.enable_ki_protection
async def run_actor(actor: Actor, inbox: Inbox, *, publish: m.Publish, is_stale: IsStale) -> None:
    """Run this actor until its inbox is closed. All events that have come are handled before it is woken."""
    while True:
        try:
            event = await _next_event(inbox, actor.next_deadline())
        except trio.EndOfChannel:
            return
        now = trio.current_time()
        if event is None:
            published = actor.wake(now)
        elif not is_stale(event):
            published = actor.handle(event, now)
        else:
            published = []
        del event  # an idle worker must not hold on to the last one, which may be large
        for each in published:
            publish(each)


async def _next_event(inbox: Inbox, deadline: float) -> m.Event | None:
    """The next event, or None when the deadline comes first. A cancel does not reach it: the worker that leaves
    publishes an event."""
    try:
        return inbox.receive_nowait()
    except trio.WouldBlock:
        if deadline <= trio.current_time():
            return None
    with trio.CancelScope(deadline=deadline, shield=True):
        return await inbox.receive()
    return None
