"""worker_state: a worker that is alive is discoverable, with its true status, always.

The public names, and nothing else. What brings in trio and the network is loaded when it is asked for, and so is what
only some workers use: the command line and its completion in the shell need none of it to say what they can do.
"""

from typing import TYPE_CHECKING, Any

from worker_state.core.config import Config, Timing
from worker_state.core.errors import (
    ConfigError,
    Disconnected,
    RegistrationRefused,
    RoomCreationFailed,
    SessionStringError,
    SignInFailed,
    StartupFailed,
    WorkerStateError,
)
from worker_state.core.session import SessionString
from worker_state.core.state import State
from worker_state.core.status import WorkerStatus
from worker_state.sources import load_config

if TYPE_CHECKING:
    from worker_state.facade import Manager
    from worker_state.health import serve_health
    from worker_state.manager import open_state_manager, run_state_manager
    from worker_state.systemd import notify_systemd

__all__ = [
    "Config",
    "ConfigError",
    "Disconnected",
    "Manager",
    "RegistrationRefused",
    "RoomCreationFailed",
    "SessionString",
    "SessionStringError",
    "SignInFailed",
    "StartupFailed",
    "State",
    "Timing",
    "WorkerStateError",
    "WorkerStatus",
    "load_config",
    "notify_systemd",
    "open_state_manager",
    "run_state_manager",
    "serve_health",
]

_LAZY = {
    "Manager": "worker_state.facade",
    "notify_systemd": "worker_state.systemd",
    "open_state_manager": "worker_state.manager",
    "run_state_manager": "worker_state.manager",
    "serve_health": "worker_state.health",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
