"""No command writes an escape code into a pipe, nor under NO_COLOR into a terminal: real processes and real ttys."""

import pytest

from tests.support.processes import Server, Spawn

SESSION = "sleap-session:eyJyIjogInIiLCAidCI6ICJ0IiwgInAiOiAicCJ9"
COMMANDS = [
    *("--help", "--version", "run --help", "watch --help", "config", "config --json", "status", "status --json"),
    *("doctor SERVER", "doctor SERVER --json", "watch SERVER --room r --token t --once", f"session decode {SESSION}"),
    *("session encode --room r --token t --peer p", "run --bogus", "serve --capacity 0", "storm --workers 0"),
]


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_but_text(spawn: Spawn, server: Server, terminal: bool) -> None:
    """Every command's output, and what it says when something is wrong, is text alone."""
    variables = {"NO_COLOR": "1"} if terminal else {}
    started = {
        command: spawn(*command.replace("SERVER", " ".join(server.options)).split(), terminal=terminal, **variables)
        for command in COMMANDS
    }
    for command, running in started.items():
        running.end()
        assert running.lines or running.errors, command
        assert "\x1b" not in "".join(running.lines) + running.errors, command
