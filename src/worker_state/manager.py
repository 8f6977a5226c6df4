"""The wiring: the only file that knows who hears whom, and the facade that the worker sees.

Every note goes through `_Office.tell`, which folds it into the snapshot and drops it into the mailboxes that `ROUTES`
names. The facade owns the one fact that the worker itself decides: what it is doing.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random, SystemRandom
from typing import Any

import trio

from worker_state.actors import cleanup, connection, registration, status
from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.core.config import Config
from worker_state.core.errors import Disconnected, StartupFailed
from worker_state.core.pace import Pace
from worker_state.core.state import State, fold
from worker_state.core.status import Available, Busy, Maintenance, Reserved, Truth, WorkerStatus
from worker_state.transport import Dial, Http, HttpxHttp, WebSocketDial
from worker_state.watched import Watched

log = logging.getLogger(__name__)

CONNECTION, REGISTRATION, STATUS, CLEANUP = "connection", "registration", "status", "cleanup"

ROUTES: dict[type[m.Note], tuple[str, ...]] = {
    m.ChangeStatus: (REGISTRATION, STATUS),
    m.Reregister: (REGISTRATION,),
    m.OpenLinks: (CONNECTION,),
    m.DropLink: (CONNECTION,),
    m.BeginLeave: (CONNECTION, REGISTRATION, STATUS, CLEANUP),
    m.CloseLink: (CONNECTION,),
    m.DialFailed: (),
    m.LinkOpened: (REGISTRATION, STATUS),
    m.LinkLost: (REGISTRATION, STATUS),
    m.FrameReceived: (REGISTRATION, STATUS),
    m.IdentityRequested: (CLEANUP,),
    m.IdentityCreated: (REGISTRATION, CLEANUP),
    m.IdentityRefused: (REGISTRATION, CLEANUP),
    m.RoomCreated: (REGISTRATION,),
    m.RoomRefused: (REGISTRATION,),
    m.WorkerRegistered: (CONNECTION, STATUS),
    m.RegistrationHeld: (),
    m.RegistrationForgotten: (REGISTRATION,),
    m.StatusConfirmed: (),
    m.PresenceProved: (),
    m.FrameIgnored: (),
    m.SignalDropped: (),
    m.StartupAborted: (),
}
"""Who hears what. Everything also reaches the snapshot (`core.state.fold`). A test holds this table to be total."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the process, and chance: what tests and simulations replace."""

    dial: Dial
    http: Http
    random: Random
    nonce: Callable[[], str]

    @classmethod
    def real(cls, config: Config) -> "World":
        """The network, and randomness from the operating system (forked workers must not draw alike, FAULTS T17)."""
        timing = config.timing
        return cls(
            dial=WebSocketDial(config.websocket_url, connect_within=timing.connect, upgrade_within=timing.upgrade),
            http=HttpxHttp(config.http_url, within=timing.http),
            random=SystemRandom(),
            nonce=lambda: secrets.token_hex(16),
        )


class _Office:
    """The mailboxes, the snapshot and the stream of signals; every note passes through here."""

    def __init__(self, config: Config) -> None:
        self.state = Watched(State(status_since=trio.current_time()))
        # Unbounded, since a ring of bounded ones can deadlock; the benchmark shows how deep they get.
        self.mailboxes = {
            name: trio.open_memory_channel[m.Note](float("inf")) for name in (CONNECTION, REGISTRATION, STATUS, CLEANUP)
        }
        self.signals_in, self.signals = trio.open_memory_channel[wire.Message](config.signal_buffer)
        self.link: m.Link | None = None
        self.failure: StartupFailed | None = None
        self.decided = trio.Event()
        """The worker has been registered for the first time, or it will not be."""

    def tell(self, note: m.Note) -> None:
        """Put the note where it belongs. Never waits."""
        for name in ROUTES[type(note)]:
            self.mailboxes[name][0].send_nowait(note)
        match note:
            case m.FrameReceived(_, wire.Foreign(message)):
                self._hand_on(message)
            case m.FrameReceived(_, wire.Malformed(why)):
                self.tell(m.FrameIgnored(why))
            case m.FrameIgnored(why) if _worth_saying(ignored := self.state.value.frames_ignored + 1):
                log.warning("ignored frame %d of the server: %s", ignored, why)
            case m.LinkOpened(link):
                self.link = link
            case m.LinkLost():
                self.link = None
            case m.StartupAborted(error):
                self.failure = self.failure or error
                self.decided.set()
            case _:
                pass
        self.state.set(fold(self.state.value, note, trio.current_time()))
        if isinstance(note, m.WorkerRegistered):
            self.decided.set()

    def close(self) -> None:
        """Nothing will be heard any more: whoever listens is told."""
        self.state.close()
        self.signals_in.close()

    def _hand_on(self, message: wire.Message) -> None:
        try:
            self.signals_in.send_nowait(message)
        except trio.WouldBlock:
            dropped = self.state.value.signals_dropped + 1
            if _worth_saying(dropped):
                log.warning("nobody reads the signals: %d dropped so far", dropped)
            self.tell(m.SignalDropped())
        except trio.BrokenResourceError:
            pass  # the worker has stopped listening, which is its right


def _worth_saying(count: int) -> bool:
    """The first few times, then ever more rarely: a flood must not become one in the log."""
    return count <= 4 or count & (count - 1) == 0


class Manager:
    """What the worker holds while the state manager runs. Made by `run_state_manager` and `open_state_manager`."""

    def __init__(self, office: _Office) -> None:
        self._office = office

    def __repr__(self) -> str:
        state = self.state
        known = "registered" if state.registered else state.trouble or "starting"
        return f"<worker_state.Manager {state.status.value} {state.peer_id or '(no peer id)'}, {known}>"

    # the status: plain functions, for the worker decides it and the network only follows

    @property
    def status(self) -> WorkerStatus:
        """What the worker is doing: the local truth, whatever the server shows."""
        return self.state.status

    @property
    def job_id(self) -> str | None:
        """The job that the status is about, pending or current."""
        return self.state.job_id

    def set_available(self) -> None:
        """Free from now on; the job ids are cleared on the server too."""
        self._change(Available())

    def set_reserved(self, job_id: str) -> None:
        """Promised to a client. `job_id`: 1 to 512 characters, else `ValueError` (`TypeError` if it is no string)."""
        self._change(Reserved(job_id))

    def set_busy(self, job_id: str) -> None:
        """Working on a job. `job_id` as for `set_reserved`."""
        self._change(Busy(job_id))

    def set_maintenance(self) -> None:
        """Alive, but not to be used."""
        self._change(Maintenance())

    @contextmanager
    def busy(self, job_id: str) -> Iterator[None]:
        """Busy inside, available after, however the block ends; unless the status was set to something else inside."""
        mine = Busy(job_id)
        self._change(mine)
        try:
            yield
        finally:
            if self.state.truth == mine:
                self.set_available()

    def _change(self, truth: Truth) -> None:
        state = self.state
        if truth != state.truth:
            self._office.tell(m.ChangeStatus(state.revision + 1, truth))

    # the registration

    def reregister(self) -> None:
        """Ask for a full `register` with the true status; it is done as soon as there is a link."""
        self._office.tell(m.Reregister())

    async def synced(self) -> None:
        """Return when the server has confirmed exactly what is true now and an echo has proved the registration.

        Waits as long as that takes: put `trio.move_on_after` around it. Raises `trio.ClosedResourceError` when the
        manager has ended.
        """
        await self._office.state.wait_for(lambda state: state.synced)

    @property
    def session_string(self) -> str | None:
        """What clients type in to reach this worker. It may change (see `states`). None with an API key."""
        return self.state.session_string

    # what can be seen

    @property
    def state(self) -> State:
        """The present snapshot."""
        return self._office.state.value

    @property
    def states(self) -> Watched[State]:
        """`async for state in manager.states`: the present snapshot, then each newer one; some may be missed."""
        return self._office.state

    # the worker's other parts

    @property
    def signals(self) -> trio.MemoryReceiveChannel[wire.Message]:
        """Messages for the worker's other parts, in order and untouched. Bounded: what finds it full is dropped."""
        return self._office.signals

    async def send_signal(self, message: Mapping[str, Any]) -> None:
        """Send a message of the worker's other parts to the server; returns when the socket has taken it over.

        Raises `Disconnected` when the worker is not registered, `ValueError` or `TypeError` for what is no JSON object
        with a `type` or is worker_state's own to send. A sent message is not known to have arrived.
        """
        if not isinstance(message.get("type"), str):
            raise ValueError("a signal must have a 'type', a string")
        if message["type"] in wire.OURS:
            raise ValueError(f"{message['type']!r} is sent by worker_state itself")
        wire.encode(message)
        link = self._office.link
        if link is None or not self.state.registered:
            await trio.lowlevel.checkpoint()
            raise Disconnected("the worker is not registered just now, so the signal was not sent")
        if not await link.send(dict(message)):
            raise Disconnected("the link broke before the signal was sent")


async def run_state_manager(
    config: Config, *, task_status: "trio.TaskStatus[Manager]" = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep this worker discoverable until cancelled: `manager = await nursery.start(run_state_manager, config)`.

    Reports started with the `Manager` once the server has accepted the registration. Raises `StartupFailed` before
    that when sign-in, room creation or the first registration fail for good. Cancelled, it deletes what it created
    and closes the socket, within `timing.exit + timing.close` seconds.
    """
    await run_in_world(config, World.real(config), task_status=task_status)


async def run_in_world(
    config: Config, world: World, *, task_status: "trio.TaskStatus[Manager]" = trio.TASK_STATUS_IGNORED
) -> None:
    """`run_state_manager` with the outside world as an argument, for tests, simulations and benchmarks."""
    office = _Office(config)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_actors, config, world, office)
            try:
                await office.decided.wait()
                if office.failure is None:
                    task_status.started(Manager(office))
                    await trio.sleep_forever()
            finally:
                office.tell(m.BeginLeave())
    finally:
        office.close()
    if office.failure is not None:
        raise office.failure


async def _actors(config: Config, world: World, office: _Office) -> None:
    """The four actors, out of reach of the worker's cancel: they end by `BeginLeave`, in bounded time."""
    timing, tell = config.timing, office.tell
    inbox = {name: receive for name, (_, receive) in office.mailboxes.items()}
    actors = (
        partial(cleanup.run, inbox[CLEANUP], http=world.http, within=timing.exit, tell=tell),
        partial(
            connection.run,
            inbox[CONNECTION],
            dial=world.dial,
            pace=Pace(world.random),
            timing=timing,
            tell=tell,
        ),
        partial(
            registration.run,
            inbox[REGISTRATION],
            config=config,
            http=world.http,
            random=world.random,
            tell=tell,
        ),
        partial(status.run, inbox[STATUS], config=config, random=world.random, nonce=world.nonce, tell=tell),
    )
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            for actor in actors:
                nursery.start_soon(actor, name=f"worker_state {actor.func.__module__.rpartition('.')[2]}")


@asynccontextmanager
async def open_state_manager(config: Config) -> AsyncIterator[Manager]:
    """The same for scripts: `async with open_state_manager(config) as manager`. Raises `StartupFailed` on entering.

    At the end the body is done first, then the identities are deleted, then the socket is closed.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        # What the body raises is carried around the nursery, so that it arrives as itself and not inside a group.
        try:
            yield await nursery.start(run_state_manager, config)
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
