"""The signaling server of the simulation: the real rules of `devserver.rules` behind connections that can break.

It takes the frames of one connection one at a time; a `register` takes a moment, as it asks a store. Everything that
the server as a whole can suffer is a method or an attribute of `Server`; what happens to connections is in `conns`.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import trio

from tests.simulation.conns import FIN, RST, CloseFrame, Conn, Item, Ping
from tests.simulation.net import Net
from tests.simulation.trace import Trace
from worker_state.devserver.identities import ApiKey, Generation
from worker_state.devserver.model import Close, Effect, Message, Send
from worker_state.devserver.rules import Rooms

ROOM_REFUSALS = ("Invalid token", "Room not found", "Room expired")
EPOCH = 1_800_000_000.0
KEY, KEY_ROOM = "slp_simulated", "0badcafe"


@dataclass(eq=False)
class _Desk:
    """What the server is doing for one connection."""

    waiting: deque[str | CloseFrame] = field(default_factory=deque)
    busy: bool = False
    over: bool = False


class Server:
    """One server: rules, connections, moods."""

    def __init__(
        self,
        net: Net,
        trace: Trace,
        chance: Random,
        *,
        generation: Generation,
        token_life: float,
    ) -> None:
        self.net = net
        self.trace = trace
        self.rooms = Rooms(
            random=Random(chance.getrandbits(64)),
            generation=generation,
            token_life=token_life,
            api_keys={KEY: ApiKey(room_id=KEY_ROOM)},
        )
        self.chance = chance
        self.desks: dict[Conn, _Desk] = {}
        """The connections that the server believes to be alive."""
        self.doors: list[tuple[str, str]] = []
        """What dials meet: the newest entry (mood, for whom: a worker or "")."""
        self.web: list[tuple[str, str]] = []
        """What HTTP requests meet: (mood, path or "")."""
        self.deaf: set[str] = set()
        """The workers whose frames are taken and never answered, while pings are (faults.md, F13)."""
        self.swallowing: set[str] = set()
        """The workers whose registers are taken and never answered, while all else is (faults.md, G05)."""
        self.skew = 0.0
        """Seconds that the server's wall clock is wrong by (faults.md, F38)."""
        self.resumed = trio.Event()
        self.resumed.set()
        self.refusals: Counter[str] = Counter()
        """By worker: answers after which a sign-in is due."""
        self.refused_in: set[tuple[str, str]] = set()
        """(worker, room id): rooms that it was not let into at least once."""
        self.on_evicted: Callable[[str], None] = lambda owner: None
        self.on_room_refused: dict[str, Callable[[], None]] = {}
        """By worker: what is to happen when its room is found to be gone."""
        self.on_registering: dict[str, Callable[[], None]] = {}
        self.on_sign_in: dict[str, Callable[[], None]] = {}
        """By worker: what is to happen when a `register` or a sign-in of its is being handled."""
        self.store_is_slow = False
        self.unlisted_at: dict[str, float] = {}
        """By worker: when the end of a connection took its registration away."""
        self.on_deletion: Callable[[], None] = lambda: None
        self.on_connect: Callable[[Conn], None] = lambda conn: None
        self.strangers: dict[Hashable, list[Message]] = {}
        """What was sent to those who talk to the rules without a connection."""
        self.before_answer: dict[str, list[str | bytes]] = {}
        """By worker: frames that are sent before the next answer to a `register` (faults.md, F24)."""
        self._count = 0
        self._held: deque[tuple[Conn, Item]] = deque()

    @property
    def wall(self) -> float:
        """The server's wall clock."""
        return EPOCH + self.net.now + self.skew

    # dials

    def door(self, owner: str) -> str:
        """What a dial of this worker meets now."""
        for mood, whom in reversed(self.doors):
            if whom in ("", owner):
                return mood
        return "open"

    def connect(self, owner: str, chance: Random, at_client: Callable[[Item], None]) -> Conn:
        """A TCP connection."""
        self._count += 1
        conn = Conn(self.net, chance, self._count, owner, at_client=at_client, at_server=self.take, lost=self._lost)
        self.desks[conn] = _Desk()
        self.on_connect(conn)
        return conn

    # what arrives

    def take(self, conn: Conn, item: Item) -> None:
        """Something has arrived from a client; what is no frame is for the codec of the byte level."""
        if not conn.server_open:
            return
        if not self.resumed.is_set():
            self._held.append((conn, item))
            return
        if isinstance(item, bytes):
            conn.codec.receive(item)  # type: ignore[attr-defined]
            return
        self.take_frame(conn, item)

    def take_frame(self, conn: Conn, item: Item) -> None:
        """A whole frame, or the end."""
        desk = self.desks.get(conn)
        if desk is None or desk.over:
            return
        if isinstance(item, Ping):
            if not item.answered:
                conn.down.push(Ping(item.number, answered=True))
        elif item is RST:
            desk.waiting.clear()
            self._end(conn, desk)
        elif item is FIN:
            self._end(conn, desk)
        elif isinstance(item, str | CloseFrame):
            desk.waiting.append(item)
            self._work(conn, desk)

    def _end(self, conn: Conn, desk: _Desk) -> None:
        desk.over = True
        self._work(conn, desk)

    def _work(self, conn: Conn, desk: _Desk) -> None:
        while desk.waiting and not desk.busy:
            item = desk.waiting.popleft()
            if isinstance(item, CloseFrame):
                conn.said_goodbye = True
                conn.server_closes(item.code)
                return
            if '"type":"register"' in item:
                desk.busy = True
                self.on_registering.pop(conn.owner, lambda: None)()
                seconds = self.chance.uniform(0.5, 3) if self.store_is_slow else self.chance.uniform(0.001, 0.03)
                self.net.after(seconds, partial(self._registered, conn, desk, item))
            elif conn.owner not in self.deaf:
                self.perform(self.rooms.receive(conn, item, self.wall))
        if desk.over and not desk.busy and not desk.waiting:
            conn.server_notices()

    def _registered(self, conn: Conn, desk: _Desk, text: str) -> None:
        desk.busy = False
        if not conn.server_open:
            return
        if conn.owner in self.deaf or conn.owner in self.swallowing:
            self.trace.note(self.net.now, "server", "%r: register taken and never answered", conn)
        else:
            effects = self.rooms.receive(conn, text, self.wall)
            if any(isinstance(each, CloseFrame) for each in desk.waiting):
                self.rooms.unanswered(conn)  # faults.md, F31
                self.trace.branches["ghost by a Close frame"] += 1
            conn.registers += 1
            for effect in effects:
                if isinstance(effect, Send):
                    self._note_answer(conn, effect.message, json.loads(text).get("room_id", ""))
            for frame in self.before_answer.pop(conn.owner, ()):
                conn.codec.junk(frame)
            self.perform(effects)
        self._work(conn, desk)

    def _note_answer(self, conn: Conn, message: Message, room_id: str) -> None:
        reason = message.get("reason") or message.get("error")
        self.trace.note(self.net.now, "server", "%r of %s: %s", conn, conn.owner, reason or message.get("type"))
        if reason is not None:
            if reason == "Room not found":
                self.on_room_refused.pop(conn.owner, lambda: None)()
            self.trace.branches[f"refused: {reason}{'' if 'type' in message else ' (identity)'}"] += 1
            if "type" not in message or str(reason) in ROOM_REFUSALS:
                self.refusals[conn.owner] += 1
            if reason in ROOM_REFUSALS:
                self.refused_in.add((conn.owner, room_id))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            conn = effect.connection
            if not isinstance(conn, Conn):
                if isinstance(effect, Send) and conn in self.strangers:
                    self.strangers[conn].append(effect.message)
            elif isinstance(effect, Close):
                conn.server_closes(effect.code, effect.reason)
            elif conn.server_open:
                conn.codec.text(effect.message)

    def _lost(self, conn: Conn) -> None:
        self.desks.pop(conn, None)
        peer_id = self.rooms.peer_of(conn)
        peer = None if peer_id is None else self.rooms.peer(peer_id)
        self.rooms.gone(conn)
        self.trace.note(self.net.now, "server", "%r of %s ends", conn, conn.owner)
        if peer is not None and not conn.said_goodbye:
            self.unlisted_at[conn.owner] = self.net.now
        if peer is not None and isinstance(peer.connection, Conn) and peer.connection.client_open:
            # That a dead connection is noticed is no new harm, unless it is the living one that loses by it.
            if peer.connection is not conn or not conn.up.cut:
                self.on_evicted(conn.owner)
            if peer.connection is not conn:
                self.trace.branches["late eviction"] += 1
                self.trace.note(self.net.now, "server", "that evicts %r of %s", peer.connection, conn.owner)

    # moods of the whole server

    def restart(self) -> None:
        """All connections are reset, all registrations forgotten; users and rooms are kept."""
        self._held.clear()
        for conn in tuple(self.desks):
            conn.break_(self.chance.uniform(0.001, 0.05), 0.0)
        self.forgets()

    def forgets(self) -> None:
        """All registrations are gone; the connections may live on."""
        self.rooms.forget_peers()
        self.unlisted_at |= {conn.owner: self.net.now for conn in self.desks}

    def pause(self) -> Callable[[], None]:
        """The process is stopped: the kernel goes on accepting, nothing is answered. Ends by what is returned."""
        self.resumed = trio.Event()

        def resume() -> None:
            self.resumed.set()
            held, self._held = self._held, deque()
            for conn, item in held:
                self.take(conn, item)

        return resume

    def stranger(self, name: Hashable, message: dict[str, Any]) -> list[Message]:
        """Somebody whose own network is perfect says this; returns what he is answered."""
        self.strangers[name] = []
        self.perform(self.rooms.receive(name, json.dumps(message), self.wall))
        return self.strangers.pop(name)

    def stranger_leaves(self, name: Hashable) -> None:
        self.rooms.gone(name)
