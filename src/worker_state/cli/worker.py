"""`worker-state run`, the part that runs: a worker, the server inside if it needs one, and a good end for both."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from worker_state import (
    Config,
    Manager,
    RegistrationRefused,
    WorkerStateError,
    notify_systemd,
    open_state_manager,
)
from worker_state.cli import demo, oversight, rows, story
from worker_state.cli.refusal import ExitCode
from worker_state.cli.screen import Screen
from worker_state.cli.settings import DRAIN_TIMEOUT
from worker_state.cli.stopping import cancel_on_signal
from worker_state.devserver import DevServer, serve
from worker_state.logs import About

StartServer = Callable[..., Awaitable[None]]

UNUSUAL = 5.0
"""Seconds after which a person wonders whether anything happens. A silent server is waited for much longer."""
AGAIN, SELDOM = 60.0, 3600.0
"""Seconds after which it is said again, and the longest time between two such lines."""
LEFT = "An identity of this worker may be left on the server, as its log says."


@dataclass(frozen=True, slots=True)
class Plan:
    """What the options ask for, checked."""

    configure: Callable[[str, str], Config]
    """Makes the configuration from the two addresses, which a server inside has only once it listens."""
    addresses: tuple[str, str] | None
    """The WebSocket and the HTTP address of a real server, or None to start one inside."""
    demo: bool
    show_session_string: bool
    health: oversight.Address | None = None
    """Where questions about the worker's health are answered, if anywhere."""
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds that a running job has after SIGTERM."""
    patience: float = 30.0
    """Seconds for the whole demonstration: several times what it needs on a slow machine, for it must not hang."""


@dataclass
class Drain:
    """What SIGTERM asks for before the worker leaves: no further job, and time for the one that runs."""

    limit: float
    screen: Screen
    seen: oversight.Seen
    """Whom to drain, if it has a job: else it leaves at once."""

    async def __call__(self) -> None:
        """Returns when nothing runs any more, or when the time for it is over."""
        manager = self.seen.manager
        if manager is None or manager.job_id is None:
            return
        about = About("draining", {"job_id": manager.job_id, "limit": self.limit})
        doing = story.doing(manager.state)
        self.screen.line(f"Draining: {doing}, for {self.limit:g} s at most (once more to leave now).", about=about)
        with trio.move_on_after(self.limit) as patience, suppress(trio.ClosedResourceError):  # it has left meanwhile
            await manager.draining()
        if patience.cancelled_caught:
            about = About("drain_timed_out", {"job_id": manager.job_id, "limit": self.limit})
            self.screen.line(f"The job is not over after {self.limit:g} s.", "yellow", about=about)


async def work(plan: Plan, screen: Screen, start_server: StartServer = serve) -> None:
    """Run until Ctrl-C, SIGTERM or the end of the demonstration; raises `typer.Exit` when something went wrong."""
    leaving = trio.CancelScope()
    seen = oversight.Seen(leaving)
    listeners = await oversight.take(plan.health) if plan.health is not None else ()
    screen.on_gone = leaving.cancel
    drain = Drain(plan.drain_timeout, screen, seen)
    server: DevServer | None = None
    failure: str | None = None
    left: str | None = None
    # This nursery holds what has to outlive the worker: the ear for a second Ctrl-C, and the server that the worker
    # takes its leave of.
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(cancel_on_signal, leaving, screen, "Leaving", drain=drain))
        if listeners:
            await nursery.start(oversight.oversee, listeners, seen, screen)
        addresses = plan.addresses
        if addresses is None:
            server = await nursery.start(start_server)
            addresses = server.ws_url, server.http_url
            about = About("server_inside", {"ws": server.ws_url, "http": server.http_url})
            screen.line(f"No server was named, so one runs inside: {server.ws_url} and {server.http_url}", about=about)
            page = About("page", {"url": f"{server.http_url}/"})
            screen.line(f"It shows its workers in a browser: {server.http_url}/", about=page)
        with leaving:
            failure = await _live(plan, plan.configure(*addresses), server, screen, seen)
        if server is not None and failure is None:
            left = _left_behind(server, screen, started=seen.started)
        elif screen.left_something:
            left = LEFT
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise screen.failed(failure)
    if left is not None:
        raise screen.failed(left, ExitCode.LEFT_SOMETHING)


async def _live(
    plan: Plan, config: Config, server: DevServer | None, screen: Screen, seen: oversight.Seen
) -> str | None:
    """Be a worker until cancelled, or to the end of the demonstration; returns what went wrong with that."""
    failure: str | None = None
    async with trio.open_nursery() as around:

        def meet(manager: Manager) -> None:
            seen.manager = manager
            around.start_soon(notify_systemd, manager)
            around.start_soon(_say_that_it_takes_long, manager, config.wait_for_server, seen, screen)

        # What is raised is carried around the nursery, which would put it into a group.
        try:
            async with open_state_manager(config, early=meet) as manager, trio.open_nursery() as nursery:
                nursery.start_soon(_show_states, manager, plan, screen)
                nursery.start_soon(_show_signals, manager, screen)
                if not plan.demo or server is None:
                    await trio.sleep_forever()
                failure = f"The demonstration was not over in {plan.patience:g} s."
                with trio.move_on_after(plan.patience):
                    await demo.walk(manager, server, screen)
                    failure = None
                nursery.cancel_scope.cancel()
        except WorkerStateError as error:
            failure = f"{error}.{_advice(error, config) if plan.addresses else ''}"
        around.cancel_scope.cancel()
    return failure


def _advice(error: WorkerStateError, config: Config) -> str:
    vain = config.wait_for_server or isinstance(error, RegistrationRefused)
    wait = "" if vain else "; --wait waits for a server that is only away for now"
    return f" `worker-state doctor`, with the same options, looks closer{wait}."


async def _say_that_it_takes_long(manager: Manager, waits: bool, seen: oversight.Seen, screen: Screen) -> None:
    began, after = trio.current_time(), UNUSUAL
    while True:
        await trio.sleep_until(began + after)
        if seen.started:
            return
        trouble = manager.state.trouble or "no answer yet"
        doing = f"{'Waiting for the server' if waits else 'Still starting'}, for {rows.duration(after)}: {trouble}."
        about = About("starting", {"seconds": after, "trouble": trouble})
        screen.line(f"{doing} `worker-state doctor` looks closer.", about=about)
        after = next_word(after)


def next_word(after: float) -> float:
    """When a person is told again of what was said after so many seconds: ever more rarely, for silence looks like a
    hang."""
    return min(max(AGAIN, 2 * after), after + SELDOM)


async def _show_states(manager: Manager, plan: Plan, screen: Screen) -> None:
    session: str | None = None
    sentence = ""
    async for state in manager.states:
        if state.session_string != session:
            session = state.session_string
            if session is not None and plan.show_session_string:
                screen.result("session string", session)
        if (newer := story.sentence(state)) != sentence:
            sentence = newer
            screen.line(sentence, story.style(state), about=story.about(state))


async def _show_signals(manager: Manager, screen: Screen) -> None:
    async for message in manager.signals:
        screen.line(f"received: {story.signal(message)}", about=story.received(message))


def _left_behind(server: DevServer, screen: Screen, *, started: bool) -> str | None:
    """What the worker owed and has not paid: the server inside can be asked. Who is still there, is somebody else.

    A worker that has to leave before it is registered cannot have its room deleted: that is told, and no more.
    """
    known = server.rooms
    users = sum(known.peer(peer_id) is None for peer_id in known.users)
    rooms = sum(not known.peers(room_id) for room_id in known.rooms)
    counts = f"users {users}, rooms {rooms}"
    if not (users or rooms):
        screen.line(f"The worker has left, and nothing was left behind: {counts}.", about=About("left", {}))
    elif users or started:
        return f"The worker has left something behind on the server: {counts}."
    else:
        about = About("left", {"users": users, "rooms": rooms})
        screen.line(
            f"The worker has left before it was registered; what stays until it runs out: {counts}.", about=about
        )
    return None
