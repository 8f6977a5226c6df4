"""A worker's settings: checked once, at construction, and never changed after."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import partial, wraps
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from worker_state.advertised import TAGS, Advertised
from worker_state.errors import ConfigError
from worker_state.redact import Secrets

T = TypeVar("T", "Config", "Timing")

LONGEST_TIME = 365 * 86400.0  # seconds
ACCOUNT_KEY = "slp_acct_"  # such a key names no room by itself
LONGEST_ID = 512  # characters: a peer id is in every frame about this worker


def check_fields(config: "type[Config | Timing]", names: Iterable[str]) -> None:
    """Raises `TypeError` for a name that is none of its fields, with the nearest one."""
    known = [each.name for each in fields(config)]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f": they are {', '.join(known)}"
            raise TypeError(f"{config.__name__} has no field {name!r}{hint}")


def _with_checked_names(config: type[T]) -> type[T]:
    made: Callable[..., None] = config.__init__

    @wraps(made)
    def checked(self: T, *args: Any, **values: Any) -> None:
        check_fields(config, values)
        made(self, *args, **values)

    config.__init__ = checked  # type: ignore[method-assign]
    return config


@_with_checked_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long each thing may take, in seconds. All must be positive and finite.

    >>> from worker_state import Timing
    >>> Timing(http=10).http
    10
    """

    register: float = 60.0
    """From a `register` to its answer; then the link is aborted. The first `register` on a link may take 20 times as
    long while the server answers pings: giving up would feed a storm (`protocol/reconnect.py`)."""
    answer: float = 12.0
    """From an `update_metadata` or an echo to its answer. A single miss proves nothing (F23)."""
    http: float = 30.0
    """One HTTP request as a whole, body included (T11)."""
    send: float = 20.0
    """One frame into the socket. A server that has stopped reading costs the link after this."""
    unacknowledged: float = 15.0
    """For how long our bytes may stay unacknowledged by the kernel over there; then the network is gone. On Linux."""
    ping_every: float = 8.0
    """Between WebSocket pings, when nothing else shows that the link lives."""
    silence: float = 25.0
    """From a ping without a pong or a frame: the link is dead. Below 25 s a paused server would be abandoned (F23).
    A dead link is noticed `ping_every + silence` seconds after its last sign of life."""
    exit: float = 2.0
    """All deletions at the exit together."""
    close: float = 0.5
    """The closing handshake after that, before the socket is aborted."""

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_seconds(f"timing.{each.name}", getattr(self, each.name))


@_with_checked_names
@dataclass(frozen=True, slots=True)
class Config:
    """Where the server is, which room to be in, and what this worker offers.

    With neither `room_id` nor `api_key` the worker creates a room of its own. An API key names its room by itself, but
    for account keys, which need the `room_id`. `capabilities` are the properties that clients filter by
    (`gpu_memory_mb`, `gpu_model`, …), without those of the status: what the field compares has its type, under other
    names any JSON value goes. Raises `ConfigError` (a `ValueError`) with a sentence that names the field.

    >>> from worker_state import Config
    >>> config = Config("wss://signaling.example.org", "https://signaling.example.org", tags=["training-worker"])
    >>> config.creates_room
    True
    """

    websocket_url: str = field(repr=False)
    """The server's WebSocket address, `wss://…`. Its query may hold a token, hence it is not in `repr`."""
    http_url: str
    """Its HTTP address, `https://…`, without a query."""
    room_id: str | None = None
    """The room to join, with its token or with an account's API key. Without it: a room of its own, or the key's."""
    room_token: str | None = field(default=None, repr=False)
    """The token of that room, a secret."""
    api_key: str | None = field(default=None, repr=False)
    """Register with this key, a secret, and not with an identity of a sign-in (servers of generation v3)."""
    tags: tuple[str, ...] = TAGS
    """What clients search for. The usual three are those that clients in the field know."""
    capabilities: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The properties that clients filter by, beside the status."""
    peer_id: str | None = None
    """Used as it is, so no other worker may have it. Without it: the server's, or with an API key a random one."""
    admin: bool = False
    """Offer to be the room's admin, with `is_admin` in the `register`."""
    timing: Timing = field(default_factory=Timing)
    """How long each thing may take."""
    show_session_string: bool = True
    """Log the session string, although it is a secret: at the start, and when a new room changes it."""
    wait_for_server: bool = False
    """A start that cannot reach the server waits for it, as after a lost connection, instead of failing."""
    delete_given_room: bool = False
    """Delete the room that was given to the worker, too, if it is the last one there at its exit. Everybody else with
    the room's token, or an API key of it, is refused from then on (G01)."""
    reservation_limit: float | None = None
    """Seconds after which a reservation whose client never came ends by itself; else only the worker ends it (F15)."""
    signal_buffer: int = 256
    """Messages of the worker's other parts that may wait unread: eight negotiations of some 30 candidates. What comes
    beyond that is counted, logged and dropped, for a blocked reader would also stop the pongs."""
    signal_buffer_bytes: int = 4 * 2**20
    """Bytes of memory that they may take together. One that needs more than is left is dropped in the same way."""

    def __post_init__(self) -> None:
        _check_url("websocket_url", self.websocket_url, ("ws", "wss"))
        _check_url("http_url", self.http_url, ("http", "https"))
        _check_room(self.room_id, self.room_token, self.api_key)
        _check_peer_id(self.peer_id)
        for name in ("room_id", "peer_id"):
            if Secrets(self.room_token, self.api_key).hold(getattr(self, name) or ""):
                raise ConfigError(f"{name} repeats the room_token or the api_key: ids are shown, and these must not be")
        advertised = Advertised(self.tags, self.capabilities)
        object.__setattr__(self, "tags", advertised.tags)
        object.__setattr__(self, "capabilities", advertised.capabilities)
        if not isinstance(self.timing, Timing):
            raise ConfigError(f"timing must be a Timing, not {type(self.timing).__name__}")
        if self.reservation_limit is not None:
            _check_seconds("reservation_limit", self.reservation_limit)
        for name in ("admin", "show_session_string", "wait_for_server", "delete_given_room"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be True or False")
        if self.delete_given_room and self.api_key is not None:
            raise ConfigError("delete_given_room does not go with an api_key: every key of the room would die with it")
        _check_count("signal_buffer", self.signal_buffer, "messages")
        _check_count("signal_buffer_bytes", self.signal_buffer_bytes, "bytes")

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew: a deep copy of the capabilities alone would be a dict that can be changed.
        return partial(Config, **{each.name: getattr(self, each.name) for each in fields(self)}), ()

    @property
    def advertised(self) -> Advertised:
        """What the worker says of itself at its start."""
        return Advertised(self.tags, self.capabilities)

    @property
    def key_credentials(self) -> dict[str, str]:
        """What a `register` by API key carries: the key, and the room where one is given. Empty without a key."""
        named = {"api_key": self.api_key, "room_id": self.room_id, "token": self.room_token}
        return {} if self.api_key is None else {name: value for name, value in named.items() if value is not None}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must stand in no text: the room's token, the API key, and the longer values in the query of a URL."""
        queried = [value for _, value in parse_qsl(urlsplit(self.websocket_url).query) if len(value) >= 8]
        return tuple(each for each in (self.room_token, self.api_key, *queried) if each is not None)

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


def _check_peer_id(peer_id: object) -> None:
    if peer_id is None:
        return
    if not isinstance(peer_id, str):
        raise ConfigError(f"peer_id must be a string, not {type(peer_id).__name__}")
    if not 0 < len(peer_id) <= LONGEST_ID:
        raise ConfigError(f"peer_id must have 1 to {LONGEST_ID} characters, this one has {len(peer_id)}")
    if not peer_id.isprintable() or peer_id != peer_id.strip():
        raise ConfigError("peer_id must be printable, without white space around it")


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 < value <= LONGEST_TIME:
        raise ConfigError(f"{name} must be a positive number of seconds, at most a year")


def _check_count(name: str, value: object, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of {unit}, at least 1")


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
        found = f", not {parts.scheme + '://'!r}" if "://" in url else ""  # anything else may be a misplaced secret
        raise ConfigError(f"{name} must begin with {expected}{found}")
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
    if room_id is None and room_token is not None:
        raise ConfigError("room_id is missing: a room is joined with room_id and room_token together")
    if room_token is None and room_id is not None and api_key is None:
        raise ConfigError("room_token is missing: a room is joined with room_id and room_token together, or by API key")
    if isinstance(api_key, str) and not api_key.startswith("slp_"):
        raise ConfigError("api_key must begin with 'slp_'")
    if isinstance(api_key, str) and api_key.startswith(ACCOUNT_KEY) and room_id is None:
        raise ConfigError("room_id is missing: an account key (slp_acct_…) opens several rooms")
