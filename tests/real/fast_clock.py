"""Processes whose clocks run many times as fast, by libfaketime, and what the machine does to them meanwhile."""

import time
from pathlib import Path

import trio

PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime", "/usr/lib64/faketime")
SLOWEST, FASTEST = 100.0, 400.0
STALL = 12.0
"""Seconds of the fast clock: a worker waits so long for an answer."""


def library() -> Path | None:
    """The library that makes a process's clocks fast, if this machine has it (Debian: `faketime`)."""
    found = (path for place in PLACES for path in Path("/").glob(f"{place[1:]}/libfaketimeMT.so.1"))
    return next(found, None)


def held_up(rounds: int = 100, each: float = 0.004) -> float:
    """Seconds of real time by which this machine delays, at worst, a process that sleeps and computes by turns."""
    worst = 0.0
    for _ in range(rounds):
        began = time.monotonic()
        time.sleep(each)
        computed = time.thread_time() + each
        while time.thread_time() < computed:
            pass
        worst = max(worst, time.monotonic() - began - 2 * each)
    return worst


class FastClock:
    """A clock of seconds that begins at 0, and the same clock for processes.

    It is for Linux: libfaketime makes CLOCK_REALTIME, CLOCK_MONOTONIC and CLOCK_BOOTTIME fast, and the time-outs of
    epoll and of sleeping short. The kernel's own deadlines (of TCP) stay as they are.
    """

    def __init__(self, library: Path, rate: float) -> None:
        self.rate = rate
        self._library = library
        self._began = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._began) * self.rate

    async def until(self, seconds: float) -> None:
        await trio.sleep(max(0.0, seconds - self.now()) / self.rate)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds / self.rate)

    def variables(self) -> dict[str, str]:
        """For a process that is started now: its clock is this one."""
        ahead = self.now() * (1 - 1 / self.rate)
        return {"LD_PRELOAD": str(self._library), "FAKETIME": f"+{ahead:.3f} x{self.rate:g}"}


class Machine:
    """Notices for how long processes, and this one, had to wait for a core: by a fast clock that is long."""

    def __init__(self, clock: FastClock) -> None:
        self._rate = clock.rate
        self._waited: dict[int, float] = {}
        self.stalls = 0

    def held_up(self, *pids: int) -> tuple[float, bool]:
        """The seconds of the fast clock that they waited since the last call, and whether that was so long for one of
        them that its deadlines may have passed."""
        waited = {pid: _waited(pid) for pid in (*pids, 0)}
        each = [self._rate * (now - self._waited.get(pid, now)) for pid, now in waited.items()]
        self._waited = waited
        badly = max(each) > STALL
        self.stalls += badly
        return sum(each), badly


def _waited(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid or 'self'}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def resident(pid: int) -> float:
    """MiB of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
