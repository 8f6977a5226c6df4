"""More faults of the same table: workers that are stopped, and workers that are told to go at the worst moment."""

from typing import TYPE_CHECKING

from tests.simulation.faults import NEVER, fault
from tests.simulation.strangers import FAULTS, cut_or_forget, token_expires, web

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

__all__ = ["FAULTS"]


@fault
def leaves_while_web_fails(sim: "Simulation") -> bool:
    """The exit meets an HTTP server that is no help."""
    web(sim)
    worker = sim.any_worker()
    if worker is not None:
        worker.leave()
    return worker is not None


@fault
def leaves_half_open(sim: "Simulation") -> bool:
    """The exit meets a connection that is dead without knowing it, or a server that reads nothing."""
    worker = sim.any_worker()
    conn = None if worker is None else sim.conn_of(worker.name)
    if worker is None or conn is None:
        return False
    if sim.chance.random() < 0.5:
        conn.break_(NEVER, sim.chance.uniform(20, 50))
    else:
        sim.hold(sim.chance.uniform(1, 30), conn.stall(up=True, down=True), conn.owner)
    sim.later(sim.chance.choice((0.0, 0.5, 20.0)), worker.name, worker.leave)
    return True


@fault
def leaves_while_signing_in(sim: "Simulation") -> bool:
    """A user is being created whose name the worker does not know yet."""
    if not token_expires(sim):
        return False
    for name in sim.names():
        sim.server.on_sign_in[name] = sim.living[name].leave
    return True


@fault
def leaves_while_registering(sim: "Simulation") -> bool:
    """The store is slow, and the answer to the `register` is not there yet: a Close frame would leave a ghost (F31)."""
    if sim.server.store_is_slow:
        return False
    sim.server.store_is_slow = True

    def hurry() -> None:
        sim.server.store_is_slow = False

    for name in sim.names():
        if sim.chance.random() < 0.7:
            sim.server.on_registering[name] = sim.living[name].leave
    cut_or_forget(sim)
    sim.hold(20.0, hurry)
    return True


@fault
def workers_stopped(sim: "Simulation") -> bool:
    """SIGSTOP and SIGCONT, or the lid is closed and opened."""
    sim.stop_workers(sim.chance.choice((1.0, 15.0, 60.0, 600.0)) * sim.chance.random())
    return True


@fault
def worker_leaves(sim: "Simulation") -> bool:
    """At any instant; another one takes its place."""
    worker = sim.any_worker()
    if worker is not None:
        worker.leave()
    return worker is not None
