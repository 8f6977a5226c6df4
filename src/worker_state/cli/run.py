"""`worker-state run`: its options, and what they may not say together. What runs is in `worker`."""

import logging
import math
from typing import Annotated, Any

import typer

from worker_state.cli.refusal import ExitCode, refuse

WS_VARIABLE, HTTP_VARIABLE = "SLEAP_RTC_SIGNALING_WS", "SLEAP_RTC_SIGNALING_HTTP"
TOKEN_VARIABLE, KEY_VARIABLE = "WORKER_STATE_ROOM_TOKEN", "WORKER_STATE_API_KEY"

# A refused configuration names its field; a person at a shell knows the option.
OPTION_OF_FIELD = {
    "websocket_url": "--ws",
    "http_url": "--http",
    "room_id": "--room",
    "room_token": "--token",
    "api_key": "--api-key",
    "tags": "--tag",
    "capabilities['gpu_model']": "--gpu-model",
    "capabilities['gpu_memory_mb']": "--gpu-memory-mb",
}

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the session string, warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print everything that is logged.")]


def run_command(
    ws: Annotated[
        str | None,
        typer.Option(
            "--ws", metavar="URL", envvar=WS_VARIABLE, help="The server's WebSocket address, ws://… or wss://…"
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="URL", envvar=HTTP_VARIABLE, help="Its HTTP address, http://… or https://…"),
    ] = None,
    room: Annotated[
        str | None, typer.Option("--room", metavar="ID", help="Join this room instead of creating one.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar=TOKEN_VARIABLE,
            help="The room's token. In the environment it does not show in the list of processes.",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", metavar="KEY", envvar=KEY_VARIABLE, help="Register with an API key (server v3.0)."),
    ] = None,
    gpu_model: Annotated[str | None, typer.Option(metavar="NAME", help="What clients may filter by.")] = None,
    gpu_memory_mb: Annotated[int | None, typer.Option(metavar="MB", min=0, help="What clients may filter by.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Be found under this tag; may be repeated, and replaces the usual three."),
    ] = None,
    withhold_session_string: Annotated[
        bool, typer.Option("--withhold-session-string", help="Do not print the session string, which is a secret.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Walk through a worker's life in ten seconds, with a server inside.")
    ] = False,
    drain_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="After SIGTERM, wait so long for a running job; 0 waits for none. Without one: none.",
        ),
    ] = 20.0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a worker that is available until Ctrl-C, and show what clients can see of it.

    Without --ws and --http a development server runs inside. Ctrl-C leaves in order. SIGTERM drains first: maintenance,
    no new jobs, and the running one may finish. A second signal ends the draining; one more ends the process.

    \b
    Examples:
      worker-state run
      worker-state run --demo
      worker-state run --ws wss://signaling.example.org --http https://signaling.example.org --gpu-memory-mb 24576
    """
    addresses = _addresses(ws, http)
    if addresses is None:
        _refuse_what_needs_a_server(room, token, api_key)
    elif demo:
        raise _bad_usage(
            f"--demo runs a server of its own: leave out --ws and --http (and {WS_VARIABLE} and {HTTP_VARIABLE})."
        )
    if room is not None and token is None:
        raise _bad_usage(f"--room needs the room's token: give --token, or {TOKEN_VARIABLE} in the environment.")
    if token is not None and room is None:
        raise _bad_usage(f"--token (or {TOKEN_VARIABLE}) needs the room that it opens: give --room.")
    if not 0 <= drain_timeout < math.inf:
        raise _bad_usage(f"--drain-timeout must be a number of seconds, 0 or more, not {drain_timeout:g}.")
    level = volume(quiet, verbose)

    import trio

    from worker_state.cli.screen import Screen, show_log
    from worker_state.cli.worker import Plan, work
    from worker_state.core.config import Config
    from worker_state.core.errors import ConfigError

    options = _given(
        room_id=room,
        room_token=token,
        api_key=api_key,
        tags=tuple(tag) if tag else None,
        capabilities=_given(gpu_model=gpu_model, gpu_memory_mb=gpu_memory_mb),
    )

    def configure(websocket_url: str, http_url: str) -> Config:
        # The screen prints the session string, each time that it changes; the library's log need not do it as well.
        return Config(websocket_url, http_url, show_session_string=False, **options)

    try:
        configure(*(addresses or ("ws://localhost", "http://localhost")))
    except ConfigError as error:
        raise _bad_usage(in_options(f"{error}.")) from None
    screen = Screen(level)
    show_log(screen)
    trio.run(work, Plan(configure, addresses, demo, not withhold_session_string, drain_timeout), screen)


def volume(quiet: bool, verbose: bool) -> int:
    """The level of logging from which on things are shown."""
    if quiet and verbose:
        raise _bad_usage("--quiet and --verbose exclude each other.")
    return logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO


def _addresses(ws: str | None, http: str | None) -> tuple[str, str] | None:
    if ws is None and http is None:
        return None
    if ws is None:
        raise _bad_usage(f"--http is given without --ws (or {WS_VARIABLE}): a server has both addresses.")
    if http is None:
        raise _bad_usage(f"--ws is given without --http (or {HTTP_VARIABLE}): a server has both addresses.")
    return ws, http


def _refuse_what_needs_a_server(room: str | None, token: str | None, api_key: str | None) -> None:
    for option, value in (("--room", room), ("--token", token), ("--api-key", api_key)):
        if value is not None:
            raise _bad_usage(f"{option} belongs to a server that exists: give its --ws and --http as well.")


def _given(**options: Any) -> dict[str, Any]:
    """Only what was given: the defaults are the library's."""
    return {name: value for name, value in options.items() if value is not None}


def in_options(sentence: str) -> str:
    """The sentence about a field as one about its option."""
    for name, option in OPTION_OF_FIELD.items():
        if sentence.startswith(name):
            return option + sentence.removeprefix(name)
    return sentence


def _bad_usage(sentence: str) -> typer.Exit:
    return refuse(sentence, ExitCode.BAD_USAGE)
