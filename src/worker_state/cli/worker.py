"""`worker-state run`, the part that runs: a worker, the server inside if it needs one, and a good end for both."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from worker_state import Config, Manager, WorkerStateError, notify_systemd, open_state_manager
from worker_state.cli import demo, oversight, story
from worker_state.cli.screen import Screen
from worker_state.cli.settings import DRAIN_TIMEOUT
from worker_state.cli.stopping import cancel_on_signal
from worker_state.devserver import DevServer, serve
from worker_state.logs import About

StartServer = Callable[..., Awaitable[None]]

UNUSUAL = 5.0
"""Seconds after which a person wonders whether anything happens. A silent server is waited for much longer."""


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
    """Whom to drain; nobody while the worker is only starting."""

    async def __call__(self) -> None:
        """Returns when nothing runs any more, or when the time for it is over."""
        manager = self.seen.manager
        if manager is None:
            return
        if manager.job_id is not None:
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
        nursery.start_soon(_say_that_it_takes_long, seen, leaving, screen)
        try:
            with leaving:
                failure = await _live(plan, plan.configure(*addresses), server, screen, seen)
        except WorkerStateError as error:
            look = " `worker-state doctor`, with the same options, looks closer." if plan.addresses else ""
            failure = f"{error}.{look}"
        if server is not None and failure is None:
            failure = _left_behind(server, screen, started=seen.manager is not None)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise screen.failed(failure)


async def _live(
    plan: Plan, config: Config, server: DevServer | None, screen: Screen, seen: oversight.Seen
) -> str | None:
    """Be a worker until cancelled, or to the end of the demonstration; returns what went wrong with that."""
    async with open_state_manager(config) as manager, trio.open_nursery() as nursery:
        seen.manager = manager
        nursery.start_soon(notify_systemd, manager)
        nursery.start_soon(_show_states, manager, plan, screen)
        nursery.start_soon(_show_signals, manager, screen)
        if not plan.demo or server is None:
            await trio.sleep_forever()
        with trio.move_on_after(plan.patience) as patience:
            await demo.walk(manager, server, screen)
        nursery.cancel_scope.cancel()
    return f"The demonstration was not over in {plan.patience:g} s." if patience.cancelled_caught else None


async def _say_that_it_takes_long(seen: oversight.Seen, leaving: trio.CancelScope, screen: Screen) -> None:
    await trio.sleep(UNUSUAL)
    if seen.manager is None and not leaving.cancel_called:
        about = About("starting", {"seconds": UNUSUAL})
        screen.line("Still starting. Where it stops, `worker-state doctor` tells.", about=about)


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

    A worker that has to leave before it is registered cannot have its room deleted: that is no failure.
    """
    known = server.rooms
    users = sum(known.peer(peer_id) is None for peer_id in known.users)
    rooms = sum(not known.peers(room_id) for room_id in known.rooms)
    counts = f"users {users}, rooms {rooms}"
    if not (users or rooms):
        screen.line(f"The worker has left, and nothing was left behind: {counts}.", about=About("left", {}))
    elif started:
        return f"The worker has left something behind on the server: {counts}."
    else:
        about = About("left", {"users": users, "rooms": rooms})
        screen.line(
            f"The worker has left before it was registered; what stays until it runs out: {counts}.", about=about
        )
    return None
