"""One worker of the simulation: the real manager in a made-up world, its program, and what it may be blamed for.

Everything that it does to the outside passes through here (`_Watched…`), so that impoliteness is seen where it happens.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from random import Random
from typing import TYPE_CHECKING

import trio

from tests.simulation import judges
from tests.simulation.fast import FastDial
from tests.simulation.raw import ByteDial
from tests.simulation.server import KEY
from tests.simulation.trace import current_worker
from tests.simulation.web import Web
from worker_state import Config, Manager
from worker_state.errors import Disconnected, StartupFailed
from worker_state.manager import run_in_world
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Closed, DialFailure
from worker_state.protocol.reconnect import Deadlines
from worker_state.world import World

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

DIALS_A_MINUTE = 30
REGISTERS_A_MINUTE = 15
"""On a link that has registered before; the first one of each link is the dial's. Twelve that follow evictions, whose
pauses grow, and one more for each ID token that runs out meanwhile: its refusal is followed by a renewal at once."""
UPDATES_A_MINUTE = 40
UPDATES_A_SECOND = 10
"""Of a worker whose user changes the status all the time (faults.md, G16)."""
SLACK = 0.1
"""Seconds that an exit may take beyond what was promised: the latencies of the last frames."""


class _WatchedSocket:
    """A socket, and what is sent over it."""

    def __init__(self, socket: Socket, worker: "Worker") -> None:
        self._socket = socket
        self._worker = worker
        self._registers = 0
        self.receive = socket.receive
        self.ping = socket.ping
        self.close = socket.close

    @property
    def heard_at(self) -> float:
        return self._socket.heard_at

    @property
    def in_message(self) -> bool:
        return self._socket.in_message

    async def send(self, text: str) -> Closed | None:
        kind = text.split('"', 4)[3]
        self._worker.sends(kind, again=kind == "register" and self._registers > 0)
        self._registers += kind == "register"
        return await self._socket.send(text)

    async def abort(self) -> None:
        await self._socket.abort()
        self._worker.link_over_at = trio.current_time()


class Worker:
    """One life of one worker, from its start to its exit."""

    def __init__(self, sim: "Simulation", name: str, program: str, config: Config, chance: Random) -> None:
        self.sim = sim
        self.name = name
        self.program = program
        self.config = config
        self.chance = chance
        make = ByteDial if sim.plan.level == "bytes" else FastDial
        self._inner_dial = make(sim.server, name, chance, self.dialled)
        self.web = Web(sim.server, name, chance, config.timing.http, partial(sim.violate, "polite", name))
        self.manager: Manager | None = None
        self.scope = trio.CancelScope()
        self.left_at: float | None = None
        """When it was told to go, by its own clock."""
        self.leaving_since = inf
        """When its manager has told its actors so."""
        self.failed_start = False
        self.truth: tuple[str, str | None] = ("available", None)
        """What it has set last."""
        self.changed_at = -1e9
        self.heard: set[str] = set()
        """The checks that have come through to it."""
        self.dials: deque[float] = deque()
        self.registers: deque[float] = deque()
        self.updates: deque[float] = deque()
        self.updates_now: deque[float] = deque()
        self.flips_until = -inf
        self._reading = trio.Event()
        self._reading.set()
        self.links = 0
        self.link_over_at: float | None = None
        self._room_id: str | None = None
        """The room that is to be deleted at the exit."""
        self._peer_id: str | None = None
        self.nursery: trio.Nursery
        self.asked = 0
        """How often it has called `reregister()` itself."""

    # life

    async def live(self) -> None:
        """Until it is told to go, or cannot start."""
        current_worker.set(self.name)
        sim = self.sim
        with self.scope:
            try:
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    self.manager = await nursery.start(partial(run_in_world, self.config, self._world()))
                    sim.note(self.name, "started as %s", self.manager.state.peer_id)
                    nursery.start_soon(self._listen)
                    await self._work(self.manager)
            except* StartupFailed as failed:
                self.failed_start = True
                sim.note(self.name, "did not start: %s", str(failed.exceptions[0]))
                if self.manager is not None:
                    sim.violate("right", self.name, "StartupFailed after it had started")
            except* Exception as errors:  # noqa: BLE001 - this is what no exception may do
                sim.violate("right", self.name, f"an exception left: {errors.exceptions!r}")
        if self.left_at is not None:
            self._judge_exit(self.left_at)
        if any(conn.client_open for conn in sim.server.desks if conn.owner == self.name):
            sim.violate("right", self.name, "a socket is open after the exit")

    def leave(self) -> None:
        """Cancel it."""
        if self.left_at is None:
            self.left_at = trio.current_time()
            self._told_at = self.sim.net.now
            self._jumped, self._troubles = self.sim.jumped, self.sim.web_troubles
            # One that could not start is leaving already, and the trouble of then may be over now.
            self._troubled = self.sim.web_troubled() or self.leaving_since < inf
            if self.manager is not None and self.config.creates_room and judges.wrong(self.sim, self) is None:
                self._room_id = self.manager.state.room_id
            self.sim.note(self.name, "is told to go")
            self.scope.cancel()

    def _world(self) -> World:
        sim, chance = self.sim, self.chance
        return World(
            dial=self._dial,
            http=self.web,
            random=Random(chance.getrandbits(64)),
            nonce=lambda: f"{chance.getrandbits(128):032x}",
            awake=lambda: sim.net.now,
        )

    async def _dial(
        self, deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        socket: Socket | DialFailure | None = None
        try:
            socket = await self._inner_dial(deadlines, nursery, kept_answered)
        finally:
            if socket is None or isinstance(socket, DialFailure):
                self.link_over_at = trio.current_time()
        return socket if isinstance(socket, DialFailure) else _WatchedSocket(socket, self)

    # its program

    async def _work(self, manager: Manager) -> None:
        chance = self.chance
        while True:
            match self.program:
                case "idle":
                    await trio.sleep_forever()
                case "jobs":
                    await trio.sleep(chance.uniform(5, 120))
                    self._set(manager, "reserved")
                    await trio.sleep(chance.uniform(0.01, 20))
                    self._set(manager, "busy")
                    with trio.move_on_after(5):
                        await manager.synced()
                    await trio.sleep(chance.uniform(1, 300))
                    await self._signal(manager)  # that the job is done
                    self._set(manager, "available")
                case _ if self.sim.ending:
                    await trio.sleep_forever()
                case _:
                    await trio.sleep(chance.choice((0.0, 0.001, 0.05, 1.0, 20.0, 60.0)) * chance.random())
                    self._set(manager, chance.choice(("available", "reserved", "busy", "maintenance")))
                    if chance.random() < 0.03:
                        self.asked += 1
                        manager.reregister()
                        if chance.random() < 0.7:
                            await trio.sleep(chance.uniform(0, 0.1))
                            self._set(manager, "maintenance" if self.truth[0] == "available" else "available")
                    if chance.random() < 0.5:
                        await self._signal(manager)

    def _set(self, manager: Manager, status: str) -> None:
        job = f"job-{self.chance.getrandbits(32):08x}" if status in ("reserved", "busy") else None
        match status, job:
            case "reserved", str():
                manager.set_reserved(job)
            case "busy", str():
                manager.set_busy(job)
            case "maintenance", _:
                manager.set_maintenance()
            case _:
                manager.set_available()
        self.truth, self.changed_at = (status, job), trio.current_time()
        self.sim.note(self.name, "is %s now", status)
        self.check_truth()

    async def _signal(self, manager: Manager) -> None:
        try:
            await manager.send_signal({"type": "offer", "target": "nobody", "sdp": "v=0"})
        except Disconnected:
            self.sim.trace.branches["signal: Disconnected"] += 1

    async def _listen(self) -> None:
        assert self.manager is not None
        async for signal in self.manager.signals:
            match signal:
                case {"payload": {"check": str(check)}}:
                    self.heard.add(check)
            await self._reading.wait()

    # what its user does

    def stop_reading(self) -> Callable[[], None]:
        """Its signals stay unread, until what this returns is called."""
        self._reading = reading = trio.Event()
        return reading.set

    async def flip(self, pause: float) -> None:
        """Its user sets another status again and again, until `flips_until`."""
        while self.manager is not None and trio.current_time() < self.flips_until and not self.sim.ending:
            self._set(self.manager, self.chance.choice(("available", "reserved", "busy", "maintenance")))
            await trio.sleep(pause)

    # what it may be blamed for

    def check_truth(self) -> None:
        """The local status is the last one set, and the peer id the first, whatever the network does."""
        if self.manager is not None and (self.manager.status, self.manager.job_id) != self.truth:
            self.sim.violate("right", self.name, f"it is {self.truth}, but says {self.manager!r}")
        if self.manager is not None:
            self._peer_id = self._peer_id or self.manager.state.peer_id
            if self.manager.state.peer_id != self._peer_id:
                self.sim.violate("right", self.name, "it has another peer id than before")

    def dialled(self) -> None:
        now = trio.current_time()
        self.links += 1
        self.sim.note(self.name, "dials (%d)", self.links)
        if now > self.leaving_since:
            self.sim.violate("right", self.name, "a dial after the exit began")
        if self.link_over_at is not None and now - self.link_over_at < 0.04:
            self.sim.violate("polite", self.name, f"dialled {now - self.link_over_at:g} s after the last link")
        self._count(self.dials, now, DIALS_A_MINUTE, "dials")

    def sends(self, kind: str, *, again: bool) -> None:
        """A frame goes into the socket."""
        now = trio.current_time()
        if kind != "peer_message":
            self.sim.note(self.name, "sends %s", kind)
        if kind == "register":
            self.sim.trace.branches["register again on the same link" if again else "register on a new link"] += 1
            if now > self.leaving_since:
                self.sim.violate("right", self.name, "a register after the exit began")
            if again and not self.asked:
                self._count(self.registers, now, REGISTERS_A_MINUTE, "registers on a link that had registered")
            self.asked = max(0, self.asked - 1)
        elif kind == "update_metadata" and self.program in ("idle", "jobs") and now > self.flips_until + 60:
            self._count(self.updates, now, UPDATES_A_MINUTE, "updates")

    def updates_its_record(self) -> None:
        """An update was decided upon; the socket may take it later. At the exit there is one more."""
        now = trio.current_time()
        if now < self.leaving_since:
            self._count(self.updates_now, now, UPDATES_A_SECOND, "updates", 1.0)

    def _count(self, times: deque[float], now: float, limit: int, what: str, within: float = 60.0) -> None:
        times.append(now)
        while now - times[0] > within - 1e-6:
            times.popleft()
        if len(times) > limit:
            self.sim.violate("polite", self.name, f"{len(times)} {what} in {within:g} s")

    def _judge_exit(self, left_at: float) -> None:
        sim, timing = self.sim, self.config.timing
        took = trio.current_time() - left_at - (sim.jumped - self._jumped)
        sim.note(self.name, "is gone after %.2f s", took)
        sim.exits.append(took)
        if took > timing.exit + timing.close + SLACK:
            sim.violate("right", self.name, f"the exit took {took:.2f} s")
        web_worked = sim.web_troubles == self._troubles and not self._troubled and sim.jumped == self._jumped
        evicted = sim.server.unlisted_at.get(self.name, -inf) > self._told_at - 1
        alone = sim.crowded_until.get(self._room_id or "", -inf) < self._told_at
        if web_worked and took < timing.exit and not evicted and alone and self._room_id in sim.server.rooms.rooms:
            sim.violate("right", self.name, "its room was not deleted: was the socket closed first?")
        if web_worked:
            # With somebody else's room it leaves the one identity under which the server may still list it (G01).
            kept = next(iter(self.web.known), None) if self.config.keeps_room and sim.plan.faults else None
            for username, told_at in self.web.known.items():
                if username != kept and told_at <= left_at + timing.exit / 2 and username in sim.server.rooms.users:
                    sim.violate("right", self.name, f"{username} was not deleted, and could have been")


def new_config(sim: "Simulation", name: str, kind: str) -> Config:
    """What this worker is told: a room of its own, a given room, or an API key."""
    capabilities = {"hostname": name, "gpu_memory_mb": 24576, "supported_models": ["base", "centroid"]}
    room = sim.shared.given if kind == "member" else (None, None)
    return Config(
        "ws://127.0.0.1",
        "http://127.0.0.1",
        room_id=room[0],
        room_token=room[1],
        api_key=KEY if kind == "key" else None,
        capabilities=capabilities,
        wait_for_server=sim.plan.seed % 2 == 0,
    )
