"""More faults of the same table: too much, too long, too deep, too slow, and too often.

Each costs much of CPU time, so none is repeated at once (`Simulation.rarely`).
"""

import json
from collections.abc import Callable
from functools import partial
from math import inf, nan
from typing import TYPE_CHECKING, Any

import trio

from tests.simulation.conns import Conn
from tests.simulation.faults import fault
from tests.simulation.leaving import FAULTS
from tests.simulation.wire import EXTREMES
from worker_state.devserver.model import Message, Peer

if TYPE_CHECKING:
    from tests.simulation.worker import Worker
    from tests.simulation.world import Simulation

__all__ = ["FAULTS"]

Whom = tuple[str, str]
"""A worker's peer id and its room."""


def _whom(worker: "Worker | None") -> Whom | None:
    """A worker that has registered once."""
    state = None if worker is None or worker.manager is None else worker.manager.state
    return None if state is None or state.peer_id is None or state.room_id is None else (state.peer_id, state.room_id)


# --- too much ---------------------------------------------------------------------------------------------------------


def _accepted(whom: Whom) -> Message:
    around: Message = {"admin_peer_id": None, "peer_list": ["x"], "peer_metadata": {"x": {"properties": {}}}}
    return {"type": "registered_auth", "room_id": whom[1], "token": None, "peer_id": whom[0], **around}


def _stored(peer_id: str, value: str) -> Message:
    return {"type": "metadata_updated", "peer_id": peer_id, "metadata": {"properties": {"note": value}}}


TINY: dict[str, Callable[[Whom], tuple[Message | str | bytes, ...]]] = {
    "empty": lambda whom: ("{}",),
    "errors": lambda whom: (
        {"type": "error", "reason": "Peer is offline"},
        {"type": "error", "code": "DELIVERY_FAILED", "message": "Failed to deliver message to x"},
        {"type": "error", "code": "UNKNOWN_MESSAGE_TYPE", "message": "?"},
        {"type": "error", "code": "PEER_NOT_IN_ROOM", "message": "x"},
    ),
    "registered_auth": lambda whom: (_accepted(whom), _accepted(("somebody-else", whom[1]))),
    "garbage": lambda whom: ("no JSON", b"\x00\xff", "[]", "null", "\x00", '{"type": 7}', "{", "["),
    "nested": lambda whom: tuple(
        _stored(peer_id, name) for name in EXTREMES if "levels" in name for peer_id in (whom[0], "somebody-else")
    ),
    "digits": lambda whom: (
        {"type": "offer", "number": "<digits>"},
        _stored(whom[0], "<digits>"),
        _stored("somebody-else", "<digits>"),
    ),
}
FLOODS = (*TINY, "offers", "control frames")


def _offers(sim: "Simulation", whom: Whom, count: int, size: int) -> bool:
    """A client comes into the room, and makes this worker so many offers."""
    sim.clients += 1
    me, connection = f"flooder-{sim.clients}", ("flooder", sim.clients)
    answers = sim.server.stranger(connection, sim.shared.admission(me, whom[1], "client"))
    offer = {"type": "offer", "sender": me, "target": whom[0], "sdp": "v" * size}
    for _ in range(count):
        sim.server.perform(sim.server.rooms.receive(connection, json.dumps(offer), sim.server.wall))
    sim.server.stranger_leaves(connection)
    return any(answer.get("type") == "registered_auth" for answer in answers)


def _flood(sim: "Simulation") -> "Worker | None":
    worker = sim.any_worker()
    conn, whom = None if worker is None else sim.conn_of(worker.name), _whom(worker)
    if conn is None or whom is None or not sim.rarely("flood", 8.0):
        return None
    kind, count = sim.chance.choice(FLOODS), sim.chance.choice((40, 200, 1000))
    if kind == "offers" and not _offers(sim, whom, count, 20):
        return None
    if kind == "control frames":
        conn.codec.tiny(count)
    elif kind in TINY:
        frames = TINY[kind](whom)
        for number in range(count):
            frame = frames[number % len(frames)]
            if isinstance(frame, dict):
                conn.codec.text(frame)
            else:
                conn.codec.junk(frame)
    sim.trace.faults[f"flood {kind}"] += 1
    return worker


@fault
def flood(sim: "Simulation") -> bool:
    """A burst of tiny frames of one kind (G12)."""
    return _flood(sim) is not None


@fault
def leaves_in_flood(sim: "Simulation") -> bool:
    """The exit begins while a burst is coming in (G12)."""
    worker = _flood(sim)
    if worker is not None:
        sim.later(sim.chance.uniform(0, 0.05), worker.name, worker.leave)
    return worker is not None


@fault
def unread(sim: "Simulation") -> bool:
    """The worker's other parts do not read for a while, and more comes than is kept: in number or in bytes (G10)."""
    worker = sim.any_worker()
    whom = _whom(worker)
    if worker is None or whom is None or sim.conn_of(worker.name) is None or not sim.rarely("unread", 15.0):
        return False
    sim.hold(sim.chance.uniform(2, 60), worker.stop_reading(), worker.name)
    return _offers(sim, whom, *sim.chance.choice(((300, 20), (12, 400_000))))


@fault
def flips(sim: "Simulation") -> bool:
    """The user sets another status many times a second (G16)."""
    worker = sim.any_worker()
    if worker is None or worker.manager is None or worker.flips_until > trio.current_time():
        return False
    if not sim.rarely("flips", 5.0):
        return False
    worker.flips_until = trio.current_time() + sim.chance.uniform(0.5, 4)
    worker.nursery.start_soon(worker.flip, sim.chance.choice((0.002, 0.02, 0.07)))
    return True


# --- too long, too deep -----------------------------------------------------------------------------------------------


def _noting(value: Any) -> dict[str, Any]:
    return {"tags": ["x"], "properties": {"note": value}}


NEIGHBOURS: dict[str, tuple[Any, ...]] = {
    "long": (_noting("x" * 1_000_000),),
    "deep": tuple(_noting(name) for name in EXTREMES if "levels" in name),
    "digits": (_noting("<digits>"),),
    "no JSON": (_noting(nan), _noting([inf, -inf]), {"tags": [None, 3], "properties": {}, "x": nan}),
    "thousands": tuple(_noting(number) for number in range(2500)),
}


def _crowd(sim: "Simulation", room_id: str, kind: str, records: tuple[Any, ...]) -> Callable[[], None] | None:
    """These are in the room, until what this returns is called; None: such are there already."""
    if (room_id, kind) in sim.crowds:
        return None
    sim.crowds.add((room_id, kind))
    sim.crowded_until[room_id] = inf
    registry = sim.server.rooms._registry
    for number, record in enumerate(records):
        peer = Peer(("neighbour", number), "worker", record, connected_at=sim.server.wall)
        registry.enlist(f"{kind}-{number}-{room_id}", room_id, peer)

    def leave() -> None:
        sim.crowds.discard((room_id, kind))
        if not any(room == room_id for room, _ in sim.crowds):
            sim.crowded_until[room_id] = sim.net.now
        for number in range(len(records)):
            registry.unlist(f"{kind}-{number}-{room_id}")

    return leave


def _register_again(sim: "Simulation", worker: "Worker", whom: Whom) -> None:
    """Over the present link, or over another one."""
    conn = sim.conn_of(worker.name)
    if conn is not None and sim.chance.random() < 0.5:
        conn.break_(0.0, 0.0)
    else:
        sim.server.rooms._registry.unlist(whom[0])
        sim.server.unlisted_at[worker.name] = sim.net.now


@fault
def neighbours(sim: "Simulation") -> bool:
    """Others of the room have records that are long, deep, no JSON, or thousands (G11). Half of them stay for good."""
    worker = sim.any_worker()
    whom = _whom(worker)
    if worker is None or whom is None or not sim.rarely("neighbours", 10.0):
        return False
    kind = sim.chance.choice(tuple(NEIGHBOURS))
    leave = _crowd(sim, whom[1], kind, NEIGHBOURS[kind])
    if leave is None:
        return False
    sim.trace.faults[f"neighbours {kind}"] += 1
    if sim.chance.random() < 0.5:
        sim.hold(sim.chance.uniform(5, 100), leave, worker.name)
    _register_again(sim, worker, whom)
    return True


@fault
def forged_extremes(sim: "Simulation") -> bool:
    """Anybody may write what is deep, or no JSON, into our record: every answer to an update repeats it (F07, G11)."""
    whom = _whom(sim.any_worker())
    if whom is None or sim.server.rooms.peer(whom[0]) is None:
        return False
    value = sim.chance.choice((*EXTREMES, nan))
    frame = {"type": "update_metadata", "peer_id": whom[0], "metadata": {"properties": {"note": value}}}
    sim.server.stranger("forger", frame)
    sim.server.stranger_leaves("forger")
    return True


# --- too slow ---------------------------------------------------------------------------------------------------------

LONG = 200_000
"""Bytes of an answer that takes its time."""


@fault
def trickle(sim: "Simulation") -> bool:
    """A long answer comes over a slow line: it takes longer than an answer may, and bytes come all the time (G21)."""
    worker = sim.any_worker()
    whom = _whom(worker)
    conn = None if worker is None else sim.conn_of(worker.name)
    if worker is None or whom is None or conn is None or not sim.rarely("trickle", 20.0):
        return False
    leave = _crowd(sim, whom[1], "one with a story", (_noting("x" * LONG),))
    if leave is None:
        return False
    seconds = sim.chance.uniform(5, 150)
    sim.hold(2 * seconds, leave, worker.name)
    slow = partial(_slow, sim, LONG / seconds, seconds * sim.chance.uniform(0.5, 1.5))
    slow(conn)
    if worker.name not in sim.on_connect:
        sim.on_connect[worker.name] = slow
    _register_again(sim, worker, whom)
    return True


def _slow(sim: "Simulation", rate: float, seconds: float, conn: Conn) -> None:
    if not sim.ending:
        sim.hold(seconds, conn.trickle(rate), conn.owner)


# --- too late ---------------------------------------------------------------------------------------------------------


@fault
def late_end(sim: "Simulation") -> bool:
    """A child holds the socket that the worker has left: the server notices minutes later that it is over (F01)."""
    conn = sim.any_conn()
    if conn is not None:
        conn.leave_to_a_child()
        sim.hold(sim.chance.uniform(60, 900), conn.server_notices, conn.owner)
    return conn is not None


@fault
def late_end_while_registering(sim: "Simulation") -> bool:
    """The same, and the server notices while it handles a `register` of a newer link."""
    conn = sim.any_conn()
    if conn is None or conn.owner in sim.server.on_registering:
        return False
    name = conn.owner
    conn.leave_to_a_child()

    def child_ends() -> None:
        sim.trace.branches["late end while registering"] += conn.server_open
        conn.server_notices()

    def register_again() -> None:
        sim.server.on_registering[name] = lambda: sim.net.after(sim.chance.choice((0.0, 0.001, 0.01)), child_ends)
        newer = sim.conn_of(name)
        if newer is not None:
            newer.break_(0.0, 0.0)

    sim.later(sim.chance.uniform(30, 300), name, register_again)
    sim.hold(900.0, conn.server_notices, name)
    return True
