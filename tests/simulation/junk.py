"""More faults of the same table: frames that nobody expects, from the server or from somebody through it."""

from typing import TYPE_CHECKING

from tests.simulation.faults import FAULTS, fault

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

__all__ = ["FAULTS"]

NOT_OURS = '{"type": "error", "reason": "Peer is offline"}'
"""No server that conforms sends this while a `register` is unanswered."""
JUNK: tuple[str | bytes, ...] = (
    b"\x00\xff binary",
    "no JSON",
    "[]",
    "null",
    '{"type": 7}',
    '{"no": "type"}',
    NOT_OURS,
    '{"type": "error", "code": "UNKNOWN_MESSAGE_TYPE", "message": "?"}',
    '{"type": "metadata_updated", "peer_id": "somebody-else", "metadata": {}}',
    '{"type": "registered_auth"}',
    '{"type": "peer_message", "from_peer_id": "x", "payload": {"worker_state_echo": "old"}}',
    '{"type": "ping"}',
    '{"type": "admin_conflict", "room_id": "x", "current_admin": "y"}',
    '{"x": NaN}',
    "[" * 5000,
)


@fault
def junk(sim: "Simulation") -> bool:
    """The server, or somebody through it, sends what nobody expects."""
    conn = sim.any_conn()
    if conn is not None:
        for _ in range(sim.chance.choice((1, 3, 300))):
            conn.codec.junk(sim.chance.choice(JUNK))
    return conn is not None


@fault
def junk_before_answer(sim: "Simulation") -> bool:
    """Other frames come before the answer to the next `register` (F24)."""
    conn = sim.any_conn()
    if conn is not None:
        sim.server.before_answer[conn.owner] = [
            sim.chance.choice([each for each in JUNK if each != NOT_OURS]) for _ in range(3)
        ]
        conn.break_(0.0, 0.0)
    return conn is not None
