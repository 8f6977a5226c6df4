"""Where each value of the configuration comes from: layers in, values with their origins out.

Command line over environment over the file here over the file at home over defaults. Pure: reading files and the
environment is `sources`' business, and whether a value is any good is `Config`'s. Keep both out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from worker_state.core.config import LISTS, NUMBERS, TEXTS, Config, Timing
from worker_state.core.errors import ConfigError
from worker_state.core.words import shown

ENVIRONMENT_VARIABLE, USUAL_ENVIRONMENT = "SLEAP_RTC_ENV", "production"
PREFIX = "WORKER_STATE_"
"""Variables that begin so are ours, and an unknown one is a mistake; but not those of the development server."""
SHARED_PREFIX = "SLEAP_RTC_"
"""Variables that begin so may be another program's: unknown ones are a mistake if they nearly are one that counts."""
FOREIGN_PREFIX = "WORKER_STATE_DEVSERVER_"
SESSION_VARIABLE = "WORKER_STATE_SESSION"
ELSEWHERE = (SESSION_VARIABLE, "WORKER_STATE_BROWSER")
"""Ours too, and no configuration: what `watch` watches, and whether the tests need a browser."""
TABLE = "worker_state"
GROUPS = ("timing", "capabilities")
"""Tables inside ours; `timing.http` is the key `http` in `[worker_state.timing]`."""
DEFAULT = "default"
WEAKEST = 1_000
"""The rank of a default: below every layer."""


class Kind(StrEnum):
    """What the text of an environment variable has to be. TOML has types of its own, which `Config` checks."""

    TEXT = "text"
    NUMBER = "a number"
    SWITCH = "true or false"
    LIST = "a list, separated by commas"


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be set: `name` as in a file, `field` as a `ConfigError` calls it."""

    name: str
    field: str
    kind: Kind = Kind.TEXT
    variables: tuple[str, ...] = ()
    """The first that is set counts."""
    default: Any = None
    secret: bool = False
    option: str | None = None


def _keys() -> Iterator[Key]:
    default = {each.name: each.default for each in fields(Config) if each.default is not MISSING}
    key_variables = ("SLEAP_RTC_API_KEY", "WORKER_STATE_API_KEY")
    yield Key("signaling_websocket", "websocket_url", variables=("SLEAP_RTC_SIGNALING_WS",), option="--ws")
    yield Key("signaling_http", "http_url", variables=("SLEAP_RTC_SIGNALING_HTTP",), option="--http")
    yield Key("room_id", "room_id", variables=("WORKER_STATE_ROOM_ID",), option="--room")
    yield Key("room_token", "room_token", variables=("WORKER_STATE_ROOM_TOKEN",), secret=True, option="--token")
    yield Key("api_key", "api_key", variables=key_variables, secret=True, option="--api-key")
    for name, kind, option in (
        ("tags", Kind.LIST, "--tag"),
        ("show_session_string", Kind.SWITCH, "--withhold-session-string"),
        ("wait_for_server", Kind.SWITCH, "--wait"),
        ("delete_given_room", Kind.SWITCH, None),
        ("reservation_limit", Kind.NUMBER, None),
        ("signal_buffer", Kind.NUMBER, None),
    ):
        yield Key(name, name, kind, (PREFIX + name.upper(),), default[name], option=option)
    options = {"gpu_model": "--gpu-model", "gpu_memory_mb": "--gpu-memory-mb"}
    for names, kind in ((TEXTS, Kind.TEXT), (NUMBERS, Kind.NUMBER), (LISTS, Kind.LIST)):
        for name in sorted(names):
            yield _capability(name, kind, (PREFIX + name.upper(),), options.get(name))
    for each in fields(Timing):
        name = f"timing.{each.name}"
        yield Key(name, name, Kind.NUMBER, (PREFIX + name.replace(".", "_").upper(),), each.default)


def _capability(name: str, kind: Kind = Kind.TEXT, variables: tuple[str, ...] = (), option: str | None = None) -> Key:
    return Key(f"capabilities.{name}", f"capabilities[{name!r}]", kind, variables, option=option)


KEYS: Mapping[str, Key] = {key.name: key for key in _keys()}
"""Everything that has a name of its own. Other capabilities can be set too, in the files."""
ADDRESSES = ("signaling_websocket", "signaling_http")
"""The keys of `[environments.NAME]`; the others are `[worker_state]`'s."""
ALTERNATIVES = (("room_id", "room_token"), ("api_key",))
"""Of these a worker can use one: the layer that is nearer to the person decides which."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it was found: `--ws`, `SLEAP_RTC_SIGNALING_WS`, `sleap-rtc.toml [worker_state]`, `default`."""

    value: Any = field(repr=False)
    origin: str = DEFAULT
    rank: int = WEAKEST
    """0 is the command line, 1 the environment; from 2 on the files, the nearer one first."""

    @property
    def given(self) -> bool:
        """Somebody has set it; it is no default."""
        return self.rank < WEAKEST


@dataclass(frozen=True, slots=True)
class Settings:
    """Every key with its value and its origin, and what nobody knows."""

    environment: Setting
    values: Mapping[str, Setting]
    files: tuple[str, ...]
    """The files that were read, by label."""
    strays: tuple[str, ...]
    """A sentence for each unknown key and variable, without a full stop."""

    def given(self, name: str) -> Any:
        """The value of a key, or None when nobody has set it."""
        setting = self.values[name]
        return setting.value if setting.given else None

    def called(self, name: str) -> str:
        """The key in a sentence: the option or variable that gave it, its place in a file, or else the field."""
        setting = self.values[name]
        if not setting.given:
            return key_of(name).field
        return setting.origin if setting.rank < 2 else f"{name.partition('.')[2] or name} in {setting.origin}"

    def blame(self, sentence: str) -> str:
        """A `ConfigError`'s sentence, with the field replaced by what the person has written it into."""
        for name in self.values:
            found = key_of(name).field
            if sentence.startswith(found) and not sentence.removeprefix(found)[:1].isalnum():
                return self.called(name) + sentence.removeprefix(found)
        return sentence

    def config(self, **fields: Any) -> Config:
        """The configuration; `fields` of `Config` replace what stands here. Raises `ConfigError`."""
        found: dict[str, Any] = {}
        groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        for name, setting in self.values.items():
            group, inside, member = name.partition(".")
            if setting.given:
                (groups[group] if inside else found)[member if inside else KEYS[name].field] = setting.value
        try:
            found |= {"timing": Timing(**groups["timing"]), "capabilities": groups["capabilities"]}
            return Config(**{**found, **fields})
        except ConfigError as error:
            raise ConfigError(self.blame(str(error))) from None


def key_of(name: str) -> Key:
    """The key of this name; a capability that is not in the table has one too."""
    return KEYS[name] if name in KEYS else _capability(name.removeprefix("capabilities."))


# --- the layers -------------------------------------------------------------------------------------------------------


Layer = Mapping[str, Setting]


def resolve(given: Layer, variables: Mapping[str, str], files: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Merge what was given by hand, the environment and the files (by label, nearest first, as TOML gives them).

    Raises `ConfigError` for a variable that cannot be read, a table that is none, and a named environment that is in
    no file although its addresses are needed.
    """
    strays: list[str] = []
    layers: list[Layer] = [given, _from_variables(variables, strays)]
    named = variables.get(ENVIRONMENT_VARIABLE) or None
    environment = Setting(named, ENVIRONMENT_VARIABLE, 1) if named else Setting(USUAL_ENVIRONMENT)
    defined: list[str] = []
    for label, tables in files.items():
        layers += _from_tables(label, tables, environment.value, len(layers), defined, strays)
    needed = not all(any(name in layer for layer in layers[:2]) for name in ADDRESSES)
    if environment.value not in defined and needed:
        _miss_environment(environment, defined, strays)
    return Settings(environment, _merged(layers), tuple(files), tuple(strays))


def _merged(layers: list[Layer]) -> Mapping[str, Setting]:
    values = {name: Setting(key.default) for name, key in KEYS.items()}
    for layer in reversed(layers):
        values.update(layer)
    ranks = [min(values[name].rank for name in names) for names in ALTERNATIVES]
    for names, rank in zip(ALTERNATIVES, ranks, strict=True):
        if rank > min(ranks):
            values.update({name: Setting(KEYS[name].default) for name in names})
    return values


def _miss_environment(environment: Setting, defined: list[str], strays: list[str]) -> None:
    known = shown(", ".join(dict.fromkeys(defined)))
    if environment.given:
        hint = f"; the known ones are {known}" if known else ""
        raise ConfigError(
            f"{environment.origin} names the environment {environment.value!r}, which no file defines{hint}"
        )
    if known:
        strays.append(
            f"no file defines the environment {environment.value!r}, but {known}: name it with {ENVIRONMENT_VARIABLE}"
        )


# --- the environment --------------------------------------------------------------------------------------------------


def _from_variables(variables: Mapping[str, str], strays: list[str]) -> Layer:
    known = {variable: key for key in KEYS.values() for variable in key.variables}
    names = (*known, ENVIRONMENT_VARIABLE)
    strays += [
        f"the environment has an unknown variable {shown(variable)}{_nearest(variable, names)}"
        for variable in variables
        if variable not in (*names, *ELSEWHERE)
        and (
            (variable.startswith(PREFIX) and not variable.startswith(FOREIGN_PREFIX))
            or (variable.startswith(SHARED_PREFIX) and get_close_matches(variable, names, n=1, cutoff=0.9))
        )
    ]
    found: dict[str, Setting] = {}
    for variable, key in known.items():
        if key.name not in found and variables.get(variable):
            found[key.name] = Setting(_read(variable, variables[variable], key), variable, rank=1)
    return found


_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _read(variable: str, text: str, key: Key) -> Any:
    # A refusal never repeats the text: it may have been meant for another variable, a secret's.
    match key.kind:
        case Kind.TEXT:
            return text
        case Kind.LIST:
            return tuple(part.strip() for part in text.split(","))
        case Kind.SWITCH if text.strip().lower() in _SWITCHES:
            return _SWITCHES[text.strip().lower()]
        case Kind.NUMBER:
            for read in (int, float):
                try:
                    return read(text)
                except ValueError:
                    continue
    raise ConfigError(f"{variable} must be {key.kind}")


# --- the files --------------------------------------------------------------------------------------------------------


def _from_tables(
    label: str, tables: Mapping[str, Any], environment: str, rank: int, defined: list[str], strays: list[str]
) -> Iterator[Layer]:
    """The layers of one file: first what it says for this environment alone, then what it says for all."""
    environments = _table(label, "environments", tables.get("environments", {}))
    defined += environments
    for name in tables:
        near = get_close_matches(name, ("environments", TABLE), n=1, cutoff=0.8)
        if near and name not in near:  # other tables are other programs', and none of our business
            strays.append(f"{label} has a table [{shown(name)}]; did you mean [{near[0]}]?")
    special: Mapping[str, Any] = {}
    for name, content in environments.items():
        where = f"[environments.{shown(name)}]"
        table = _table(label, where, content)
        inner = _table(label, f"[environments.{shown(name)}.{TABLE}]", table.get(TABLE, {}))
        layer = _from_addresses(label, where, table, rank, strays)
        ours = _from_ours(label, f"environments.{shown(name)}.{TABLE}", inner, rank, strays)
        special = {**ours, **layer} if name == environment else special
    yield special
    yield _from_ours(label, TABLE, _table(label, f"[{TABLE}]", tables.get(TABLE, {})), rank + 1, strays)


def _from_addresses(label: str, where: str, table: Mapping[str, Any], rank: int, strays: list[str]) -> Layer:
    strays += [_unknown(label, where, name, ADDRESSES) for name in table if name not in (*ADDRESSES, TABLE)]
    return {name: Setting(table[name], f"{label} {where}", rank) for name in ADDRESSES if name in table}


def _from_ours(label: str, path: str, table: Mapping[str, Any], rank: int, strays: list[str]) -> Layer:
    found: dict[str, Setting] = {}
    plain = {name: value for name, value in table.items() if name not in GROUPS}
    parts = {group: _table(label, f"[{path}.{group}]", table[group]) for group in GROUPS if group in table}
    for where, prefix, content in (
        (f"[{path}]", "", plain),
        *((f"[{path}.{group}]", f"{group}.", part) for group, part in parts.items()),
    ):
        known = _members(prefix)
        for name, value in content.items():
            free = prefix == "capabilities."  # a worker may be found by whatever it likes
            if name not in known and not (free and not get_close_matches(name, known, n=1, cutoff=0.8)):
                strays.append(_unknown(label, where, name, known))
            if name in known or free:
                found[prefix + name] = Setting(value, f"{label} {where}", rank)
    return found


def _members(prefix: str) -> tuple[str, ...]:
    """The keys of one table of ours, without its name."""
    if not prefix:
        return tuple(name for name in KEYS if "." not in name and name not in ADDRESSES)
    return tuple(name.removeprefix(prefix) for name in KEYS if name.startswith(prefix))


def _unknown(label: str, where: str, name: str, known: tuple[str, ...]) -> str:
    return f"{label} has an unknown key {name!r} in {where}{_nearest(name, known)}"


def _nearest(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _table(label: str, where: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} in {label} must be a table, not {type(value).__name__}")
    return value
