"""The sentence of the design, tried: whatever network, server and clock do, in the end the worker is found as it is.

A share of the long run (`benchmarks/simulate.py`), small enough for every test run. The seeds are fixed, so a failure
is always there again.
"""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.coverage import BRANCHES, missing
from tests.simulation.floods import FAULTS
from tests.simulation.plan import Plan, calm, draw
from tests.simulation.result import Violation
from tests.simulation.runs import Tally, run_plan
from tests.simulation.world import simulate
from tests.support.processes import environment

ROOT = Path(__file__).parents[2]
SHARES = 3  # processes of the longest test, which all others would have to wait for

DENSE = tuple(range(len(FAULTS) + 13))
"""None, each fault alone, and twelve mixtures."""
SPARSE = Plan(
    seed=7,
    kinds=("own", "own", "member"),
    programs=("idle", "jobs", "idle"),
    seconds=2.2 * 3600.0,
    interval=240.0,
)
"""Long enough for tokens and rooms to run out by themselves, between faults."""

DOORS = Plan(seed=9, kinds=("own", "own"), programs=("idle", "jobs"), seconds=6000.0, interval=60.0, faults=("door",))
"""Every way in which a dial can fail, often enough to meet them all."""
CROWD = Plan(
    seed=11,
    level="bytes",
    kinds=("own", "member"),
    programs=("idle", "jobs"),
    seconds=600.0,
    interval=5.0,
    faults=("flood", "neighbours"),
)
"""Every kind of flood and of neighbour."""
UNHEARD = Plan(seed=32, kinds=("own", "own"), programs=("idle", "jobs"), seconds=120.0, interval=15.0, faults=("deaf",))
"""A link is given up after twenty minutes without an answer to its `register`."""


def test_every_worker_is_found_as_it_is_once_the_faults_are_over() -> None:
    """Through hundreds of faults, of every kind and with every branch of recovery, nothing is violated."""
    tally = Tally()
    with ProcessPoolExecutor(SHARES, mp_context=get_context("spawn")) as pool:
        for outcome in pool.map(run_plan, (SPARSE, DOORS, CROWD, UNHEARD, *map(draw, DENSE))):
            tally.add(outcome)
    assert not tally.failed, tally.complaint()
    assert missing(tally.faults, tally.branches) == []
    assert tally.took_hold >= 500
    assert tally.worker_seconds >= 24 * 3600  # with the calm ones below it is more than thirty
    assert len(tally.healed) + len(tally.healed_slowly) >= 50


def test_nothing_needs_healing_where_nothing_goes_wrong() -> None:
    """Hours without a fault: tokens are renewed and rooms replaced in time, and nothing else happens."""
    outcome = run_plan(calm(1, hours=2.2))
    assert outcome.violations == []
    assert outcome.worker_seconds >= 8 * 3600
    happened = outcome.branches
    # A room of one's own is replaced after 108 to 110 minutes: by the two workers who do not share one.
    assert happened["link dropped: a new room needs a new socket"] == 2
    # A sign-in at the start, and then after 48 to 51 minutes each.
    assert happened["IdentityCreated"] == 4 * 3


def test_the_same_seed_gives_the_same_trace_in_any_process() -> None:
    program = (
        "import sys\n"
        "from tests.simulation.plan import Plan\n"
        "from tests.simulation.world import simulate\n"
        "for level in ('fast', 'bytes'):\n"
        "    plan = Plan(seed=5, level=level, kinds=('own', 'member', 'own'), programs=('restless', 'jobs', 'idle'),\n"
        "        seconds=120.0, interval=1.0)\n"
        "    sys.stdout.write('\\n'.join(simulate(plan, whole_trace=True).trace.lines()))\n"
    )

    def start(hash_seed: str) -> subprocess.Popen[bytes]:
        env = environment(PYTHONHASHSEED=hash_seed, PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]))
        return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=env, stdout=subprocess.PIPE)

    with start("1") as one, start("2") as other:
        first, second = one.communicate(timeout=60)[0], other.communicate(timeout=60)[0]
    assert one.returncode == other.returncode == 0
    assert len(first.splitlines()) > 600
    assert first == second


def test_a_broken_promise_is_reported_with_the_seed_that_shows_it_again() -> None:
    tally = Tally()
    outcome = run_plan(Plan(seed=3, seconds=30.0, faults=("reset",), interval=5.0))
    outcome.violations.append(Violation("right", "w0.1", "made up", 1.0))
    tally.add(outcome)
    assert "benchmarks.simulate --seed 3 --trace" in tally.complaint()


def test_the_catalogue_is_whole() -> None:
    assert len(FAULTS) >= 35
    assert len(BRANCHES) == len(set(BRANCHES))
    assert simulate(Plan(seed=1, seconds=5.0, faults=())).violations == []
