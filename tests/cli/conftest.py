"""What the tests of the command line are given."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import OWN_VARIABLES, Server, Spawn, spawning


@pytest.fixture(autouse=True)
def _a_machine_without_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the person who runs the tests has set for real workers must not reach them."""
    for name in [name for name in os.environ if name.startswith(OWN_VARIABLES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts `worker-state` with these arguments."""
    with spawning() as start:
        yield start


@pytest.fixture
def server(spawn: Spawn) -> Server:
    """A development server in a process of its own."""
    running = spawn("serve", "--ws-port", "0", "--http-port", "0")
    return Server(running, *running.addresses())
