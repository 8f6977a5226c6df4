"""What the commands that speak to a server are told: their common options, and how these meet files and environment.

The values are merged in `core.settings`; here a refusal becomes a sentence and an exit code.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker_state.cli.refusal import ExitCode, refuse

if TYPE_CHECKING:
    from worker_state.core.settings import Settings

WS_VARIABLE, HTTP_VARIABLE = "SLEAP_RTC_SIGNALING_WS", "SLEAP_RTC_SIGNALING_HTTP"
TOKEN_VARIABLE = "WORKER_STATE_ROOM_TOKEN"
ADDRESS_KEYS = ("signaling_websocket", "signaling_http")
HIDDEN = "(hidden)"
NO_NAMES: Mapping[str, str] = {}
DRAIN_TIMEOUT = 20.0
"""Seconds that a running job has after SIGTERM, within the 30 that Kubernetes gives and systemd can be told."""

Ws = Annotated[
    str | None, typer.Option("--ws", metavar="URL", help=f"The server's WebSocket address, wss://…  [{WS_VARIABLE}]")
]
Http = Annotated[
    str | None, typer.Option("--http", metavar="URL", help=f"Its HTTP address, https://…  [{HTTP_VARIABLE}]")
]
RoomId = Annotated[
    str | None,
    typer.Option("--room", metavar="ID", help="Join this room instead of creating one.  [WORKER_STATE_ROOM_ID]"),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help=f"The room's token. In the environment it does not show in the list of processes.  [{TOKEN_VARIABLE}]",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="Register with an API key (server v3.0).  [SLEAP_RTC_API_KEY]"),
]
GpuModel = Annotated[str | None, typer.Option(metavar="NAME", help="What clients may filter by.")]
GpuMemory = Annotated[int | None, typer.Option(metavar="MB", min=0, help="What clients may filter by.")]
Tag = Annotated[
    list[str] | None,
    typer.Option(metavar="TAG", help="Be found under this tag; may be repeated, and replaces the usual three."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def warn(sentence: str) -> None:
    """On stderr, for people."""
    typer.echo(f"Warning: {sentence}", err=True)


def settled(
    *, files: bool = True, warn: Callable[[str], None] = warn, named: Mapping[str, str] = NO_NAMES, **options: Any
) -> "Settings":
    """All settings, checked; the options by the names of their keys. Prints what is wrong and raises `typer.Exit`.

    Of what nobody knows is warned, and it harms nothing else. `named`: where an option's value comes from, if not from
    the option of that name.
    """
    from worker_state.core.errors import ConfigError
    from worker_state.core.settings import KEYS, Setting
    from worker_state.sources import gather

    given = {
        key.name: Setting(options[name], named.get(name) or key.option or name, rank=0)
        for key in KEYS.values()
        if options.get(name := key.name.rpartition(".")[2]) is not None
    }
    try:
        settings = gather(given, files=files)
    except ConfigError as error:
        raise bad_usage(f"{error}.") from None
    for stray in settings.strays:
        warn(stray if stray.endswith("?") else f"{stray}.")
    _check_addresses(settings)
    _check_room(settings)
    try:
        # Without a server one will run inside: its addresses are not known yet.
        settings.config() if addresses(settings) else settings.config(
            websocket_url="ws://inside", http_url="http://inside"
        )
    except ConfigError as error:
        raise bad_usage(f"{error}.") from None
    return settings


def addresses(settings: "Settings") -> tuple[str, str] | None:
    """The WebSocket and the HTTP address, or None when no server is named anywhere."""
    ws, http = (settings.given(name) for name in ADDRESS_KEYS)
    return None if ws is None or http is None else (ws, http)


def described(settings: "Settings") -> str:
    """The two addresses and where they come from, without a query, which may hold a token."""
    found = ((settings.values[name].value, settings.values[name].origin) for name in ADDRESS_KEYS)
    return ", ".join(f"{without_query(url)} ({origin})" for url, origin in found)


def without_query(url: str) -> str:
    """The address as it may be shown."""
    address, query, _ = url.partition("?")
    return f"{address}?{HIDDEN}" if query else address


def _check_addresses(settings: "Settings") -> None:
    ws, http = (settings.values[name].given for name in ADDRESS_KEYS)
    if ws and not http:
        called = settings.called("signaling_websocket")
        raise bad_usage(f"{called} is given without --http (or {HTTP_VARIABLE}): a server has both addresses.")
    if http and not ws:
        called = settings.called("signaling_http")
        raise bad_usage(f"{called} is given without --ws (or {WS_VARIABLE}): a server has both addresses.")


def _check_room(settings: "Settings") -> None:
    if addresses(settings) is None:
        for name in ("room_id", "room_token", "api_key"):
            if settings.values[name].given:
                called = settings.called(name)
                raise bad_usage(f"{called} belongs to a server that exists: give its --ws and --http as well.")
    room, token = (settings.values[name].given for name in ("room_id", "room_token"))
    if room and not token:
        called = settings.called("room_id")
        raise bad_usage(f"{called} needs the room's token: give --token, or {TOKEN_VARIABLE} in the environment.")
    if token and not room:
        called = settings.called("room_token")
        raise bad_usage(f"{called} needs the room that it opens: give --room.")


def bad_usage(sentence: str) -> typer.Exit:
    """Print the sentence; the caller raises what comes back."""
    return refuse(sentence, ExitCode.BAD_USAGE)
