"""`worker-state config`: every setting, its value and where that comes from. Contacts nobody, changes nothing."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from worker_state.cli.settings import (
    ADDRESS_KEYS,
    HIDDEN,
    ApiKey,
    GpuMemory,
    GpuModel,
    Http,
    Json,
    RoomId,
    Tag,
    Token,
    Ws,
    settled,
    without_query,
)

if TYPE_CHECKING:
    from worker_state.core.settings import Setting, Settings


def config_command(
    ws: Ws = None,
    http: Http = None,
    room: RoomId = None,
    token: Token = None,
    api_key: ApiKey = None,
    gpu_model: GpuModel = None,
    gpu_memory_mb: GpuMemory = None,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Show every setting that `run` would use here, and where it comes from. Secrets are not shown.

    Options stand over the environment, this over sleap-rtc.toml in this directory, this over
    ~/.sleap-rtc/config.toml, and this over the defaults. SLEAP_RTC_ENV names the environment table.

    \b
    Examples of a file:
      [environments.production]
      signaling_websocket = "wss://signaling.example.org"
      signaling_http = "https://signaling.example.org"
      [worker_state]
      tags = ["sleap-rtc", "training-worker"]
      [worker_state.capabilities]
      gpu_memory_mb = 24576
      [worker_state.timing]
      http = 20.0

    \b
    Examples:
      worker-state config
      SLEAP_RTC_ENV=staging worker-state config --json
    """
    settings = settled(
        signaling_websocket=ws,
        signaling_http=http,
        room_id=room,
        room_token=token,
        api_key=api_key,
        gpu_model=gpu_model,
        gpu_memory_mb=gpu_memory_mb,
        tags=tuple(tag) if tag else None,
    )
    typer.echo(json.dumps(_as_object(settings)) if as_json else "\n".join(_lines(settings)))


def _lines(settings: "Settings") -> list[str]:
    from worker_state.core.words import shown

    rows = [("environment", settings.environment), *settings.values.items()]
    table = [(name, shown(_text(name, setting)), shown(setting.origin)) for name, setting in rows]
    widths = [max(len(row[at]) for row in table) for at in (0, 1)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}" for name, value, origin in table]
    return [*lines, "", *(f"{label}: {'read' if read else 'not there'}" for label, read in _files(settings).items())]


def _as_object(settings: "Settings") -> dict[str, Any]:
    return {
        "environment": _as_json("environment", settings.environment),
        "settings": {name: _as_json(name, setting) for name, setting in settings.values.items()},
        "files": _files(settings),
        "unknown": list(settings.strays),
    }


def _as_json(name: str, setting: "Setting") -> dict[str, Any]:
    return {"value": _shown_value(name, setting), "origin": setting.origin}


def _files(settings: "Settings") -> Mapping[str, bool]:
    from worker_state.sources import HERE, HOME

    return {label: label in settings.files for label in (HERE, HOME)}


def _text(name: str, setting: "Setting") -> str:
    value = _shown_value(name, setting)
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _shown_value(name: str, setting: "Setting") -> Any:
    from worker_state.core.settings import KEYS

    if not setting.given:
        return setting.value
    if name in KEYS and KEYS[name].secret:
        return HIDDEN
    return without_query(setting.value) if name in ADDRESS_KEYS else setting.value
