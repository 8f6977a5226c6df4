"""What must have happened over many seeds: every fault, every branch of recovery. A run without them proves nothing.

Branches are the notes of the product's actors (`office.branch`), its log lines, and what the server answered.
"""

from collections import Counter

from tests.simulation.faults import DOORS
from tests.simulation.floods import FAULTS, FLOODS, NEIGHBOURS
from tests.simulation.web import MOODS

FAULT_NAMES = (
    *FAULTS,
    *(f"door {mood}" for mood in DOORS),
    *(f"web {mood}" for mood in MOODS),
    *(f"flood {kind}" for kind in FLOODS),
    *(f"neighbours {kind}" for kind in NEIGHBOURS),
)

BRANCHES = (
    # how dials and links end
    "dial failed: REFUSED",
    "dial failed: UNREACHABLE",
    "dial failed: NO_ANSWER",
    "dial failed: UNACKNOWLEDGED",
    "dial failed: UNANSWERED",
    "dial failed: SHED",
    "dial failed: REJECTED",
    "dial failed: GARBAGE",
    "dial failed: CLOSED",
    "link lost: CLOSED",
    "link lost: SILENT",
    "link lost: STUCK",
    "link lost: DROPPED",
    "link lost: MOVED",
    "link lost: UNREGISTERED",
    "link dropped: a new room needs a new socket",
    # how registrations end and are refused
    "forgotten: the server has forgotten this worker: it answers NOT_IN_ROOM",
    "forgotten: no answer to frames",
    "held: DynamoDB error",
    "held: the ID token is refused",
    "held: room not found",
    "held: room expired",
    "held: wrong room token",
    "held: the server has swallowed a register",
    "link dropped: the server has swallowed a register twice",
    "refused: Invalid token",
    "refused: Invalid token (identity)",
    "refused: Room expired",
    "refused: Room not found",
    "refused: DynamoDB error",
    "register again on the same link",
    "register on a new link",
    "late eviction",
    "late end while registering",
    # renewals, start, exit
    "IdentityCreated",
    "IdentityFailed",
    "RoomCreated",
    "RoomFailed",
    "StartupAborted",
    "Reregister",
    "StartLeaving",
    "PresenceProved",
    "StatusConfirmed",
    "signal: Disconnected",
    "SignalDropped",
    "AnswersDelayed",
    # said to people
    "log: this process stood still",
    "log: forgotten %d times within an hour",
    "log: an identity could not be deleted",
    "log: not everything could be deleted",
    "log: status %s cannot be sent",
    "repairing it",
    "ignored: an acknowledgement of",
    "ignored: an echo that is not ours",
)

RARE = ("log: could not register again",)
"""These only have to happen in a long run."""


def missing(faults: Counter[str], branches: Counter[str], *, long: bool = False) -> list[str]:
    """What has not happened; a branch is recognised by any part of its name."""
    wanted = BRANCHES + RARE if long else BRANCHES
    never = [f"fault {name}" for name in FAULT_NAMES if not faults[name]]
    return never + [f"branch {name}" for name in wanted if not any(name in seen for seen in branches)]
