"""Reading an actor's inbox, which is an unbounded memory channel of trio's: all notes that have come, at once.

Unbounded, since a ring of bounded ones can deadlock. All that has been said comes before anything is done.
"""

from contextlib import suppress

import trio

from worker_state.core import messages as m

Inbox = trio.MemoryReceiveChannel[m.Note]


def pending(inbox: Inbox) -> list[m.Note]:
    """The notes that have come, the oldest first. Never waits."""
    notes: list[m.Note] = []
    with suppress(trio.WouldBlock):
        while True:
            notes.append(inbox.receive_nowait())
    return notes


async def receive(inbox: Inbox) -> list[m.Note]:
    """Wait for a note; then all that have come, the oldest first. Cancelled, it has taken none."""
    return [await inbox.receive(), *pending(inbox)]


async def receive_until(inbox: Inbox, deadline: float) -> list[m.Note]:
    """The same, or nothing when the deadline has passed, in seconds of trio's clock. A cancel does not reach it: the
    worker that leaves says so by a note."""
    with trio.CancelScope(deadline=deadline, shield=True):
        return await receive(inbox)
    return []
