"""The public entry points, and the `Manager` that they give: status to set, state to watch, signals to read and send.

A thin face over the supervisor. It owns the one fact that the worker itself decides: what it is doing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Any

import trio

from worker_state.advertised import Advertised
from worker_state.background import open_background
from worker_state.config import Config
from worker_state.errors import Disconnected
from worker_state.logs import Logger, event
from worker_state.protocol import events, frames
from worker_state.protocol.counters import Counters
from worker_state.protocol.state import State, ages
from worker_state.protocol.status import Available, Busy, Maintenance, Reserved, Truth, WorkerStatus
from worker_state.redact import Secrets, shown
from worker_state.refusals import check_start, ended
from worker_state.supervisor import Supervisor
from worker_state.views import Signals, States
from worker_state.watched import SETTLED, settled
from worker_state.world import World

log: Logger = Logger(__name__)


class Manager:
    """The worker's handle on its state. Made by `run_state_manager` and `open_state_manager`."""

    __slots__ = ("_busy_blocks", "_supervisor")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._busy_blocks: list[Truth] = []  # what was true before the first one, then the jobs of those that run

    def __repr__(self) -> str:
        state = self.state
        known = "ended" if state.ended else "registered" if state.registered else state.trouble or "starting"
        name = "(no peer id)" if state.peer_id is None else shown(state.peer_id)
        return f"<worker_state.Manager {state.status.value} {name}, {known}>"

    # the status: plain functions, since the worker decides it and the network follows

    @property
    def status(self) -> WorkerStatus:
        """What the worker is doing: the local truth, whatever the server shows."""
        return self.state.status

    @property
    def job_id(self) -> str | None:
        """The job that the status is about, pending or current."""
        return self.state.job_id

    def set_available(self) -> None:
        """Free from now on (in maintenance while draining); the job ids are cleared on the server too."""
        self._change(self.state.idle)

    def set_reserved(self, job_id: str | None = None) -> None:
        """Promised to a client, perhaps before there is a job. `job_id`: None, or as for `set_busy`."""
        self._change(Reserved(job_id))

    def set_busy(self, job_id: str) -> None:
        """Working on a job. `job_id`: 1 to 512 characters, else `ValueError` (`TypeError` if it is no string)."""
        self._change(Busy(job_id))

    def set_maintenance(self) -> None:
        """Alive, but not to be used."""
        self._change(Maintenance())

    @contextmanager
    def busy(self, job_id: str) -> Iterator[None]:
        """Busy inside; however the block ends, the status becomes again what was true before it.

        A reservation of this job, or one without a job id, is fulfilled by the block: then the worker is available, or
        in maintenance while it drains. Blocks may overlap and end in any order: the worker is busy until the last of
        them ends, which brings back what was before the first. A status that was set to something else inside is left
        as it is. `job_id` as for `set_busy`. A block may outlast the manager.
        """
        job = Busy(job_id)
        self._begin(job)
        try:
            yield
        finally:
            self._end(job)

    def _begin(self, job: Busy) -> None:
        blocks, before = self._busy_blocks, self.state.truth
        self._change(job)
        if before in (Reserved(job.job_id), Reserved()):  # fulfilled now
            before = blocks[-1] if len(blocks) > 1 else Available()
        if blocks[-1:] != [before]:  # the status was set inside the older blocks, so they bring nothing back
            blocks[:] = [before]
        blocks.append(job)

    def _end(self, job: Busy) -> None:
        blocks, newest = self._busy_blocks, self._busy_blocks[-1]
        blocks[:] = [each for each in blocks if each is not job]
        if self.state.truth in (newest, job) and not self.state.ended:
            self._change(self.state.idle if blocks[-1] == Available() else blocks[-1])

    @trio.lowlevel.enable_ki_protection
    async def draining(self) -> None:
        """Take no further job from now on, for good, and return when none is reserved or running any more.

        Without a job the status is maintenance, at once or as soon as the present job ends. Until then the worker stays
        truthfully reserved or busy; a program that takes jobs while `status` is available takes no other. Waits as long
        as the job takes: put `trio.move_on_after` around it, which ends the waiting and not the draining. May be called
        again. Raises `ManagerEnded`.
        """
        await self._check_waiting()
        if not self.state.draining:
            self._publish(events.StartDraining())
            if not self.state.in_use:
                self._change(self.state.idle)
        await self.wait_for(lambda state: not state.in_use)

    def _change(self, truth: Truth) -> None:
        self._check()
        state = self.state
        if truth != state.truth:
            self._publish(events.ChangeStatus(state.revision + 1, truth))

    def _publish(self, event: events.Event) -> None:
        """After a check: within that moment the event is dropped."""
        if not self.state.ended:
            self._supervisor.publish(event)

    def _check(self) -> None:
        """Raises `ManagerEnded`, but not within the moment in which the tasks around are cancelled (`settled`)."""
        self._supervisor.check_thread()
        if self.state.ended and trio.current_time() > self._supervisor.ended_at + SETTLED:
            raise ended()

    async def _check_waiting(self) -> None:
        self._supervisor.check_thread()
        if self.state.ended:
            await settled()
            raise ended()

    # what else is advertised

    def set_capabilities(self, changes: Mapping[str, Any]) -> None:
        """Change capabilities: `{"gpu_memory_mb": 12288}`. Those that are not named stay; None is sent as null.

        Sent, proved and repaired like a status; `synced()` covers it. Raises `ConfigError`, which names the field, as
        `Config` does.
        """
        self._advertise(self.state.advertised.with_capabilities(changes))

    def set_tags(self, tags: Sequence[str]) -> None:
        """Be found by these tags from now on. One that is gone goes with a full `register`: updates only add tags.
        Raises `ConfigError`."""
        before = self.state.tags
        self._advertise(self.state.advertised.with_tags(tags))
        if not set(before) <= set(self.state.tags):
            self.reregister()

    def _advertise(self, advertised: Advertised) -> None:
        self._check()
        state = self.state
        if advertised != state.advertised:
            self._publish(events.ChangeAdvertised(state.revision + 1, advertised))

    def set_admin(self, admin: bool) -> None:
        """Offer to be the room's admin, or no longer: `is_admin` in a full `register`. `state.admin_peer_id` says who
        is; where another is, `signals` brings the server's `admin_conflict`. `TypeError` if it is no bool."""
        if not isinstance(admin, bool):
            raise TypeError(f"admin must be True or False, not {type(admin).__name__}")
        self._check()
        if admin != self.state.admin:
            self._publish(events.ChangeAdmin(admin))

    # the registration

    def reregister(self) -> None:
        """Ask for a full `register` with the true status; it is done as soon as there is a link."""
        self._check()
        self._publish(events.Reregister())

    @trio.lowlevel.enable_ki_protection
    async def synced(self) -> None:
        """Return when the server has confirmed exactly what is true now and an echo has proved the registration.

        Waits as long as that takes: put `trio.move_on_after` around it. Raises `ManagerEnded`.
        """
        await self.wait_for(lambda state: state.synced)

    @property
    def session_string(self) -> str | None:
        """What clients type in to reach this worker. It may change (see `states`). None with an API key."""
        return self.state.session_string

    # what can be seen

    @property
    def state(self) -> State:
        """The present snapshot."""
        return self._supervisor.state.value

    @property
    def ages(self) -> dict[str, float | None]:
        """How long ago each time of `state` is, in seconds: `ages["proved"]`. None for what is not the case."""
        return ages(self.state, trio.current_time())

    @property
    def states(self) -> States:
        """`async for state in manager.states`: the present snapshot, then each newer one; some may be missed."""
        return States(self._supervisor)

    @trio.lowlevel.enable_ki_protection
    async def wait_for(self, wanted: Callable[[State], bool]) -> State:
        """Wait until `wanted(state)` is true: `await manager.wait_for(lambda state: state.registered)`. Gives that
        state. Raises `ManagerEnded` if the manager ends before."""
        return await self.states.wait_for(wanted)

    @property
    def config(self) -> Config:
        """The configuration that it was started with."""
        return self._supervisor.config

    @property
    def secrets(self) -> Secrets:
        """What must stand in no text: `manager.secrets.shown(text)` makes a client's words fit for a log of yours."""
        return self._supervisor.secrets

    @property
    def backlog(self) -> dict[str, int]:
        """How many events each actor has not read yet, by its name. Not 0 for longer than a moment means trouble."""
        return self._supervisor.backlog()

    @property
    def counts(self) -> Counters:
        """What has happened since the start, counted: what metrics are made of."""
        return self._supervisor.counts

    # the worker's other parts

    @property
    def signals(self) -> Signals:
        """Messages for the worker's other parts, in order and untouched. Bounded: what finds it full is dropped."""
        return Signals(self._supervisor)

    @trio.lowlevel.enable_ki_protection
    async def send_signal(self, message: Mapping[str, Any]) -> None:
        """Send a message of the worker's other parts to the server; returns when the socket has taken it over.

        Raises `Disconnected` when the worker is not registered, `ManagerEnded` when it has ended, `ValueError` or
        `TypeError` for what is no JSON object with a `type`, is worker_state's own to send, names another sender, or is
        longer than the 1 MiB that a server takes. A sent message may not have arrived; but the exit waits for what was
        sent before it, within half of `timing.exit`.
        """
        await self._check_waiting()
        if not isinstance(message, Mapping) or not isinstance(message.get("type"), str):
            raise ValueError("a signal must be a mapping with a 'type', a string")
        if message["type"] in frames.OURS:
            raise ValueError(f"{message['type']!r} is sent by worker_state itself")
        kind, ours = message["type"], self.state.peer_id
        # Of another sender the server answers that it does not know it, just as when it has forgotten this worker.
        if ours is not None and message.get("from_peer_id", None if kind in frames.SIGNED else ours) != ours:
            raise ValueError(f"'from_peer_id' of {kind!r} must be this worker's peer id")
        text = frames.encode_signal(message)  # now, since it may change while it waits for its turn
        link = self._supervisor.link
        if link is None or not self.state.registered:
            await trio.lowlevel.checkpoint()
            raise Disconnected("the worker is not registered just now, so the signal was not sent")
        if not await link.send(kind, text):
            raise Disconnected("the link broke before the signal was sent")
        self._supervisor.publish(events.SignalSent(link.epoch, trio.current_time()))


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
    check_start(config)
    running = run_in_world(config, World.around(config), task_status=task_status)
    del task_status  # it refers to the nursery of `nursery.start`, which would live as long as this call
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
    supervisor = Supervisor(config, world)
    manager = Manager(supervisor)
    supervisor.on_registered = partial(task_status.started, manager)
    del task_status
    if early is not None:
        early(manager)
    for url in config.exposed_urls:
        about = event("not_encrypted", url=url)
        log.warning("%s is not encrypted and leaves this machine: tokens can be read on the way", url, extra=about)
    await supervisor.run()


def open_state_manager(
    config: Config, *, early: Callable[[Manager], None] | None = None
) -> AbstractAsyncContextManager[Manager]:
    """Keep this worker discoverable while the block lasts: `async with open_state_manager(config) as manager`.

    As `run_state_manager`, for scripts. Raises `StartupFailed` on entering.

    After the body the identities' deletion is asked for and the socket closed. What the body raised leaves as itself;
    if the manager has failed, too, both leave in one group. `early` is called with the manager before the start, for
    programs that show how a start goes that waits for its server.
    """
    check_start(config)
    return open_background(partial(run_in_world, config, World.around(config), early=early))
