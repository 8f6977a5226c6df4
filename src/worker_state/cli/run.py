"""`worker-state run`: its options, and what they may not say together. What runs is in `worker`."""

import logging
import math
from enum import StrEnum
from typing import Annotated

import typer

from worker_state.cli.settings import (
    DRAIN_TIMEOUT,
    HTTP_VARIABLE,
    WS_VARIABLE,
    ApiKey,
    GpuMemory,
    GpuModel,
    Http,
    RoomId,
    Tag,
    Token,
    Ws,
    addresses,
    bad_usage,
    described,
    settled,
    warn,
)


class Lines(StrEnum):
    """What a line looks like."""

    TEXT = "text"
    JSON = "json"


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the session string, warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print everything that is logged.")]

Health = Annotated[
    int | None,
    typer.Option(
        "--health", metavar="PORT", min=0, max=65535, help="Answer /health, /ready, /worker, /metrics there; 0: any."
    ),
]
LogFormat = Annotated[
    Lines, typer.Option("--log-format", help="Lines for people, with the event behind each; or one JSON object a line.")
]
HealthHost = Annotated[
    str | None, typer.Option("--health-host", metavar="ADDRESS", help="Where to listen for them, if not on loopback.")
]


def run_command(
    ws: Ws = None,
    http: Http = None,
    room: RoomId = None,
    token: Token = None,
    api_key: ApiKey = None,
    gpu_model: GpuModel = None,
    gpu_memory_mb: GpuMemory = None,
    tag: Tag = None,
    withhold_session_string: Annotated[
        bool, typer.Option("--withhold-session-string", help="Do not print the session string, which is a secret.")
    ] = False,
    health: Health = None,
    health_host: HealthHost = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Walk through a worker's life in ten seconds, with a server inside.")
    ] = False,
    log_format: LogFormat = Lines.TEXT,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a server that is not there yet.  [WORKER_STATE_WAIT_FOR_SERVER]")
    ] = False,
    drain_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="After SIGTERM, wait so long for a running job; 0 waits for none. Without one: none.",
        ),
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
      worker-state run --health 8790
      worker-state run --ws wss://signaling.example.org --http https://signaling.example.org --gpu-memory-mb 24576
      worker-state run --wait --health 8790
    """
    level = volume(quiet, verbose)
    as_json = log_format is Lines.JSON

    from worker_state.cli.screen import Screen, show_log
    from worker_state.logs import About

    screen = Screen(level, as_json=as_json)

    def warn_in_json(sentence: str) -> None:
        screen.line(sentence, level=logging.WARNING, about=About("unknown_setting", {}))

    # The demonstration has its server inside: files that name another are no reason to refuse it.
    settings = settled(
        files=not demo,
        warn=warn_in_json if as_json else warn,
        signaling_websocket=ws,
        signaling_http=http,
        room_id=room,
        room_token=token,
        api_key=api_key,
        gpu_model=gpu_model,
        gpu_memory_mb=gpu_memory_mb,
        tags=tuple(tag) if tag else None,
        show_session_string=False if withhold_session_string else None,
        wait_for_server=True if wait else None,
    )
    server = addresses(settings)
    if demo and server is not None:
        raise bad_usage(
            f"--demo runs a server of its own: leave out --ws and --http (and {WS_VARIABLE} and {HTTP_VARIABLE})."
        )
    if health is None and health_host is not None:
        raise bad_usage("--health-host needs a port to listen on: give --health.")
    if not 0 <= drain_timeout < math.inf:
        raise bad_usage(f"--drain-timeout must be a number of seconds, 0 or more, not {drain_timeout:g}.")

    import trio

    from worker_state.cli.oversight import Address
    from worker_state.cli.worker import Plan, work
    from worker_state.core.config import Config

    def configure(websocket_url: str, http_url: str) -> Config:
        # The screen prints the session string, each time that it changes; the library's log need not do it as well.
        return settings.config(websocket_url=websocket_url, http_url=http_url, show_session_string=False)

    show_log(screen)
    if server is not None and not (ws and http):
        about = About("server", {"ws": server[0], "http": server[1]})
        screen.line(f"The server: {described(settings)}", about=about)
    plan = Plan(
        configure,
        server,
        demo,
        show_session_string=settings.values["show_session_string"].value,
        health=None if health is None else Address(health, health_host),
        drain_timeout=drain_timeout,
    )
    trio.run(work, plan, screen)


def volume(quiet: bool, verbose: bool) -> int:
    """The level of logging from which on things are shown."""
    if quiet and verbose:
        raise bad_usage("--quiet and --verbose exclude each other.")
    return logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
