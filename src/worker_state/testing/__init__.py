"""A kit for the tests of your own worker: a signaling server for one test, and everything that can go wrong with it.

    async with in_memory() as kit:      # under MockClock: an hour of outage takes a moment
    async with on_sockets() as kit:     # real sockets on loopback, for any kind of worker; needs the extra `cli`

Your worker starts with `kit.config()`, and with the ordinary entry points. docs/how-to/testing.md shows a whole test.
"""

from worker_state.devserver.identities import ApiKey
from worker_state.testing.client import Client
from worker_state.testing.kit import Kit
from worker_state.testing.memory import MemoryServer
from worker_state.testing.memory_kit import MemoryKit, in_memory
from worker_state.testing.memory_socket import MemorySocket
from worker_state.testing.server_rules import Rules
from worker_state.testing.socket_kit import SocketKit, on_sockets

__all__ = [
    "ApiKey",
    "Client",
    "Kit",
    "MemoryKit",
    "MemoryServer",
    "MemorySocket",
    "Rules",
    "SocketKit",
    "in_memory",
    "on_sockets",
]
