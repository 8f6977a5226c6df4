"""`worker-state run` while it runs: a worker, a server inside if none is named, and an orderly end of both."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from worker_state import Config, Manager, RegistrationRefused, WorkerStateError, notify_systemd, open_state_manager
from worker_state.cli import run_demo, state_text
from worker_state.cli.errors import ExitCode
from worker_state.cli.roster_text import duration
from worker_state.cli.run import DRAIN_TIMEOUT
from worker_state.cli.run_health import CurrentWorker, serve_health, take_port
from worker_state.cli.screen import Screen
from worker_state.cli.signals import ending_on_signal
from worker_state.devserver import DevServer, serve
from worker_state.logs import About, Field

FIRST_REPORT, REPORT_AGAIN, REPORT_AT_LEAST = 5.0, 60.0, 3600.0
"""Seconds of a start until it is reported, reported again, and the longest time between two reports."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The options, checked."""

    configure: Callable[..., Config]
    """Makes the configuration from `websocket_url` and `http_url`; a server inside has them once it listens."""
    addresses: tuple[str, str] | None  # of the server; None starts one inside
    demo: bool
    show_session_string: bool
    health: tuple[int, str | None] | None = None  # port and host of the health pages
    drain_timeout: float = DRAIN_TIMEOUT
    demo_timeout: float = 30.0


async def run(plan: Plan, screen: Screen, start_server: Callable[..., Awaitable[None]] = serve) -> None:
    """Run until a signal or the end of the demonstration. Raises `typer.Exit` if something went wrong."""
    listeners = await take_port(*plan.health) if plan.health is not None else ()
    worker = CurrentWorker()
    server: DevServer | None = None
    failure: str | None = None
    left: str | None = None
    drain_worker = partial(drain, worker, plan.drain_timeout, screen)
    async with ending_on_signal(screen, "Leaving", drain=drain_worker) as worker.scope, trio.open_nursery() as nursery:
        if listeners:
            await nursery.start(serve_health, listeners, worker, screen)
        addresses = plan.addresses
        if addresses is None:
            server = await nursery.start(start_server)
            ws, http = addresses = server.ws_url, server.http_url
            about = About("server_inside", {"ws": ws, "http": http})
            screen.line(f"No server was named, so one runs inside: {ws} and {http}", about=about)
            screen.line(f"It shows its workers in a browser: {http}/", about=About("page", {"url": f"{http}/"}))
        config = plan.configure(websocket_url=addresses[0], http_url=addresses[1])
        with worker.scope:
            failure = await _run_manager(plan, config, server, screen, worker)
        if server is not None and failure is None:
            left = _left_on(server, screen, started=worker.started)
        elif screen.left_something:
            left = "An identity of this worker may be left on the server, as its log says."
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise screen.failed(failure)
    if left is not None:
        raise screen.failed(left, ExitCode.LEFT_SOMETHING)


async def drain(worker: CurrentWorker, limit: float, screen: Screen) -> None:
    """Take no further job, and give the running one `limit` seconds. Without one, return at once."""
    manager = worker.manager
    if manager is None or manager.job_id is None:
        return
    fields: dict[str, Field] = {"job_id": manager.job_id, "limit": limit}
    text = f"Draining: {state_text.doing(manager.state)}, for {limit:g} s at most (once more to leave now)."
    screen.line(text, about=About("draining", fields))
    with trio.move_on_after(limit) as timeout, suppress(trio.ClosedResourceError):  # the manager may end meanwhile
        await manager.draining()
    if timeout.cancelled_caught:
        screen.line(f"The job is not over after {limit:g} s.", "yellow", about=About("drain_timed_out", fields))


async def _run_manager(
    plan: Plan, config: Config, server: DevServer | None, screen: Screen, worker: CurrentWorker
) -> str | None:
    """Returns what went wrong."""
    failure: str | None = None
    async with trio.open_nursery() as around:

        def early(manager: Manager) -> None:
            worker.manager = manager
            around.start_soon(notify_systemd, manager)
            around.start_soon(_report_slow_start, worker, manager, config.wait_for_server, screen)

        try:  # inside the nursery, which would make a group of the error
            async with open_state_manager(config, early=early) as manager, trio.open_nursery() as nursery:
                nursery.start_soon(_show_states, manager, plan, screen)
                nursery.start_soon(_show_signals, manager, screen)
                if not plan.demo or server is None:
                    await trio.sleep_forever()
                failure = f"The demonstration was not over in {plan.demo_timeout:g} s."
                with trio.move_on_after(plan.demo_timeout):
                    await run_demo.walk(manager, server, screen)
                    failure = None
                nursery.cancel_scope.cancel()
        except WorkerStateError as error:
            failure = f"{error}."
            if plan.addresses:
                failure += " `worker-state doctor`, with the same options, looks closer"
                final = config.wait_for_server or isinstance(error, RegistrationRefused)
                failure += "." if final else "; --wait waits for a server that is only away for now."
        around.cancel_scope.cancel()
    return failure


async def _report_slow_start(worker: CurrentWorker, manager: Manager, waits: bool, screen: Screen) -> None:
    began, after = trio.current_time(), FIRST_REPORT
    while True:
        await trio.sleep_until(began + after)
        if worker.started:
            return
        trouble = manager.state.trouble or "no answer yet"
        doing = f"{'Waiting for the server' if waits else 'Still starting'}, for {duration(after)}: {trouble}."
        about = About("starting", {"seconds": after, "trouble": trouble})
        screen.line(f"{doing} `worker-state doctor` looks closer.", about=about)
        after = next_report(after)


def next_report(after: float) -> float:
    """The age of a start at its next report, ever more rarely."""
    return min(max(REPORT_AGAIN, 2 * after), after + REPORT_AT_LEAST)


async def _show_states(manager: Manager, plan: Plan, screen: Screen) -> None:
    session: str | None = None
    sentence = ""
    async for state in manager.states:
        if state.session_string != session:
            session = state.session_string
            if session is not None and plan.show_session_string:
                screen.result("session string", session)
        if (newer := state_text.sentence(state)) != sentence:
            sentence = newer
            screen.line(sentence, state_text.style(state), about=state_text.about(state))


async def _show_signals(manager: Manager, screen: Screen) -> None:
    async for message in manager.signals:
        text, about = state_text.received(message)
        screen.line(f"received: {text}", about=about)


def _left_on(server: DevServer, screen: Screen, *, started: bool) -> str | None:
    """What the worker left on the server inside. Users and rooms that others still use do not count."""
    known = server.rooms
    users = sum(known.peer(peer_id) is None for peer_id in known.users)
    rooms = sum(not known.peers(room_id) for room_id in known.rooms)
    counts = f"users {users}, rooms {rooms}"
    if not (users or rooms):
        screen.line(f"The worker has left, and nothing was left behind: {counts}.", about=About("left", {}))
    elif users or started:
        return f"The worker has left something behind on the server: {counts}."
    else:  # a worker that was never registered cannot delete its room
        text = f"The worker has left before it was registered; what stays until it runs out: {counts}."
        screen.line(text, about=About("left", {"users": users, "rooms": rooms}))
    return None
