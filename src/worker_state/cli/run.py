"""`worker-state run`: its options, checked. `run_worker` runs it."""

import logging
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from worker_state.cli import shared_options
from worker_state.cli.output import bad_usage
from worker_state.cli.shared_options import Quiet, Verbose

DRAIN_TIMEOUT = 20.0  # seconds, within the 30 that Kubernetes gives and systemd can be set to


@shared_options.with_options(shared_options.WORKER_OPTIONS)
def run_command(
    given: dict[str, Any],
    handler: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE:FUNCTION]", help="Your function, called with each job.", show_default=False),
    ] = None,
    available: Annotated[
        bool, typer.Option("--available", help="Without a function: be available all the same, and take no job.")
    ] = False,
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
        typer.Option(help="Lines for people, those of the log with their event; or one JSON object a line."),
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
    """Run a worker until Ctrl-C, and show what clients can see of it.

    Each offer of a client is a job: your function, `async def handle(job)` for trio or `def handle(job)` in a thread of
    its own, runs it. The worker is reserved at the offer, busy while the function runs, and available after. Without a
    function nobody would serve the clients, so the worker registers as in maintenance; with the server inside an
    example runs the jobs, which `worker-state offer` sends.

    Options stand over the environment (the names in brackets), sleap-rtc.toml and ~/.sleap-rtc/config.toml, as
    `worker-state config` shows. Where none of them names a server, a development server runs inside.

    Ctrl-C leaves in order. SIGTERM drains first: no new jobs, the running one may finish, then maintenance. A second
    signal ends the draining; one more ends the process. SIGTERM again within a second counts once: SLURM and shells
    hand it on.

    Exit codes: 0 a clean end; 1 something failed, as the start; 2 bad usage or configuration; 3 it may have left an
    identity on the server.

    \b
    Examples:
      worker-state run
      worker-state run --demo
      worker-state run my_worker:handle --ws wss://signaling.example.org --http https://signaling.example.org
      worker-state run my_worker:handle --wait --health 8790
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
    if server is None and settings.server_meant:
        meant = "one is meant, as the warning says, so none is started inside: correct that, or give --ws and --http"
        raise bad_usage(f"No server is named, but {meant}.")
    if demo and server is not None:
        named = f"leave out --ws and --http (and {shared_options.WS_VARIABLE} and {shared_options.HTTP_VARIABLE})"
        raise bad_usage(f"--demo runs a server of its own: {named}.")
    if health is None and health_host is not None:
        raise bad_usage("--health-host needs a port to listen on: give --health.")
    if not 0 <= drain_timeout < math.inf:
        raise bad_usage(f"--drain-timeout must be a number of seconds, 0 or more, not {drain_timeout:g}.")

    if available and (handler is not None or demo):
        raise bad_usage("--available is for a worker without a function: leave it out.")

    from worker_state.cli.handler import NoHandler, example_handler, load_handler

    function: Callable[[Any], Any] | None = None if server is not None or demo else example_handler
    if handler is not None:
        if demo:
            raise bad_usage("--demo walks through a life of its own: leave out the function.")
        try:
            function = load_handler(handler)
        except NoHandler as error:
            raise bad_usage(f"{error}.") from error.__cause__

    import trio

    from worker_state.cli.run_worker import WorkerRun

    screen.show_log()
    if server is not None and not (given["ws"] and given["http"]):
        about = About("server", {"ws": server[0], "http": server[1]})
        screen.line(f"The server: {shared_options.described_server(settings)}", about=about)
    pages = None if health is None else (health, health_host)
    idle = function is None and not available and not demo
    trio.run(WorkerRun(settings, screen, drain_timeout, pages, demo, handler=function, idle=idle).run)
