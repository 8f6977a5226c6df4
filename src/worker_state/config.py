"""A worker's settings: checked once, at construction, and never changed after.

Types are strict because a wrong one breaks the searches of every client in the room (F27).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from worker_state.errors import ConfigError

TAGS = ("sleap-rtc", "training-worker", "inference-worker")  # that clients in the field search for (protocol.md, G)
LONGEST_TIME = 365 * 86400.0  # seconds
LARGEST_NUMBER = 2**63  # what every JSON parser of the field can represent

_STATUS_KEYS = frozenset({"status", "current_job_id", "pending_job_id"})
# The capabilities that clients in the field know, by the type that they compare.
NUMBERS = frozenset({"gpu_memory_mb", "max_concurrent_jobs"})
TEXTS = frozenset({"gpu_model", "cuda_version", "hostname", "sleap_version"})
LISTS = frozenset({"supported_models", "supported_job_types"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long each thing may take, in seconds. All must be positive and finite."""

    register: float = 60.0
    """From a `register` to its answer; then the link is aborted. The first `register` on a link may take 20 times as
    long while the server answers pings: giving up would feed a storm (`protocol/reconnect.py`)."""
    answer: float = 12.0  # from an `update_metadata` or an echo to its answer; a single miss proves nothing (F23)
    http: float = 30.0  # one HTTP request as a whole, body included (T11)
    send: float = 20.0  # one frame into the socket; a server that has stopped reading costs the link after this
    unacknowledged: float = 15.0  # our bytes, by the kernel over there; then the network is gone (on Linux)
    ping_every: float = 8.0  # between WebSocket pings, when nothing else shows that the link lives
    silence: float = 25.0
    """From a ping without a pong or a frame: the link is dead. Below 25 s a paused server would be abandoned (F23).
    A dead link is noticed `ping_every + silence` seconds after its last sign of life."""
    exit: float = 2.0  # all deletions at the exit together
    close: float = 0.5  # the closing handshake after that, before the socket is aborted

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_seconds(f"timing.{each.name}", getattr(self, each.name))


@dataclass(frozen=True, slots=True)
class Config:
    """Where the server is, which room to be in, and what this worker offers.

    With neither `room_id` nor `api_key` the worker creates a room of its own. `capabilities` are the properties that
    clients filter by (`gpu_memory_mb`, `gpu_model`, …), without those of the status. Raises `ConfigError` (a
    `ValueError`) with a sentence that names the field.
    """

    websocket_url: str = field(repr=False)  # its query may hold a token, hence not in `repr`
    http_url: str
    room_id: str | None = None
    room_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    tags: tuple[str, ...] = TAGS
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    show_session_string: bool = (
        True  # in the log, although it is a secret: at the start, and when a new room changes it
    )
    wait_for_server: bool = False  # a start that cannot reach the server waits instead of failing (`StartupFailed`)
    delete_given_room: bool = False
    """Delete the room that was given to the worker, too, if it is the last one there at its exit. Everybody else with
    the room's token, or an API key of it, is refused from then on (G01)."""
    reservation_limit: float | None = None
    """Seconds after which a reservation whose client never came ends by itself; None: only the worker ends it (F15)."""
    signal_buffer: int = 256
    """Messages of the worker's other parts that may wait unread: eight negotiations of some 30 candidates. What comes
    beyond that is counted, logged and dropped, for a blocked reader would also stop the pongs."""

    def __post_init__(self) -> None:
        _check_url("websocket_url", self.websocket_url, ("ws", "wss"))
        _check_url("http_url", self.http_url, ("http", "https"))
        _check_room(self.room_id, self.room_token, self.api_key)
        object.__setattr__(self, "tags", _checked_tags(self.tags))
        object.__setattr__(self, "capabilities", _checked_capabilities(self.capabilities))
        if not isinstance(self.timing, Timing):
            raise ConfigError(f"timing must be a Timing, not {type(self.timing).__name__}")
        if self.reservation_limit is not None:
            _check_seconds("reservation_limit", self.reservation_limit)
        for name in ("show_session_string", "wait_for_server", "delete_given_room"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be True or False")
        if self.delete_given_room and self.api_key is not None:
            raise ConfigError("delete_given_room does not go with an api_key: every key of the room would die with it")
        if isinstance(self.signal_buffer, bool) or not isinstance(self.signal_buffer, int) or self.signal_buffer < 1:
            raise ConfigError("signal_buffer must be a whole number of messages, at least 1")

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping can be neither copied nor pickled.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return partial(Config, **{**values, "capabilities": dict(self.capabilities)}), ()

    @property
    def exposed_urls(self) -> tuple[str, ...]:
        """URLs over which tokens travel unencrypted: `ws://` or `http://` to anything but loopback."""
        return tuple(url.partition("?")[0] for url in (self.websocket_url, self.http_url) if _is_exposed(url))

    @property
    def creates_room(self) -> bool:
        """Whether the worker creates the room, and replaces it when it is over."""
        return self.room_id is None and self.api_key is None

    @property
    def keeps_room(self) -> bool:
        """Whether the room is left standing at the exit: it is somebody else's."""
        return not (self.creates_room or self.delete_given_room)


def _kind(value: object) -> str:
    return "an empty one" if value == "" else type(value).__name__


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 < value <= LONGEST_TIME:
        raise ConfigError(f"{name} must be a positive number of seconds, at most a year")


def _check_url(name: str, url: object, schemes: tuple[str, str]) -> None:
    expected = f"{schemes[0]}:// or {schemes[1]}://"
    if not isinstance(url, str):
        raise ConfigError(f"{name} must be a string that begins with {expected}, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{name} is no URL: its host or port cannot be read") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{name} must not contain a user name or password: URLs end up in logs")
    if parts.scheme not in schemes:
        found = parts.scheme + "://" if parts.scheme else url.partition("?")[0]  # a query may hold a token
        raise ConfigError(f"{name} must begin with {expected}, not {found!r}")
    if not parts.hostname:
        raise ConfigError(f"{name} has no host name")
    if port == 0:
        raise ConfigError(f"{name} has port 0, which nothing can listen on")
    if any(c.isspace() or not c.isprintable() for c in url):
        raise ConfigError(f"{name} contains white space or a control character")
    if parts.fragment or (schemes[0] == "http" and parts.query):
        raise ConfigError(f"{name} must end with the path: nothing after a '#' or '?' can be used")


def _is_exposed(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme in ("wss", "https"):
        return False
    try:
        return not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def _check_room(room_id: object, room_token: object, api_key: object) -> None:
    for name, value in (("room_id", room_id), ("room_token", room_token), ("api_key", api_key)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{name} must be a string, not {type(value).__name__}")
        if value is not None and not value.strip():
            raise ConfigError(f"{name} must not be empty")
    if (room_id is None) != (room_token is None):
        missing = "room_id" if room_id is None else "room_token"
        raise ConfigError(f"{missing} is missing: a room is joined with room_id and room_token together")
    if api_key is not None and room_id is not None:
        raise ConfigError("api_key and room_id exclude each other: the API key names its room by itself")
    if isinstance(api_key, str) and not api_key.startswith("slp_"):
        raise ConfigError("api_key must begin with 'slp_'")


def _checked_tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, tuple | list):
        raise ConfigError(f"tags must be a list of strings, not {type(tags).__name__}")
    if not tags:
        raise ConfigError("tags must not be empty: clients discover a worker by its tags")
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise ConfigError(f"tags must be non-empty strings, not {_kind(tag)}")
    return tuple(dict.fromkeys(tags))


def _checked_capabilities(capabilities: object) -> Mapping[str, Any]:
    if not isinstance(capabilities, Mapping):
        raise ConfigError(f"capabilities must be a mapping of names to values, not {type(capabilities).__name__}")
    return MappingProxyType({name: _checked_capability(name, value) for name, value in capabilities.items()})


def _checked_capability(name: object, value: object) -> Any:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"capabilities must have non-empty strings as names, not {_kind(name)}")
    if name in _STATUS_KEYS:
        raise ConfigError(f"capabilities must not contain {name!r}: the status belongs to the manager")
    where = f"capabilities[{name!r}]"
    if name in NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ConfigError(f"{where} must be a number, not {type(value).__name__}: clients compare it")
    if name in TEXTS and not isinstance(value, str):
        raise ConfigError(f"{where} must be a string, not {type(value).__name__}")
    if name in LISTS and not isinstance(value, list | tuple):
        raise ConfigError(f"{where} must be a list of strings, not {type(value).__name__}")
    if isinstance(value, int | float) and not abs(value) < LARGEST_NUMBER:
        raise ConfigError(f"{where} must be a finite number below 2**63")
    if isinstance(value, list | tuple):
        if not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{where} must contain strings only")
        return tuple(value)
    if not isinstance(value, str | int | float | bool):
        raise ConfigError(f"{where} must be a string, a number, a boolean or a list of strings, not {_kind(value)}")
    return value
