"""A resolver for tests, which have no name server: `trio.socket.set_custom_hostname_resolver(Resolver())`."""

import socket
from typing import Any

import trio


class Resolver(trio.abc.HostnameResolver):
    """Gives every name these addresses, or raises while there is an `error`."""

    def __init__(self, *addresses: str, error: Exception | None = None) -> None:
        self.error = error
        self.raised = 0  # how often
        self._addresses = addresses

    async def getaddrinfo(self, host: object, port: object, *_: object, **__: object) -> list[Any]:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            self.raised += 1
            raise self.error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self._addresses]

    async def getnameinfo(self, *_: object, **__: object) -> tuple[str, str]:
        raise NotImplementedError
