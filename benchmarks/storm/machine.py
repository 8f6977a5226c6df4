"""What this machine gives to a storm: open files, ports to dial from, and room in the kernel's queue."""

import math
import resource
from pathlib import Path

DIALS_EACH = 2
"""Sockets of one worker at the same time: a dial that is kept, and one beside it."""
OTHER_FILES = 64
NETWORK = Path("/proc/sys/net")


def open_files() -> float:
    """How many each process of ours may have from now on: all that the system allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return math.inf if hard == resource.RLIM_INFINITY else hard


def ports() -> float:
    """How many the kernel gives to dialling sockets of one address, where that is known."""
    try:
        first, last = map(int, (NETWORK / "ipv4/ip_local_port_range").read_text("ascii").split())
    except (OSError, ValueError):
        return math.inf
    return last - first + 1


def longest_queue() -> int:
    """The kernel cuts every backlog to this, where that is known."""
    try:
        return int((NETWORK / "core/somaxconn").read_text("ascii"))
    except (OSError, ValueError):
        return 4096


def too_little(workers: int, processes: int, *, files: float, ports: float) -> list[str]:
    """What the machine has too little of for so many workers."""
    needed = max(workers, DIALS_EACH * math.ceil(workers / processes)) + OTHER_FILES
    found = []
    if files < needed:
        found.append(f"a process needs {needed} open files, and this system allows {files:g} (more --processes?)")
    if ports < DIALS_EACH * workers:
        found.append(f"{DIALS_EACH * workers} ports are needed, and 127.0.0.1 dials from {ports:g}")
    return found
