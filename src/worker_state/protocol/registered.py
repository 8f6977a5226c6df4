"""What the status actor knows of one registration: the update and the echo under way, and what the server has stored.

Made anew by each registration and gone with it: nothing old can be mistaken for new.
"""

import math
from dataclasses import dataclass, field

from worker_state.protocol import frames
from worker_state.protocol.late_acks import LateAcks
from worker_state.protocol.probe import Misses, Schedule


@dataclass(slots=True)
class Update:
    """The one `update_metadata` under way. A look changes nothing: it asks what the server has stored."""

    revision: int
    record: frames.Message
    answer_by: float
    is_look: bool


@dataclass(slots=True)
class Registered:
    """A registration that the server has accepted."""

    epoch: int  # the link of the registration
    peer_id: str
    schedule: Schedule
    confirmed: int | None
    """The revision that the server has stored, or None when it was seen to have stored something else."""
    written: int  # the revision that the server was last told, by the registration or by an update
    owed: LateAcks  # the late answers that may come before those that are waited for
    update: Update | None = None
    look_due: bool = False
    full_due: bool = False
    nonce: str | None = None  # the echo under way
    echo_by: float = math.inf
    misses: Misses = field(default_factory=Misses)
