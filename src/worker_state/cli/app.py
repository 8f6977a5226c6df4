"""The program: which commands there are, and how it ends.

Each start pays for these imports, even `--help`. Commands import trio, rich and the library when they run.
"""

import sys
from typing import Annotated

import typer

from worker_state.cli import config, doctor, offer, output, run, serve, session, status, storm, watch

app: typer.Typer = typer.Typer(
    name="worker-state",
    no_args_is_help=True,
    rich_markup_mode=None,  # the same text in a terminal, a pipe and a log
    pretty_exceptions_enable=False,  # they would show the values of local variables
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run_command)
app.command("config")(config.config_command)
app.command("doctor")(doctor.doctor_command)
app.command("offer")(offer.offer_command)
app.command("serve")(serve.serve_command)
app.command("status")(status.status_command)
app.command("storm")(storm.storm_command)
app.command("watch")(watch.watch_command)
app.add_typer(session.session_app, name="session")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"worker-state {version('worker-state')}")
        raise typer.Exit


@app.callback()
def _worker_state(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep a worker discoverable, with its true status, through whatever the network does.

    \b
    Try it without a server:
      worker-state run --demo
    """


def main() -> None:
    """Run the command line."""
    output.prepare()
    try:
        app()
    except SystemExit as end:
        if output.failed() and not end.code:
            end.code = output.ExitCode.FAILED
        raise
    except OSError as error:  # typer writes the shell's completion into the user's home
        if error.filename is None:
            raise
        sys.exit(output.fail(f"{error.filename} cannot be written: {error.strerror}.").exit_code)
