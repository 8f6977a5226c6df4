"""The registration's state machine, as a table, which docs/pictures/states.svg shows.

What happens at a step (frames, timers, logs) belongs to the registration actor.
"""

from enum import StrEnum


class Phase(StrEnum):
    """How far the registration has come on the present link."""

    OFFLINE = "offline"  # there is no link
    UNREGISTERED = "unregistered"  # there is a link, but no registration through it, and none on its way
    REGISTERING = "registering"  # a `register` is unanswered: the link may be aborted, not closed politely (F31)
    REGISTERED = "registered"  # the server has accepted, which is not yet proof (protocol.md, 3)
    LEAVING = "leaving"  # the exit has begun: nothing registers any more (F32)


class Step(StrEnum):
    """What can happen to a registration."""

    LINK_OPENED = "link opened"
    LINK_LOST = "link lost"
    REGISTER_SENT = "register sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    SWALLOWED = "swallowed"
    FORGOTTEN = "forgotten"
    LEAVE_BEGUN = "leave begun"


class IllegalStep(Exception):
    """A step was taken that is not in the table: a bug of ours, never the network's."""


TABLE: dict[tuple[Phase, Step], Phase] = {
    (Phase.OFFLINE, Step.LINK_OPENED): Phase.UNREGISTERED,
    (Phase.UNREGISTERED, Step.REGISTER_SENT): Phase.REGISTERING,
    (Phase.UNREGISTERED, Step.ACCEPTED): Phase.REGISTERED,
    (Phase.UNREGISTERED, Step.LINK_LOST): Phase.OFFLINE,
    (Phase.REGISTERING, Step.ACCEPTED): Phase.REGISTERED,
    (Phase.REGISTERING, Step.REFUSED): Phase.UNREGISTERED,
    (Phase.REGISTERING, Step.SWALLOWED): Phase.UNREGISTERED,
    (Phase.REGISTERING, Step.LINK_LOST): Phase.OFFLINE,
    (Phase.REGISTERED, Step.REGISTER_SENT): Phase.REGISTERING,
    (Phase.REGISTERED, Step.FORGOTTEN): Phase.UNREGISTERED,
    (Phase.REGISTERED, Step.LINK_LOST): Phase.OFFLINE,
    (Phase.OFFLINE, Step.LEAVE_BEGUN): Phase.LEAVING,
    (Phase.UNREGISTERED, Step.LEAVE_BEGUN): Phase.LEAVING,
    (Phase.REGISTERING, Step.LEAVE_BEGUN): Phase.LEAVING,
    (Phase.REGISTERED, Step.LEAVE_BEGUN): Phase.LEAVING,
}


def after(phase: Phase, step: Step) -> Phase:
    """The phase that follows. Raises `IllegalStep` for a pair that is not in the table."""
    try:
        return TABLE[phase, step]
    except KeyError:
        raise IllegalStep(f"{step.value!r} cannot happen while {phase.value}") from None
