"""The other faults: what strangers do to a worker's registration, what runs out, what HTTP answers.

They are in the same table as those of `faults`. A stranger's own network is perfect.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simulation.conns import ANOTHER, RST
from tests.simulation.faults import fault
from tests.simulation.junk import FAULTS
from tests.simulation.web import MOODS
from worker_state.devserver.model import Room

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

__all__ = ["FAULTS", "RENEWALS"]

RENEWALS = frozenset(
    {
        "token_expires",
        "room_expires",
        "room_deleted",
        "room_token_changed",
        "room_and_token",
        "stale_keys",
        "wrong_clock",
        "strange_deletion",
    }
)
"""Faults after which the worker needs HTTP."""


# --- strangers --------------------------------------------------------------------------------------------------------


def _target(sim: "Simulation") -> tuple[str, str] | None:
    """A listed worker: its name and its peer id."""
    worker = sim.any_worker()
    peer_id = worker.manager.state.peer_id if worker is not None and worker.manager is not None else None
    if worker is None or peer_id is None or sim.server.rooms.peer(peer_id) is None:
        return None
    return worker.name, peer_id


@fault
def forged_update(sim: "Simulation") -> bool:
    """Anybody may change anybody's record (F07), and erase its tags (F08)."""
    target = _target(sim)
    if target is None:
        return False
    _, peer_id = target
    metadata: dict[str, Any] = {"properties": {"status": "maintenance", "current_job_id": "forged", "gpu_memory_mb": 1}}
    if sim.chance.random() < 0.5:
        metadata["tags"] = ["forged"]
    for _ in range(sim.chance.choice((1, 1, 5))):
        sim.server.stranger("forger", {"type": "update_metadata", "peer_id": peer_id, "metadata": metadata})
    sim.server.stranger_leaves("forger")
    return True


@fault
def refused_register(sim: "Simulation") -> bool:
    """A register with our peer id that is refused, and a close: we are evicted (F04)."""
    target = _target(sim)
    if target is not None:
        frame = {"type": "register", "peer_id": target[1], "room_id": "x", "token": "x", "id_token": "x"}
        sim.server.stranger("evictor", frame)
        sim.server.stranger_leaves("evictor")
        sim.server.unlisted_at[target[0]] = sim.net.now
    return target is not None


@fault
def strange_deletion(sim: "Simulation") -> bool:
    """Anybody may delete anybody, and with the last one the room (F05)."""
    target = _target(sim)
    if target is not None:
        sim.server.rooms.delete_peer({"peer_id": target[1]}, sim.server.wall)
        sim.shared.keep()
    return target is not None


@fault
def impostor(sim: "Simulation") -> bool:
    """A member of the room registers as us, once or again and again, and leaves some time (F06)."""
    target = _target(sim)
    if target is None or target[0] in sim.impersonated:
        return False
    name, peer_id = target
    sim.impersonated.add(name)
    frame = sim.shared.admission(peer_id)
    times = sim.chance.choice((1, 1, 1, 12))

    def register() -> None:
        if name in sim.impersonated:
            sim.server.unlisted_at[name] = sim.usurped_at[name] = sim.net.now
            sim.server.stranger(("impostor", name), frame)

    for time in range(times):
        sim.later(time * 10.0, name, register)

    def leave() -> None:
        sim.impersonated.discard(name)
        sim.server.stranger_leaves(("impostor", name))

    if sim.chance.random() < 0.4:
        sim.later(times * 10.0, name, lambda: sim.impersonated.discard(name))  # it stays, and says nothing any more
    else:
        sim.hold(times * 10.0 + sim.chance.uniform(-9, 60), leave, name)
    return True


# --- what runs out ----------------------------------------------------------------------------------------------------


@fault
def token_expires(sim: "Simulation") -> bool:
    """Every ID token is over, earlier than it said, and somebody has to register again (F16)."""
    if sim.net.now < sim.next_expiry:
        return False
    sim.next_expiry = sim.net.now + 12.0
    expiry = sim.server.rooms._identities._expiry
    for token in expiry:
        expiry[token] = sim.server.wall - 1
    cut_or_forget(sim)
    return bool(expiry)


@fault
def stale_keys(sim: "Simulation") -> bool:
    """Every ID token is refused for a while (F21)."""
    rooms = sim.server.rooms
    rooms.stale_keys()
    cut_or_forget(sim)
    sim.hold(sim.chance.uniform(2, 200), lambda: rooms.stale_keys(False))
    return True


@fault
def room_expires(sim: "Simulation") -> bool:
    """A room is over, and its workers have to register again (F10)."""
    return _lose_a_room(sim, lambda row: replace(row, expires_at=sim.server.wall - 1))


@fault
def room_deleted(sim: "Simulation") -> bool:
    """The last connected peer was deleted, and the room with it, while others were coming back (F11)."""
    return _lose_a_room(sim, lambda row: None)


@fault
def room_and_token(sim: "Simulation") -> bool:
    """The room is gone, and the ID token is over just when a new one is asked for."""

    def expire() -> None:
        expiry = sim.server.rooms._identities._expiry
        for token in expiry:
            expiry[token] = sim.server.wall - 1
        sim.disturbed()

    if sim.net.now < sim.next_expiry or not _lose_a_room(sim, lambda row: None):
        return False
    sim.next_expiry = sim.net.now + 30.0
    for name in sim.names():
        sim.server.on_room_refused[name] = expire
    return True


@fault
def room_token_changed(sim: "Simulation") -> bool:
    """The room has another token: "Invalid token", this time with a type (F17)."""
    return _lose_a_room(sim, lambda row: replace(row, token=ANOTHER))


def _lose_a_room(sim: "Simulation", change: Callable[[Room], Room | None]) -> bool:
    rows = sim.server.rooms._registry.rows
    worker = sim.any_worker()
    room_id = worker.manager.state.room_id if worker is not None and worker.manager is not None else None
    row = None if room_id is None else rows.get(room_id)
    if room_id is None or row is None or room_id in sim.shared.lost:
        return False
    changed = change(row)
    if changed is None:
        del rows[room_id]
    else:
        rows[room_id] = changed
    for name in sim.names():
        each = sim.living[name].manager
        if each is not None and each.state.room_id == room_id:
            conn = sim.conn_of(name)
            if conn is not None:
                conn.break_(0.0, 0.0)
    if room_id in sim.shared:
        # Somebody whose room it is makes it work again.
        sim.shared.lost.add(room_id)
        sim.patient("", 190, "a room that was given to it is tried again slowly")

        def mend() -> None:
            sim.shared.lost.discard(room_id)
            rows[room_id] = row

        sim.hold(sim.chance.uniform(5, 60), mend)
    return True


@fault
def wrong_clock(sim: "Simulation") -> bool:
    """The server's clock is three hours ahead for a while: everything is born expired (F38)."""
    if sim.server.skew:
        return False
    sim.server.skew = 3 * 3600.0
    cut_or_forget(sim)

    def mend() -> None:
        sim.server.skew = 0.0

    sim.hold(sim.chance.uniform(5, 200), mend)
    return True


@fault
def store_fails(sim: "Simulation") -> bool:
    """ "DynamoDB error" for the next registers, which may have taken effect (F20)."""
    sim.server.rooms.fail_store(sim.chance.choice((1, 3, 60)), registered=sim.chance.random() < 0.5)
    cut_or_forget(sim)
    sim.hold(30, lambda: sim.server.rooms.fail_store(0))
    return True


def cut_or_forget(sim: "Simulation") -> None:
    """Make the workers register again, over new links or the old ones."""
    if sim.chance.random() < 0.5:
        sim.server.forgets()
        return
    for name in sim.names():
        conn = sim.conn_of(name)
        if conn is not None:
            conn.to_client(RST)
            conn.break_(0.0, 0.0)


# --- HTTP -------------------------------------------------------------------------------------------------------------


@fault
def web(sim: "Simulation") -> bool:
    """HTTP requests meet trouble for a while, all or one kind (F25, F26, F36)."""
    entry = (sim.chance.choice(MOODS), sim.chance.choice(("", "/anonymous-signin", "/create-room", "/delete-peer")))
    sim.server.web.append(entry)
    sim.web_troubles += 1
    sim.trace.faults[f"web {entry[0]}"] += 1
    sim.hold(sim.chance.choice((5.0, 40.0, 200.0)) * sim.chance.random(), lambda: sim.server.web.remove(entry))
    return True


@fault
def web_and_token(sim: "Simulation") -> bool:
    """HTTP fails just when it is needed."""
    web(sim)
    return token_expires(sim)
