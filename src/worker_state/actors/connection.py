"""The connection actor: owns the socket. It dials, serves one link at a time, waits, and dials again.

An open socket is served by `link.py`; when to dial, and how long each stage may take, `core.pace` says. What a frame
means is not known here.
"""

from typing import TYPE_CHECKING

import trio

from worker_state.actors import log_lines
from worker_state.actors.link import ServedLink
from worker_state.actors.runner import Inbox, IsStale
from worker_state.config import Timing
from worker_state.protocol import error_policy as v
from worker_state.protocol import events as m
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.reconnect import ReconnectPolicy

if TYPE_CHECKING:
    from worker_state.net.websocket import Dial, Socket

MOVE = 5.0  # seconds for the closing handshake when the worker moves to another room: it is idle, and nothing presses
LEAVES = Closed(reason="the worker leaves", cause=Cause.DROPPED)


class ConnectionActor:
    """Keeps one link from `StartDialing` to `CloseLink`."""

    def __init__(
        self,
        dial: "Dial",
        pace: ReconnectPolicy,
        timing: Timing,
        *,
        publish: m.Publish,
        is_stale: IsStale,
        waits: bool = True,
    ) -> None:
        """`waits`: also before the first registration another dial follows whatever goes wrong."""
        self._dial = dial
        self._pace = pace
        self._timing = timing
        self._publish = publish
        self._is_stale = is_stale
        self._say = log_lines.Dials(once=not waits)
        self._epoch = 0
        self._link: ServedLink | None = None
        self._registered = False  # A registration was acknowledged on the present link, or the last one
        self._nursery: trio.Nursery
        self._keeping = False  # `_keep_link` runs
        self._leaving = False  # no further dial
        self._closing = False  # no further event is of interest once the link is over
        self._cuttable: trio.CancelScope | None = None
        """The waiting between dials, or the dial itself: cut short when the worker leaves."""
        self._receiving = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    async def run(self, inbox: Inbox) -> None:
        """Until `CloseLink` and the end of the link. A cancel does not reach it."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.cancel_scope.shield = True
            while self._keeping or not self._closing:
                event = None
                with trio.CancelScope() as self._receiving:
                    event = await inbox.receive()
                if event is not None and not self._is_stale(event):
                    self._handle(event)

    def _handle(self, event: m.Event) -> None:
        match event:
            case m.StartDialing():
                self._keeping = True
                self._nursery.start_soon(self._keep_link)
            case m.WorkerRegistered(at=at) if not self._registered:
                self._registered = True
                self._say.once = False
                self._pace.answered(at)
            case m.SendFrame(_, message):
                self._send(message)
            case m.DropLink(_, why, cause, polite) if self._link is not None:
                self._drop(self._link, Closed(reason=why, cause=cause), polite=polite)
            case m.StartLeaving():
                self._leave()
            case m.CloseLink(within):
                self._closing = True
                if self._link is not None:
                    self._link.end_within(LEAVES, within)
            case m.SendClose() if self._link is not None:
                self._link.send_close()
            case _:
                pass

    def _send(self, message: frames.Message) -> None:
        if self._leaving and message["type"] == "register":
            # One behind `/delete-peer` would bring the worker back (faults.md, F32).
            self._publish(m.RegisterWithdrawn(self._epoch))
        elif self._link is not None:
            self._link.post(message)

    def _drop(self, link: ServedLink, closed: Closed, *, polite: bool) -> None:
        if not polite:
            link.end(closed)
            return
        # In order: the server has to let go of this registration before it gets one in another room, or the late end
        # of this socket takes that one away and leaves a ghost here (faults.md, F30).
        link.end_within(closed, MOVE)
        link.send_close()

    def _leave(self) -> None:
        self._leaving = True
        if self._link is not None:
            for _ in range(self._link.withdraw_registers()):
                self._publish(m.RegisterWithdrawn(self._epoch))
        if self._cuttable is not None:
            self._cuttable.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _keep_link(self) -> None:
        while not self._leaving:
            self._epoch += 1
            self._registered = False
            outcome = await self._one_link()
            if outcome is None:
                break
            pause = None if self._leaving else self._pause_after(outcome, trio.current_time())
            if isinstance(outcome, Closed):
                self._publish(m.LinkLost(self._epoch, outcome, pause))
            elif pause is not None:
                self._publish(m.DialFailed(outcome, pause))
            if pause is not None:
                with trio.move_on_after(pause) as self._cuttable:
                    await trio.sleep_forever()
        self._keeping = False
        if self._closing:
            self._receiving.cancel()

    def _pause_after(self, outcome: Closed | DialFailure, now: float) -> float:
        if isinstance(outcome, DialFailure):
            pause = self._pace.failed(now, outcome.cause, v.hint(outcome.retry_after))
            self._say.failed(self._epoch, outcome, pause)
            return pause
        if outcome.cause is Cause.MOVED:
            pause = self._pace.moved(now)
        else:
            hint = v.hint_of(outcome, registered=self._registered)
            pause = self._pace.lost(now, outcome.cause, outcome.code, hint)
        self._say.lost(self._epoch, outcome, pause)
        return pause

    async def _one_link(self) -> Closed | DialFailure | None:
        """One socket from dial to abort. None when the exit cut the dial short."""
        deadlines = self._pace.dialling(trio.current_time())
        socket: Socket | DialFailure | None = None
        with trio.CancelScope() as self._cuttable:
            socket = await self._dial(deadlines, self._nursery)
        self._cuttable = None  # the exit keeps an open link until the identities are deleted (faults.md, F33)
        if socket is None or isinstance(socket, DialFailure):
            return socket
        if self._leaving:  # it was open before the cut was felt
            await socket.abort()
            return None
        self._say.opened(self._epoch)
        self._link = ServedLink(self._epoch, socket, self._timing, self._say)
        try:
            return await self._link.serve(deadlines, self._publish)
        finally:
            self._link = None
            await socket.abort()
