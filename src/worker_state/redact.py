"""Makes texts from outside fit for a log, a terminal or an exception: without secrets, and on one line.

Each worker, and each tool, has one `Secrets`. It learns each secret before that is first sent, and every text of the
server's passes through it where it comes in: HTTP answers in `protocol/http_api.py`, frames in `protocol/frames.py`,
the ends of links in `actors/link.py` and `tools/room_client.py`. Behind these places no text holds a secret.
"""

import base64
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from worker_state import foreign_json

HIDDEN = "[secret]"
SHORTEST = 4  # characters of what counts as secret: hiding less would garble every text, and keep nothing secret
KEPT = 32  # learned secrets that are remembered, of one or two an hour; the server forgets them after two
LAYERS = 3  # of escapes that are looked through: JSON in JSON in an HTTP answer
LONGEST = 2**16  # characters of a text that are looked at, of which some hundred are shown
_PUBLIC = (
    "type peer_id room_id role metadata tags properties status current_job_id pending_job_id from_peer_id to_peer_id "
    "sender target payload job_id code reason message error count peers filters connected_at admin_peer_id "
    "current_admin peer_list peer_metadata is_admin ice_servers mesh_ice_servers gpu_memory_mb gpu_model cuda_version "
    "hostname sleap_version max_concurrent_jobs supported_models supported_job_types"
)
_SHOWN = frozenset(_PUBLIC.split())
"""Members of a frame that are shown. Any other may be a token, a key, or open a peer connection."""
_TEXTS = frozenset({"reason", "message", "error", "code"})
# How API keys, ID tokens and session strings look, and a password in a URL.
_TOKENS = re.compile(r"slp_[\w-]+|eyJ[\w.=-]+|(?<=sleap-session:)[\w+/=-]+|(?<=://)[^\s/@]+(?=@)")
_ESCAPE = re.compile(
    r"\\u\{?(?P<u>[0-9a-f]{4})\}?|\\x(?P<x>[0-9a-f]{2})|(?P<percent>(?:%[0-9a-f]{2})+)"
    r"|&#x(?P<hex>[0-9a-f]{1,6});|&#(?P<decimal>[0-9]{1,7});|\\(?P<itself>[\"'/\\])",
    re.IGNORECASE,
)


class Secrets:
    """What must stand in no text: tokens, keys, session strings.

    Hidden is each secret that is known here, wherever it stands in a text: as it is, with any of its characters escaped
    (as in JSON, Python, URLs or HTML, up to three times over), or inside of base64, as in a session string. So is what
    looks like an API key, a JWT, a session string or a password in a URL, whosesoever it is. Not covered are pieces of
    a secret that does not look like one, numbers, and other encodings.
    """

    __slots__ = ("_given", "_learned", "_words")

    def __init__(self, *given: str | None) -> None:
        """`given`: what is never forgotten, as `Config.secrets` says."""
        self._given = frozenset(given)
        self._learned: deque[str] = deque(maxlen=KEPT)
        self._words: tuple[_Word, ...] | None = None  # to look for; made when they are needed

    def learn(self, secret: str | None) -> None:
        """From now on this is secret. Twice is once."""
        if secret is not None and not self.know(secret):
            self._learned.append(secret)
            self._words = None

    def know(self, secret: str | None) -> bool:
        """Whether this is known to be secret."""
        return secret in self._given or secret in self._learned

    def shown(self, text: str, limit: int = 200) -> str:
        """A text from outside without secrets, as one line of printable characters, cut off after `limit`."""
        return shown(self.redacted(text[:LONGEST]), limit)

    def redacted(self, text: str) -> str:
        """A text from outside without secrets, and else as it is."""
        for plain in reversed(_layers(text)):  # one with an escaped secret is told without its escapes
            hidden = plain
            for word, instead in self._found(plain):
                hidden = hidden.replace(word, instead)
            hidden = looks_redacted(hidden if hidden is plain else _AROUND.sub(HIDDEN, hidden))
            if hidden != plain:
                return hidden
        return text

    def hold(self, text: str) -> bool:
        """Whether this text, an id, repeats what is known to be secret. Such an id cannot be shown."""
        return any(self._found(plain) for plain in _layers(text))

    def _found(self, text: str) -> list["_Word"]:
        if self._words is None:
            words = {word for secret in {*self._given, *self._learned} for word in _words_of(secret)}
            self._words = tuple(sorted(words, key=lambda word: len(word[0]), reverse=True))
        return [word for word in self._words if word[0] in text]


_Word = tuple[str, str]  # what may stand in a text, and what is put there instead
_ENCODED = "\0"  # for base64, of which more is around it
_AROUND = re.compile(f"[A-Za-z0-9+/_-]?{_ENCODED}[A-Za-z0-9+/=_-]*")


def _words_of(secret: str | None) -> Iterator[_Word]:
    """One secret, of a JWT each part, and what base64 makes of it."""
    if secret is None or len(secret) < SHORTEST:
        return
    for each in (secret, *(part for part in secret.split(".") if secret.startswith("eyJ") and part)):
        yield each, HIDDEN
    for shift in range(3):  # what stands before it decides how its bits fall into characters
        code = base64.b64encode(bytes(shift) + secret.encode("utf-8", "replace")).decode().rstrip("=")
        core = code[shift + (shift > 0) : -1]  # the characters at both ends depend on what is beside it
        yield core, _ENCODED
        yield core.replace("+", "-").replace("/", "_"), _ENCODED


def _layers(text: str) -> list[str]:
    """The text, and what it says without its escapes, one layer after the other."""
    layers = [text]
    while len(layers) <= LAYERS and (plain := _ESCAPE.sub(_unescaped, layers[-1])) != layers[-1]:
        layers.append(plain)
    return layers


def _unescaped(match: re.Match[str]) -> str:
    """What one escape stands for, unless that is a control character."""
    found = match.groupdict()
    if found["itself"]:
        return str(found["itself"])
    if found["percent"]:
        plain = bytes.fromhex(found["percent"].replace("%", "")).decode("utf-8", "replace")
    else:
        code = int(found["u"] or found["x"] or found["hex"] or "0", 16) or int(found["decimal"] or "0")
        plain = chr(min(code, 0x10FFFF))
    return plain if plain.isprintable() else match[0]


def looks_redacted(text: str) -> str:
    """A text without what looks like a secret, for where none is known."""
    return _TOKENS.sub(HIDDEN, text)


def shown(text: str, limit: int = 200) -> str:
    """A text as one line without control characters, cut off after `limit` characters. Secrets stay in it."""
    text = text if len(text) <= limit else text[:limit] + "…"
    if text.isprintable():  # nearly all are, and a frame in the log at DEBUG has a thousand characters
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown_frame(text: str | bytes, secrets: Secrets) -> str:
    """A frame as one line of JSON, in which only what is known to be public has its value. What is no message is told
    by its length."""
    try:
        message = foreign_json.read(text)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("type", message.get("error")), str):
        return f"{len(text)} {'bytes' if isinstance(text, bytes) else 'characters'} that are no message"
    return secrets.shown(json.dumps(_without_secrets(message)), 1000)


def _without_secrets(value: Any, levels: int = 8) -> Any:
    if levels == 0:
        return "…"
    if isinstance(value, dict):
        # Records stand under the names of their owners, texts for people are texts, and no number is a secret.
        known = {
            name: each
            for name, each in value.items()
            if isinstance(each, dict | bool | int | float | None)
            or (name in _SHOWN and (name not in _TEXTS or isinstance(each, str)))
        }
        return {name: _without_secrets(known[name], levels - 1) if name in known else "[hidden]" for name in value}
    if isinstance(value, list):
        return [_without_secrets(each, levels - 1) for each in value]
    return value
