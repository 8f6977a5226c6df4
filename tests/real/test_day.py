"""A day in a minute: a worker and its server as processes whose clocks run at least a hundred times as fast."""

import os
import resource
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.real.day import LONGEST, MINUTE, SHORTEST, Day, plan
from tests.real.fast_clock import FASTEST, SLOWEST, FastClock, held_up, library
from tests.real.observer import Observer
from tests.support.processes import spawning

WALL = 69.6
"""Seconds of the real clock, about."""
MORE = 2.0
"""MiB by which a worker's memory may be more at the end than after its first jobs and disturbances."""


def rate_of(late: float) -> float:
    """How fast the clocks run on a machine that delays a process by so many seconds: that must stay well below the 12 s
    that an answer may take."""
    return min(FASTEST, max(SLOWEST, 12.0 / (4 * late)))


def _range(sizes: list[tuple[float, float, int]]) -> str:
    if not sizes:
        return "nothing"
    mib, files = [size[1] for size in sizes], [size[2] for size in sizes]
    return f"{min(mib):.1f} to {max(mib):.1f} and {min(files)} to {max(files)}"


def test_the_observer_takes_a_disturbance_for_a_reason_only_for_its_time() -> None:
    """A wrong status is wrong unless a disturbance was before it, and not for longer than that may be seen; a room that
    is renewed has a minute."""
    now = 0.0
    observer = Observer(lambda: now, peer_id="me")

    def look(at: float, status: str, room: str = "room") -> None:
        nonlocal now
        now = at
        found = {"peer_id": "me", "room_id": room, "status": status, "job_id": None}
        observer.looked(at, [found] if status else [])

    with observer.disturbance("a restart"):
        look(10.0, "")
    observer.held_up(5.0, badly=False)
    look(75.0, "busy")
    look(75.0, "available")
    assert (observer.wrong, observer.held, observer.slowest) == ([], 0, {"a restart": 65.0})
    observer.held_up(5.0, badly=False)
    look(81.0, "busy")
    observer.disturbed("too late to be the reason")
    look(82.0, "available")
    assert [each[:10] for each in observer.wrong] == ["minute 1.4"]
    look(200.0, "")
    look(210.0, "available", "another room")
    look(300.0, "")
    observer.held_up(1.0, badly=True)
    look(301.0, "available", "another room")
    assert (len(observer.wrong), observer.moves, observer.held) == (1, 1, 4)
    look(400.0, "")
    observer.end_spell()
    assert len(observer.wrong) == 2


def test_a_day_has_its_jobs_and_disturbances() -> None:
    """However long it is, nothing begins in its last minutes, and no two steps meet."""
    whole = plan(1440)
    assert Counter(step for _, step in whole) == {"job": 48, "restart": 8, "suspend": 8, "new certificate": 8}
    assert min(after - before for (before, _), (after, _) in pairwise(whole)) >= 5
    assert [step for _, step in plan(SHORTEST)] == ["restart", "job", "suspend", "job", "job", "new certificate", "job"]


# What is watched is the worker's process. In this one a stall of the machine may cut the dial of a client short, and
# the garbage collector closes its socket.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
async def test_a_day_in_a_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through jobs, renewals, restarts of its server, a suspend and a new certificate a worker is found with its true
    status whenever somebody looks, but for the seconds after a disturbance; it grows by nothing and leaves nothing."""
    if (faketime := library()) is None:
        pytest.skip("libfaketime, which makes the clocks of processes fast, is not installed (Debian: faketime)")
    rate = rate_of(late := held_up())
    hours = float(os.environ.get("DAY_HOURS", "0"))
    minutes = hours * MINUTE or min(LONGEST, max(SHORTEST, rate * WALL / MINUTE))
    began = time.monotonic()
    with spawning() as spawn:
        day = Day(FastClock(faketime, rate), spawn, tmp_path, minutes)
        await day.run()
    observer, used = day.observer, resource.getrusage(resource.RUSAGE_CHILDREN)
    early = [size for size in day.sizes if 35 <= size[0] < 70]
    late_ones = [size for size in day.sizes if size[0] >= minutes - 35]
    took = time.monotonic() - began
    told = [
        f"{minutes / 60:.1f} h at x{rate:.0f} in {took:.0f} s, on a machine that is {1000 * late:.0f} ms late",
        f"CPU: {used.ru_utime + used.ru_stime:.1f} s of children, {time.process_time():.1f} s of this process",
        f"{observer.looks} looks, {observer.held} bound to be right; {day.machine.stalls} stalls of the machine",
        f"seconds until found again: { {why: round(most, 1) for why, most in observer.slowest.items()} }",
        f"{observer.moves} moves, {day.unheard} ends unheard, log: {dict(day.events)}",
        f"MiB and descriptors: {_range(early)} early, {_range(late_ones)} late",
        f"code {day.code}; users and rooms left: {day.left}; wrong: {observer.wrong[:3]}",
    ]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(told) + "\n")
    assert observer.wrong == []
    if observer.held < observer.looks / 10 or not early or not late_ones:
        pytest.skip("this machine was too busy: at nearly every look it had just held a process up")
    assert day.unheard <= day.machine.stalls
    restarts = sum(step == "restart" for _, step in plan(minutes))
    assert min(day.events["renewed sign_in"], day.events["renewed room_creation"]) > restarts
    assert max(size[1] for size in late_ones) <= max(size[1] for size in early) + MORE
    assert min(size[2] for size in late_ones) <= min(size[2] for size in early)
    assert (day.code, day.left) == (0, (0, 0))
