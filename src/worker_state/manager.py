"""The public entry points, and the `Manager` that they give: status to set, state to watch, signals to read and send.

A thin face over the supervisor. What waits for nothing is in `manager_base`, since other worlds have it, too.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import trio

from worker_state.background import open_background
from worker_state.config import Config
from worker_state.errors import Disconnected
from worker_state.logs import Logger, event
from worker_state.manager_base import ManagerBase
from worker_state.protocol import events, frames
from worker_state.protocol.state import State
from worker_state.refusals import check_start, ended
from worker_state.supervisor import Supervisor
from worker_state.views import Signals, States
from worker_state.watched import settled
from worker_state.world import World

log: Logger = Logger(__name__)


class Manager(ManagerBase):
    """The worker's handle on its state. Made by `run_state_manager` and `open_state_manager`."""

    __slots__ = ()

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

    async def _check_waiting(self) -> None:
        self._supervisor.check_thread()
        if self.state.ended:
            await settled()
            raise ended()

    @trio.lowlevel.enable_ki_protection
    async def synced(self) -> None:
        """Return when the server has confirmed exactly what is true now and an echo has proved the registration.

        Waits as long as that takes: put `trio.move_on_after` around it. Raises `ManagerEnded`.
        """
        await self.wait_for(lambda state: state.synced)

    @property
    def states(self) -> States:
        """`async for state in manager.states`: the present snapshot, then each newer one; some may be missed."""
        return States(self._supervisor)

    @trio.lowlevel.enable_ki_protection
    async def wait_for(self, wanted: Callable[[State], bool]) -> State:
        """Wait until `wanted(state)` is true: `await manager.wait_for(lambda state: state.registered)`. Gives that
        state. Raises `ManagerEnded` if the manager ends before."""
        return await self.states.wait_for(wanted)

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
        for name, needed in (("from_peer_id", kind in frames.SIGNED), ("sender", False)):
            if ours is not None and message.get(name, None if needed else ours) != ours:
                raise ValueError(f"{name!r} of {kind!r} must be this worker's peer id")
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
