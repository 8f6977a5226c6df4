"""Reads the environment and the two configuration files. `settings` merges them. Nothing is written."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker_state.config import Config, check_fields
from worker_state.errors import ConfigError
from worker_state.logs import Logger, event
from worker_state.settings import ADDRESSES, ENVIRONMENT_VARIABLE, KEYS, Layer, Setting, Settings, resolve

FILES = ("sleap-rtc.toml", "~/.sleap-rtc/config.toml")  # the paths, nearest first; messages name them like this

log: Logger = Logger(__name__)


def load_config(**fields: Any) -> Config:
    """The configuration that `worker-state run` would use here.

    `fields` are those of `Config`; each replaces what the environment, `sleap-rtc.toml` and `~/.sleap-rtc` say about
    the whole field. Logs a warning for each unknown key. Raises `ConfigError`, also when no server is named anywhere;
    the sentence names the field, the variable or the file. `TypeError` for what is no field.
    """
    check_fields(Config, fields)  # before a field is missed that is only misspelt
    named = [key for key in KEYS.values() if key.field in fields]
    settings = load_settings({key.name: Setting(fields.pop(key.field), key.field, rank=0) for key in named})
    for warning in settings.warnings:
        log.warning("%s", warning, extra=event("unknown_setting"))
    for name in ADDRESSES:
        if not settings.values[name].given:
            raise ConfigError(f"{KEYS[name].field} is missing: neither {KEYS[name].variables[0]} nor a file gives it")
    return settings.config(**fields)


def load_settings(given: Layer, *, files: bool = True) -> Settings:
    """`given` over the environment over the files. Raises `ConfigError`, which names the file or the variable.

    Without `files`, the variable that selects an environment of theirs is ignored, too.
    """
    if not files:
        return resolve(given, {name: text for name, text in os.environ.items() if name != ENVIRONMENT_VARIABLE}, {})
    tables = {label: _read(label) for label in FILES}
    return resolve(given, os.environ, {label: table for label, table in tables.items() if table is not None})


def _read(label: str) -> Mapping[str, Any] | None:
    try:
        path = Path(label).expanduser() if label.startswith("~") else Path(label)
        return tomllib.loads(path.read_text("utf-8"))
    except RecursionError:
        raise ConfigError(f"{label} is no TOML that can be read: it is nested too deeply") from None
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # the last one: a user without a home
        return None
    except OSError as error:
        raise ConfigError(f"{label} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:  # Python's message would quote the bytes
        raise ConfigError(f"{label} is no TOML: it is not written in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{label} is no TOML: {error}") from None
