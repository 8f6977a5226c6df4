"""`worker-state config`: every setting, its value and its origin, without any network."""

import json
from typing import Any

import typer

from worker_state.cli.output import columns, paragraph
from worker_state.cli.shared_options import HIDDEN, WORKER_OPTIONS, Json, checked_settings, with_options, without_query
from worker_state.config_files import FILES
from worker_state.redact import shown
from worker_state.settings import ADDRESSES, KEYS, Setting


@with_options(WORKER_OPTIONS)
def config_command(given: dict[str, Any], as_json: Json = False) -> None:
    """Show every setting that `run` would use here, and its origin. Secrets are hidden.

    Options stand over the environment, then come sleap-rtc.toml here, ~/.sleap-rtc/config.toml, and the defaults.
    SLEAP_RTC_ENV selects a table [environments.NAME] of the files.

    \b
    Examples:
      worker-state config
      SLEAP_RTC_ENV=staging worker-state config --json
    """
    settings = checked_settings(given)
    files = {label: label in settings.files for label in FILES}
    rows = {"environment": settings.environment, **settings.values}
    if as_json:
        found = {name: {"value": _visible(name, row), "origin": row.origin} for name, row in rows.items()}
        environment = found.pop("environment")
        document = {"environment": environment, "settings": found, "files": files, "unknown": list(settings.warnings)}
        typer.echo(json.dumps(document))
        return
    table = [(name, shown(_text(_visible(name, row))), shown(row.origin)) for name, row in rows.items()]
    widths = [max(len(row[column]) for row in table) for column in (0, 1, 2)]
    screen = columns()
    for name, value, origin in table:
        if screen is None or screen >= sum(widths) + 4:
            typer.echo(f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}")
        else:  # a table would be broken anywhere
            typer.echo("\n".join((name, paragraph(value, screen, 4), paragraph(f"({origin})", screen, 4))))
    typer.echo()
    for label, read in files.items():
        typer.echo(f"{label}: {'read' if read else 'not there'}")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _visible(name: str, setting: Setting) -> Any:
    if setting.given and name in KEYS and KEYS[name].secret:
        return HIDDEN
    return without_query(setting.value) if setting.given and name in ADDRESSES else setting.value
