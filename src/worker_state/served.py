"""One open socket while it is served: frames in and out, the watch for silence, and the one reason why it ended.

Only the connection actor makes one. Nothing is decided about dialling, and what a frame means is not known, but for
one thing: whether a `register` is unanswered, since no Close frame may follow one (FAULTS F31).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from worker_state import announce
from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core import wire
from worker_state.core.config import Timing
from worker_state.core.pace import Deadlines
from worker_state.core.verdict import Cause, Closed
from worker_state.core.words import masked

if TYPE_CHECKING:
    from worker_state.transport import Socket

LATE = 1.0
"""Seconds. A pong's deadline noticed later than this says that we were stopped, not that the peer is dead (T15)."""

Deliver = Callable[[], Awaitable[Closed | None]]


@dataclass(slots=True, eq=False)
class _Turn:
    """A frame that is to be sent, and who waits for that."""

    kind: str
    """The message's type; nothing for the Close frame."""
    deliver: Deliver = field(repr=False)
    """It holds the frame, which may hold tokens."""
    taken: trio.Event | None = None
    sent: bool = False


class Served:
    """One open socket, while it is served: reader, writer (while something is to be sent), watch for silence, and the
    one reason why it ended."""

    def __init__(self, epoch: int, socket: "Socket", timing: Timing, say: announce.Dials) -> None:
        self.over: Closed | None = None
        self._epoch = epoch
        self._socket = socket
        self._timing = timing
        self._say = say
        self._leaving = False
        self._registers_sent = 0
        self._registers_answered = 0
        self._others_spoke = False
        """A frame of the worker's other parts was sent: an error may be the answer to that."""
        self._secrets: set[str] = set()
        """What was sent here that the server's own words must not bring into a log."""
        # Ours are few: each actor has at most one unanswered frame of each kind. Those of the other parts wait for
        # their turn, so that a slow socket slows them down and nobody else.
        self._unsent: list[_Turn] = []
        self._closing: Closed | None = None
        """Why a Close frame is to be sent, as soon as that is polite."""
        self._hearing = trio.CancelScope()
        """Cancelled when the link is over."""
        self._tasks: trio.Nursery
        self._writing = False

    async def pump(self, deadlines: Deadlines, publish: m.Publish) -> Closed:
        """Hand on all frames, until the link is over; returns why it is."""
        answer_by = self._socket.connected_at + deadlines.register
        async with trio.open_nursery() as self._tasks:
            self._tasks.start_soon(self._watch)
            try:
                tell(m.LinkOpened(m.Link(self._epoch, answer_by, self._post, self._send)))
                with self._hearing:
                    await self._hear(tell)
            finally:
                self._break_off()
        assert self.over is not None
        return self.over

    async def _hear(self, tell: m.Tell) -> None:
        while True:
            received = await self._socket.receive()
            if isinstance(received, Closed):
                if self.over is not None and received.by_server:
                    self.over = replace(self.over, code=received.code)  # our Close frame is answered
                self.end(received)
                return
            self._hand_on(wire.read(received), tell)
            del received  # an idle link must not hold on to the last frame, which may be megabytes (FAULTS F22)

    def _hand_on(self, frame: wire.Frame, publish: m.Publish) -> None:
        if isinstance(frame, wire.RegistrationAccepted):
            self.register_answered()
        shared = False
        if isinstance(frame, wire.Refusal):
            shared = not (self.unanswered and v.surely_answers(frame))
            frame = replace(frame, reason=masked(frame.reason, self._secrets))
        elif isinstance(frame, wire.NotInRoom):
            shared = self._others_spoke
        publish(m.FrameReceived(self._epoch, frame, shared))

    @property
    def registered(self) -> bool:
        """A `register` was sent."""
        return self._registers_sent > 0

    @property
    def unanswered(self) -> bool:
        """The last `register` that was sent has not been answered."""
        return self._registers_sent > self._registers_answered

    def register_answered(self) -> None:
        """One `register` less is unanswered. An answer too many does not count for the next one."""
        self._registers_answered = min(self._registers_answered + 1, self._registers_sent)
        self._close_when_polite()

    def end(self, closed: Closed) -> None:
        """The link is over, at once."""
        if self.over is None:
            self.over = replace(closed, reason=masked(closed.reason, self._secrets))
        self._hearing.cancel()

    def leave(self) -> None:
        """No `register` is sent any more: one behind `/delete-peer` would bring the worker back (FAULTS F32)."""
        self._leaving = True

    def close(self, closed: Closed, within: float) -> None:
        """Send a Close frame behind what is on its way, and be gone with its answer, or after so many seconds. While a
        `register` is unanswered its answer is waited for: a Close frame behind one leaves a ghost (FAULTS F31)."""
        if self.over is not None:
            self.end(closed)
            return
        self._closing = closed
        self._hearing.deadline = trio.current_time() + within
        self._close_when_polite()

    def _close_when_polite(self) -> None:
        if self._closing is not None and self.over is None and not self.unanswered:
            self.over = self._closing
            self._queue(_Turn("", self._socket.close))

    def _break_off(self) -> None:
        """Nothing is sent any more: whoever waits for that is told."""
        self.over = self.over or self._closing or Closed()
        self._hearing.cancel()
        self._tasks.cancel_scope.cancel()
        for turn in self._unsent:
            if turn.taken is not None:
                turn.taken.set()

    def post(self, message: wire.Message) -> None:
        """Send a frame of ours as soon as those before it are sent, without waiting for that."""
        if self.over is None:
            self._secrets.update(wire.secrets(message))
            self._queue(_Turn(str(message["type"]), partial(self._socket.send, wire.encode(message))))

    async def _send(self, kind: str, text: str) -> bool:
        turn = _Turn(kind, partial(self._socket.send, text), trio.Event())
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
            self._tasks.start_soon(self._write)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        while self._unsent and not self._hearing.cancel_called:
            with trio.move_on_after(self._timing.send) as scope:
                await self._write_one(self._unsent.pop(0))
            if scope.cancelled_caught:
                self.end(Closed(reason=f"a frame took {self._timing.send:g} s", cause=Cause.STUCK))
        self._writing = False

    async def _write_one(self, turn: _Turn) -> None:
        if turn.kind == "register":
            if self._leaving or self.over is not None:
                return
            self._registers_sent += 1
        self._others_spoke = self._others_spoke or turn.taken is not None
        try:
            closed = await turn.deliver()
            turn.sent = closed is None
        finally:  # also when the link ends in the middle of it
            if turn.taken is not None:
                turn.taken.set()
        if closed is not None:
            self.end(closed)
            if turn.taken is not None:
                self._say.send_failed(self._epoch, turn.kind, self.over or closed)

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        """Ping when no byte has come for a while, and call the link dead when none comes after that either."""
        while self.over is None:
            heard_at = self._socket.heard_at
            await trio.sleep_until(heard_at + self._timing.ping_every)
            if self._socket.heard_at > heard_at:
                continue
            deadline = trio.current_time() + self._timing.silence
            with trio.move_on_at(deadline):
                if await self._socket.ping() is not None:
                    return  # `receive` or the next `send` says why
            await trio.lowlevel.checkpoint()  # T15: after a stall the socket's reader takes its bytes first
            if self._socket.heard_at == heard_at and trio.current_time() - deadline <= LATE:
                self.end(Closed(reason=f"no pong in {self._timing.silence:g} s", cause=Cause.SILENT))
