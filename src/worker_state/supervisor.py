"""The supervisor: owns the nursery, the channels, the one routing table, the snapshot and the order of the end.

Every event passes through `Supervisor.publish`, which drops those of an older link, folds the others into the snapshot,
and delivers them as `ROUTES` says. Decisions about the protocol are made in the actors and in `protocol`, not here.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import trio

from worker_state import logs
from worker_state.actors.api_calls import ApiCalls
from worker_state.actors.cleanup import CleanupActor
from worker_state.actors.connection import ConnectionActor
from worker_state.actors.registration import RegistrationActor
from worker_state.actors.runner import run_actor
from worker_state.actors.status import StatusActor
from worker_state.config import Config
from worker_state.errors import StartupFailed
from worker_state.protocol import error_policy, events, frames
from worker_state.protocol.counters import Counters
from worker_state.protocol.reconnect import ReconnectPolicy
from worker_state.protocol.state import State, fold
from worker_state.redact import Secrets
from worker_state.signal_buffer import SignalBuffer
from worker_state.watched import Watched
from worker_state.world import World

log: logs.Logger = logs.Logger(__name__)

CONNECTION, REGISTRATION, STATUS, CLEANUP = ACTORS = ("connection", "registration", "status", "cleanup")
API_CALLS, SIGNALS = "API calls", "signals"

ROUTES: dict[type[events.Event], tuple[str, ...]] = {
    events.ChangeStatus: (REGISTRATION, STATUS),
    events.ChangeAdvertised: (REGISTRATION, STATUS),
    events.ChangeAdmin: (REGISTRATION,),
    events.Reregister: (REGISTRATION,),
    events.StartDraining: (STATUS,),
    events.RequestIdentity: (CLEANUP, API_CALLS),
    events.RequestRoom: (API_CALLS,),
    events.StartDialing: (CONNECTION,),
    events.SendFrame: (CONNECTION,),
    events.DropLink: (CONNECTION,),
    events.StartLeaving: (CONNECTION, REGISTRATION, STATUS, API_CALLS),
    events.CloseLink: (CONNECTION, REGISTRATION, STATUS),
    events.SendClose: (CONNECTION,),
    events.DialFailed: (REGISTRATION,),
    events.LinkOpened: (REGISTRATION, STATUS, CLEANUP),
    events.LinkLost: (REGISTRATION, STATUS),
    events.LinkReleased: (CLEANUP,),
    events.RegisterWithdrawn: (REGISTRATION,),
    events.AnswersDelayed: (REGISTRATION, STATUS),
    events.IdentityCreated: (REGISTRATION, CLEANUP),
    events.IdentityFailed: (REGISTRATION, CLEANUP),
    events.RoomCreated: (REGISTRATION,),
    events.RoomFailed: (REGISTRATION,),
    events.WorkerRegistered: (CONNECTION, STATUS),
    events.RegistrationRejected: (),
    events.RegistrationLost: (REGISTRATION,),
    events.StatusConfirmed: (),
    events.UpdateFailed: (),
    events.PresenceProved: (),
    events.MachineSuspended: (REGISTRATION,),  # which looks at the clock whenever it wakes, and else might do so late
    events.FrameIgnored: (),
    events.SignalSent: (STATUS,),
    events.SignalsFlushed: (CLEANUP,),
    events.SignalDropped: (),
    events.StartupAborted: (CLEANUP,),
}
"""Which actors get which event. Every event also reaches the snapshot (`protocol.state.fold`)."""

FRAME_ROUTES: dict[type[frames.Frame], tuple[str, ...]] = {
    frames.RegistrationAccepted: (REGISTRATION,),
    frames.MetadataUpdated: (REGISTRATION, STATUS),
    frames.RegisterError: (REGISTRATION, SIGNALS),
    frames.NotInRoom: (REGISTRATION, STATUS, SIGNALS),
    frames.Echo: (REGISTRATION, STATUS),
    frames.OtherMessage: (STATUS, SIGNALS),  # an error of an unknown kind may be the refusal of an echo
    frames.Ping: (),
    frames.Malformed: (),
}
"""The same for `FrameReceived`, by what was received."""


class Supervisor:
    """Everything that runs for one worker. `publish` is the only way in, `state` and `signals` are the ways out."""

    def __init__(self, config: Config, world: World) -> None:
        began = trio.current_time()
        self.state: Watched[State] = Watched(
            State(
                advertised=config.advertised,
                admin=config.admin,
                status_since=began,
                unconfirmed_since=began,
                unregistered_since=began,
            )
        )
        self.counts: Counters = Counters()
        self.link: events.Link | None = None
        self.on_registered: Callable[[], None] | None = None  # called once, at the first registration
        self.ended_at: float = math.inf
        self._failure: StartupFailed | None = None
        self._epoch = 0  # of the newest link
        self._registration = RegistrationActor(config, random=world.random, nonce=world.nonce, awake=world.awake)
        self._status = StatusActor(config, random=world.random, nonce=world.nonce, awake=world.awake)
        self.config = config
        self.secrets: Secrets = Secrets(*config.secrets)
        self._world = world
        self._thread = threading.get_ident()
        self._waiting: deque[events.Event] = deque()
        self._publishing = False
        self._channels = {name: trio.open_memory_channel[events.Event](math.inf) for name in ACTORS}
        self.signals: SignalBuffer = SignalBuffer(config.signal_buffer, config.signal_buffer_bytes)
        self._receivers: dict[str, Callable[[events.Event], None]] = {
            name: send.send_nowait for name, (send, _) in self._channels.items()
        }
        self._receivers[SIGNALS] = self._buffer_signal

    @trio.lowlevel.enable_ki_protection
    def check_thread(self) -> None:
        """Raises `RuntimeError` in any thread but trio's own, whose channels wake no task from a foreign one: what
        comes from there would be delivered by half (G56)."""
        if threading.get_ident() != self._thread:
            text = "not in this thread: use trio.from_thread.run_sync(manager.set_busy, job_id) or its like"
            raise RuntimeError(text)

    @trio.lowlevel.enable_ki_protection
    def publish(self, event: events.Event) -> None:
        """Deliver the event. An event published meanwhile waits its turn. Never waits itself.

        Raises `RuntimeError` in any thread but trio's own.
        """
        self.check_thread()
        self._waiting.append(event)
        if self._publishing:
            return
        self._publishing = True
        try:
            while self._waiting:
                self._dispatch(self._waiting.popleft())
        finally:
            self._publishing = False

    def is_stale(self, event: events.Event) -> bool:
        """Whether the event belongs to a link that is gone. This is the one place where such events are dropped."""
        epoch = getattr(event, "epoch", None)
        if epoch is None:
            return False
        ends_link = isinstance(event, events.LinkLost | events.DropLink)
        return epoch != self._epoch or (self.link is None and not ends_link)

    def _dispatch(self, event: events.Event) -> None:
        if self.is_stale(event):
            return
        for name in FRAME_ROUTES[type(event.frame)] if isinstance(event, events.FrameReceived) else ROUTES[type(event)]:
            with suppress(trio.ClosedResourceError):  # an actor that has ended
                self._receivers[name](event)
        match event:
            case events.FrameReceived(_, frames.Malformed(why)):
                self.publish(events.FrameIgnored(why))
            case events.FrameIgnored(why, error) if _worth_a_line(count := self.state.value.frames_ignored + 1):
                about = logs.event("frame_ignored", count=count, reason=why)
                log.warning("ignored frame %d of the server: %s", count, why, exc_info=error, extra=about)
            case events.SignalDropped() if _worth_a_line(count := self.state.value.signals_dropped + 1):
                about = logs.event("signals_dropped", count=count)
                log.warning("nobody reads the signals: %d dropped so far", count, extra=about)
            case events.LinkOpened(link):
                self.link, self._epoch = link, link.epoch
            case events.LinkLost() | events.DropLink():
                self.link = None
            case events.StartupAborted(error):
                self._failure = self._failure or error
            case events.StartLeaving():
                self.on_registered = None
        self.counts.add(event, self.state.value)
        self.state.set(fold(self.state.value, event, trio.current_time()))
        if isinstance(event, events.WorkerRegistered):
            self.secrets.learn(event.token)  # an API key's answer may bring one; the others are known
            self.secrets.learn(self.state.value.session_string)
            if self.on_registered is not None:
                on_registered, self.on_registered = self.on_registered, None
                on_registered()

    def _buffer_signal(self, event: events.Event) -> None:
        """Keep a message for the worker's other parts; an error only if it may answer one of their frames."""
        match event:
            case events.FrameReceived(_, frames.OtherMessage(message), size=size):
                pass
            case events.FrameReceived(_, frames.NotInRoom(message=message), True, size):
                pass
            case events.FrameReceived(_, frames.RegisterError(message=message) as refusal, size=size):
                if self._registration.unanswered and error_policy.surely_answers(refusal):
                    return
            case _:
                return
        try:
            self.signals.put(message, size)
        except trio.WouldBlock:
            self.publish(events.SignalDropped())

    def backlog(self) -> dict[str, int]:
        """Unread events by actor."""
        return {name: inbox.statistics().current_buffer_used for name, (_, inbox) in self._channels.items()}

    # --- the run ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the actors until cancelled, or until the start fails: then raise its `StartupFailed`.

        The cancel reaches the cleanup actor alone. It publishes `StartLeaving` and `CloseLink`, which end the others.
        """
        config, api = self.config, self._world.api(self.secrets)
        try:
            async with trio.open_nursery() as nursery:
                self._receivers[API_CALLS] = ApiCalls(api, nursery, self.publish, config.timing.exit).handle
                nursery.start_soon(self._run_connection, name="worker_state connection")
                for name, actor in ((REGISTRATION, self._registration), (STATUS, self._status)):
                    inbox = self._channels[name][1]
                    run = partial(run_actor, actor, inbox, publish=self.publish, is_stale=self.is_stale)
                    nursery.start_soon(run, name=f"worker_state {name}")
                cleanup = CleanupActor(
                    api, config.timing, peer_id=config.peer_id, keeps_room=config.keeps_room, publish=self.publish
                )
                await cleanup.run(self._channels[CLEANUP][1])
        finally:
            self.ended_at = trio.current_time()
            self.state.set(replace(self.state.value, ended=True))
            self.state.close()
            self.signals.close()
        if self._failure is not None:
            raise self._failure

    @trio.lowlevel.enable_ki_protection
    async def _run_connection(self) -> None:
        config, world = self.config, self._world
        policy = ReconnectPolicy(world.random, world.pace)
        actor = ConnectionActor(world.dial, policy, config, self.secrets, publish=self.publish, is_stale=self.is_stale)
        try:
            await actor.run(self._channels[CONNECTION][1])
        finally:  # the link is the last to end: then there is nothing left to decide
            for name in (CONNECTION, REGISTRATION, STATUS):
                self._channels[name][0].close()


def _worth_a_line(count: int) -> bool:
    """The first few times, then ever more rarely: a flood must not become one in the log."""
    return count <= 4 or logs.ever_more_rarely(count)
