"""What must hold: throughout, after the faults have stopped, and when everybody has gone.

`wrong` looks at the server's books, cheaply and often; `found_by_a_client` asks as a client would and is the one that
counts.
"""

from math import inf
from typing import TYPE_CHECKING

import trio

from tests.simulation.conns import Conn
from tests.simulation.overheard import DEEPEST
from worker_state.advertised import TAGS
from worker_state.protocol import events as m
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.lease import STALE
from worker_state.protocol.probe import longest_unproved
from worker_state.session_string import SessionString

if TYPE_CHECKING:
    from tests.simulation.worker import Worker
    from tests.simulation.world import Simulation

BOUND = 60.0
"""Seconds from the last disturbance until every worker is right, unless a fault asks for more patience."""
QUIET = 65.0
"""Seconds for which nothing may disturb a worker before it is called healed: the server's late evictions come in 50."""
RECENT = 3.0
"""A status set within so many seconds need not be shown yet."""
TASKS_OF_A_WORKER = 20


def patience_for(note: m.Event, heard: list[tuple[float, str]], now: float) -> tuple[float, str] | None:
    """How much longer than usual this note may make it, and why: the pauses that politeness asks for."""
    match note:
        case m.DialFailed(DialFailure(cause=Cause.UNANSWERED)):
            return BOUND + 60.0, "the next dial may be made a minute after one that is not answered"
        case m.LinkLost(closed=Closed(cause=Cause.UNREGISTERED)):
            return BOUND + 1200.0, "it waits for an answer as long as a storm may last: giving up feeds it"
        case m.RegistrationLost():
            pause = 0.1 * 2.0 ** _heard(heard, now, "forgotten")
            if pause > 40:
                return BOUND + min(120.0, pause), "after many evictions it registers ever more slowly"
        case (
            m.RegistrationRejected("the ID token is refused" | "room expired" | "wrong room token" | "room not found")
            | m.RoomFailed(status=401)
        ):
            refused = _heard(heard, now, "refused")
            if refused > 2:
                return STALE + 2 * BOUND, "fresh credentials were refused, so new ones are tried only after minutes"
        case m.DialFailed(pause=float(pause)) | m.LinkLost(pause=float(pause)) if pause > 20:
            return BOUND + pause, "after a row of dials in vain, or at the server's wish, it waits before the next"
        case _:
            pass
    return None


def _heard(heard: list[tuple[float, str]], now: float, what: str) -> int:
    """How often within the last hour, this time included."""
    heard.append((now, what))
    heard[:] = [each for each in heard if now - each[0] < 3600]
    return sum(kind == what for _, kind in heard)


async def watch(sim: "Simulation") -> None:
    """What must hold at every moment, looked at every few seconds."""
    suspects: dict[str, str] = {}
    while True:
        await trio.sleep(5.3)
        for worker in sim.living.values():
            worker.check_truth()
        tasks = trio.lowlevel.current_statistics().tasks_living
        leaving = any(worker.leaving_since < inf for worker in sim.living.values())  # a task for each identity
        if not leaving and tasks > 12 + TASKS_OF_A_WORKER * len(sim.plan.kinds):
            sim.violate("right", "world", f"{tasks} tasks")
        if sim.trace.deepest > DEEPEST:
            sim.violate("right", "world", f"{sim.trace.deepest} notes in one inbox")
            sim.trace.deepest = 0
        _judge_doubles(sim)
        if not sim.plan.faults:
            for worker in sim.living.values():
                if len(owed := worker.web.known.keys() & sim.server.rooms.users.keys()) > 3:
                    sim.violate("calm", worker.name, f"it owes the server {len(owed)} identities (faults.md, G09)")
            before = suspects
            suspects = {each.name: reason for each in sim.living.values() if (reason := wrong(sim, each))}
            for name in sorted(before.keys() & suspects.keys()):
                sim.violate("calm", name, f"{suspects[name]}, and nothing had gone wrong")


def _judge_doubles(sim: "Simulation") -> None:
    """Never two registrations of one worker through sockets that it holds."""
    seen: dict[str, Conn] = {}
    for peers in sim.server.rooms._registry._peers.values():
        for peer in peers.values():
            conn = peer.connection
            if isinstance(conn, Conn) and conn.client_open:
                if conn.owner in seen:
                    sim.violate("right", conn.owner, f"registered twice, over {seen[conn.owner]!r} and {conn!r}")
                seen[conn.owner] = conn


def wrong(sim: "Simulation", worker: "Worker") -> str | None:
    """Why a client would not find this worker as it is; None: it would."""
    manager = worker.manager
    if manager is None or worker.name not in sim.living:
        return "it has not started"
    state, rooms = manager.state, sim.server.rooms
    peer = rooms.peer(state.peer_id or "")
    if peer is None:
        return "the server does not list it"
    if not isinstance(peer.connection, Conn):
        return "it is listed for a stranger"
    if not (peer.connection.client_open and peer.connection.server_open):
        return f"it is listed for a dead connection, {peer.connection!r}"
    room_id = rooms._registry.room_of(state.peer_id)
    room = rooms.rooms.get(room_id or "")
    if room is None or room.expired(sim.server.wall) or room_id != state.room_id:
        return "clients cannot come into its room"
    tags, properties = peer.metadata.get("tags") or [], peer.metadata.get("properties") or {}
    if not set(TAGS) <= set(tags):
        return f"its tags are {tags}"
    status, job = worker.truth
    shown = tuple(properties.get(name, "-") for name in ("status", "current_job_id", "pending_job_id", "gpu_memory_mb"))
    wanted = (status, job if status == "busy" else None, job if status == "reserved" else None, 24576)
    if shown != wanted and trio.current_time() - worker.changed_at > RECENT:
        return f"the server shows {shown} in place of {wanted}"
    return None


def _in_a_crowd(worker: "Worker") -> tuple[float, str]:
    """In a large room all workers together keep to a rate of proofs: a loss may be seen that much later."""
    peers = 0 if worker.manager is None else worker.manager.state.expected_peers
    slower = longest_unproved(peers) - longest_unproved(0)
    return (BOUND + slower, "a room of so many is proved slowly") if slower > 0 else (0.0, "")


async def settle(sim: "Simulation") -> None:
    """The faults are over: wait until everybody is right and stays so, or has been wrong for too long."""
    last_wrong: dict[int, float] = {}
    blamed: set[int] = set()
    began = sim.net.now
    while True:
        await trio.sleep(0.25 if sim.net.now - began < QUIET else 2.0)
        waiting = False
        for slot, worker in sim.slots.items():
            if sim.excused(worker) or slot in blamed:
                continue
            disturbed = max(sim.disturbed_at.get("", 0.0), sim.disturbed_at.get(worker.name, 0.0))
            reason = wrong(sim, worker)
            if reason is not None:
                last_wrong[slot] = sim.net.now
                bound, why = max((BOUND, ""), sim.patience_with(worker.name, disturbed), _in_a_crowd(worker))
                if sim.net.now - disturbed > bound:
                    blamed.add(slot)
                    sim.violate(
                        "right", worker.name, f"{bound:g} s after the last fault {reason} ({why or 'the bound'})"
                    )
            waiting = waiting or reason is not None or sim.net.now - disturbed < QUIET
        if not waiting:
            break
    for slot, worker in sim.slots.items():
        if slot not in blamed and not sim.excused(worker):
            disturbed = max(sim.disturbed_at.get("", 0.0), sim.disturbed_at.get(worker.name, 0.0))
            took = max(0.0, last_wrong.get(slot, 0.0) - disturbed)
            patience, _ = max(sim.patience_with(worker.name, disturbed), _in_a_crowd(worker))
            (sim.result.healed_slowly if patience > BOUND else sim.result.healed).append(took)
            missed = await found_by_a_client(sim, worker)
            if missed is not None:
                sim.violate("right", worker.name, f"a client does not find it: {missed}")


async def found_by_a_client(sim: "Simulation", worker: "Worker") -> str | None:
    """What an independent client finds that has been given the session string; None if all is well."""
    sim.clients += 1
    me, connection = f"client-{sim.clients}", ("client", sim.clients)
    manager, server = worker.manager, sim.server
    assert manager is not None
    if manager.session_string is None:
        room_id, peer_id = manager.state.room_id or "", manager.state.peer_id or ""
    else:
        session = SessionString.parse(manager.session_string)
        room_id, peer_id = session.room_id, session.peer_id
        row = server.rooms.rooms.get(room_id)
        if row is not None and row.token != session.token:
            return "the token in its session string is wrong"
    try:
        answers = server.stranger(connection, sim.shared.admission(me, room_id, "client"))
        if not any(answer.get("type") == "registered_auth" for answer in answers):
            return f"refused: {answers}"
        status, job = worker.truth
        filters = {
            "role": "worker",
            "tags": [TAGS[1]],
            "properties": {"status": status, "gpu_memory_mb": {"$gte": 24000}},
        }
        answers = server.stranger(connection, {"type": "discover_peers", "from_peer_id": me, "filters": filters})
        peers = {peer["peer_id"]: peer for peer in answers[-1]["peers"]}
        if peer_id not in peers:
            recent = trio.current_time() - worker.changed_at < RECENT
            return None if recent else f"not among {len(peers)} found"
        properties = peers[peer_id]["metadata"]["properties"]
        shown = properties["current_job_id"] or properties["pending_job_id"]
        if job != shown and trio.current_time() - worker.changed_at > RECENT:
            return f"with the job {properties}"
        payload = {"check": me}
        server.stranger(
            connection, {"type": "peer_message", "from_peer_id": me, "to_peer_id": peer_id, "payload": payload}
        )
        with trio.move_on_after(5):
            while me not in worker.heard:
                await trio.sleep(0.05)
        return None if me in worker.heard else "a message does not come through"
    finally:
        server.stranger_leaves(connection)


CALM = frozenset(
    {
        "StartLeaving",
        "ChangeStatus",
        "CloseLink",
        "IdentityCreated",
        "RequestIdentity",
        "RequestRoom",
        "LinkOpened",
        "LinkReleased",
        "StartDialing",
        "PresenceProved",
        "RoomCreated",
        "SendClose",
        "SignalSent",
        "SignalsFlushed",
        "StatusConfirmed",
        "WorkerRegistered",
        "link dropped: a new room needs a new socket",
        "link lost: DROPPED",
        "link lost: MOVED",
        "register on a new link",
    }
)
"""All that may happen where nothing goes wrong."""


def judge_calm(sim: "Simulation") -> None:
    """Without a fault nothing needs healing: no registration again, no repair, no link but for a new room."""
    branches = sim.trace.branches
    for name in branches:
        if not name.startswith("log: ") and name not in CALM:
            sim.violate("calm", "world", f"{name}, and nothing had gone wrong")
    moves, lives = branches["link dropped: a new room needs a new socket"], len(sim.plan.kinds)
    planned = {"link lost: MOVED": moves, "link lost: DROPPED": lives}
    planned |= dict.fromkeys(("register on a new link", "WorkerRegistered"), moves + lives)
    for name, times in planned.items():
        if branches[name] != times:
            sim.violate("calm", "world", f"{name} {branches[name]} times in place of {times}")


async def judge_the_end(sim: "Simulation") -> None:
    """Everybody has gone: within a minute the server shows nobody."""
    await trio.sleep(61)
    for room_id, peers in sim.server.rooms._registry._peers.items():
        for peer in peers.values():
            conn = peer.connection
            if not isinstance(conn, Conn):
                continue
            # What was left in a room that the worker was not let into any more, over a link that the network had cut,
            # it could not have taken away: the server noticed after it had registered in its next room (F30; seeds
            # 5100145 and 6001072).
            unseen = (conn.owner, room_id) in sim.server.refused_in
            # Nor could one whose impostor registered in another room right before the exit: the server then takes away
            # the impostor with the worker's deletion, and with its socket nobody (F06; seed 1200246).
            usurped = sim.net.now - sim.usurped_at.get(conn.owner, -inf) < 61 + 60
            if not (unseen and conn.torn) and not usurped:
                sim.violate("right", conn.owner, f"a ghost over {conn!r}")
