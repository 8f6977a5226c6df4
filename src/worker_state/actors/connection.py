"""The connection actor: owns the socket. Dials, pumps frames in and out, notices death, waits, dials again.

The socket is a local variable of the function that serves it; others get a `Link`, the right to send on this socket,
which breaks with it. An open socket is served by `served.py`; when to dial, and how long each stage may take, is
`core.pace`'s to say. What a frame means is not known here.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from worker_state import announce
from worker_state.actors.runner import Inbox, IsStale
from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core.config import Timing
from worker_state.core.pace import Pace
from worker_state.core.verdict import Cause, Closed, DialFailure
from worker_state.served import Served

if TYPE_CHECKING:
    from worker_state.transport import Dial, Socket

TOO_BIG = 1009
TOO_BIG_PAUSE = 60.0
"""Seconds. An answer to `register` that was too big will be as big on the next link (FAULTS F22)."""
MOVE = 5.0
"""Seconds for the closing handshake when the worker moves to another room: it is idle, and nothing presses."""


@dataclass(slots=True)
class _Book:
    """What this actor knows; nobody else sees it."""

    pace: Pace
    wanted: bool = False
    """There is an identity to register with."""
    leaving: bool = False
    close_within: float | None = None
    """Nothing keeps the link any longer: how many seconds its closing may take."""
    epoch: int = 0
    link: Served | None = None
    cuttable: trio.CancelScope | None = None
    """The waiting between dials, or the dial itself: cut short when the worker leaves."""
    registers: tuple[bool, bool] = (False, False)
    """A `register` was sent over the last link, and the last one was not answered."""
    registered: bool = False
    """A registration was acknowledged on the present link, or the last one."""
    say: announce.Dials = field(default_factory=announce.Dials)


@trio.lowlevel.enable_ki_protection
async def run(
    inbox: Inbox,
    *,
    dial: "Dial",
    pace: Pace,
    timing: Timing,
    publish: m.Publish,
    is_stale: IsStale,
    waits: bool = True,
) -> None:
    """Keep one link from `OpenLinks` to `CloseLink`. Speaks `LinkOpened`, `FrameReceived`, `LinkLost`, `DialFailed`.
    `waits`: also before the first registration trouble is followed by another dial."""
    book = _Book(pace, say=announce.Dials(once=not waits))
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        keeping = False
        while book.close_within is None:
            event = await inbox.receive()
            if not is_stale(event):
                _apply(book, event)
            if book.wanted and not keeping:
                keeping = True
                nursery.start_soon(_keep_link, book, dial, nursery, timing, publish)
        if book.link is not None:
            book.link.close(Closed(reason="the worker leaves", cause=Cause.DROPPED), book.close_within)
        # _keep_link ends by itself: no dial begins after BeginLeave, and the link's end is bounded.


def _apply(book: _Book, event: m.Event) -> None:
    match event:
        case m.OpenLinks():
            book.wanted = True
        case m.WorkerRegistered(at=at) if not book.registered:
            book.registered = True
            book.say.once = False
            book.pace.answered(at)
        case m.RegistrationHeld(surely=True) if book.link is not None:
            book.link.register_answered()
        case m.SendFrame(_, message) if book.link is not None:
            book.link.post(message)
        case m.DropLink(_, why, cause) if book.link is not None:
            closed = Closed(reason=why, cause=cause)
            if cause is Cause.MOVED:
                # In order: the server has to let go of this registration before it gets one in another room, or the
                # late end of this socket takes that one away and leaves a ghost here (FAULTS F30).
                book.link.close(closed, MOVE)
            else:
                book.link.end(closed)
        case m.BeginLeave():
            book.leaving = True
            if book.link is not None:
                book.link.leave()
            if book.cuttable is not None:
                book.cuttable.cancel()
        case m.CloseLink(within):
            book.close_within = within
        case _:
            pass


@trio.lowlevel.enable_ki_protection
async def _keep_link(book: _Book, dial: "Dial", nursery: trio.Nursery, timing: Timing, publish: m.Publish) -> None:
    while not book.leaving:
        book.epoch += 1
        book.registered = False
        outcome = await _one_link(book, dial, nursery, timing, publish)
        if outcome is None:
            return
        if book.leaving:
            if isinstance(outcome, Closed):
                publish(m.LinkLost(book.epoch, outcome, None, *book.registers))
            return
        now = trio.current_time()
        if isinstance(outcome, DialFailure):
            pause = book.pace.failed(now, outcome.cause, v.hint(outcome.retry_after))
            book.say.failed(book.epoch, outcome, pause)
            publish(m.DialFailed(outcome, pause))
        else:
            pause = _pause_after(book, outcome, now)
            book.say.lost(book.epoch, outcome, pause)
            publish(m.LinkLost(book.epoch, outcome, pause, *book.registers))
        book.cuttable = trio.CancelScope(deadline=now + pause)
        with book.cuttable:
            await trio.sleep_forever()


def _pause_after(book: _Book, closed: Closed, now: float) -> float:
    if closed.cause is Cause.MOVED:
        return book.pace.moved(now)
    if closed.code == TOO_BIG and not book.registered:
        return book.pace.failed(now, Cause.CLOSED, TOO_BIG_PAUSE)
    return book.pace.lost(now, closed.cause, closed.code, v.hint_in(closed.reason))


async def _one_link(
    book: _Book, dial: "Dial", nursery: trio.Nursery, timing: Timing, publish: m.Publish
) -> Closed | DialFailure | None:
    """One socket from dial to abort. None when the exit cut the dial short."""
    deadlines = book.pace.dialling(trio.current_time())
    socket: Socket | DialFailure | None = None
    with trio.CancelScope() as book.cuttable:
        socket = await dial(deadlines, nursery)
    book.cuttable = None  # the exit keeps an open link until the identities are deleted (FAULTS F33)
    if socket is None or isinstance(socket, DialFailure):
        return socket
    if book.leaving:  # it was open before the cut was felt
        await socket.abort()
        return None
    book.say.opened(book.epoch)
    book.link = Served(book.epoch, socket, timing, book.say)
    try:
        return await book.link.pump(deadlines, publish)
    finally:
        book.registers, book.link = (book.link.registered, book.link.unanswered), None
        await socket.abort()
