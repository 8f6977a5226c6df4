"""The public entry points, and the `Manager` that they give: status to set, state to watch, signals to read and send.

A thin face over the supervisor. It owns the one fact that the worker itself decides: what it is doing.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Any

import trio

from worker_state.background import open_background
from worker_state.config import Config
from worker_state.errors import Disconnected
from worker_state.logs import event
from worker_state.protocol import events, frames
from worker_state.protocol.counters import Counters
from worker_state.protocol.state import State
from worker_state.protocol.status import Available, Busy, Maintenance, Reserved, Truth, WorkerStatus
from worker_state.redact import shown
from worker_state.supervisor import Supervisor
from worker_state.watched import Watched, settled
from worker_state.world import World

log = logging.getLogger(__name__)


class Signals(trio.abc.ReceiveChannel[frames.Message]):
    """The messages of a memory channel, whose end comes a moment later (see `settled`)."""

    def __init__(self, channel: trio.MemoryReceiveChannel[frames.Message]) -> None:
        self._channel = channel
        self.receive_nowait, self.statistics, self.close = channel.receive_nowait, channel.statistics, channel.close

    async def receive(self) -> frames.Message:
        """The next message. Raises `trio.EndOfChannel` when the manager has ended and all of them are read."""
        try:
            return await self._channel.receive()
        except trio.EndOfChannel:
            await settled()
            raise

    async def aclose(self) -> None:
        await self._channel.aclose()


class Manager:
    """The worker's handle on its state. Made by `run_state_manager` and `open_state_manager`."""

    __slots__ = ("_busy_blocks", "_supervisor")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._busy_blocks: list[Truth] = []  # what was true before the first one, then the jobs of those that run

    def __repr__(self) -> str:
        state = self.state
        known = "registered" if state.registered else state.trouble or "starting"
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
        """Busy inside; however the block ends, the status becomes again what was true before it.

        A reservation of this job is fulfilled by the block: then the worker is available, or in maintenance while it
        drains. Blocks may overlap and end in any order: the worker is busy until the last of them ends, which brings
        back what was before the first. A status that was set to something else inside is left as it is. `job_id` as
        for `set_reserved`.
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
        if before == Reserved(job.job_id):  # fulfilled now
            before = blocks[-1] if len(blocks) > 1 else Available()
        if blocks[-1:] != [before]:  # the status was set inside the older blocks, so they bring nothing back
            blocks[:] = [before]
        blocks.append(job)

    def _end(self, job: Busy) -> None:
        blocks, newest = self._busy_blocks, self._busy_blocks[-1]
        blocks[:] = [each for each in blocks if each is not job]
        if self.state.truth in (newest, job):
            self._change(self.state.idle if blocks[-1] == Available() else blocks[-1])

    async def draining(self) -> None:
        """Take no further job from now on, for good, and return when none is reserved or running any more.

        Without a job the status is maintenance, at once or as soon as the present job ends. Until then the worker stays
        truthfully reserved or busy; a program that takes jobs while `status` is available takes no other. Waits as long
        as the job takes: put `trio.move_on_after` around it, which ends the waiting and not the draining. May be called
        again. Raises `trio.ClosedResourceError` when the manager has ended.
        """
        if not self.state.draining:
            self._supervisor.publish(events.StartDraining())
            if self.job_id is None:
                self._change(self.state.idle)
        await self._supervisor.state.wait_for(lambda state: state.job_id is None)

    def _change(self, truth: Truth) -> None:
        state = self.state
        if truth != state.truth:
            self._supervisor.publish(events.ChangeStatus(state.revision + 1, truth))
        else:
            trio.lowlevel.current_trio_token()  # raises `RuntimeError` in a foreign thread, as the other branch does

    # the registration

    def reregister(self) -> None:
        """Ask for a full `register` with the true status; it is done as soon as there is a link."""
        self._supervisor.publish(events.Reregister())

    async def synced(self) -> None:
        """Return when the server has confirmed exactly what is true now and an echo has proved the registration.

        Waits as long as that takes: put `trio.move_on_after` around it. Raises `trio.ClosedResourceError` when the
        manager has ended.
        """
        await self._supervisor.state.wait_for(lambda state: state.synced)

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
    def states(self) -> Watched[State]:
        """`async for state in manager.states`: the present snapshot, then each newer one; some may be missed."""
        return self._supervisor.state

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
        return Signals(self._supervisor.signals)

    @trio.lowlevel.enable_ki_protection
    async def send_signal(self, message: Mapping[str, Any]) -> None:
        """Send a message of the worker's other parts to the server; returns when the socket has taken it over.

        Raises `Disconnected` when the worker is not registered, `ValueError` or `TypeError` for what is no JSON object
        with a `type`, is worker_state's own to send, or names another sender. A sent message may not have
        arrived; but the exit waits for what was sent before it, within half of `timing.exit`.
        """
        if not isinstance(message, Mapping) or not isinstance(message.get("type"), str):
            raise ValueError("a signal must be a mapping with a 'type', a string")
        if message["type"] in frames.OURS:
            raise ValueError(f"{message['type']!r} is sent by worker_state itself")
        kind, ours = message["type"], self.state.peer_id
        # Of another sender the server answers that it does not know it, just as when it has forgotten this worker.
        if ours is not None and message.get("from_peer_id", None if kind in frames.SIGNED else ours) != ours:
            raise ValueError(f"'from_peer_id' of {kind!r} must be this worker's peer id")
        try:
            text = frames.encode(dict(message))  # now, since it may change while it waits for its turn
        except RecursionError:
            raise ValueError("a signal must not be nested so deeply") from None
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
    running = run_in_world(config, World.real(config), task_status=task_status)
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
    """The same for scripts: `async with open_state_manager(config) as manager`. Raises `StartupFailed` on entering.

    After the body the identities' deletion is asked for and the socket closed. What the body raised leaves as itself;
    if the manager has failed, too, both leave in one group. `early` is called with the manager before the start, for
    programs that show how a start goes that waits for its server.
    """
    return open_background(partial(run_in_world, config, World.real(config), early=early))
