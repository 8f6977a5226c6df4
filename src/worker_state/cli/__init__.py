"""The command line: which commands there are.

What is imported here is paid for by every start, `--help` included: trio, rich, the library and the development server
come in inside the commands that need them.
"""

import sys
from typing import Annotated

import typer

from worker_state.cli import output
from worker_state.cli.config import config_command
from worker_state.cli.doctor import doctor_command
from worker_state.cli.refusal import ExitCode, refuse
from worker_state.cli.run import run_command
from worker_state.cli.serve import serve_command
from worker_state.cli.session import session_app
from worker_state.cli.status import status_command
from worker_state.cli.storm import storm_command
from worker_state.cli.watch import watch_command

app = typer.Typer(
    name="worker-state",
    no_args_is_help=True,
    add_completion=True,
    # Plain help and plain errors: they read the same in a terminal, in a pipe and in a log.
    rich_markup_mode=None,
    # A traceback is for a bug, and then it should be Python's own, without the values of local variables.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run_command)
app.command("config")(config_command)
app.command("doctor")(doctor_command)
app.command("serve")(serve_command)
app.command("status")(status_command)
app.command("storm")(storm_command)
app.command("watch")(watch_command)
app.add_typer(session_app, name="session")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"worker-state {version('worker-state')}")
        raise typer.Exit


@app.callback()
def _worker_state(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Keep a worker discoverable, with its true status, through whatever the network does.

    \b
    Try it, without any server of your own:
      worker-state run --demo
    """


def main() -> None:
    """The entry point of the distribution."""
    output.prepare()
    try:
        app()
    except SystemExit as end:
        if output.failed() and not end.code:
            end.code = ExitCode.STARTUP_FAILED
        raise
    except OSError as error:
        if error.filename is None:
            raise
        # What typer writes by itself: completion, in the person's home.
        sys.exit(refuse(f"{error.filename} cannot be written: {error.strerror}.", ExitCode.STARTUP_FAILED).exit_code)
