"""Which storms there are: what the server does before, while and after it is gone. Data only."""

from dataclasses import dataclass, field
from typing import Any, Literal

ROOM = 128
"""Workers that a shedding server keeps waiting."""


@dataclass(frozen=True)
class Scenario:
    """One way for a server to go and to come back."""

    name: str
    text: str
    limits: dict[str, Any] = field(default_factory=dict)
    """Its admission control beside the capacity; a backlog of its own is part of the scenario."""
    down: float | None = None
    """Seconds, where the scenario makes no sense with the usual ones."""
    goodbye: bool = False
    """All links are closed with 1012 first."""
    front: str | None = None
    """Who answers in the server's place while it is down: "close", or the status that is answered."""
    stopped: bool = False
    """Stopped and continued, not killed."""
    flaps: int = 0
    """So many times it comes back for a few seconds only."""
    kind: Literal["storm", "blip", "cold"] = "storm"
    """What happens to the workers: they lose their server, or one link each, or begin to exist."""
    workers: int = 2000
    """How many, where nothing else is said."""


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("roomy", "killed; on its return everybody fits into the kernel's backlog"),
        Scenario("half", "killed; on its return 1,024 fit into the kernel's backlog", {"backlog": 1024}),
        Scenario("narrow", "killed; on its return 128 fit into the kernel's backlog", {"backlog": 128}),
        Scenario("happy", "killed; then accepts and upgrades all at once, and answers slowly", {"at": "register"}),
        Scenario("goodbye", "says 1012 to all before it goes", goodbye=True),
        Scenario("shed", "503 while 128 wait", {"at": "register", "room": ROOM}),
        Scenario(
            "shed-constant",
            "503 with Retry-After: 30 to everybody",
            {"at": "register", "room": ROOM, "retry_after": 30.0},
        ),
        Scenario(
            "shed-ticket",
            "503, each with the Retry-After of a slot of his own",
            {"at": "register", "room": ROOM, "retry_after": "ticket"},
        ),
        Scenario("front-close", "a front accepts and closes while the server is down", front="close", down=15.0),
        Scenario("front-502", "a front answers 502 while the server is down", front="502", down=15.0),
        Scenario("stopped", "stopped for a minute, then continued", stopped=True, down=60.0),
        Scenario("blip", "stays; one worker's link is cut after the other", kind="blip", workers=200),
        Scenario("cold", "is as fast as it can; all workers start at once, with sign-in and room", kind="cold"),
        Scenario("cold-slow", "admits at its rate; all workers start at once", {"at": "register"}, kind="cold"),
        Scenario("flapping", "back for a few seconds twice, then for good", flaps=2),
    )
}
UP_FOR = 6.0
"""Seconds that a flapping server stays."""


def limits(scenario: Scenario, capacity: float, backlog: int) -> dict[str, Any]:
    """The limits as a whole."""
    return {"capacity": capacity, "backlog": backlog, **scenario.limits}
