"""`worker-state run`: its options, checked. `run_worker` runs it."""

import logging
import math
from typing import Annotated, Any, Literal

import typer

from worker_state.cli import shared_options
from worker_state.cli.output import bad_usage
from worker_state.cli.shared_options import Quiet, Verbose

DRAIN_TIMEOUT = 20.0  # seconds, within the 30 that Kubernetes gives and systemd can be set to


@shared_options.with_options(shared_options.WORKER_OPTIONS)
def run_command(
    given: dict[str, Any],
    withhold_session_string: Annotated[
        bool, typer.Option("--withhold-session-string", help="Do not print the session string, which is a secret.")
    ] = False,
    health: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="Answer /health, /ready, /worker, /metrics there; 0: any."),
    ] = None,
    health_host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen for them, if not on loopback.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Walk through a worker's life in ten seconds, with a server inside.")
    ] = False,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(help="Lines for people, with the event behind each; or one JSON object a line."),
    ] = "text",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a server that is not there yet.  [WORKER_STATE_WAIT_FOR_SERVER]")
    ] = False,
    drain_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="After SIGTERM, wait so long for a running job; 0: do not wait.")
    ] = DRAIN_TIMEOUT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a worker that is available until Ctrl-C, and show what clients can see of it.

    Options stand over the environment (the names in brackets), sleap-rtc.toml and ~/.sleap-rtc/config.toml, as
    `worker-state config` shows. Where none of them names a server, a development server runs inside.

    Ctrl-C leaves in order. SIGTERM drains first: no new jobs, the running one may finish, then maintenance. A second
    signal ends the draining; one more ends the process.

    Exit codes: 0 a clean end; 1 something failed, as the start; 2 bad usage or configuration; 3 it may have left an
    identity on the server.

    \b
    Examples:
      worker-state run
      worker-state run --demo
      worker-state run --ws wss://signaling.example.org --http https://signaling.example.org --gpu-memory-mb 24576
      worker-state run --wait --health 8790
    """
    level = shared_options.log_level(quiet, verbose)

    from worker_state.cli.screen import Screen
    from worker_state.logs import About

    screen = Screen(level, as_json=log_format == "json")

    def warn(sentence: str) -> None:
        if screen.as_json:
            screen.line(sentence, level=logging.WARNING, about=About("unknown_setting", {}))
        else:
            shared_options.warn(sentence)

    given |= {"withhold_session_string": False if withhold_session_string else None, "wait": wait or None}
    settings = shared_options.checked_settings(given, files=not demo, warn=warn)
    server = shared_options.server_of(settings)
    if demo and server is not None:
        named = f"leave out --ws and --http (and {shared_options.WS_VARIABLE} and {shared_options.HTTP_VARIABLE})"
        raise bad_usage(f"--demo runs a server of its own: {named}.")
    if health is None and health_host is not None:
        raise bad_usage("--health-host needs a port to listen on: give --health.")
    if not 0 <= drain_timeout < math.inf:
        raise bad_usage(f"--drain-timeout must be a number of seconds, 0 or more, not {drain_timeout:g}.")

    import trio

    from worker_state.cli.run_worker import WorkerRun

    screen.show_log()
    if server is not None and not (given["ws"] and given["http"]):
        about = About("server", {"ws": server[0], "http": server[1]})
        screen.line(f"The server: {shared_options.described_server(settings)}", about=about)
    pages = None if health is None else (health, health_host)
    trio.run(WorkerRun(settings, screen, drain_timeout, pages, demo).run)
