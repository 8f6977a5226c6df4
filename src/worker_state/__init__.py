"""worker_state: a worker that is alive is discoverable, with its true status, always.

The public names, and nothing else.
"""

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
from worker_state.facade import Manager
from worker_state.manager import open_state_manager, run_state_manager
from worker_state.sources import load_config

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
    "open_state_manager",
    "run_state_manager",
]
