"""The connection actor: owns the socket. Dials, pumps frames in and out, notices death, waits, dials again.

The socket is a local variable of the function that serves it; others get a `Link`, the right to send on this socket,
which breaks with it. What a frame means is not known here, but for one thing: whether a `register` is unanswered, since
no Close frame may follow one (FAULTS F31). When to dial, and how long each stage may take, is `core.pace`'s to say.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from worker_state import announce
from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core import wire
from worker_state.core.config import Timing
from worker_state.core.pace import Deadlines, Pace
from worker_state.core.verdict import Cause, Closed, DialFailure
from worker_state.core.words import masked
from worker_state.mailbox import Mailbox

if TYPE_CHECKING:
    from worker_state.transport import Dial, Socket

TOO_BIG = 1009
TOO_BIG_PAUSE = 60.0
"""Seconds. An answer to `register` that was too big will be as big on the next link (FAULTS F22)."""
MOVE = 5.0
"""Seconds for the closing handshake when the worker moves to another room: it is idle, and nothing presses."""
LATE = 1.0
"""Seconds. A pong's deadline noticed later than this says that we were stopped, not that the peer is dead (T15)."""


@dataclass
class _Book:
    """What this actor knows; nobody else sees it."""

    pace: Pace
    wanted: bool = False
    """There is an identity to register with."""
    leaving: bool = False
    closing: bool = False
    """Everything is paid: nothing keeps the link any longer."""
    epoch: int = 0
    link: "_Served | None" = None
    cuttable: trio.CancelScope | None = None
    """The waiting between dials, or the dial itself: cut short when the worker leaves."""
    registered: bool = False
    """A registration was acknowledged on the present link, or the last one."""
    say: announce.Dials = field(default_factory=announce.Dials)


async def run(mailbox: Mailbox[m.Note], *, dial: "Dial", pace: Pace, timing: Timing, tell: m.Tell) -> None:
    """Keep one link from `OpenLinks` to `CloseLink`. Speaks `LinkOpened`, `FrameReceived`, `LinkLost`, `DialFailed`."""
    book = _Book(pace)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        keeping = False
        while not book.closing:
            await mailbox.filled()
            _apply_all(book, mailbox.take())
            if book.wanted and not keeping:
                keeping = True
                nursery.start_soon(_keep_link, book, dial, timing, tell)
        if book.link is not None:
            await book.link.take_leave()
        # _keep_link ends by itself: no dial begins after BeginLeave, and the link's end is bounded.


def _apply_all(book: _Book, notes: list[m.Note]) -> None:
    for note in notes:
        _apply(book, note)


def _apply(book: _Book, note: m.Note) -> None:
    match note:
        case m.OpenLinks():
            book.wanted = True
        case m.WorkerRegistered(epoch=epoch, at=at) if epoch == book.epoch and not book.registered:
            book.registered = True
            book.pace.answered(at)
        case m.RegistrationHeld(epoch=epoch) if epoch == book.epoch and book.link is not None:
            book.link.register_answered()
        case m.DropLink(epoch, why, cause) if epoch == book.epoch and book.link is not None:
            closed = Closed(reason=why, cause=cause)
            if cause is Cause.MOVED:
                book.link.move_out(closed)
            else:
                book.link.end(closed)
        case m.BeginLeave():
            book.leaving = True
            if book.cuttable is not None:
                book.cuttable.cancel()
        case m.CloseLink():
            book.closing = True
        case _:
            pass


async def _keep_link(book: _Book, dial: "Dial", timing: Timing, tell: m.Tell) -> None:
    while not book.leaving:
        book.epoch += 1
        book.registered = False
        outcome = await _one_link(book, dial, timing, tell)
        if outcome is None:
            return
        if book.leaving:
            if isinstance(outcome, Closed):
                tell(m.LinkLost(book.epoch, outcome, None))
            return
        now = trio.current_time()
        if isinstance(outcome, DialFailure):
            pause = book.pace.failed(now, outcome.cause, v.hint(outcome.retry_after))
            book.say.failed(book.epoch, outcome, pause)
            tell(m.DialFailed(outcome, pause))
        else:
            pause = _pause_after(book, outcome, now)
            book.say.lost(book.epoch, outcome, pause)
            tell(m.LinkLost(book.epoch, outcome, pause))
        book.cuttable = trio.CancelScope(deadline=now + pause)
        with book.cuttable:
            await trio.sleep_forever()


def _pause_after(book: _Book, closed: Closed, now: float) -> float:
    if closed.cause is Cause.MOVED:
        return book.pace.moved(now)
    if closed.code == TOO_BIG and not book.registered:
        return book.pace.failed(now, Cause.CLOSED, TOO_BIG_PAUSE)
    return book.pace.lost(now, closed.cause, closed.code, v.hint_in(closed.reason))


async def _one_link(book: _Book, dial: "Dial", timing: Timing, tell: m.Tell) -> Closed | DialFailure | None:
    """One socket from dial to abort. None when the exit cut the dial short."""
    deadlines = book.pace.dialling(trio.current_time())
    outcome: Closed | DialFailure | None = None
    async with trio.open_nursery() as nursery:
        book.cuttable = nursery.cancel_scope
        async with dial(nursery, deadlines) as socket:
            if isinstance(socket, DialFailure):
                outcome = socket
            else:
                book.cuttable = None  # the exit keeps an open link until the identities are deleted (FAULTS F33)
                book.say.opened(book.epoch)
                book.link = _Served(book, socket, nursery, timing)
                try:
                    await book.link.pump(deadlines, tell)
                finally:
                    outcome = book.link.break_off()
                    book.link = None
        nursery.cancel_scope.cancel()
    return outcome


@dataclass(slots=True)
class _Turn:
    """A frame that is to be sent, and who waits for that."""

    kind: str
    text: str
    taken: trio.Event | None = None
    sent: bool = False


class _Served:
    """One open socket, while it is served: reader, writer (while something is to be sent), watch for silence, and the
    one reason why it ended. All of its tasks run in the link's nursery, and cancelling that ends the link."""

    def __init__(self, book: _Book, socket: "Socket", nursery: trio.Nursery, timing: Timing) -> None:
        self.over: Closed | None = None
        self._book = book
        self._epoch = book.epoch
        self._socket = socket
        self._nursery = nursery
        self._timing = timing
        self._registers_sent = 0
        self._registers_answered = 0
        self._secrets: set[str] = set()
        """What was sent here that the server's own words must not bring into a log."""
        self._heard_at = self._asked_at = trio.current_time()
        # Ours are few: each actor has at most one unanswered frame of each kind. Those of the other parts wait for
        # their turn, so that a slow socket slows them down and nobody else.
        self._unsent: list[_Turn] = []
        self._writing = False
        self._asking = False
        self._hearing: trio.CancelScope | None = None

    async def pump(self, deadlines: Deadlines, tell: m.Tell) -> None:
        """Until the socket ends or is ended; `over` says how it was."""
        answer_by = self._socket.connected_at + deadlines.register
        tell(m.LinkOpened(m.Link(self._epoch, answer_by, self._post, self._send)))
        while self.over is None:
            with trio.CancelScope() as scope:
                self._hearing = scope
                await self._hear(scope, tell)
            self._ask_when_quiet(trio.current_time(), scope.deadline)
        await trio.sleep_forever()  # whoever closes it ends the link when that is done

    async def _hear(self, scope: trio.CancelScope, tell: m.Tell) -> None:
        """Hand on all frames, until the scope's deadline finds that none has come for a while, or the socket ends."""
        while True:
            scope.deadline = self._quiet_until()
            text = await self._socket.receive()
            if isinstance(text, Closed):
                if self.over is None:
                    self.end(text)
                return
            self._heard_at = trio.current_time()
            frame = wire.read(text)
            if isinstance(frame, wire.RegistrationAccepted):
                self.register_answered()
            elif isinstance(frame, wire.Refusal):
                frame = wire.Refusal(masked(frame.reason, self._secrets), frame.typed)
            tell(m.FrameReceived(self._epoch, frame))
            del text, frame  # an idle link must not hold on to the last frame, which may be megabytes (FAULTS F22)

    def register_answered(self) -> None:
        """One `register` less is unanswered. An answer too many does not count for the next one."""
        self._registers_answered = min(self._registers_answered + 1, self._registers_sent)

    def end(self, closed: Closed) -> None:
        """The link is over, at once."""
        if self.over is None:
            self.over = replace(closed, reason=masked(closed.reason, self._secrets))
        self._nursery.cancel_scope.cancel()

    def move_out(self, closed: Closed) -> None:
        """The link is over, in order: the server has to let go of this registration before it gets one in another room,
        or the late end of this socket takes that one away and leaves a ghost here (FAULTS F30)."""
        if self.over is None:
            self.over = closed
            self._nursery.start_soon(self._close, MOVE)

    async def take_leave(self) -> None:
        """The worker goes: politely if that is allowed, and in bounded time."""
        if self.over is None:
            self.over = Closed(reason="the worker leaves", cause=Cause.DROPPED)
            await self._close(self._timing.close)
        self._nursery.cancel_scope.cancel()

    async def _close(self, within: float) -> None:
        if v.politely_closable(registers_sent=self._registers_sent, registers_answered=self._registers_answered):
            with trio.move_on_after(within):
                await self._socket.close()
        self._nursery.cancel_scope.cancel()

    def break_off(self) -> Closed:
        """Nothing is sent any more: whoever waits for that is told. Returns how the link ended."""
        self.over = self.over or Closed()
        for turn in self._unsent:
            if turn.taken is not None:
                turn.taken.set()
        return self.over

    def _post(self, message: wire.Message) -> bool:
        if self.over is None:
            self._secrets.update(wire.secrets(message))
            self._queue(_Turn(str(message["type"]), wire.encode(message)))
        return self.over is None

    async def _send(self, kind: str, text: str) -> bool:
        turn = _Turn(kind, text, trio.Event())
        assert turn.taken is not None
        if self.over is None:
            self._queue(turn)
        else:
            turn.taken.set()
        try:
            await turn.taken.wait()
        except trio.Cancelled:
            if turn in self._unsent:
                self._unsent.remove(turn)
            raise
        return turn.sent

    def _queue(self, turn: _Turn) -> None:
        self._unsent.append(turn)
        if not self._writing:
            self._writing = True
            self._nursery.start_soon(self._write)

    async def _write(self) -> None:
        with trio.CancelScope() as scope:
            while self._unsent:
                scope.deadline = trio.current_time() + self._timing.send
                await self._write_one(self._unsent.pop(0))
            self._writing = False
        if self._writing:
            self.end(Closed(reason=f"a frame took {self._timing.send:g} s", cause=Cause.STUCK))

    async def _write_one(self, turn: _Turn) -> None:
        if turn.kind == "register":
            if self._book.leaving:
                return  # a `register` behind /delete-peer would bring the worker back (FAULTS F32)
            self._registers_sent += 1
        try:
            closed = await self._socket.send(turn.text)
            turn.sent = closed is None
        finally:  # also when the link ends in the middle of it
            if turn.taken is not None:
                turn.taken.set()
        if closed is not None:
            self.end(closed)
            self._book.say.send_failed(self._epoch, turn.kind, self.over or closed)

    def _quiet_until(self) -> float:
        """When something is to be done unless they say something before."""
        if self._heard_at < self._asked_at:
            return self._asked_at + self._timing.silence
        return self._heard_at + self._timing.ping_every

    def _ask_when_quiet(self, now: float, deadline: float) -> None:
        """Ping after a while without a sign of life, and call the link dead when none comes after that either."""
        if now < self._quiet_until():
            return
        if self._heard_at < self._asked_at and now - deadline <= LATE:
            self.end(Closed(reason=f"no pong in {self._timing.silence:g} s", cause=Cause.SILENT))
        self._asked_at = now
        if not self._asking:
            self._asking = True
            self._nursery.start_soon(self._ask)

    async def _ask(self) -> None:
        # Never cancelled but with the link: half a ping must not be on the wire (FAULTS T10).
        await self._socket.ping()
        self._asking = False
        self._heard_at = trio.current_time()
        if self._hearing is not None:
            self._hearing.deadline = self._quiet_until()
