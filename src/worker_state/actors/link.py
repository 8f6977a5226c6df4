"""One open WebSocket while it is served: frames in and out, the watch for silence, and the one reason why it ended."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from worker_state.actors import log_lines
from worker_state.config import Timing
from worker_state.protocol import events, frames
from worker_state.protocol.error_policy import Cause, Closed
from worker_state.protocol.reconnect import Deadlines
from worker_state.redact import Secrets

if TYPE_CHECKING:
    from worker_state.net.websocket import Socket

DELAYS = 30  # times `ping_every` that a long message may hold up what comes behind it: four minutes
LATE = 1.0  # seconds: a pong's deadline noticed later says that we were stopped, not that the peer is dead (T15)


@dataclass(slots=True, eq=False)
class _Outgoing:
    kind: str  # the message's type; empty for the Close frame
    text: str | None = field(default=None, repr=False)  # the frame, which may contain tokens; None for the Close frame
    taken: trio.Event | None = None  # for a frame of the worker's other parts: the socket has taken it, or never will
    sent: bool = False


class ServedLink:
    """The link of one epoch: a reader, a writer while something is to be sent, and a watch for silence."""

    def __init__(self, epoch: int, socket: "Socket", timing: Timing, log: log_lines.Dials, secrets: Secrets) -> None:
        self.over: Closed | None = None
        self._epoch = epoch
        self._socket = socket
        self._timing = timing
        self._log = log
        self._others_spoke = False  # a frame of the worker's other parts was sent: an error may answer that one
        self._secrets = secrets
        # Few: each actor has at most one unanswered frame of each kind, and the worker's other parts wait in `_send`.
        self._unsent: list[_Outgoing] = []
        self._closing: Closed | None = None  # why the link ends with the answer to its Close frame, or when time is up
        self._tasks: trio.Nursery  # cancelled when the link is over
        self._writing = False

    async def serve(self, deadlines: Deadlines, publish: events.Publish) -> Closed:
        """Publish `LinkOpened` and every frame, until the link is over; returns why it is."""
        answer_by = trio.current_time() + deadlines.register
        async with trio.open_nursery() as self._tasks:
            self._tasks.start_soon(self._watch, publish)
            try:
                publish(events.LinkOpened(events.Link(self._epoch, answer_by, self._send)))
                await self._receive(publish)
            finally:
                self.over = self.over or self._closing or Closed()
                self._tasks.cancel_scope.cancel()
                for outgoing in self._unsent:
                    if outgoing.taken is not None:
                        outgoing.taken.set()
        assert self.over is not None
        return self.over

    async def _receive(self, publish: events.Publish) -> None:
        while True:
            received = await self._socket.receive()
            if isinstance(received, Closed):
                if self.over is not None and received.by_server:
                    self.over = replace(self.over, code=received.code)  # the answer to our Close frame
                self.end(received)
                return
            log_lines.frame("received", self._epoch, received, self._secrets)
            frame = frames.read(received, self._secrets)
            publish(events.FrameReceived(self._epoch, frame, self._others_spoke, frames.footprint(received)))
            del received, frame  # an idle link must not keep the last one, which may be megabytes (faults.md, F22)

    def end(self, closed: Closed) -> None:
        """The link is over, at once."""
        if self.over is None:
            self.over = closed.without(self._secrets)
        self._tasks.cancel_scope.cancel()

    def end_within(self, closed: Closed, seconds: float) -> None:
        """The link is over in so many seconds at the latest, or as soon as a Close frame is answered."""
        if self.over is None:
            self._closing = closed
            self._tasks.cancel_scope.deadline = trio.current_time() + seconds
        else:
            self.end(closed)

    def send_close(self) -> None:
        """Send a Close frame behind what is queued; nothing goes out after it."""
        if self.over is None:
            self.over = self._closing
            self._queue(_Outgoing(""))

    def withdraw_registers(self) -> int:
        """Drop every `register` that has not gone out; returns how many there were."""
        registers = [each for each in self._unsent if each.kind == "register"]
        self._unsent = [each for each in self._unsent if each not in registers]
        return len(registers)

    def post(self, message: frames.Message) -> None:
        """Send a frame of ours as soon as those before it are sent, without waiting for that."""
        if self.over is None:
            self._queue(_Outgoing(str(message["type"]), frames.encode(message)))

    async def _send(self, kind: str, text: str) -> bool:
        outgoing = _Outgoing(kind, text, trio.Event())
        assert outgoing.taken is not None
        if self.over is None:
            self._queue(outgoing)
        else:
            outgoing.taken.set()
        try:
            await outgoing.taken.wait()
        except trio.Cancelled:
            if outgoing in self._unsent:
                self._unsent.remove(outgoing)
            raise
        return outgoing.sent

    def _queue(self, outgoing: _Outgoing) -> None:
        self._unsent.append(outgoing)
        if not self._writing:
            self._writing = True
            self._tasks.start_soon(self._write)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        while self._unsent and not self._tasks.cancel_scope.cancel_called:
            with trio.move_on_after(self._timing.send) as scope:
                await self._write_one(self._unsent.pop(0))
            if scope.cancelled_caught:
                self.end(Closed(reason=f"a frame took {self._timing.send:g} s", cause=Cause.STUCK))
        self._writing = False

    async def _write_one(self, outgoing: _Outgoing) -> None:
        self._others_spoke = self._others_spoke or outgoing.taken is not None
        try:
            if outgoing.text is None:
                closed = await self._socket.close()
            else:
                log_lines.frame("sent", self._epoch, outgoing.text, self._secrets)
                closed = await self._socket.send(outgoing.text)
            outgoing.sent = closed is None
        finally:  # also when the link ends in the middle of it
            if outgoing.taken is not None:
                outgoing.taken.set()
        if closed is not None:
            self.end(closed)
            if outgoing.taken is not None:
                self._log.send_failed(self._epoch, outgoing.kind, self.over or closed)

    @trio.lowlevel.enable_ki_protection
    async def _watch(self, publish: events.Publish) -> None:
        """Ping when no byte has come for a while, and call the link dead when none comes after that either."""
        delays = 0  # in a row
        while self.over is None:
            heard_at = self._socket.heard_at
            await trio.sleep_until(heard_at + self._timing.ping_every)
            if self._socket.heard_at > heard_at:
                delays = delays + 1 if self._socket.in_message else 0
                if 0 < delays <= DELAYS:  # bytes are a sign of life, and what they are the beginning of is too (G21)
                    publish(events.AnswersDelayed(self._epoch))
                continue
            deadline = trio.current_time() + self._timing.silence
            with trio.move_on_at(deadline):
                if await self._socket.ping() is not None:
                    return  # `receive` or the next `send` says why
            await trio.lowlevel.checkpoint()  # T15: after a stall the socket's reader takes its bytes first
            if self._socket.heard_at == heard_at and trio.current_time() - deadline <= LATE:
                self.end(Closed(reason=f"no pong in {self._timing.silence:g} s", cause=Cause.SILENT))
