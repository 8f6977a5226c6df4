"""How every command says no: one sentence on stderr and an exit code. Never a traceback, never a secret."""

from enum import IntEnum

import typer


class ExitCode(IntEnum):
    """What the shell learns. Zero is a clean end."""

    STARTUP_FAILED = 1
    BAD_USAGE = 2
    LEFT_SOMETHING = 3
    """All was well, but an identity may be left on the server (FAULTS G39)."""


def refuse(sentence: str, code: ExitCode) -> typer.Exit:
    """Print the sentence; the caller raises what comes back, so that the reader sees that nothing follows."""
    typer.echo(f"Error: {sentence}", err=True)
    return typer.Exit(code)
