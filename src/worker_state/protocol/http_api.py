"""The server's three HTTP calls: request and response of each. Nothing in here raises, whatever the network sends.

Here the texts of HTTP answers come in: a reader learns the secret in an answer, and no other text leaves with one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from worker_state import foreign_json
from worker_state.redact import Secrets

Sending = Callable[[], None]
"""Called right before the first byte of a request: until then a call that is cancelled has done nothing."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A `POST`."""

    path: str
    bearer: str | None = field(default=None, repr=False)
    body: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP answer as it came, at most 64 KiB of it."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    retry_after: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpFailure:
    """There was no usable HTTP answer: refused, reset, too slow, too large, another status than 200."""

    why: str  # a phrase
    status: int | None = None  # of an answer with another status than 200
    retry_after: str | None = field(default=None, repr=False)

    @property
    def may_pass(self) -> bool:
        """The next try may well succeed: the network or the server is in trouble, and nothing was refused."""
        return self.status is None or self.status == 429 or self.status >= 500


@dataclass(frozen=True, slots=True)
class Identity:
    """What a sign-in gives. The username is the peer id, and what `/delete-peer` takes."""

    username: str
    id_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Room:
    """A room and its token."""

    room_id: str
    token: str = field(repr=False)


def sign_in() -> HttpRequest:
    """Creates an identity."""
    return HttpRequest("/anonymous-signin")


def read_identity(answer: HttpAnswer | HttpFailure, secrets: Secrets) -> Identity | HttpFailure:
    """What `sign_in` brings; status, content and types are checked before use (F25)."""
    match _read_body(answer, secrets):
        case {"username": str(username), "id_token": str(id_token)} if username and id_token:
            secrets.learn(id_token)
            return Identity(username, id_token) if not secrets.hold(username) else _repeats("username")
        case other:
            return _failure(other, "username and id_token")


def create_room(id_token: str | None) -> HttpRequest:
    """Creates a room. Without a token it creates nothing: only this server answers that with 422."""
    return HttpRequest("/create-room", bearer=id_token)


def read_room(answer: HttpAnswer | HttpFailure, secrets: Secrets) -> Room | HttpFailure:
    """What `create_room` brings."""
    match _read_body(answer, secrets):
        case {"room_id": str(room_id), "token": str(token)} if room_id and token:
            secrets.learn(token)
            return Room(room_id, token) if not secrets.hold(room_id) else _repeats("room_id")
        case other:
            return _failure(other, "room_id and token")


def delete_peer(peer_id: str) -> HttpRequest:
    """Deletes an identity, and with the last registered one of a room that room (G01)."""
    return HttpRequest("/delete-peer", body={"peer_id": peer_id})


def read_deletion(answer: HttpAnswer | HttpFailure, secrets: Secrets) -> str | HttpFailure:
    """The report of `delete_peer`. The server says 200 even when it failed: this proves nothing (F34)."""
    match _read_body(answer, secrets):
        case {"status": str(text)}:
            return secrets.shown(text)
        case other:
            return _failure(other, "status")


def _failure(body: object, wanted: str) -> HttpFailure:
    return body if isinstance(body, HttpFailure) else HttpFailure(f"HTTP 200, but no {wanted} in it")


def _repeats(name: str) -> HttpFailure:
    """Ids are shown everywhere, so one that repeats a secret is of no use."""
    return HttpFailure(f"HTTP 200, but its {name} repeats a secret")


def read_any(answer: HttpAnswer | HttpFailure, secrets: Secrets) -> HttpAnswer | HttpFailure:
    """An answer of any kind, whose texts can be shown; its body is as it came."""
    if isinstance(answer, HttpFailure):
        return replace(answer, why=secrets.shown(answer.why))
    return replace(answer, content_type=secrets.shown(answer.content_type, 40))


def _read_body(answer: HttpAnswer | HttpFailure, secrets: Secrets) -> object:
    answer = read_any(answer, secrets)
    if isinstance(answer, HttpFailure):
        return answer
    if answer.status != 200:
        text = answer.body.decode("utf-8", "replace")
        said = f": {secrets.shown(text)}" if text else ""
        return HttpFailure(f"HTTP {answer.status}{said}", answer.status, answer.retry_after)
    try:
        return foreign_json.read(answer.body)
    except ValueError:
        return HttpFailure(f"HTTP 200, but the body is no JSON ({answer.content_type or 'no content type'})")
