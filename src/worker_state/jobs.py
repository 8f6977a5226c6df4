"""Jobs: one at a time, each begun by a client's offer and run by a handler.

    await serve_jobs(manager, handle)    # async def handle(job), or def handle(job), which gets a thread of its own

The worker is reserved at the offer, busy while the handler runs, and free again however it ends. A client cancels with
a `peer_message` whose payload is `{"type": "cancel"}`, or with `quit`. What a job says of itself are such payloads,
too: `accepted`, `done`, `failed`, `cancelled`, with the `job_id`; an offer that cannot be taken is answered `refused`.
"""

import inspect
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import trio

from worker_state.errors import Disconnected, JobCancelled
from worker_state.logs import Logger, event
from worker_state.manager import Manager
from worker_state.protocol.frames import Message

log: Logger = Logger(__name__)

OURS = ("worker_state", "trio", "outcome")  # whose lines stand in a traceback before the handler's
HELD = 1.0  # seconds for which a handler may hold the event loop until it is told how to do without
LAST_WORD = 0.3  # seconds for telling the client that its job ends with the worker
LONGEST_ID = 1024  # characters of a client's name: it goes into each answer, and servers close at a long frame
REFUSALS = 32  # that may wait for the socket; who offers while a server reads nothing gets no answer
Handler = Callable[[Any], Awaitable[object] | object]
"""`async def handle(job: Job)`, or `def handle(job: ThreadJob)`. What it returns is not used."""


class Job:
    """What a handler gets: the client's offer, and a way to talk to the client."""

    def __init__(self, manager: Manager, offer: Message) -> None:
        """Made by `serve_jobs`."""
        self.id: str = uuid4().hex[:8]
        """The job's name, a new one for each."""
        self.offer: Message = offer
        """The offer as it came: its `sdp`, or whatever else the client has put into it."""
        self.client: str = offer["sender"]
        """The client's peer id."""
        self._manager = manager
        self._scope = trio.CancelScope()  # around a handler that is async
        self._cancelled = threading.Event()  # for one that is not

    def _cancel(self) -> None:
        """Nobody wants it any more."""
        self._cancelled.set()
        self._scope.cancel()

    def __repr__(self) -> str:
        return f"<worker_state.{type(self).__name__} {self.id} of {self._manager.secrets.shown(self.client)}>"

    async def send(self, payload: Mapping[str, Any]) -> None:
        """Send the client a message of yours, as a `peer_message` with this payload. While the worker is not registered
        it goes nowhere: the job goes on. Raises `ValueError` or `TypeError` for what is no mapping or empty, what
        JSON cannot say, or what is longer than the 1 MiB that a server takes."""
        if not isinstance(payload, Mapping):
            example = '{"type": "progress", "step": 1}'
            raise TypeError(f"job.send takes a mapping, as in {example}, not {type(payload).__name__}")
        if not payload:
            raise ValueError("job.send takes a payload that is not empty: no server hands an empty one on")
        ids = {"from_peer_id": self._manager.state.peer_id, "to_peer_id": self.client}
        await self._signal({"type": "peer_message", **ids, "payload": dict(payload)})

    async def answer(self, sdp: str) -> None:
        """Send the client the answer to its offer, for a WebRTC connection. Raises as `send`."""
        ids = {"sender": self._manager.state.peer_id, "target": self.client}
        await self._signal({"type": "answer", **ids, "sdp": sdp})

    async def _signal(self, message: Message) -> None:
        with suppress(Disconnected):
            await self._manager.send_signal(message)


class ThreadJob:
    """What a handler that is a plain function gets, in its thread: as `Job`, without `await`.

    Nobody can end a thread from outside, so the worker stays busy until the function returns. Once the job is
    cancelled, calls raise `JobCancelled`, which ends it.
    """

    def __init__(self, job: Job) -> None:
        """Made by `serve_jobs`."""
        self.id: str = job.id
        """As `Job.id`."""
        self.offer: Message = job.offer
        """As `Job.offer`."""
        self.client: str = job.client
        """As `Job.client`."""
        self._job = job

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the job any more: look at it from time to time, if you send nothing."""
        return self._job._cancelled.is_set()

    def send(self, payload: Mapping[str, Any]) -> None:
        """As `Job.send`."""
        self._call(self._job.send, payload)

    def answer(self, sdp: str) -> None:
        """As `Job.answer`."""
        self._call(self._job.answer, sdp)

    def _call(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        if self.cancelled:
            raise JobCancelled("nobody wants this job any more")
        trio.from_thread.run(function, *args)


async def serve_jobs(manager: Manager, handler: Handler, *, seen: Callable[[Message], None] | None = None) -> None:
    """Read `manager.signals` and run the handler for each offer that is taken, until cancelled or the manager ends.

    `seen` is called with every signal. An error of the handler is logged as that job's end, and ends nothing else.
    Raises `TypeError` for a handler that cannot be called.
    """
    if not callable(handler):
        raise TypeError(f"handler must be a function that takes a job, not {type(handler).__name__}")
    running: dict[str, Job] = {}  # the newest, by its client
    async with trio.open_nursery() as nursery:
        async for message in manager.signals:
            if seen is not None:
                seen(message)
            match message:
                case {"type": "offer", "sender": str(sender)} if len(sender) <= LONGEST_ID:
                    job = Job(manager, message)
                    if manager.status == "available":
                        manager.set_reserved(job.id)  # from here on nobody else gets it
                        running = {job.client: job}
                        nursery.start_soon(_run, manager, handler, job)
                    elif len(nursery.child_tasks) <= REFUSALS:  # the job's, and those of refusals
                        nursery.start_soon(job.send, {"type": "refused", "status": manager.status.value})
                case (
                    {"type": "peer_message", "from_peer_id": str(client), "payload": {"type": "cancel"}}
                    | {"type": "quit", "sender": str(client)}
                    | {"type": "quit", "from_peer_id": str(client)}
                ) if client in running:  # another client's wish is nobody's end
                    running[client]._cancel()


async def _run(manager: Manager, handler: Handler, job: Job) -> None:
    log.info("job %s begins", job.id, extra=event("job_begun", job_id=job.id))
    with manager.busy(job.id):
        await job.send({"type": "accepted", "job_id": job.id})
        try:
            if _is_async(handler):
                with job._scope, _warning_of_a_held_loop(handler):
                    await handler(job)  # type: ignore[misc] # what `_is_async` says
            else:  # only the worker's own end abandons the thread: until then a busy GPU is not free
                await trio.to_thread.run_sync(handler, ThreadJob(job), abandon_on_cancel=True)
        except JobCancelled:
            ending = "cancelled"
        except trio.Cancelled:  # the worker ends, and the client should not have to wait for a job that is over
            log.info("job %s is cancelled", job.id, extra=event("job_ended", job_id=job.id, ending="cancelled"))
            with trio.move_on_after(LAST_WORD, shield=True):
                await job.send({"type": "cancelled", "job_id": job.id})
            raise
        except BaseException as error:  # a job that fails, or calls `sys.exit`, is the end of that job alone
            if _is_async(handler) and _is_the_workers_end(error):  # no Ctrl-C strikes in a thread
                raise
            ending = "failed"
            why = manager.secrets.redacted(_in_the_handler(error))
            log.error("job %s failed\n%s", job.id, why, extra=event("job_failed", job_id=job.id))
        else:
            ending = "cancelled" if job._cancelled.is_set() else "done"  # also if the handler would not hear of it
        if ending != "failed":
            log.info("job %s is %s", job.id, ending, extra=event("job_ended", job_id=job.id, ending=ending))
        await job.send({"type": ending, "job_id": job.id})


def _in_the_handler(error: BaseException) -> str:
    """The traceback, from the handler's own lines on. It may repeat the offer, and what a client has put into that."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None and at.tb_frame.f_globals.get("__name__", "").split(".")[0] in OURS:
        at = at.tb_next
    return "".join(traceback.format_exception(type(error), error, at)).rstrip()


def _is_the_workers_end(error: BaseException) -> bool:
    """Whether it is a cancel from outside, or a Ctrl-C that struck in the job. A handler's own nursery makes groups."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_the_workers_end(each) for each in error.exceptions)
    return isinstance(error, trio.Cancelled | KeyboardInterrupt | GeneratorExit)


class _Steps(trio.abc.Instrument):
    """Sees for how long each step of a handler's tasks holds the event loop."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._task = trio.lowlevel.current_task()
        self._begun = time.monotonic()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._begun = time.monotonic()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        held = time.monotonic() - self._begun
        if held < HELD or not self._is_ours(task):
            return
        trio.lowlevel.remove_instrument(self)  # one line is enough
        name = getattr(self._handler, "__qualname__", type(self._handler).__qualname__)
        text = (
            "%s has held the event loop for %.1f s, in which the worker hears nobody: make it a plain function "
            "(`def` in place of `async def`), which runs in a thread, or use trio.to_thread.run_sync for what blocks"
        )
        log.warning(text, name, held, extra=event("loop_held", handler=name, held=round(held, 1)))

    def _is_ours(self, task: trio.lowlevel.Task | None) -> bool:
        while task is not None and task is not self._task:
            task = None if task.parent_nursery is None else task.parent_nursery.parent_task
        return task is not None


@contextmanager
def _warning_of_a_held_loop(handler: Handler) -> Iterator[None]:
    steps = _Steps(handler)
    trio.lowlevel.add_instrument(steps)
    try:
        yield
    finally:
        with suppress(KeyError):  # it has said what it had to
            trio.lowlevel.remove_instrument(steps)


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
