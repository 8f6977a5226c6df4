"""Merges options, environment variables, files and defaults into a configuration. Each value keeps its origin.

Pure: `config_files` reads the files and the environment, `Config` checks the values.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from worker_state.advertised import LISTS, NUMBERS, TEXTS
from worker_state.config import ACCOUNT_KEY, Config, Timing
from worker_state.errors import ConfigError
from worker_state.redact import looks_redacted, shown

ENVIRONMENT_VARIABLE, DEFAULT_ENVIRONMENT = "SLEAP_RTC_ENV", "production"
SESSION_VARIABLE = "WORKER_STATE_SESSION"
OTHER_VARIABLES = (SESSION_VARIABLE, "WORKER_STATE_BROWSER")  # variables for `watch` and for the tests
PREFIX, DEVSERVER_PREFIX = "WORKER_STATE_", "WORKER_STATE_DEVSERVER_"
SHARED_PREFIX = "SLEAP_RTC_"  # other programs' too: an unknown variable is reported only if it nearly is a known one
TABLE = "worker_state"
ADDRESSES = ("signaling_websocket", "signaling_http")  # the keys of `[environments.NAME]`; others belong to `TABLE`
GROUPS = ("timing", "capabilities")  # the key `timing.http` is `http` in `[worker_state.timing]`
SERVER_NAMES = (*ADDRESSES, "SLEAP_RTC_SIGNALING_WS", "SLEAP_RTC_SIGNALING_HTTP")
ALTERNATIVES = (("room_id", "room_token"), ("api_key",))
"""A worker uses one, and the stronger layer decides which. An account key comes with a room."""
DEFAULT_RANK = 1_000


class Kind(StrEnum):
    """How the text of a variable is read. TOML has types of its own, which `Config` checks."""

    TEXT = "text"
    NUMBER = "a number"
    SWITCH = "true or false"
    LIST = "a list, separated by commas"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: `name` as in a file, `field` as in a `ConfigError`. The first variable that is set counts."""

    name: str
    field: str
    kind: Kind = Kind.TEXT
    variables: tuple[str, ...] = ()
    default: Any = None
    secret: bool = False
    option: str | None = None
    unit: str = ""


def _keys() -> Iterator[Key]:
    default = {each.name: each.default for each in fields(Config)}
    key_variables = ("SLEAP_RTC_API_KEY", "WORKER_STATE_API_KEY")
    yield Key("signaling_websocket", "websocket_url", variables=("SLEAP_RTC_SIGNALING_WS",), option="--ws")
    yield Key("signaling_http", "http_url", variables=("SLEAP_RTC_SIGNALING_HTTP",), option="--http")
    yield Key("room_id", "room_id", variables=("WORKER_STATE_ROOM_ID",), option="--room")
    yield Key("room_token", "room_token", variables=("WORKER_STATE_ROOM_TOKEN",), secret=True, option="--token")
    yield Key("api_key", "api_key", variables=key_variables, secret=True, option="--api-key")
    for name, kind, option, unit in (
        ("peer_id", Kind.TEXT, "--peer-id", ""),
        ("admin", Kind.SWITCH, None, ""),
        ("tags", Kind.LIST, "--tag", ""),
        ("show_session_string", Kind.SWITCH, "--withhold-session-string", ""),
        ("wait_for_server", Kind.SWITCH, "--wait", ""),
        ("delete_given_room", Kind.SWITCH, None, ""),
        ("reservation_limit", Kind.NUMBER, None, "seconds"),
        ("signal_buffer", Kind.NUMBER, None, "messages"),
        ("signal_buffer_bytes", Kind.NUMBER, None, "bytes"),
    ):
        yield Key(name, name, kind, (PREFIX + name.upper(),), default[name], option=option, unit=unit)
    options = {"gpu_model": "--gpu-model", "gpu_memory_mb": "--gpu-memory-mb"}
    units = {"gpu_memory_mb": "MB"}
    for names, kind in ((TEXTS, Kind.TEXT), (NUMBERS, Kind.NUMBER), (LISTS, Kind.LIST)):
        for name in sorted(names):
            key = f"capabilities.{name}"
            option, unit = options.get(name), units.get(name, "")
            yield Key(key, _field(key), kind, (PREFIX + name.upper(),), option=option, unit=unit)
    for each in fields(Timing):
        key = f"timing.{each.name}"
        yield Key(key, key, Kind.NUMBER, (f"{PREFIX}TIMING_{each.name.upper()}",), each.default, unit="seconds")


def _field(name: str) -> str:
    group, _, member = name.partition(".")
    return f"capabilities[{member!r}]" if group == "capabilities" else KEYS[name].field


KEYS = {key.name: key for key in _keys()}  # all but further capabilities, which a file may name freely


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its origin: `--ws`, `SLEAP_RTC_SIGNALING_WS`, `sleap-rtc.toml [worker_state]` or `default`."""

    value: Any = field(repr=False)
    origin: str = "default"
    rank: int = DEFAULT_RANK  # 0 is the command line, 1 the environment; files follow, the nearer one first

    @property
    def given(self) -> bool:
        """Whether it is more than a default."""
        return self.rank < DEFAULT_RANK


Layer = Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Settings:
    """Every key with its value and origin, the labels of the files that were read, and a sentence for each unknown
    key and variable, without a full stop."""

    environment: Setting
    values: Layer
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    server_meant: bool = False  # one of the warnings is about what may be a server's address, misspelt

    def given(self, name: str) -> Any:
        """The value of a key, or None if it is only a default."""
        setting = self.values[name]
        return setting.value if setting.given else None

    def called(self, name: str) -> str:
        """What gave the value: an option, a variable or a key in a file; for a default the field of `Config`."""
        setting = self.values[name]
        if not setting.given:
            return _field(name)
        return setting.origin if setting.rank < 2 else f"{name.partition('.')[2] or name} in {setting.origin}"

    def config(self, **changes: Any) -> Config:
        """The configuration, with `changes` to its fields. Raises `ConfigError`, which names options, variables and
        keys of files instead of fields."""
        found: dict[str, Any] = {}
        groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        for name, setting in self.values.items():
            group, inside, member = name.partition(".")
            if setting.given:
                (groups[group] if inside else found)[member if inside else KEYS[name].field] = setting.value
        try:
            found |= {"timing": Timing(**groups["timing"]), "capabilities": groups["capabilities"]}
            return Config(**{**found, **changes})
        except ConfigError as error:
            raise ConfigError(self._with_origins(str(error))) from None

    def _with_origins(self, sentence: str) -> str:
        for name in self.values:
            found = _field(name)
            if sentence.startswith(f"{found} "):
                return self.called(name) + sentence.removeprefix(found)
        return sentence


def resolve(given: Layer, variables: Mapping[str, str], files: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Merge what was given, the environment and the files (by label, nearest first, as TOML gives them).

    Raises `ConfigError` for a variable that cannot be read, a table that is none, and a named environment that no
    file defines although its addresses are needed.
    """
    warnings = _Warnings()
    layers = [given, _from_variables(variables, warnings)]
    named = variables.get(ENVIRONMENT_VARIABLE) or None
    environment = Setting(named, ENVIRONMENT_VARIABLE, 1) if named else Setting(DEFAULT_ENVIRONMENT)
    defined: dict[str, Any] = {}
    for label, tables in files.items():
        layers += _from_file(label, tables, environment.value, len(layers), defined, warnings)
    needed = not all(any(name in layer for layer in layers[:2]) for name in ADDRESSES)
    if environment.value not in defined and needed:
        known = shown(", ".join(defined))
        if named:
            hint = f"; the known ones are {known}" if known else ""
            raise ConfigError(f"{ENVIRONMENT_VARIABLE} names the environment {named!r}, which no file defines{hint}")
        if known:
            hint = f"but {known}: name it with {ENVIRONMENT_VARIABLE}"
            warnings.append(f"no file defines the environment {environment.value!r}, {hint}")

    values = {name: Setting(key.default) for name, key in KEYS.items()}
    for layer in reversed(layers):
        values.update(layer)
    # A program's None says what is not there, and chooses nothing.
    said = [[values[name].rank for name in names if values[name].value is not None] for names in ALTERNATIVES]
    ranks = [min(each, default=DEFAULT_RANK) for each in said]
    account = str(values["api_key"].value).startswith(ACCOUNT_KEY)
    for names, rank in zip(ALTERNATIVES, ranks, strict=True) if not account else ():
        if rank > min(ranks):
            values |= {name: Setting(None) for name in names}
    return Settings(environment, values, tuple(files), tuple(map(looks_redacted, warnings)), warnings.about_server)


class _Warnings(list[str]):
    """Sentences without a full stop."""

    about_server = False

    def unknown(self, sentence: str, name: str, known: tuple[str, ...]) -> None:
        """Of a name that nobody knows; the nearest of the known ones is added."""
        near = get_close_matches(name, known, n=1)
        self.append(f"{sentence}; did you mean {near[0]}?" if near else sentence)
        self.about_server |= bool(get_close_matches(name, SERVER_NAMES, n=1, cutoff=0.8))


def _from_variables(variables: Mapping[str, str], warnings: _Warnings) -> Layer:
    known = {variable: key for key in KEYS.values() for variable in key.variables}
    names = (*known, ENVIRONMENT_VARIABLE)
    for variable in variables:
        ours = variable.startswith(PREFIX) and not variable.startswith(DEVSERVER_PREFIX)
        slip = variable.startswith(SHARED_PREFIX) and get_close_matches(variable, names, n=1, cutoff=0.9)
        if (ours or slip) and variable not in (*names, *OTHER_VARIABLES):
            warnings.unknown(f"the environment has an unknown variable {shown(variable)}", variable, names)
    found: dict[str, Setting] = {}
    for variable, key in known.items():
        if key.name not in found and variables.get(variable):
            found[key.name] = Setting(_read(variable, variables[variable], key.kind), variable, rank=1)
    return found


_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _read(variable: str, text: str, kind: Kind) -> Any:
    try:
        match kind:
            case Kind.TEXT:
                return text
            case Kind.LIST:
                return tuple(part.strip() for part in text.split(","))
            case Kind.SWITCH:
                return _SWITCHES[text.strip().lower()]
            case Kind.NUMBER:
                with suppress(ValueError):
                    return int(text)
                return float(text)
    except (KeyError, ValueError):  # the sentence goes without the text, which may be a misplaced secret
        raise ConfigError(f"{variable} must be {kind}") from None


def _from_file(
    label: str, tables: Mapping[str, Any], environment: str, rank: int, defined: dict[str, Any], warnings: _Warnings
) -> Iterator[Layer]:
    """What one file says for this environment, then what it says for all. `defined` collects its environments."""

    def table(where: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} in {label} must be a table, not {type(value).__name__}")
        return value

    def keys(
        path: str, content: Any, rank: int, known: tuple[str, ...], nested: tuple[str, ...] = (), group: str = ""
    ) -> dict[str, Setting]:
        where, free = f"[{path}]", group == "capabilities."
        found = {}
        for name, value in table(where, content).items():
            if name in known or free:
                found[group + name] = Setting(value, f"{label} {where}", rank)
            slip = get_close_matches(name, known, n=1, cutoff=0.8) if free else name not in nested
            if slip and name not in known:
                warnings.unknown(f"{label} has an unknown key {name!r} in {where}", name, known)
        return found

    def ours(path: str, content: Any, rank: int) -> dict[str, Setting]:
        found = keys(path, content, rank, _members(""), GROUPS)
        for group in GROUPS:
            found |= keys(f"{path}.{group}", content.get(group, {}), rank, _members(group), group=f"{group}.")
        return found

    for name in tables:
        near = get_close_matches(name, ("environments", TABLE), n=1, cutoff=0.8)
        if near and name not in near:  # tables with other names belong to other programs
            warnings.append(f"{label} has a table [{shown(name)}]; did you mean [{near[0]}]?")
            warnings.about_server |= near[0] == "environments"
        elif get_close_matches(name, ADDRESSES, n=1, cutoff=0.8):
            warnings.unknown(f"{label} has a key {name!r} outside of [environments.NAME]", name, ())
    special: Layer = {}
    for name, content in table("environments", tables.get("environments", {})).items():
        defined[name] = content
        path = f"environments.{shown(name)}"
        found = keys(path, content, rank, ADDRESSES, (TABLE,)) | ours(f"{path}.{TABLE}", content.get(TABLE, {}), rank)
        special = found if name == environment else special
    yield special
    yield ours(TABLE, tables.get(TABLE, {}), rank + 1)


def _members(group: str) -> tuple[str, ...]:
    split = (name.rpartition(".") for name in KEYS if name not in ADDRESSES)
    return tuple(member for prefix, _, member in split if prefix == group)
