"""The wiring: the only file that knows who hears whom, what runs in which scope, and in which order all of it ends.

Every note goes through `_Office.tell`, which folds it into the snapshot and sends it to the inboxes that `ROUTES`
names. Decisions about the protocol are made in the actors and in `core`, not here.
"""

import logging
import math
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import cached_property, partial
from typing import Any

import trio

from worker_state.actors import cleanup, connection, registration, status
from worker_state.background import open_background
from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.core.config import Config
from worker_state.core.counts import Counts
from worker_state.core.errors import StartupFailed
from worker_state.core.pace import Pace
from worker_state.core.state import State, fold
from worker_state.core.status import WorkerStatus
from worker_state.errands import Errands
from worker_state.facade import Manager
from worker_state.inbox import Inbox
from worker_state.logs import event
from worker_state.watched import Watched
from worker_state.world import World

log = logging.getLogger(__name__)

CONNECTION, REGISTRATION, STATUS, CLEANUP = "connection", "registration", "status", "cleanup"

ROUTES: dict[type[m.Note], tuple[str, ...]] = {
    m.ChangeStatus: (REGISTRATION, STATUS),
    m.Reregister: (REGISTRATION,),
    m.BeginDrain: (),
    m.OpenLinks: (CONNECTION,),
    m.DropLink: (CONNECTION,),
    m.BeginLeave: (CONNECTION, REGISTRATION, STATUS),
    m.CloseLink: (CONNECTION, STATUS),
    m.DialFailed: (REGISTRATION,),
    m.LinkOpened: (REGISTRATION, STATUS, CLEANUP),
    m.LinkLost: (REGISTRATION, STATUS, CLEANUP),
    m.IdentityRequested: (CLEANUP,),
    m.IdentityCreated: (REGISTRATION, CLEANUP),
    m.IdentityRefused: (REGISTRATION, CLEANUP),
    m.RoomCreated: (REGISTRATION,),
    m.RoomRefused: (REGISTRATION,),
    m.WorkerRegistered: (CONNECTION, STATUS),
    m.RegistrationHeld: (CONNECTION,),
    m.RegistrationForgotten: (REGISTRATION,),
    m.StatusConfirmed: (),
    m.UpdateFailed: (),
    m.PresenceProved: (),
    m.MachineSlept: (REGISTRATION,),  # which looks at the clock whenever it wakes, and else might do so late
    m.FrameIgnored: (),
    m.SignalSent: (STATUS,),
    m.SignalsHeard: (CLEANUP,),
    m.SignalDropped: (),
    m.StartupAborted: (CLEANUP,),
}
"""Who hears what. Everything also reaches the snapshot (`core.state.fold`). A test holds both tables to be total."""

FRAME_ROUTES: dict[type[wire.Frame], tuple[str, ...]] = {
    wire.RegistrationAccepted: (REGISTRATION,),
    wire.Refusal: (REGISTRATION,),
    wire.MetadataStored: (STATUS,),
    wire.NotInRoom: (REGISTRATION, STATUS),
    wire.Echo: (REGISTRATION, STATUS),
    wire.Foreign: (STATUS,),  # an error of an unknown kind may be the refusal of an echo
    wire.Ping: (),
    wire.Malformed: (),
}
"""The same for `FrameReceived`, by what was received."""


class _Office:
    """The inboxes, the snapshot and the stream of signals; every note passes through here."""

    def __init__(self, config: Config) -> None:
        self._thread = threading.get_ident()
        began = trio.current_time()
        self.state = Watched(State(status_since=began, unconfirmed_since=began, unregistered_since=began))
        self.counts = Counts()
        self._send: dict[str, trio.MemorySendChannel[m.Note]] = {}
        self.inboxes: dict[str, Inbox] = {}
        for name in (CONNECTION, REGISTRATION, STATUS, CLEANUP):
            self._send[name], self.inboxes[name] = trio.open_memory_channel[m.Note](math.inf)
        self._signal_buffer = config.signal_buffer
        self._over = False
        self.link: m.Link | None = None
        self.failure: StartupFailed | None = None
        self.on_start: Callable[[Manager], None] | None = None
        """Called once, at the first registration."""

    @trio.lowlevel.enable_ki_protection
    def tell(self, note: m.Note) -> None:
        """Put the note where it belongs. Never waits. Raises `RuntimeError` in any thread but trio's own."""
        if threading.get_ident() != self._thread:
            # Half a note would be worse than none: trio's channels wake nobody from a foreign thread.
            raise RuntimeError(
                "not in this thread: use trio.from_thread.run_sync(manager.set_busy, job_id) or its like"
            )
        for name in FRAME_ROUTES[type(note.frame)] if isinstance(note, m.FrameReceived) else ROUTES[type(note)]:
            self._send[name].send_nowait(note)
        match note:
            case m.FrameReceived(_, wire.Foreign(message)):
                self._hand_on(message)
            case m.FrameReceived(_, wire.Refusal(message=message) | wire.NotInRoom(message=message), True):
                self._hand_on(message)
            case m.FrameReceived(_, wire.Malformed(why)):
                self.tell(m.FrameIgnored(why))
            case m.FrameIgnored(why) if _worth_saying(ignored := self.state.value.frames_ignored + 1):
                about = event("frame_ignored", count=ignored, reason=why)
                log.warning("ignored frame %d of the server: %s", ignored, why, extra=about)
            case m.LinkOpened(link):
                self.link = link
            case m.LinkLost():
                self.link = None
            case m.StartupAborted(error):
                self.failure = self.failure or error
            case m.BeginLeave():
                self.on_start = None
            case _:
                pass
        self.counts.add(note, self.state.value)
        self.state.set(fold(self.state.value, note, trio.current_time()))
        if isinstance(note, m.WorkerRegistered) and self.on_start is not None:
            on_start, self.on_start = self.on_start, None
            on_start(self.manager())

    def manager(self) -> Manager:
        """The face of this office that the worker sees."""
        return Manager(self.tell, self.state, lambda: self.signals[1], lambda: self.link, self.backlog, self.counts)

    def backlog(self) -> dict[str, int]:
        """Unread notes by actor."""
        return {name: inbox.statistics().current_buffer_used for name, inbox in self.inboxes.items()}

    @cached_property
    def signals(self) -> "tuple[trio.MemorySendChannel[wire.Message], trio.MemoryReceiveChannel[wire.Message]]":
        """Made with the first signal, or when the worker first asks: most workers are idle, and it weighs 1.7 KiB."""
        made = trio.open_memory_channel[wire.Message](self._signal_buffer)
        if self._over:
            made[0].close()
        return made

    def close(self) -> None:
        """Nothing will be heard any more: whoever listens is told."""
        self._over = True
        self.state.close()
        if "signals" in self.__dict__:  # else it ends when somebody asks for it
            self.signals[0].close()

    def _hand_on(self, message: wire.Message) -> None:
        try:
            self.signals[0].send_nowait(message)
        except trio.WouldBlock:
            dropped = self.state.value.signals_dropped + 1
            if _worth_saying(dropped):
                about = event("signals_dropped", count=dropped)
                log.warning("nobody reads the signals: %d dropped so far", dropped, extra=about)
            self.tell(m.SignalDropped())
        except trio.BrokenResourceError:
            pass  # the worker has stopped listening, which is its right


def _worth_saying(count: int) -> bool:
    """The first few times, then ever more rarely: a flood must not become one in the log."""
    return count <= 4 or count & (count - 1) == 0


# Ctrl-C strikes in none of our tasks, only in the program's own: in the middle of `Event.wait` or `start_soon` it
# leaves a task that is woken twice, or never. So whatever is spawned, here and in the actors, is decorated like this.
@trio.lowlevel.enable_ki_protection
async def run_state_manager(
    config: Config, *, task_status: "trio.TaskStatus[Manager]" = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep this worker discoverable until cancelled: `manager = await nursery.start(run_state_manager, config)`.

    Reports started with the `Manager` once the server has accepted the registration. Raises `StartupFailed` before
    that when sign-in, room creation or the first registration fail, or the server cannot be reached (unless the worker
    waits for it). Cancelled, it asks the server to delete what it created, and closes the socket, within
    `timing.exit + timing.close` seconds.
    """
    running = run_in_world(config, World.real(config), task_status=task_status)
    del task_status  # it holds the nursery of `nursery.start`, which would live as long as this call
    await running


@trio.lowlevel.enable_ki_protection
async def run_in_world(
    config: Config,
    world: World,
    *,
    early: Callable[[Manager], None] | None = None,
    task_status: "trio.TaskStatus[Manager]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """`run_state_manager` with the outside world as an argument, for tests, simulations and benchmarks."""
    office = _Office(config)
    office.on_start = task_status.started
    del task_status
    if early is not None:
        early(office.manager())
    for url in config.exposed_urls:
        about = event("not_encrypted", url=url)
        log.warning("%s is not encrypted and leaves this machine: tokens can be read on the way", url, extra=about)
    try:
        async with trio.open_nursery() as nursery:
            for actor in _shielded_actors(config, world, office, nursery):
                nursery.start_soon(actor, name=f"worker_state {actor.func.__module__.rpartition('.')[2]}")
            if config.reservation_limit is not None:
                nursery.start_soon(_end_reservations, office, config.reservation_limit)
            await cleanup.run(
                office.inboxes[CLEANUP],
                http=world.http,
                timing=config.timing,
                keeps_room=config.keeps_room,
                tell=office.tell,
            )
            nursery.cancel_scope.cancel()  # nobody has done so when the worker could not start; the actors are shielded
    finally:
        office.close()
    if office.failure is not None:
        raise office.failure


def _shielded_actors(
    config: Config, world: World, office: _Office, nursery: trio.Nursery
) -> tuple[partial[Coroutine[Any, Any, None]], ...]:
    """The worker's cancel does not reach these: each is shielded, and ends by `BeginLeave`, in bounded time."""
    timing, tell, inbox = config.timing, office.tell, office.inboxes
    return (
        partial(
            connection.run,
            inbox[CONNECTION],
            dial=world.dial,
            pace=Pace(world.random, world.pace),
            timing=timing,
            tell=tell,
            waits=config.wait_for_server,
        ),
        partial(
            registration.run,
            inbox[REGISTRATION],
            config=config,
            errands=Errands(world.http, nursery, tell, waits=config.wait_for_server),
            random=world.random,
            nonce=world.nonce,
            awake=world.awake,
            tell=tell,
        ),
        partial(
            status.run,
            inbox[STATUS],
            config=config,
            random=world.random,
            nonce=world.nonce,
            awake=world.awake,
            tell=tell,
        ),
    )


def _differs(revision: int, state: State) -> bool:
    return state.revision != revision


@trio.lowlevel.enable_ki_protection
async def _end_reservations(office: _Office, limit: float) -> None:
    """A client that vanished must not keep the worker reserved for ever (FAULTS F15)."""
    async for state in office.state:
        if state.status != WorkerStatus.RESERVED:
            continue
        with trio.move_on_at(state.status_since + limit):
            await office.state.wait_for(partial(_differs, state.revision))
        if office.state.value.revision == state.revision:
            about = event("reservation_over", limit=limit)
            log.warning("reserved for %g s and no job has begun: available again", limit, extra=about)
            office.tell(m.ChangeStatus(state.revision + 1, office.state.value.idle))


def open_state_manager(
    config: Config, *, early: Callable[[Manager], None] | None = None
) -> AbstractAsyncContextManager[Manager]:
    """The same for scripts: `async with open_state_manager(config) as manager`. Raises `StartupFailed` on entering.

    At the end the body is done first, then the identities' deletion is asked for and the socket closed. What the body
    raised leaves as itself, whatever has ended it; if the manager has failed, too, both leave in one group. `early` is
    called with the manager before anything else is done, for who tells how a start goes that waits for its server.
    """
    return open_background(partial(run_in_world, config, World.real(config), early=early))
