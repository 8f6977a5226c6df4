"""What a failure means: the ONE place that turns an error's text, its code or a close code into what is to be done.

`registration_backoff.py` and `reconnect.py` say how pauses grow. Unknown trouble always means trying again (F19).
"""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum

from worker_state.protocol.frames import Message, RegisterError
from worker_state.redact import Secrets, shown


class Cause(StrEnum):
    """Why a dial or a link ended, by the stage that it had reached. The values are phrases for a log line."""

    REFUSED = "connection refused"
    UNREACHABLE = "host not reached"
    NO_ANSWER = "no answer to the connection request"
    TLS = "TLS failed"
    UNACKNOWLEDGED = "our bytes are not acknowledged"
    UNANSWERED = "upgrade not answered"
    SHED = "sent away for now"
    REJECTED = "upgrade rejected"
    GARBAGE = "no WebSocket server there"
    CLOSED = "closed"
    UNREGISTERED = "register not answered"
    SILENT = "silent"
    STUCK = "not reading"
    DROPPED = "dropped by us"
    MOVED = "left for a new room"


@dataclass(frozen=True, slots=True)
class DialFailure:
    """A dial that gave no link."""

    cause: Cause
    detail: str = ""
    status: int | None = None
    retry_after: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.cause} ({self.detail})" if self.detail else str(self.cause)


@dataclass(frozen=True, slots=True)
class Closed:
    """A link that is over. `code` is the WebSocket close code; 1006 stands for "without a Close frame"."""

    code: int = 1006
    reason: str = ""
    cause: Cause = Cause.CLOSED

    @property
    def by_server(self) -> bool:
        """The server has sent a Close frame; else it may not know yet that the link is over."""
        return self.code != 1006

    def without(self, secrets: Secrets) -> "Closed":
        """The same, to be shown: the server's words are without these."""
        return replace(self, reason=secrets.shown(self.reason))

    def __str__(self) -> str:
        if self.cause is not Cause.CLOSED:
            return f"{self.cause} ({self.reason})" if self.reason else str(self.cause)
        return f"closed with {self.code}" + (f" ({self.reason})" if self.reason else "")


def in_words(error: object) -> str:
    """What an exception says, for a failure that nobody foresaw: whatever the outside raises where a dial, a link or a
    call is tried is the end of that dial, link or call (faults.md, G28)."""
    text = Secrets().shown(str(error))
    named = isinstance(error, Exception) and not isinstance(error, OSError)
    return ": ".join(filter(None, (type(error).__name__ if named or not text else "", text)))


def hint(retry_after: str | None) -> float | None:
    """The seconds of a `Retry-After`, or None: the form with a date would need both clocks to agree."""
    return float(retry_after) if retry_after is not None and re.fullmatch("[0-9]{1,9}", retry_after) else None


_ASKED = re.compile(
    r"(?:retry|try again)[ _-]?(?:after|in)[ \t:=]*(\d{1,6}(?:\.\d{1,3})?)(?![\d.]*\d) ?([a-z]*)",
    re.ASCII | re.IGNORECASE,
)
_UNITS = {"": 1.0} | {
    name: seconds
    for seconds, names in (
        (0.001, "ms msec msecs millisecond milliseconds"),
        (1.0, "s sec secs second seconds"),
        (60.0, "m min mins minute minutes"),
        (3600.0, "h hr hrs hour hours"),
    )
    for name in names.split()
}
_TOO_BIG, _TOO_BIG_PAUSE = 1009, 60.0  # close code; seconds


def hint_of(closed: Closed, *, registered: bool = True) -> float | None:
    """The seconds that a close asks to wait ("server restarts, retry after 12"), or None. Any other number in a reason
    is a code, an age or a count (G29). `registered`: one was accepted on that link. Else an answer to `register` that
    is too big will be as big on the next link (F22)."""
    if closed.code == _TOO_BIG and not registered:
        return _TOO_BIG_PAUSE
    found = _ASKED.search(closed.reason)
    if found is None:
        return hint(closed.reason)
    unit = _UNITS.get(found[2].lower())  # None: whatever it counts is no time
    return None if unit is None else float(found[1]) * unit


class Lease(StrEnum):
    """What can run out and be renewed."""

    IDENTITY = "identity"
    ROOM = "room"


@dataclass(frozen=True, slots=True)
class Retry:
    """Send the same `register` again on the same link, not sooner than `after` seconds from now."""

    after: float
    reason: str


@dataclass(frozen=True, slots=True)
class Renew:
    """The registration needs a new identity or room first."""

    what: Lease
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing that the worker can do by itself mends this: at start-up it fails, later it is retried slowly."""

    reason: str


Decision = Retry | Renew | GiveUp

TRANSIENT_PAUSE = 5.0  # seconds, for what passes by itself in the server's store (F20)

_INVALID_TOKEN = "Invalid token"
_ROOM_REFUSED = frozenset({_INVALID_TOKEN, "Room not found", "Room expired"})
_MISSING_FIELDS = "Missing required fields during registration."
_NO_KEYS = (
    "it knows no API keys, which came with v3.0 (it misses other fields): use a room and its token in place of the key"
)
_OUR_FAULT = frozenset(
    {
        _MISSING_FIELDS,
        "No authentication provided. Use api_key, jwt, or id_token.",
        "Invalid API key",
        "Token revoked",
        "Token expired",
    }
)
_ANSWERS = _ROOM_REFUSED | _OUR_FAULT | {"DynamoDB error", "API key validation failed"}  # these two pass by themselves


def after_refusal(refusal: RegisterError, *, own_room: bool, by_key: bool = False) -> Decision:
    """What an answer to `register` that is no acceptance calls for (protocol.md, C; F16, F17)."""
    reason = shown(refusal.reason)
    # With an API key there is no identity that could be renewed.
    if not refusal.typed and refusal.reason == _INVALID_TOKEN and not by_key:
        return Renew(Lease.IDENTITY, "the ID token is refused")
    if refusal.typed and refusal.reason in _ROOM_REFUSED:
        meaning = "wrong room token" if refusal.reason == _INVALID_TOKEN else reason.lower()
        return Renew(Lease.ROOM, meaning) if own_room else GiveUp(meaning)
    if refusal.typed and refusal.reason == _MISSING_FIELDS and by_key:
        return GiveUp(_NO_KEYS)
    if refusal.typed and refusal.reason in _OUR_FAULT:
        return GiveUp(reason)
    return Retry(TRANSIENT_PAUSE, reason)


def surely_answers(refusal: RegisterError) -> bool:
    """Whether this error answers a `register` (protocol.md, C), and not a frame of the worker's other parts."""
    return refusal.reason in _ANSWERS


class CodeMeaning(StrEnum):
    """What an error with a code says to a registered worker. Codes that only answer other frames say nothing."""

    NO_SUCH_PEER = "no such peer"  # the answer to an update, or to another part's message
    FORGOTTEN = "forgotten"  # the server does not know this worker, or cannot reach it
    NOTHING = "nothing"
    UNKNOWN = "unknown"  # it may refuse an echo


def meaning_of_code(message: Message, peer_id: str) -> CodeMeaning:
    """What an error frame with a `code` says to the worker of this peer id."""
    code, text = message.get("code"), message.get("message")
    if code == "PEER_NOT_FOUND":
        return CodeMeaning.NO_SUCH_PEER
    if not isinstance(text, str):
        return CodeMeaning.NOTHING
    if code in ("PEER_NOT_IN_ROOM", "DELIVERY_FAILED"):
        return CodeMeaning.FORGOTTEN if peer_id in text else CodeMeaning.NOTHING
    if code == "INVALID_JSON" or (code == "UNKNOWN_MESSAGE_TYPE" and "peer_message" not in text):
        return CodeMeaning.NOTHING
    return CodeMeaning.UNKNOWN


def refuses_token(status: int | None) -> bool:
    """Whether an HTTP answer of this status says that the ID token is not good enough."""
    return status == 401
