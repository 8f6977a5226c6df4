"""Reads what the configuration is made of: the environment and the two files. What follows from it, `settings` decides.

Nothing is written, and nothing but these is read.
"""

import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker_state.core.config import Config
from worker_state.core.errors import ConfigError
from worker_state.core.settings import ADDRESSES, ENVIRONMENT_VARIABLE, KEYS, Layer, Setting, Settings, resolve
from worker_state.logs import event

HERE, HOME = "sleap-rtc.toml", "~/.sleap-rtc/config.toml"
"""Where people look for it, the nearer one first; these are also the names that they see."""

log = logging.getLogger(__name__)


def load_config(**fields: Any) -> Config:
    """The configuration that `worker-state run` would use here: environment over `sleap-rtc.toml` over `~/.sleap-rtc`.

    `fields` are those of `Config`, as the program itself gives them, and stand over all of that; each replaces the
    whole field. Unknown keys are logged as warnings. Raises `ConfigError` with a sentence that names the field, the
    variable or the file; no server named anywhere is one, too.
    """
    given = {
        key.name: Setting(fields.pop(key.field), key.field, rank=0) for key in KEYS.values() if key.field in fields
    }
    settings = gather(given)
    for stray in settings.strays:
        log.warning("%s", stray, extra=event("unknown_setting"))
    for name in ADDRESSES:
        if not settings.values[name].given:
            raise ConfigError(f"{KEYS[name].field} is missing: neither {KEYS[name].variables[0]} nor a file gives it")
    return settings.config(**fields)


def gather(given: Layer, *, files: bool = True) -> Settings:
    """What was given by hand over the environment over the files, if these (and a table in them) are wanted.

    Raises `ConfigError` with a sentence that names the file or the variable.
    """
    if files:
        return resolve(given, os.environ, _read_files())
    variables = {name: text for name, text in os.environ.items() if name != ENVIRONMENT_VARIABLE}
    return resolve(given, variables, {})


def _read_files() -> dict[str, Mapping[str, Any]]:
    try:
        home = Path(HOME).expanduser()
    except RuntimeError:  # nobody's home: a container without a user
        home = None
    paths = {HERE: Path(HERE), HOME: home}
    tables = {label: _read(label, path) for label, path in paths.items() if path is not None}
    return {label: table for label, table in tables.items() if table is not None}


def _read(label: str, path: Path) -> Mapping[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{label} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        # Python's own words would quote the bytes.
        raise ConfigError(f"{label} is no TOML: it is not written in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{label} is no TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{label} is no TOML that can be read: it is nested too deeply") from None
