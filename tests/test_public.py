"""The public names: all there, and loaded when they are asked for."""

import subprocess
import sys

import pytest

import worker_state
from tests.support.processes import environment

HEAVY = {"trio", "httpx", "rich", "asyncio", "ssl", "worker_state.devserver", "worker_state.manager"}


def test_every_public_name_is_there_and_no_other() -> None:
    """The lazy names come from where they live, and a name that nobody has is refused."""
    assert worker_state.run_state_manager.__module__ == "worker_state.manager"
    assert worker_state.serve_health.__module__ == "worker_state.integrations.health"
    assert worker_state.notify_systemd.__module__ == "worker_state.integrations.systemd"
    assert all(hasattr(worker_state, name) for name in worker_state.__all__)
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = worker_state.surprise


def test_the_command_line_starts_without_the_network() -> None:
    """Help and completion, which a person waits for, load neither trio nor the library nor the server."""
    program = "import sys, worker_state.cli.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert "worker_state.cli.run" in done.stdout.split()
    assert not HEAVY & set(done.stdout.split())


def test_importing_the_package_loads_nothing_else() -> None:
    """Nobody hears a Ctrl-C while it loads, and the entry point of the command line is inside."""
    program = "import sys; before = set(sys.modules); import worker_state; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.split() == ["worker_state"]
