"""What a manager does without waiting, in every world: what can be read, and what the worker says of itself.

It owns the one fact that the worker itself decides: what it is doing. What waits is in `manager`, `aio` and `blocking`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio

from worker_state.advertised import Advertised
from worker_state.config import Config
from worker_state.protocol import events
from worker_state.protocol.counters import Counters
from worker_state.protocol.state import State, ages
from worker_state.protocol.status import Available, Busy, Maintenance, Reserved, Truth, WorkerStatus
from worker_state.redact import Secrets, shown
from worker_state.refusals import ended
from worker_state.supervisor import Supervisor
from worker_state.watched import SETTLED

P = ParamSpec("P")
T = TypeVar("T")


def _step(method: "Callable[Concatenate[ManagerBase, P], T]") -> "Callable[Concatenate[ManagerBase, P], T]":
    """The method as one step of trio's loop, so that no other thread or task comes between."""

    @wraps(method)
    def made(self: "ManagerBase", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._make(lambda manager: method(manager, *args, **kwargs))

    return made


class ManagerBase:
    """What the managers of trio, asyncio and threads have in common."""

    __slots__ = ("_busy_blocks", "_supervisor")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._busy_blocks: list[Truth] = []  # what was true before the first one, then the jobs of those that run

    def __repr__(self) -> str:
        state = self.state
        known = "ended" if state.ended else "registered" if state.registered else state.trouble or "starting"
        name = "(no peer id)" if state.peer_id is None else shown(state.peer_id)
        world = type(self).__module__.removesuffix(".manager")
        return f"<{world}.{type(self).__name__} {state.status.value} {name}, {known}>"

    def _make(self, step: "Callable[[ManagerBase], T]") -> T:
        """Make a step, here in trio's thread. A manager that others call hands it over (`bridge`)."""
        return step(self)

    # the status: plain functions, since the worker decides it and the network follows

    @property
    def status(self) -> WorkerStatus:
        """What the worker is doing: the local truth, whatever the server shows."""
        return self.state.status

    @property
    def job_id(self) -> str | None:
        """The job that the status is about, pending or current."""
        return self.state.job_id

    @_step
    def set_available(self) -> None:
        """Free from now on (in maintenance while draining); the job ids are cleared on the server too."""
        self._change(self.state.idle)

    @_step
    def set_reserved(self, job_id: str | None = None) -> None:
        """Promised to a client, perhaps before there is a job. `job_id`: None, or as for `set_busy`."""
        self._change(Reserved(job_id))

    @_step
    def set_busy(self, job_id: str) -> None:
        """Working on a job. `job_id`: 1 to 512 characters, else `ValueError` (`TypeError` if it is no string)."""
        self._change(Busy(job_id))

    @_step
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

    @_step
    def _begin(self, job: Busy) -> None:
        blocks, before = self._busy_blocks, self.state.truth
        self._change(job)
        if before in (Reserved(job.job_id), Reserved()):  # fulfilled now
            before = blocks[-1] if len(blocks) > 1 else Available()
        if blocks[-1:] != [before]:  # the status was set inside the older blocks, so they bring nothing back
            blocks[:] = [before]
        blocks.append(job)

    @_step
    def _end(self, job: Busy) -> None:
        blocks, newest = self._busy_blocks, self._busy_blocks[-1]
        blocks[:] = [each for each in blocks if each is not job]
        if self.state.truth in (newest, job) and not self.state.ended:
            self._change(self.state.idle if blocks[-1] == Available() else blocks[-1])

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

    # what else is advertised

    @_step
    def set_capabilities(self, changes: Mapping[str, Any]) -> None:
        """Change capabilities: `{"gpu_memory_mb": 12288}`. Those that are not named stay. None is sent as null,
        under names of your own: what clients compare keeps its type.

        Sent, proved and repaired like a status; `synced()` covers it. Raises `ConfigError`, which names the field, as
        `Config` does.
        """
        self._advertise(self.state.advertised.with_capabilities(changes))

    @_step
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

    @_step
    def set_admin(self, admin: bool) -> None:
        """Offer to be the room's admin, or no longer: `is_admin` in a full `register`. `state.admin_peer_id` says who
        is; where another is, `signals` brings the server's `admin_conflict`. `TypeError` if it is no bool."""
        if not isinstance(admin, bool):
            raise TypeError(f"admin must be True or False, not {type(admin).__name__}")
        self._check()
        if admin != self.state.admin:
            self._publish(events.ChangeAdmin(admin))

    # the registration

    @_step
    def reregister(self) -> None:
        """Ask for a full `register` with the true status; it is done as soon as there is a link."""
        self._check()
        self._publish(events.Reregister())

    # what can be seen

    @property
    def state(self) -> State:
        """The present snapshot. Its times are of trio's clock: `ages` says how long ago they are."""
        return self._supervisor.state.value

    @property
    @_step
    def ages(self) -> dict[str, float | None]:
        """How long ago each time of `state` is, in seconds: `ages["proved"]`. None for what is not the case."""
        return ages(self.state, trio.current_time())

    @property
    def session_string(self) -> str | None:
        """What clients type in to reach this worker. It may change (see `states`). None with an API key."""
        return self.state.session_string

    @property
    def config(self) -> Config:
        """The configuration that it was started with."""
        return self._supervisor.config

    @property
    def secrets(self) -> Secrets:
        """What must stand in no text: `manager.secrets.shown(text)` makes a client's words fit for a log of yours."""
        return self._supervisor.secrets

    @property
    @_step
    def backlog(self) -> dict[str, int]:
        """How many events each actor has not read yet, by its name. Not 0 for longer than a moment means trouble."""
        return self._supervisor.backlog()

    @property
    def counts(self) -> Counters:
        """What has happened since the start, counted: what metrics are made of."""
        return self._supervisor.counts
