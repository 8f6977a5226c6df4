"""The storm's server: the development server in a process of its own that can be killed, and that keeps the minutes.

Its order comes as one JSON line on standard input, then commands, one a line; it says what it sees as JSON lines. It
ends with its standard input. What counts as registered, true and proved is decided here, by the server's own records:
a client's belief is nobody's business.

Until `open` it may be a front that a dead server stands behind: it accepts and closes, or answers 502.
"""

import gc
import os
import resource
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from random import Random
from typing import Any

import trio

from benchmarks.held import memory
from benchmarks.storm.admission import Limits, SlottedAdmission
from benchmarks.storm.lines import commands, first_line, kept_waiting, say
from benchmarks.storm.seats import LIFE, furnish
from worker_state.devserver import DevServer, Rooms, serve
from worker_state.devserver.model import Effect, Send
from worker_state.devserver.sockets import Connection

SELDOM = (10_000, 20, 1_000)
EVERY = 0.25
"""Seconds between two lines of figures."""
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class WatchedRooms(Rooms):
    """The rules, watched: who is registered now, who of those shows the current status, and who has proved it."""

    def __init__(self, job: str | None, **options: Any) -> None:
        super().__init__(**options)
        self._job = job
        self._jobs: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._echoed: set[str] = set()
        self._old: set[Hashable] = set()
        self.registrations = 0
        self.changes: list[tuple[float, str, int]] = []
        """When, who, and how far he has come: 0 gone, 1 registered, 2 with the current status, 3 and proved."""

    def receive(self, connection: Hashable, text: str | bytes, now: float) -> list[Effect]:
        effects = super().receive(connection, text, now)
        if not isinstance(connection, Connection) or connection.stream.ended.is_set() or connection in self._old:
            return effects
        for effect in effects:
            match effect:
                case Send(_, {"type": "registered_auth", "peer_id": str(peer_id)}):
                    self.registrations += 1
                    self._echoed.discard(peer_id)
                    self._note(peer_id, registered=True)
                case Send(_, {"type": "metadata_updated", "peer_id": str(peer_id)}):
                    self._note(peer_id, registered=peer_id in self._steps)
                case Send(to, {"type": "peer_message", "from_peer_id": str(peer_id)}) if to is connection:
                    self._echoed.add(peer_id)
                    self._note(peer_id, registered=peer_id in self._steps)
                case _:
                    pass
        return effects

    def gone(self, connection: Hashable) -> None:
        peer_id = self.peer_of(connection)
        super().gone(connection)
        if peer_id is not None and self.peer(peer_id) is None:
            self._echoed.discard(peer_id)
            self._note(peer_id, registered=False)

    def _note(self, peer_id: str, *, registered: bool) -> None:
        step = 0
        if registered and (peer := self.peer(peer_id)) is not None:
            true = peer.metadata["properties"].get("current_job_id") == self._jobs.get(peer_id, self._job)
            step = 3 if true and peer_id in self._echoed else 2 if true else 1
        if self._steps.get(peer_id, 0) != step:
            self._steps[peer_id] = step
            self.changes.append((time.monotonic(), peer_id, step))

    def expect(self, peer_id: str, job: str) -> None:
        """From now on this is what this worker's record has to show."""
        self._jobs[peer_id] = job

    def start_over(self, job: str) -> None:
        """All links are as good as dead, and nobody counts who has not come back on a new one."""
        self._job = job
        self._old |= set(self._bound)
        self._echoed.clear()
        for peer_id in list(self._steps):
            self._note(peer_id, registered=False)

    def take_changes(self) -> list[tuple[float, str, int]]:
        changes, self.changes = self.changes, []
        return changes


async def run(order: dict[str, Any]) -> None:
    """Obey: `front`, `open`, `goodbye` (close all with 1012), `cut` (reset one peer); say figures until the end."""
    rooms = WatchedRooms(order["job"], random=Random(order["seed"]), token_life=LIFE, room_life=LIFE)
    furnish(rooms, order["workers"], order["now"])
    admission = SlottedAdmission(Limits(**order["limits"])) if order["limits"] else None
    # A collection of thousands of connections would come as a slot that is late.
    gc.freeze()
    gc.set_threshold(*SELDOM)
    host, ws_port, http_port = order["host"], order["ws_port"], order["http_port"]
    async with trio.open_nursery() as nursery:
        front = None
        server: DevServer | None = None
        say({"ready": True})
        async for command, argument in commands():
            match command:
                case "front":
                    front = await nursery.start(_front, host, ws_port, argument)
                    say({"front": True})
                case "open":
                    if front is not None:
                        front.leave.cancel()
                        await front.left.wait()
                    start = partial(serve, host=host, ws_port=ws_port, http_port=http_port, rooms=rooms)
                    server = await nursery.start(partial(start, admission=admission))
                    if admission is not None:
                        nursery.start_soon(admission.run)
                    say({"open": time.monotonic(), "ws_port": server.ws_port, "http_port": server.http_port})
                    nursery.start_soon(_say_figures, rooms, admission)
                case "goodbye" if server is not None:
                    server.disconnect_all(1012, "service restart")
                    say({"goodbye": await _until_closed(server)})
                case "limit" if admission is not None:
                    admission.change(Limits(**argument[0]))
                    rooms.start_over(argument[1])
                    say({"limited": True})
                case "cut" if server is not None:
                    peer_id, job = argument
                    rooms.expect(peer_id, job)
                    say({"cut": time.monotonic()})
                    server.cut(peer_id)
                case _:
                    raise ValueError(command)
        nursery.cancel_scope.cancel()


async def _until_closed(server: DevServer) -> int:
    """How many links are left after a second."""
    with trio.move_on_after(1):
        await server.until(lambda: not server.connections)
    return len(server.connections)


@dataclass
class Front:
    """What stands before a dead server."""

    leave: trio.CancelScope = field(default_factory=trio.CancelScope)
    left: trio.Event = field(default_factory=trio.Event)


async def _front(host: str, port: int, answer: str, *, task_status: trio.TaskStatus[Front]) -> None:
    """Everybody is accepted, and nobody served."""

    async def turn_away(stream: trio.SocketStream) -> None:
        with trio.move_on_after(5), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                if answer == "502":
                    await stream.receive_some()
                    await stream.send_all(BAD_GATEWAY)
                    await stream.send_eof()
                    await stream.receive_some()

    front = Front()
    with front.leave:
        listeners = await trio.open_tcp_listeners(port, host=host)
        task_status.started(front)
        await trio.serve_listeners(turn_away, listeners)
    front.left.set()


async def _say_figures(rooms: WatchedRooms, admission: SlottedAdmission | None) -> None:
    while True:
        await trio.sleep(EVERY)
        used = resource.getrusage(resource.RUSAGE_SELF)
        kib = memory()
        say(
            {
                "at": time.monotonic(),
                "changes": rooms.take_changes(),
                "registrations": rooms.registrations,
                "slots": asdict(admission.slots) if admission is not None else None,
                "granted": admission.granted if admission is not None else 0,
                "refused": admission.refused if admission is not None else 0,
                "late": admission.latest if admission is not None else 0.0,
                "cpu": used.ru_utime + used.ru_stime,
                "waited": kept_waiting(),
                "kib": kib["now"] if kib is not None else None,
            }
        )


def main() -> None:
    order = first_line()
    # Linux shares a busy machine out by sessions: in that of its workers the server gets less the more processes they
    # have, although those run on another core.
    os.setsid()
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    trio.run(run, order)


if __name__ == "__main__":
    main()
