"""A server, a worker and a client on an island: a network namespace with nothing but a loopback of its own, which is
taken down, or loses packets, and comes back.

Run as a program in such a namespace: `unshare --user --map-root-user --net python -m tests.real.island FOLDER`. Says in
one line for each case that the worker was found, or ends with what went wrong.
"""

import subprocess
import sys
from pathlib import Path

import trio

from tests.real.keeper import Server, keeping
from tests.real.living import is_found, living, responsive_loop, takes_effect_at_once


def system(*words: str) -> bool:
    """Whether this command of the system's works here."""
    try:
        return subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0
    except FileNotFoundError:
        return False


Words = tuple[str, ...]
FAULTS: dict[str, tuple[Words, Words]] = {
    # The cable is pulled: what is sent goes nowhere.
    "link down": (("ip", "link", "set", "lo", "down"), ("ip", "link", "set", "lo", "up")),
    # A firewall that drops: nobody is told anything.
    "no packet arrives": (
        ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "100%"),
        ("tc", "qdisc", "del", "dev", "lo", "root"),
    ),
}
"""How each begins and ends."""


async def _one(server: Server, begin: Words, end: Words) -> None:
    async with living(server) as worker:
        worker.manager.set_reserved("before")
        await worker.manager.synced()
        assert system(*begin)
        async with responsive_loop():
            await worker.until(lambda: not worker.manager.state.registered)
            takes_effect_at_once(worker, "meanwhile")
            await trio.sleep(0.3)
        assert system(*end)
        await is_found(server, worker)


async def _main(folder: Path) -> None:
    assert system("ip", "link", "set", "lo", "up")
    with keeping(folder) as server:
        for name, (begin, end) in FAULTS.items():
            possible = system(*begin) and system(*end)
            if possible:
                await _one(server, begin, end)
            sys.stdout.write(f"{name}: {'found' if possible else 'not possible here'}\n")


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]))
