"""A faithful signaling server for development, tests and benchmarks; nothing of the worker's side needs it.

`rooms` and what it is made of are pure: all the rules. `app` and what it is made of are the network.
"""

from worker_state.devserver.app import serve
from worker_state.devserver.gate import Gate, Limits
from worker_state.devserver.identities import ApiKey
from worker_state.devserver.rooms import Rooms
from worker_state.devserver.server import DevServer

__all__ = ["ApiKey", "DevServer", "Gate", "Limits", "Rooms", "serve"]
