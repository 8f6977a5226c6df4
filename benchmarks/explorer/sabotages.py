"""The sabotages of `benchmarks/mutants.py`, each to be found by the explorer, or with the reason why it cannot be."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.explorer.quiet import calm
from benchmarks.explorer.search import STARTS, Found, Limits, Search
from benchmarks.mutants import Mutant, run_over

BY_FILE = {
    "actors/connection.py": "the connection actor is a model here",
    "actors/link.py": "the link is a model here",
    "actors/cleanup.py": "the cleanup actor is a model here",
    "actors/runner.py": "the runner is a model here",
    "net/dial.py": "the dial is a model here",
    "protocol/reconnect.py": "the pauses between dials are constant here",
}
BY_NAME = {
    "no full update with the steady echo": "the record is right without it; what health says of it is not judged",
    "HTTP is tried again at once": "how often a failing call is made is not judged",
    "the refusal of an ID token condemns its successor": "it costs a sign-in more; the worker is found in time",
    "an error with a code refuses a register": "it costs seconds; the worker is found in time",
    "an exception for a frame of a strange shape": "all frames come from the real rules, which send none",
    "a link once silent stays in doubt": "it costs the link instead of a register; the worker is found in time",
    "an update for every flip of the status": "how often updates are sent is not judged",
    "a neighbour's deep record hides that we are registered": "there are no neighbours",
    "an acceptance in whatever room": "the real rules accept in the room that was asked for",
}

HUNT = """
import json, logging
logging.disable(logging.CRITICAL)
from benchmarks.explorer.sabotages import hunt
print(json.dumps(hunt()))
"""


def inexpressible(mutant: Mutant) -> str | None:
    """Why the explorer cannot find this one; None: it has to."""
    return BY_NAME.get(mutant.name, BY_FILE.get(mutant.file))


def calm_complaint() -> Found | None:
    """A violation of three calm hours."""
    for start in STARTS:
        if not start.registered and (complaint := calm(start.world())) is not None:
            return Found(violation=complaint, trace=[f"{start}, and nothing happens", f"violated: {complaint}"])
    return None


def hunt(seconds: float = 60.0) -> dict[str, object] | None:
    """The violation that this process finds in so many seconds of each kind of search, as a dict of `Found`."""
    found = calm_complaint()
    for unread in (False, True):
        if found is None or found.violation is None:
            limits = Limits(depth=12, troubles=2, seconds=seconds, unread=unread)  # as without a sabotage
            found = Search(limits).run(STARTS)
    return None if found is None or found.violation is None else asdict(found)


def find(source: Path) -> Found | None:
    """The same over this copy of the product, in a process of its own."""
    run = run_over(source, HUNT, (), 1800.0)
    if run is None:
        return None
    if run.returncode != 0:
        return Found(violation=run.stderr.strip().rpartition("\n")[2], trace=[run.stderr])
    found = json.loads(run.stdout)
    return None if found is None else Found(**found)
