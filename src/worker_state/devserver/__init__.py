"""A faithful signaling server for development, tests and benchmarks; nothing of the worker's side needs it.

`rules` and what it imports are pure; `server`, `sockets`, `routes` and `faults` are the network.
"""

from worker_state.extras import extra

with extra("cli"):
    from worker_state.devserver.admission import Admission, RateLimit
    from worker_state.devserver.faults import DevServer
    from worker_state.devserver.identities import ApiKey
    from worker_state.devserver.rules import Rooms
    from worker_state.devserver.server import serve

__all__ = ["Admission", "ApiKey", "DevServer", "RateLimit", "Rooms", "serve"]
