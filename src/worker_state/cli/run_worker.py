"""`worker-state run` while it runs: a worker, a server inside if none is named, and an orderly end of both."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from worker_state import Manager, notify_systemd, open_state_manager
from worker_state.cli.output import ExitCode
from worker_state.cli.run_health import serve_health, take_port
from worker_state.cli.screen import STATUS_STYLES, Screen, duration
from worker_state.cli.shared_options import server_of
from worker_state.cli.signals import ending_on_signal
from worker_state.config import Config
from worker_state.devserver import DevServer, serve
from worker_state.errors import ManagerEnded, RegistrationRefused, WorkerStateError
from worker_state.jobs import Handler, serve_jobs
from worker_state.logs import About, Field, ever_more_rarely
from worker_state.protocol.frames import Message
from worker_state.protocol.state import State
from worker_state.redact import Secrets, shown
from worker_state.settings import Settings

FIRST_REPORT, REPORT_AGAIN, REPORT_AT_LEAST = 5.0, 60.0, 3600.0
"""Seconds of a start until it is reported, reported again, and the longest time between two reports."""
MINUTE, MOST_LINES = 60.0, 64  # so many lines in a minute about single messages of clients
PAUSE = 0.6  # seconds between two steps of the demonstration


@dataclass
class WorkerRun:
    """One `worker-state run`: its options, checked, and its worker."""

    settings: Settings  # where they name no server, one runs inside
    screen: Screen
    drain_timeout: float
    health: tuple[int, str | None] | None = None  # port and host of the health pages
    demo: bool = False
    demo_timeout: float = 30.0
    start_server: Callable[..., Awaitable[None]] = serve
    handler: Handler | None = None  # runs the jobs; None: nobody does
    idle: bool = False  # in maintenance, for nobody would serve the clients
    manager: Manager | None = None
    _server: DevServer | None = None  # the one inside
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # the worker's life

    async def run(self) -> None:
        """Run until a signal or the end of the demonstration. Raises `typer.Exit` if something went wrong."""
        screen = self.screen
        failure: str | None = None
        left: str | None = None
        listeners = await take_port(*self.health) if self.health is not None else ()
        async with (
            ending_on_signal(screen, "Leaving", drain=self.drain) as self._scope,
            trio.open_nursery() as nursery,
        ):
            if listeners:
                await nursery.start(serve_health, listeners, self.look, screen)
            if server_of(self.settings) is None:
                self._server = server = await nursery.start(self.start_server)
                ws, http = server.ws_url, server.http_url
                about = About("server_inside", {"ws": ws, "http": http})
                screen.line(f"No server was named, so one runs inside: {ws} and {http}", about=about)
                screen.line(f"It shows its workers in a browser: {http}/", about=About("page", {"url": f"{http}/"}))
            with self._scope:
                failure = await self._run_manager()
            if self._server is not None and failure is None:
                left = self._left_on(self._server)
            elif screen.identities_left:
                left = "An identity of this worker may be left on the server, as its log says."
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise screen.failed(failure)
        if left is not None:
            raise screen.failed(left, ExitCode.LEFT_SOMETHING)

    def look(self) -> Manager | str:
        """The manager, or why there is none."""
        return "the worker is leaving" if self._scope.cancel_called else self.manager or "the worker is starting"

    async def drain(self) -> None:
        """Take no further job, and give the running one its time. Without one, return at once."""
        manager, limit = self.manager, self.drain_timeout
        if manager is None or not manager.state.in_use:
            return
        fields: dict[str, Field] = {"job_id": manager.job_id, "limit": limit}
        text = f"Draining: {doing(manager.state)}, for {limit:g} s at most (once more to leave now)."
        self.screen.line(text, about=About("draining", fields))
        with trio.move_on_after(limit) as timeout, suppress(ManagerEnded):  # it may end meanwhile
            await manager.draining()
        if timeout.cancelled_caught:
            text = f"The job is not over after {limit:g} s."
            self.screen.line(text, "yellow", about=About("drain_timed_out", fields))

    async def _run_manager(self) -> str | None:
        """Returns what went wrong."""
        server = self._server
        inside = {} if server is None else {"websocket_url": server.ws_url, "http_url": server.http_url}
        # The screen prints the session string, so the log need not.
        config = self.settings.config(**inside, show_session_string=False)
        failure: str | None = None
        async with trio.open_nursery() as around:

            def early(manager: Manager) -> None:
                self.manager = manager
                if self.idle:
                    manager.set_maintenance()
                    text = "In maintenance, for no function is named that runs the jobs (--available: be available)."
                    self.screen.line(text, "yellow", about=About("no_handler", {}))
                around.start_soon(notify_systemd, manager)
                around.start_soon(self._report_slow_start, manager, config)

            try:  # inside the nursery, which would make a group of the error
                async with open_state_manager(config, early=early) as manager, trio.open_nursery() as nursery:
                    nursery.start_soon(self._show_states, manager)
                    nursery.start_soon(self._take_signals, manager)
                    if not self.demo or server is None:
                        await trio.sleep_forever()
                    failure = f"The demonstration was not over in {self.demo_timeout:g} s."
                    with trio.move_on_after(self.demo_timeout):
                        await demonstrate(manager, server, self.screen)
                        failure = None
                    nursery.cancel_scope.cancel()
            except WorkerStateError as error:
                failure = f"{error}."
                if server is None:
                    failure += " `worker-state doctor`, with the same options, looks closer"
                    final = config.wait_for_server or isinstance(error, RegistrationRefused)
                    failure += "." if final else "; --wait waits for a server that is only away for now."
            around.cancel_scope.cancel()
        return failure

    async def _report_slow_start(self, manager: Manager, config: Config) -> None:
        began, after = trio.current_time(), FIRST_REPORT
        waiting = "Waiting for the server" if config.wait_for_server else "Still starting"
        while True:
            await trio.sleep_until(began + after)
            if manager.state.peer_id is not None:  # the server has accepted the worker
                return
            trouble = manager.state.trouble or "no answer yet"
            text = f"{waiting}, for {duration(after)}: {trouble}. `worker-state doctor` looks closer."
            self.screen.line(text, about=About("starting", {"seconds": after, "trouble": trouble}))
            after = next_report(after)

    async def _show_states(self, manager: Manager) -> None:
        session: str | None = None
        printed = ""
        async for state in manager.states:
            if state.session_string != session:
                session = state.session_string
                if session is not None and self.settings.values["show_session_string"].value:
                    self.screen.result("session string", session)
                    if self._server is not None and self.handler is not None:
                        ws, http = self._server.ws_url, self._server.http_url
                        command = f"worker-state offer --ws {ws} --http {http} --session SESSION-STRING"
                        text = f"Send it a job, from another terminal: {command}"
                        self.screen.line(text, about=About("offer_hint", {"ws": ws, "http": http}))
            if (line := f"{doing(state):<28}  {visible(state)}") != printed:
                printed = line
                about = About("state", {"status": state.status, "job_id": state.job_id, "seen": visible(state)})
                self.screen.line(line, style(state), about=about)

    async def _take_signals(self, manager: Manager) -> None:
        repeated, began, count = "", trio.current_time(), 0

        def show(message: Message) -> None:
            nonlocal repeated, began, count
            text, about = received(message, manager.secrets)
            # A client that has gone earns one error for each message to it: the first is enough.
            level = logging.DEBUG if text == repeated else logging.INFO
            repeated = text if message.get("type") == "error" else ""
            if (now := trio.current_time()) >= began + MINUTE:
                began, count = now, 0
            count += 1
            if count > MOST_LINES:  # what a client sends must not fill the disk
                level = logging.DEBUG
                if ever_more_rarely(count):
                    many = f"received: {count} messages within a minute, no longer a line for each"
                    self.screen.line(many, about=About("received_many", {"count": count}))
            self.screen.line(f"received: {text}", level=level, about=about)

        async def nobody(_: object) -> None:
            raise AssertionError("a worker in maintenance takes no job")

        if self.handler is not None or self.idle:  # one that is idle refuses, so that no client waits
            await serve_jobs(manager, self.handler or nobody, seen=show)
        async for message in manager.signals:
            show(message)

    def _left_on(self, server: DevServer) -> str | None:
        """What the worker left on the server inside. What clients, and other workers, have left does not count."""
        known, state = server.rooms, State() if self.manager is None else self.manager.state
        unused = {name for name in known.users if known.peer(name) is None}
        # The log may be wrong: the server knows.
        users = max(int(state.peer_id in unused), min(self.screen.identities_left, len(unused)))
        rooms = sum(not known.peers(room_id) for room_id in known.rooms if state.room_id in (None, room_id))
        counts = f"users {users}, rooms {rooms}"
        if users or (rooms and state.peer_id is not None):
            return f"The worker has left something behind on the server: {counts}."
        if rooms:  # a worker that was never registered cannot delete its room
            text = f"The worker has left before it was registered; what stays until it runs out: {counts}."
            self.screen.line(text, about=About("left", {"users": users, "rooms": rooms}))
        else:
            self.screen.line(f"The worker has left, and nothing was left behind: {counts}.", about=About("left", {}))
        return None


def next_report(after: float) -> float:
    """The age of a start at its next report, ever more rarely."""
    return min(max(REPORT_AGAIN, 2 * after), after + REPORT_AT_LEAST)


# A line depends on one snapshot alone: snapshots may be skipped.


def doing(state: State) -> str:
    """What the worker does: "busy with job 17"."""
    words = {"reserved": "reserved for job", "busy": "busy with job"}
    return state.status if state.job_id is None else f"{words[state.status]} {shown(state.job_id)}"


def visible(state: State) -> str:
    """What clients can see of it, from "not connected" to "discoverable"."""
    if not state.connected:
        return "not connected, dialling again"
    if not state.registered:
        return "connected, not registered yet"
    if state.discoverable_since is None:
        return "registered, not yet proved"
    return "discoverable" if state.confirmed else "not confirmed by the server yet"


def style(state: State) -> str:
    """The colour of the line: that of the status, or red while clients cannot find the worker."""
    return STATUS_STYLES[state.status] if state.registered else "red"


def received(message: Message, secrets: Secrets) -> tuple[str, About]:
    """A message as text and as an event: type and sender, of an error the code; printable, never its content."""
    if message.get("type") == "error":
        code = secrets.shown(str(message.get("code") or message.get("reason")), limit=80)
        return f"error {code} from the server", About("received", {"type": "error", "code": code})
    sender = next((message[key] for key in ("sender", "from_peer_id", "from") if message.get(key)), None)
    found = {"type": message.get("type"), "sender": sender}
    words = {
        key: secrets.shown(value, limit=80) if isinstance(value, str) else "somebody" for key, value in found.items()
    }
    return f"{words['type']} from {words['sender']}", About("received", {**words})


async def demonstrate(manager: Manager, server: DevServer, screen: Screen) -> None:
    """A walk through a worker's life, by the public API: reserved, busy, available, a lost connection, recovery."""

    def show_record() -> None:
        screen.line(_record(manager, server), "cyan", about=About("searched", {}))

    async def step(text: str) -> None:
        await manager.synced()
        await trio.sleep(PAUSE / 2)  # the line about the state comes first
        show_record()
        await trio.sleep(PAUSE / 2)
        screen.line(text, "bold", about=About("step", {}))

    await step("A client asks for the worker, and the worker reserves itself.")
    manager.set_reserved("demo-1")
    await step("The job begins.")
    with manager.busy("demo-1"):
        await step("The job is done: the worker is free again, and its job id is cleared.")
    await step("Now the connection is cut, and a second job begins before the worker is back.")
    epoch = manager.state.epoch
    server.cut(manager.state.peer_id)
    await manager.states.wait_for(lambda state: state.epoch != epoch or not state.registered)
    show_record()
    with manager.busy("demo-2"):  # nothing is replayed: the next registration carries the present status
        await step("It was found again, busy as it is. The second job is done.")
    await step("The worker leaves.")


def _record(manager: Manager, server: DevServer) -> str:
    peer = server.rooms.peer(manager.state.peer_id or "")
    if peer is None:
        return "A client that searches now finds nobody."
    properties = peer.metadata["properties"]
    job = properties.get("current_job_id") or properties.get("pending_job_id")
    return f"A client that searches now finds: {properties['status']}" + (f", job {job}" if job else "")
