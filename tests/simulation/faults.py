"""The faults of the network and of the server as a whole: one small function each, in a table by name.

A fault takes hold at once and returns True, or finds nothing to take hold of and returns False: only what really
happened is counted. What lasts is ended through `Simulation.hold`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from tests.simulation.conns import RST, Conn, Item

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

Fault = Callable[["Simulation"], bool]
FAULTS: dict[str, Fault] = {}

NEVER = 1e12
DOORS = ("refused", "no route", "unanswered", "full", "mute", "closes", "slams", "garbage", "404", "503", "429")
"""How dialling can fail, by the stage that is reached."""
CODES = (1000, 1001, 1009, 1011, 1012, 1013)


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


# --- one connection ---------------------------------------------------------------------------------------------------


@fault
def reset(sim: "Simulation") -> bool:
    """Both sides notice at once."""
    conn = sim.any_conn()
    if conn is not None:
        conn.break_(sim.chance.uniform(0, 0.05), sim.chance.uniform(0, 0.05))
    return conn is not None


@fault
def late_notice(sim: "Simulation") -> bool:
    """The server notices long after the worker has come back (F01), or a little late (F02)."""
    conn = sim.any_conn()
    if conn is not None:
        conn.break_(sim.chance.uniform(0, 0.05), sim.chance.choice((5.0, 50.0)) * sim.chance.uniform(0.2, 1))
    return conn is not None


@fault
def worker_does_not_notice(sim: "Simulation") -> bool:
    """The server has dropped the connection, and its FIN was lost."""
    conn = sim.any_conn()
    if conn is not None:
        conn.break_(NEVER, sim.chance.uniform(0, 0.05))
    return conn is not None


@fault
def nobody_notices(sim: "Simulation") -> bool:
    """A NAT has forgotten the connection."""
    conn = sim.any_conn()
    if conn is not None:
        conn.break_(NEVER, sim.chance.uniform(25, 50))
    return conn is not None


def _lose_next(sim: "Simulation", which: Literal["up", "down"], broken_after: float) -> bool:
    """What is sent next this way over some connection never arrives, or half of it; soon after that it is reset."""
    conn = sim.any_conn()
    if conn is None:
        return False
    pipe = conn.up if which == "up" else conn.down
    if pipe.on_push is not None:
        return False

    def lose(item: Item) -> bool:
        pipe.on_push = None
        if isinstance(item, bytes) and len(item) > 1:
            pipe.put(item[: sim.chance.randrange(1, len(item))])
        sim.later(broken_after, conn.owner, lambda: conn.break_(0.0, sim.chance.choice((0.0, 30.0))))
        return True

    pipe.on_push = lose
    return True


@fault
def frame_lost(sim: "Simulation") -> bool:
    """The next thing that the worker sends never arrives, or half of it, and then the connection is reset."""
    return _lose_next(sim, "up", 0.02)


@fault
def answer_lost(sim: "Simulation") -> bool:
    """The next answer never arrives, or half of it, and then the connection is reset."""
    return _lose_next(sim, "down", 0.05)


@fault
def late_register(sim: "Simulation") -> bool:
    """A `register` of a socket that the worker has abandoned is processed after the next one (F03)."""
    worker = sim.any_worker()
    if worker is None or worker.name in sim.on_connect:
        return False

    def watch(conn: Conn) -> None:
        def delay(item: Item) -> bool:
            if not (isinstance(item, str) and "register" in item) and not isinstance(item, bytes):
                return False
            if isinstance(item, bytes) and item.startswith(b"GET"):
                return False
            conn.up.on_push = None
            release = conn.up.stall()
            conn.up.put(item)
            sim.later(sim.chance.uniform(0, 0.1), conn.owner, lambda: conn.to_client(RST))
            sim.later(sim.chance.uniform(0.3, 6), conn.owner, release)
            return True

        conn.up.on_push = delay

    sim.on_connect[worker.name] = watch
    conn = sim.conn_of(worker.name)
    if conn is not None:
        conn.break_(0.0, 0.0)
    return True


@fault
def register_into_nothing(sim: "Simulation") -> bool:
    """The connection dies with the next `register` on it, and nobody notices."""
    worker = sim.any_worker()
    if worker is None or worker.name in sim.on_connect:
        return False

    def watch(conn: Conn) -> None:
        def die(item: Item) -> bool:
            if isinstance(item, bytes) and item.startswith(b"GET"):
                return False
            conn.break_(NEVER, sim.chance.uniform(25, 50))
            sim.disturbed(conn.owner)
            return True

        conn.up.on_push = die

    sim.on_connect[worker.name] = watch
    conn = sim.conn_of(worker.name)
    if conn is not None:
        conn.break_(0.0, 0.0)
    return True


@fault
def stall(sim: "Simulation") -> bool:
    """Nothing passes for a while, one way or both; then everything does."""
    conn = sim.any_conn()
    if conn is not None:
        up, down = sim.chance.choice(((True, True), (True, False), (False, True)))
        sim.hold(sim.chance.choice((2.0, 15.0, 60.0)) * sim.chance.random(), conn.stall(up=up, down=down), conn.owner)
    return conn is not None


@fault
def slow(sim: "Simulation") -> bool:
    """Everything takes seconds."""
    conn = sim.any_conn()
    if conn is None:
        return False
    faster = conn.up.slow(sim.chance.uniform(0.2, 4)), conn.down.slow(sim.chance.uniform(0.2, 4))

    def both() -> None:
        for release in faster:
            release()

    sim.hold(sim.chance.uniform(5, 60), both, conn.owner)
    return True


@fault
def not_reading(sim: "Simulation") -> bool:
    """The server stops reading: sends block (and the worker's own messages fill the window)."""
    conn = sim.any_conn()
    if conn is None:
        return False
    conn.up.WINDOW = 1
    release = conn.stall(up=True, down=False)

    def read_again() -> None:
        conn.up.WINDOW = type(conn.up).WINDOW
        release()

    sim.hold(sim.chance.uniform(5, 40), read_again, conn.owner)
    return True


@fault
def swizzle(sim: "Simulation") -> bool:
    """Some connections are stalled one by one, and released in another order."""
    conns = [conn for conn in map(sim.conn_of, sim.names()) if conn is not None and sim.chance.random() < 0.7]
    sim.chance.shuffle(conns)
    for conn in conns:
        sim.later(
            sim.chance.uniform(0, 5),
            conn.owner,
            lambda conn=conn: sim.hold(  # type: ignore[misc]
                sim.chance.uniform(1, 25), conn.stall(up=True, down=True), conn.owner
            ),
        )
    return bool(conns)


@fault
def server_ping(sim: "Simulation") -> bool:
    conn = sim.any_conn()
    if conn is not None:
        conn.codec.ping()
    return conn is not None


@fault
def server_closes(sim: "Simulation") -> bool:
    """With one of the codes that were seen (F28, F35)."""
    conn = sim.any_conn()
    if conn is not None:
        conn.server_closes(sim.chance.choice(CODES), "")
    return conn is not None


# --- the server as a whole --------------------------------------------------------------------------------------------


@fault
def door(sim: "Simulation") -> bool:
    """Dials meet trouble for a while; often the open links are cut first, or nobody would dial."""
    whom = sim.chance.choice((*sim.names(), "", ""))
    entry = (sim.chance.choice(DOORS), whom)
    sim.server.doors.append(entry)
    sim.trace.faults[f"door {entry[0]}"] += 1
    for name in sim.names() if not whom else (whom,):
        conn = sim.conn_of(name)
        if conn is not None and sim.chance.random() < 0.8:
            conn.break_(0.0, sim.chance.choice((0.0, 0.0, 40.0)))
    seconds = sim.chance.choice((1.0, 10.0, 90.0, 150.0)) * sim.chance.random()
    sim.hold(seconds, lambda: sim.server.doors.remove(entry), whom)
    return True


@fault
def restart(sim: "Simulation") -> bool:
    """The server forgets all registrations (F12), and is away for a moment."""
    sim.server.restart()
    entry = ("refused", "")
    sim.server.doors.append(entry)
    sim.hold(sim.chance.choice((0.5, 5.0)) * sim.chance.random(), lambda: sim.server.doors.remove(entry))
    return True


@fault
def forgets(sim: "Simulation") -> bool:
    """All registrations are gone, and the connections live on."""
    sim.server.forgets()
    return True


@fault
def pause(sim: "Simulation") -> bool:
    """The server's process is stopped for a while (F23)."""
    if not sim.server.resumed.is_set():
        return False
    sim.web_troubles += 1
    sim.hold(sim.chance.choice((3.0, 20.0, 45.0)) * sim.chance.random(), sim.server.pause())
    return True


@fault
def swallows(sim: "Simulation") -> bool:
    """Registers are taken and never answered; all other frames are (G05)."""
    name = sim.chance.choice(sim.names())
    if name in sim.server.swallowing:
        return False
    sim.server.swallowing.add(name)
    conn = sim.conn_of(name)
    if conn is not None and sim.chance.random() < 0.5:
        conn.break_(0.0, 0.0)
    elif sim.chance.random() < 0.5:
        sim.server.forgets()
    sim.hold(sim.chance.uniform(0.5, 30), lambda: sim.server.swallowing.discard(name), name)
    return True


@fault
def deaf(sim: "Simulation") -> bool:
    """Frames are taken and never answered; a proxy goes on answering the pings (F13)."""
    name = sim.chance.choice(sim.names())
    if name in sim.server.deaf:
        return False
    sim.server.deaf.add(name)
    sim.patient(name, 1290, "a `register` that was never answered, in what may be a storm of a million")
    conn = sim.conn_of(name)
    if conn is not None and sim.chance.random() < 0.5:
        conn.break_(0.0, 0.0)
    sim.hold(sim.chance.uniform(2, 50), lambda: sim.server.deaf.discard(name), name)
    return True
