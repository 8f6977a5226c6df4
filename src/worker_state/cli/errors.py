"""How a command fails: one sentence on stderr and an exit code. Never a traceback, never a secret."""

from enum import IntEnum

import typer


class ExitCode(IntEnum):
    """Zero is a clean end."""

    FAILED = 1
    BAD_USAGE = 2
    LEFT_SOMETHING = 3  # all was well, but the server may still have an identity of ours


def fail(sentence: str, code: ExitCode = ExitCode.FAILED) -> typer.Exit:
    """Print the sentence and return what the caller raises."""
    typer.echo(f"Error: {sentence}", err=True)
    return typer.Exit(code)


def bad_usage(sentence: str) -> typer.Exit:
    """The same for wrong options and configuration."""
    return fail(sentence, ExitCode.BAD_USAGE)
