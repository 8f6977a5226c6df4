"""The addresses behind a host's name: looked up in threads of their own, and those that failed us are tried last."""

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import trio

LOOK_UPS = 40
"""Threads for look-ups in one run of trio, apart from trio's own: a program's jobs in threads must not starve them."""

Address: TypeAlias = tuple[Any, Any, int, str, Any]
"""As `socket.getaddrinfo` gives it: family, kind, protocol, name, and what to connect to, the IP address first."""

_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("worker_state_look_ups")


def limiter(of_run: "trio.lowlevel.RunVar[trio.CapacityLimiter]", tokens: int) -> trio.CapacityLimiter:
    """The limiter in this variable of the run, made by the first who asks."""
    try:
        return of_run.get()
    except LookupError:
        of_run.set(trio.CapacityLimiter(tokens))
        return of_run.get()


async def look_up(host: str, port: int) -> list[Address]:
    """The addresses of a host, in the order of the resolver: the program's own, if it has given trio one. Raises
    `OSError`, `UnicodeError`, and whatever else a resolver raises, or a thread that cannot start."""
    own = trio.socket.set_custom_hostname_resolver(None)  # the only way to ask for it
    trio.socket.set_custom_hostname_resolver(own)
    if own is not None:
        return list(await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    ask: Callable[..., list[Address]] = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    with suppress(socket.gaierror):
        return ask(flags=socket.AI_NUMERICHOST)  # an address: nothing to look up
    return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter(_threads, LOOK_UPS))


class Addresses:
    """The addresses of one host. One that was tried comes last until it has served us: what fails behind TCP makes the
    next try begin with another (faults.md, G32)."""

    def __init__(self) -> None:
        self._tried: list[str] = []  # and have not served since; the last one last

    async def find(self, host: str, port: int) -> list[Address]:
        """The addresses in the order in which they are to be tried. Raises as `look_up`."""
        found = await look_up(host, port)
        names = [str(each[4][0]) for each in found]
        self._tried = [name for name in self._tried if name in names]
        order = sorted(
            range(len(found)), key=lambda at: self._tried.index(names[at]) + 1 if names[at] in self._tried else 0
        )
        return [found[at] for at in order]

    def tried(self, name: str) -> None:
        """A try with this IP address begins."""
        self.served(name)
        self._tried.append(name)

    def served(self, name: str) -> None:
        """There was an answer from behind this one."""
        with suppress(ValueError):
            self._tried.remove(name)
