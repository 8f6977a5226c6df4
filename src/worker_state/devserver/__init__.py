"""A faithful signaling server for development, tests and benchmarks; nothing of the worker's side needs it.

`rules` and what it imports are pure, and need nothing beyond the library's own packages. `server`, `sockets`, `routes`
and `faults` are the network, and need the extra `cli`: a name that lives there is loaded when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from worker_state.devserver.identities import ApiKey
from worker_state.devserver.rules import Rooms
from worker_state.extras import extra

if TYPE_CHECKING:
    from worker_state.devserver.admission import Admission, RateLimit
    from worker_state.devserver.faults import DevServer
    from worker_state.devserver.server import serve

__all__ = ["Admission", "ApiKey", "DevServer", "RateLimit", "Rooms", "serve"]

_HOMES = {"Admission": "admission", "RateLimit": "admission", "DevServer": "faults", "serve": "server"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    with extra("cli"):
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
