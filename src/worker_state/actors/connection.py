"""The connection actor: owns the socket. Dials, pumps frames in and out, notices death, waits, dials again.

The socket is a local variable of the function that serves it; others get a `Link`, the right to send on this socket,
which breaks with it. What a frame means is not known here, but for one thing: whether a `register` is unanswered, since
no Close frame may follow one (FAULTS F31). Every stage has a deadline, and every link ends with an abort.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from worker_state.core import messages as m
from worker_state.core import wire, words
from worker_state.core.config import Timing
from worker_state.core.pace import Pace
from worker_state.core.verdict import Cause, Closed, DialFailure, hint, politely_closable

if TYPE_CHECKING:
    from worker_state.transport import Dial, Socket

log = logging.getLogger(__name__)

TOO_BIG = 1009
TOO_BIG_PAUSE = 60.0
"""Seconds. An answer to `register` that was too big will be as big on the next link (FAULTS F22)."""
OVERSLEPT = 1.0
"""Seconds. A deadline noticed later than this says that we were stopped, not that the peer is dead: ask again (T15)."""


@dataclass
class _Book:
    """What this actor knows; nobody else sees it."""

    wanted: trio.Event = field(default_factory=trio.Event)
    leaving: bool = False
    epoch: int = 0
    end: Callable[[Closed | None], None] | None = None
    """Ends the present link: with a `Closed` at once, with None politely if that is allowed."""
    cuttable: trio.CancelScope | None = None
    """The waiting between dials, or the dial itself: cut short when the worker leaves."""
    registered_at: float | None = None
    failures: int = 0
    """Dials in a row that gave no link: the first is logged, the rest are counted."""


async def run(
    mailbox: trio.MemoryReceiveChannel[m.Note], *, dial: "Dial", pace: Pace, timing: Timing, tell: m.Tell
) -> None:
    """Keep one link from `OpenLinks` to `CloseLink`. Speaks `LinkOpened`, `FrameReceived`, `LinkLost`, `DialFailed`."""
    book = _Book()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_link, book, dial, pace, timing, tell)
        async for note in mailbox:
            _apply(book, note)
            if isinstance(note, m.CloseLink):
                break
        # _keep_link ends by itself: no dial begins after BeginLeave, and the link's end is bounded.


def _apply(book: _Book, note: m.Note) -> None:
    match note:
        case m.OpenLinks():
            book.wanted.set()
        case m.WorkerRegistered(epoch=epoch, at=at) if epoch == book.epoch and book.registered_at is None:
            book.registered_at = at
        case m.DropLink(epoch, why, cause) if epoch == book.epoch and book.end is not None:
            book.end(Closed(reason=why, cause=cause))
        case m.BeginLeave():
            book.leaving = True
            book.wanted.set()
            if book.cuttable is not None:
                book.cuttable.cancel()
        case m.CloseLink() if book.end is not None:
            book.end(None)
        case _:
            pass


async def _keep_link(book: _Book, dial: "Dial", pace: Pace, timing: Timing, tell: m.Tell) -> None:
    await book.wanted.wait()
    while not book.leaving:
        book.epoch += 1
        book.registered_at = None
        outcome = await _one_link(book, dial, timing, tell)
        if outcome is None:
            return
        if book.leaving:
            if isinstance(outcome, Closed):
                tell(m.LinkLost(book.epoch, outcome, None))
            return
        if isinstance(outcome, DialFailure):
            pause = pace.failed(outcome.cause, hint(outcome.retry_after))
            _log_failure(book, outcome, pause)
            tell(m.DialFailed(outcome, pause))
        else:
            pause = _pause_after(book, outcome, pace, trio.current_time())
            log.warning("connection lost: %s; dialling again in %.1f s", outcome, pause)
            tell(m.LinkLost(book.epoch, outcome, pause))
        book.cuttable = trio.CancelScope()
        with book.cuttable:
            await trio.sleep(pause)


def _pause_after(book: _Book, closed: Closed, pace: Pace, now: float) -> float:
    if closed.cause is Cause.MOVED:
        return pace.moved()
    if closed.code == TOO_BIG and book.registered_at is None:
        return pace.failed(Cause.CLOSED, TOO_BIG_PAUSE)
    return pace.lost(0.0 if book.registered_at is None else now - book.registered_at)


def _log_failure(book: _Book, failure: DialFailure, pause: float) -> None:
    book.failures += 1
    level = logging.WARNING if book.failures == 1 else logging.DEBUG
    log.log(level, "no connection: %s; dial %d follows in %.1f s", failure, book.failures + 1, pause)


async def _one_link(book: _Book, dial: "Dial", timing: Timing, tell: m.Tell) -> Closed | DialFailure | None:
    """One socket from dial to abort. None when the exit cut the dial short."""
    book.cuttable = trio.CancelScope()
    with book.cuttable:
        async with dial() as socket:
            if isinstance(socket, DialFailure):
                return socket
            book.cuttable = None  # the exit keeps an open link until the identities are deleted (FAULTS F33)
            if book.failures > 1:
                log.info("connected again after %d failed dials", book.failures)
            book.failures = 0
            return await _Served(book, socket, timing, tell).until_over()
    return None


class _Served:
    """One open socket, while it is served: the pumps, the pings, and the one reason why it ended."""

    def __init__(self, book: _Book, socket: "Socket", timing: Timing, tell: m.Tell) -> None:
        self._book = book
        self._epoch = book.epoch
        self._socket = socket
        self._timing = timing
        self._tell = tell
        self._over: Closed | None = None
        self._scope = trio.CancelScope()
        self._registers_sent = 0
        self._registers_answered = 0
        self._heard_at = trio.current_time()
        # Ours: never dropped, and never many: each actor has at most one unanswered frame of each kind on a link,
        # and what was sent before a further registration.
        self._ours, self._ours_out = trio.open_memory_channel[wire.Message](float("inf"))
        # The other parts': no buffer at all, so that a slow socket slows them down and nobody else.
        self._theirs, self._theirs_out = trio.open_memory_channel[wire.Message](0)

    async def until_over(self) -> Closed:
        """Pump until the socket ends or is ended; then nothing of it is left but how it ended."""
        book = self._book
        book.end = self._end
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, self._ours_out)
                nursery.start_soon(self._write, self._theirs_out)
                nursery.start_soon(self._watch_for_silence)
                self._tell(m.LinkOpened(m.Link(self._epoch, self._post, self._send)))
                self._end(await self._read())
        book.end = None
        for channel in (self._ours, self._ours_out, self._theirs, self._theirs_out):
            channel.close()
        if self._over is None:
            self._over = Closed(reason="the worker leaves", cause=Cause.DROPPED)
            if politely_closable(registers_sent=self._registers_sent, registers_answered=self._registers_answered):
                with trio.move_on_after(self._timing.close):
                    await self._socket.close()
        return self._over

    def _end(self, closed: Closed | None) -> None:
        if self._over is None:
            self._over = closed
        self._scope.cancel()

    def _post(self, message: wire.Message) -> bool:
        try:
            self._ours.send_nowait(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    async def _send(self, message: wire.Message) -> bool:
        try:
            await self._theirs.send(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    async def _write(self, frames: trio.MemoryReceiveChannel[wire.Message]) -> None:
        async for message in frames:
            if message["type"] == "register":
                if self._book.leaving:
                    continue  # a `register` behind /delete-peer would bring the worker back (FAULTS F32)
                self._registers_sent += 1
            with trio.move_on_after(self._timing.send) as scope:
                closed = await self._socket.send(wire.encode(message))
                if closed is not None:
                    log.error("could not send %s: %s", words.shown(str(message["type"])), closed)
                    self._end(closed)
            if scope.cancelled_caught:
                self._end(Closed(reason=f"a frame took {self._timing.send:g} s", cause=Cause.STUCK))

    async def _read(self) -> Closed:
        while True:
            text = await self._socket.receive()
            if isinstance(text, Closed):
                return text
            self._heard_at = trio.current_time()
            frame = wire.read(text)
            if isinstance(frame, wire.RegistrationAccepted):
                self._registers_answered += 1
            self._tell(m.FrameReceived(self._epoch, frame))
            del text, frame  # an idle link must not hold on to the last frame, which may be megabytes (FAULTS F22)

    async def _watch_for_silence(self) -> None:
        """Ping when nothing was heard for a while, and call the link dead when nothing comes back either."""
        timing = self._timing
        while True:
            ask_at = self._heard_at + timing.ping_every
            if trio.current_time() < ask_at:
                await trio.sleep_until(ask_at)
                continue
            with trio.move_on_after(timing.silence) as scope:
                await self._socket.ping()
                self._heard_at = trio.current_time()
            overslept = trio.current_time() - scope.deadline > OVERSLEPT
            if scope.cancelled_caught and self._heard_at + timing.ping_every == ask_at and not overslept:
                self._end(Closed(reason=f"no pong in {timing.silence:g} s", cause=Cause.SILENT))
