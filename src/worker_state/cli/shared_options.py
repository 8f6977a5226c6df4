"""The options that several commands share, and how they meet the environment and the files."""

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer

from worker_state.cli.output import bad_usage
from worker_state.config_files import load_settings
from worker_state.errors import ConfigError
from worker_state.settings import ADDRESSES, KEYS, Setting, Settings

HIDDEN = "(hidden)"
WS_VARIABLE, HTTP_VARIABLE, TOKEN_VARIABLE = (KEYS[name].variables[0] for name in (*ADDRESSES, "room_token"))
CLIENT_FILTER = "What clients may filter by."


def text(metavar: str, explained: str) -> Any:
    """An option that takes text."""
    return Annotated[str | None, typer.Option(metavar=metavar, help=explained)]


SERVER_OPTIONS = {
    "ws": text("URL", f"The server's WebSocket address, wss://…  [{WS_VARIABLE}]"),
    "http": text("URL", f"Its HTTP address, https://…  [{HTTP_VARIABLE}]"),
    "room": text("ID", "An existing room; without one, a worker creates its own.  [WORKER_STATE_ROOM_ID]"),
    "token": text("TOKEN", f"Its token. The variable keeps it out of the list of processes.  [{TOKEN_VARIABLE}]"),
    "api_key": text("KEY", "Register with an API key (server v3.0).  [SLEAP_RTC_API_KEY]"),
}
WORKER_OPTIONS = SERVER_OPTIONS | {
    "peer_id": text("ID", "A peer id of your choice, which no other worker may have.  [WORKER_STATE_PEER_ID]"),
    "gpu_model": text("NAME", CLIENT_FILTER),
    "gpu_memory_mb": Annotated[int | None, typer.Option(metavar="MB", min=0, help=CLIENT_FILTER)],
    "tag": Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Be found by this tag, not by the usual three. Repeatable.")
    ],
}
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print everything that is logged.")]

Command = Callable[..., None]


def with_options(shared: Mapping[str, Any]) -> Callable[[Command], Command]:
    """Give a command the shared options before its own; it receives their values as the mapping `given`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**values: Any) -> None:
            command({name: values.pop(name) for name in shared}, **values)

        _, *own = signature(command).parameters.values()
        kind = Parameter.POSITIONAL_OR_KEYWORD
        before = [Parameter(name, kind, default=None, annotation=option) for name, option in shared.items()]
        run.__signature__ = Signature([*before, *own])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*before, *own)}  # typer reads both
        return run

    return decorate


def log_level(quiet: bool, verbose: bool) -> int:
    """The least level that is shown."""
    if quiet and verbose:
        raise bad_usage("--quiet and --verbose exclude each other.")
    return logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO


def warn(sentence: str) -> None:
    """On stderr, for people."""
    typer.echo(f"Warning: {sentence}", err=True)


def checked_settings(given: Mapping[str, Any], *, files: bool = True, warn: Callable[[str], None] = warn) -> Settings:
    """All settings, checked. `given`: by the options' names their values, or a `Setting` for one of another origin.
    Warns of unknown keys, prints what is wrong, and raises `typer.Exit`."""
    layer: dict[str, Setting] = {}
    for key in KEYS.values():
        option = key.option or ""
        if (value := given.get(option.removeprefix("--").replace("-", "_"))) not in (None, []):
            layer[key.name] = value if isinstance(value, Setting) else Setting(value, option, rank=0)
    try:
        settings = load_settings(layer, files=files)
        for warning in settings.warnings:
            warn(warning if warning.endswith("?") else f"{warning}.")
        _check_combinations(settings)
        # Without a server, one will run inside; its addresses are not known yet.
        inside = {} if server_of(settings) else {"websocket_url": "ws://inside", "http_url": "http://inside"}
        settings.config(**inside)
    except ConfigError as error:
        raise bad_usage(f"{error}.") from None
    return settings


def server_of(settings: Settings) -> tuple[str, str] | None:
    """The WebSocket and the HTTP address, or None if no server is named anywhere."""
    ws, http = (settings.given(name) for name in ADDRESSES)
    return None if ws is None or http is None else (ws, http)


def described_server(settings: Settings) -> str:
    """Both addresses, without secrets, and where they come from."""
    found = (settings.values[name] for name in ADDRESSES)
    return ", ".join(f"{without_query(setting.value)} ({setting.origin})" for setting in found)


def without_query(url: str) -> str:
    """The address without its query, which may contain a token."""
    address, query, _ = url.partition("?")
    return f"{address}?{HIDDEN}" if query else address


def _check_combinations(settings: Settings) -> None:
    ws, http, room, token, api_key = (*ADDRESSES, "room_id", "room_token", "api_key")
    alone = "belongs to a server that exists: give its --ws and --http as well"
    for name, other, why in (
        (ws, http, f"is given without --http (or {HTTP_VARIABLE}): a server has both addresses"),
        (http, ws, f"is given without --ws (or {WS_VARIABLE}): a server has both addresses"),
        (room, ws, alone),
        (token, ws, alone),
        (api_key, ws, alone),
        (token, room, "needs the room that it opens: give --room"),
    ):
        if settings.values[name].given and not settings.values[other].given:
            raise bad_usage(f"{settings.called(name)} {why}.")
    if settings.given(room) is not None and settings.given(token) is None and settings.given(api_key) is None:
        why = f"needs the room's token: give --token, or {TOKEN_VARIABLE} in the environment"
        raise bad_usage(f"{settings.called(room)} {why}.")
