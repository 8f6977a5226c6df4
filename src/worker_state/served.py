"""One open socket while it is served: frames in and out, the watch for silence, and the one reason why it ended.

Only the connection actor makes one. Nothing is decided about dialling, and what a frame means is not known, but for
one thing: whether a `register` is unanswered, since no Close frame may follow one (FAULTS F31).
"""

import math
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
from worker_state.core.verdict import Cause, Closed, Sign
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
    """The message's type; nothing for a control frame."""
    deliver: Deliver = field(repr=False)
    """It holds the frame, which may hold tokens."""
    taken: trio.Event | None = None
    sent: bool = False


class Served:
    """One open socket, while it is served: reader, writer (while something is to be sent), watch for silence, and the
    one reason why it ended. The writer runs in the nursery of whoever serves it, and ends with the link."""

    __slots__ = (
        "_asked_at",
        "_close_by",
        "_closing",
        "_ended",
        "_epoch",
        "_heard_at",
        "_hearing",
        "_leaving",
        "_nursery",
        "_others_spoke",
        "_pong",
        "_registers_answered",
        "_registers_sent",
        "_say",
        "_secrets",
        "_sending",
        "_socket",
        "_timing",
        "_unsent",
        "over",
    )

    def __init__(
        self, epoch: int, socket: "Socket", nursery: trio.Nursery, timing: Timing, say: announce.Dials
    ) -> None:
        self.over: Closed | None = None
        self._epoch = epoch
        self._socket = socket
        self._nursery = nursery
        self._timing = timing
        self._say = say
        self._leaving = False
        self._registers_sent = 0
        self._registers_answered = 0
        self._others_spoke = False
        """A frame of the worker's other parts was sent: an error may be the answer to that."""
        self._secrets: set[str] = set()
        """What was sent here that the server's own words must not bring into a log."""
        self._heard_at = self._asked_at = trio.current_time()
        # Ours are few: each actor has at most one unanswered frame of each kind. Those of the other parts wait for
        # their turn, so that a slow socket slows them down and nobody else.
        self._unsent: list[_Turn] = []
        self._ended = False
        self._closing: Closed | None = None
        """Why a Close frame is to be sent, as soon as that is polite."""
        self._close_by = math.inf
        self._hearing = trio.CancelScope()
        self._sending: trio.CancelScope | None = None
        """The writer's, while there is one."""
        self._pong = _Turn("", socket.ping)
        """The last one that was queued: while it is unsent, a further ping needs no other."""

    async def pump(self, deadlines: Deadlines, publish: m.Publish) -> Closed:
        """Hand on all frames, until the link is over; returns why it is."""
        answer_by = self._socket.connected_at + deadlines.register
        publish(m.LinkOpened(m.Link(self._epoch, answer_by, self._send)))
        try:
            while not self._ended:
                with trio.CancelScope() as self._hearing:
                    await self._hear(publish)
                self._look_around(trio.current_time(), self._hearing.deadline)
        finally:
            self._break_off()
        assert self.over is not None
        return self.over

    async def _hear(self, publish: m.Publish) -> None:
        """Until the deadline finds that something is to be done, since nothing has come, or the socket ends."""
        while True:
            self._hearing.deadline = min(self._quiet_until(), self._close_by)
            received = await self._socket.receive()
            self._heard_at = trio.current_time()
            if isinstance(received, Closed):
                if self.over is not None and received.by_server:
                    self.over = replace(self.over, code=received.code)  # our Close frame is answered
                self.end(received)
                return
            if not isinstance(received, Sign):
                self._hand_on(wire.read(received), publish)
            elif received.ping is not None:
                self._answer(received.ping)
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

    def _answer(self, ping: bytes) -> None:
        """Only the latest ping needs its pong, so that a flood of them fills nothing."""
        deliver = partial(self._socket.pong, ping)
        if self._pong in self._unsent:
            self._pong.deliver = deliver
        elif self.over is None:
            self._pong = _Turn("", deliver)
            self._queue(self._pong)

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
        self._ended = True
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
        self._hearing.deadline = self._close_by = trio.current_time() + within
        self._close_when_polite()

    def _close_when_polite(self) -> None:
        if self._closing is not None and self.over is None and not self.unanswered:
            self.over = self._closing
            self._queue(_Turn("", self._socket.close))

    def _break_off(self) -> None:
        """Nothing is sent any more: whoever waits for that is told."""
        self.over = self.over or self._closing or Closed()
        self._ended = True
        if self._sending is not None:
            self._sending.cancel()
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
        if self._sending is None:
            self._sending = trio.CancelScope()
            self._nursery.start_soon(self._write, self._sending)

    @trio.lowlevel.enable_ki_protection
    async def _write(self, scope: trio.CancelScope) -> None:
        with scope:
            while self._unsent and not self._ended:
                scope.deadline = trio.current_time() + self._timing.send
                await self._write_one(self._unsent.pop(0))
        self._sending = None
        if scope.cancelled_caught and not self._ended:
            self.end(Closed(reason=f"a frame took {self._timing.send:g} s", cause=Cause.STUCK))

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

    def _quiet_until(self) -> float:
        """When something is to be done unless they say something before."""
        if self._heard_at < self._asked_at:
            return self._asked_at + self._timing.silence
        return self._heard_at + self._timing.ping_every

    def _look_around(self, now: float, deadline: float) -> None:
        """Ping after a while without a sign of life, and call the link dead when none comes after that either."""
        if self._ended or now >= self._close_by:
            self._ended = True
            return
        if now < self._quiet_until():
            return
        if self._heard_at < self._asked_at and now - deadline <= LATE:
            self.end(Closed(reason=f"no pong in {self._timing.silence:g} s", cause=Cause.SILENT))
        self._asked_at = now
        if self.over is None:
            self._queue(_Turn("", self._socket.ping))
