"""The connection actor: owns the socket. It dials, serves one link at a time, waits, and dials again.

An open socket is served by `link.py`; `protocol/reconnect.py` says when to dial, and how long each stage may take. What
a frame means is not known here.
"""

from typing import TYPE_CHECKING

import trio

from worker_state.actors import log_lines
from worker_state.actors.link import ServedLink
from worker_state.actors.runner import Inbox, IsStale
from worker_state.config import Config
from worker_state.protocol import error_policy, events
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.reconnect import ReconnectPolicy
from worker_state.redact import Secrets

if TYPE_CHECKING:
    from worker_state.net.dial import Dial
    from worker_state.net.websocket import Socket

MOVE = 5.0  # seconds for the closing handshake when the worker moves to another room: it is idle, and nothing presses
LEAVES = Closed(reason="the worker leaves", cause=Cause.DROPPED)


class ConnectionActor:
    """Keeps one link from `StartDialing` to `CloseLink`."""

    def __init__(
        self,
        dial: "Dial",
        policy: ReconnectPolicy,
        config: Config,
        secrets: Secrets,
        *,
        publish: events.Publish,
        is_stale: IsStale,
    ) -> None:
        self._dial = dial
        self._policy = policy
        self._timing = config.timing
        self._secrets = secrets
        self._publish = publish
        self._is_stale = is_stale
        self._log = log_lines.Dials(once=not config.wait_for_server)
        self._epoch = 0
        self._link: ServedLink | None = None
        self._registered = False  # a registration was acknowledged on the present link, or the last one
        self._nursery: trio.Nursery
        self._keeping = False  # `_keep_link` runs
        self._leaving = False  # no further dial
        self._closing = False  # no further event is of interest once the link is over
        self._cuttable = trio.CancelScope()  # the pause between dials, or the dial: cut short when the worker leaves
        self._receiving = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    async def run(self, inbox: Inbox) -> None:
        """Until `CloseLink` and the end of the link. A cancel does not reach it."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.cancel_scope.shield = True
            with self._receiving:  # cancelled once no further event is of interest
                while self._keeping or not self._closing:
                    event = await inbox.receive()
                    if not self._is_stale(event):
                        self._handle(event)

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.StartDialing():
                self._keeping = True
                self._nursery.start_soon(self._keep_link)
            case events.WorkerRegistered(at=at) if not self._registered:
                self._registered = True
                self._log.once = False
                self._policy.answered(at)
            case events.SendFrame(_, {"type": "register"}) if self._leaving:
                # One that arrives after `/delete-peer` would re-create the deleted peer (F32).
                self._publish(events.RegisterWithdrawn(self._epoch))
            case events.SendFrame(_, message) if self._link is not None:
                self._link.post(message)
            case events.DropLink(_, why, cause, polite) if self._link is not None:
                closed = Closed(reason=why, cause=cause)
                if polite:
                    # The server has to forget this registration before it gets one in another room, or the late end
                    # of this socket takes that one away and leaves a ghost here (faults.md, F30).
                    self._link.end_within(closed, MOVE)
                    self._link.send_close()
                else:
                    self._link.end(closed)
            case events.StartLeaving():
                self._leaving = True
                self._cuttable.cancel()
                for _ in range(0 if self._link is None else self._link.withdraw_registers()):
                    self._publish(events.RegisterWithdrawn(self._epoch))
            case events.CloseLink(within):
                self._closing = True
                if self._link is not None:
                    self._link.end_within(LEAVES, within)
            case events.SendClose() if self._link is not None:
                self._link.send_close()

    @trio.lowlevel.enable_ki_protection
    async def _keep_link(self) -> None:
        async with trio.open_nursery() as links:
            await self._dial_and_serve(links)
            links.cancel_scope.cancel()  # ends a dial that is kept
        self._keeping = False
        if self._closing:
            self._receiving.cancel()

    async def _dial_and_serve(self, links: trio.Nursery) -> None:
        while not self._leaving:
            self._epoch += 1
            self._registered = False
            outcome = await self._one_link(links)
            if outcome is None:
                break
            pause = None if self._leaving else self._pause_after(outcome, trio.current_time())
            if isinstance(outcome, Closed):
                self._publish(events.LinkLost(self._epoch, outcome, pause))
            elif pause is not None:
                self._publish(events.DialFailed(outcome, pause))
            if pause is not None:
                with trio.move_on_after(pause) as self._cuttable:
                    await trio.sleep_forever()

    def _pause_after(self, outcome: Closed | DialFailure, now: float) -> float:
        if isinstance(outcome, DialFailure):
            pause = self._policy.failed(now, outcome.cause, error_policy.hint(outcome.retry_after))
            self._log.failed(self._epoch, outcome, pause)
            return pause
        if outcome.cause is Cause.MOVED:
            pause = self._policy.moved(now)
        else:
            hint = error_policy.hint_of(outcome, registered=self._registered)
            pause = self._policy.lost(now, outcome.cause, outcome.code, hint)
        self._log.lost(self._epoch, outcome, pause)
        return pause

    def _cut_pause(self) -> None:
        self._cuttable.cancel()

    async def _one_link(self, links: trio.Nursery) -> Closed | DialFailure | None:
        """One socket from dial to abort. None when the exit cut the dial short."""
        deadlines = self._policy.dialling(trio.current_time())
        socket: Socket | DialFailure | None = None
        with trio.CancelScope() as self._cuttable:
            socket = await self._dial(deadlines, links, self._cut_pause)
        self._cuttable = trio.CancelScope()  # the exit keeps an open link until the identities are deleted (F33)
        if socket is None or isinstance(socket, DialFailure):
            return socket
        if self._leaving:  # it was open before the cancel came
            await socket.abort()
            return None
        self._log.opened(self._epoch)
        self._link = ServedLink(self._epoch, socket, self._timing, self._log, self._secrets)
        try:
            return await self._link.serve(deadlines, self._publish)
        finally:
            self._link = None
            await socket.abort()
