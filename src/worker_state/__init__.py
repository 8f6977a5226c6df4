"""worker_state: a worker that is alive is discoverable, with its true status, always.

The public names, and nothing else. Each is loaded when it is asked for: the command line and its completion in the
shell need none of them to say what they can do, and a Ctrl-C has to find somebody who hears it.
"""

TYPE_CHECKING = False  # as `typing` has it, which would be loaded for this alone
if TYPE_CHECKING:
    from typing import Any

    __version__: str

    from worker_state.config import Config, Timing
    from worker_state.config_files import load_config
    from worker_state.errors import (
        ConfigError,
        Disconnected,
        JobCancelled,
        ManagerEnded,
        RegistrationRefused,
        RoomCreationFailed,
        ServerUnreachable,
        SessionStringError,
        SignInFailed,
        StartupFailed,
        WorkerStateError,
    )
    from worker_state.integrations.health import serve_health
    from worker_state.integrations.systemd import notify_systemd
    from worker_state.jobs import Job, ThreadJob, serve_jobs
    from worker_state.manager import Manager, open_state_manager, run_state_manager
    from worker_state.protocol.state import State
    from worker_state.protocol.status import WorkerStatus
    from worker_state.session_string import SessionString

__all__ = [
    "Config",
    "ConfigError",
    "Disconnected",
    "Job",
    "JobCancelled",
    "Manager",
    "ManagerEnded",
    "RegistrationRefused",
    "RoomCreationFailed",
    "ServerUnreachable",
    "SessionString",
    "SessionStringError",
    "SignInFailed",
    "StartupFailed",
    "State",
    "ThreadJob",
    "Timing",
    "WorkerStateError",
    "WorkerStatus",
    "load_config",
    "notify_systemd",
    "open_state_manager",
    "run_state_manager",
    "serve_health",
    "serve_jobs",
]

_HOMES = {
    "config_files": ("load_config",),
    "config": ("Config", "Timing"),
    "jobs": ("Job", "ThreadJob", "serve_jobs"),
    "session_string": ("SessionString",),
    "protocol.state": ("State",),
    "protocol.status": ("WorkerStatus",),
    "integrations.health": ("serve_health",),
    "manager": ("Manager", "open_state_manager", "run_state_manager"),
    "integrations.systemd": ("notify_systemd",),
}  # all other public names are errors


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version

        globals()[name] = version("worker-state")
        return globals()[name]
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
