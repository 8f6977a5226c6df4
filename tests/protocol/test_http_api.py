"""The HTTP bodies of the protocol, the texts that reach a log, and that no repr shows a secret."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker_state.protocol import frames, http_api
from worker_state.protocol.http_api import HttpAnswer, HttpFailure, Identity, Room
from worker_state.redact import Secrets, shown


def answer(body: Any, status: int = 200, content_type: str = "application/json") -> HttpAnswer:
    return HttpAnswer(status, content_type, body if isinstance(body, bytes) else json.dumps(body).encode())


def read_room(given_: HttpAnswer) -> Room | HttpFailure:
    return http_api.read_room(given_, Secrets())


Reader = Callable[[HttpAnswer, Secrets], Any]
READERS: list[Reader] = [http_api.read_identity, http_api.read_room, http_api.read_deletion]


def test_requests() -> None:
    """Each call has its path; the token goes into a header, and into no repr."""
    assert http_api.sign_in() == http_api.HttpRequest("/anonymous-signin")
    assert http_api.create_room("jwt") == http_api.HttpRequest("/create-room", bearer="jwt")
    assert http_api.delete_peer("u") == http_api.HttpRequest("/delete-peer", body={"peer_id": "u"})
    assert "jwt" not in repr(http_api.create_room("jwt"))


def test_identity() -> None:
    """A sign-in's answer gives the username and the token."""
    read_it = http_api.read_identity(answer({"id_token": "jwt", "username": "u", "more": 1}), Secrets())
    assert read_it == Identity("u", "jwt")


def test_room() -> None:
    """A room creation's answer gives the room and its token."""
    assert read_room(answer({"room_id": "r", "token": "t"})) == Room("r", "t")


def test_deletion() -> None:
    """A deletion's answer is the server's own text, made safe to log."""
    assert http_api.read_deletion(answer({"status": "peer deleted\x1b"}), Secrets()) == r"peer deleted\x1b"


INCOMPLETE: list[Any] = [
    {},
    [],
    None,
    "text",
    {"username": "u"},
    {"username": "u", "id_token": None},
    {"username": "", "id_token": "jwt"},
    {"username": "u", "id_token": ""},
    {"room_id": 7, "token": "t"},
    {"room_id": "", "token": "t"},
    {"room_id": "r", "token": ""},
    {"status": None},
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("body", INCOMPLETE)
def test_incomplete(reader: Reader, body: Any) -> None:
    """A 200 without the fields, or with fields of other types, is a failure that says so."""
    names: dict[Reader, str] = {
        http_api.read_identity: "username and id_token",
        http_api.read_room: "room_id and token",
    }
    assert reader(answer(body), Secrets()) == HttpFailure(f"HTTP 200, but no {names.get(reader, 'status')} in it")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("body", "status", "content_type", "why"),
    [
        (b"<html>Log in here</html>", 200, "text/html", "HTTP 200, but the body is no JSON (text/html)"),
        (b"", 200, "", "HTTP 200, but the body is no JSON (no content type)"),
        (b"", 200, "x" * 50, "HTTP 200, but the body is no JSON (" + "x" * 40 + "…)"),
        (b"\xff\xfe\xff", 200, "a\nb", r"HTTP 200, but the body is no JSON (a\nb)"),
        (b"[" * 100_000, 200, "application/json", "HTTP 200, but the body is no JSON (application/json)"),
        (b"9" * 10_000, 200, "application/json", "HTTP 200, but the body is no JSON (application/json)"),
        (b"Internal Server Error", 500, "text/plain", "HTTP 500: Internal Server Error"),
        (b'{"detail": [{"type": "missing"}]}', 422, "application/json", 'HTTP 422: {"detail": [{"type": "missing"}]}'),
        (b'{"id_token": "x", "username": "y"}', 201, "", 'HTTP 201: {"id_token": "x", "username": "y"}'),
        (b"", 302, "", "HTTP 302"),
        (b"\xff\x00\n", 502, "", r"HTTP 502: " + "\ufffd" + r"\x00\n"),
        (b"x" * 60_000, 500, "", "HTTP 500: " + "x" * 200 + "…"),
    ],
)
def test_other_shapes(reader: Reader, body: bytes, status: int, content_type: str, why: str) -> None:
    """What is no 200 with JSON in it is a failure with the status, and as much of the text as a log can bear."""
    assert reader(answer(body, status, content_type), Secrets()) == HttpFailure(why, None if status == 200 else status)


@pytest.mark.parametrize("reader", READERS)
def test_a_time_to_come_back(reader: Reader) -> None:
    """A `Retry-After` beside a refusal is kept, for the next call waits for it."""
    assert reader(HttpAnswer(503, "", b"", "7"), Secrets()) == HttpFailure("HTTP 503", 503, "7")


@given(
    st.builds(
        HttpAnswer,
        st.integers(100, 599),
        st.text(),
        st.binary() | st.text().map(lambda text: json.dumps(text).encode()),
    )
)
@example(answer(b"NaN"))
@example(answer(b'{"username": "\\ud800", "id_token": "\\ud800"}'))
def test_readers_are_total(given_: HttpAnswer) -> None:
    """No HTTP answer at all makes a reader raise."""
    for reader in READERS:
        reader(given_, Secrets())


def test_repeated_token() -> None:
    """A server that repeats the ID token in its complaint does not get it into the log."""
    failure = http_api.read_room(answer({"detail": "Token verification failed: sekrit"}, 401), Secrets("sekrit"))
    assert failure == HttpFailure('HTTP 401: {"detail": "Token verification failed: [secret]"}', 401)


def test_what_looks_like_a_token() -> None:
    """What looks like somebody's token reaches no log from a content type, or from the report of a deletion."""
    assert http_api.read_deletion(answer({"status": "gone: eyJhbGci.eyJpYXQi.c2ln"}), Secrets()) == "gone: [secret]"
    failure = HttpFailure("HTTP 200, but the body is no JSON (text/[secret])")
    assert http_api.read_deletion(answer(b"", content_type="text/eyJhbGci.eyJpYXQi.c2ln"), Secrets()) == failure


def test_repeated_token_at_the_edge() -> None:
    """A repeated ID token is hidden before the text is cut, not after, so that no half of it is left."""
    failure = http_api.read_room(answer(b"x" * 195 + b"sekrit" * 40, 401), Secrets("sekrit" * 40))
    assert isinstance(failure, HttpFailure)
    assert "sek" not in failure.why


def test_g13_ids_that_repeat_a_secret() -> None:
    """An id is shown everywhere, so one with a token in it, its own or an older one, is no use, and is not repeated."""
    room = http_api.read_room(answer({"room_id": "r-5e6f70", "token": "5e6f70"}), Secrets())
    assert room == HttpFailure("HTTP 200, but its room_id repeats a secret")
    identity = http_api.read_identity(answer({"username": "older", "id_token": "newer"}), Secrets("older"))
    assert identity == HttpFailure("HTTP 200, but its username repeats a secret")


# --- no secret in any repr --------------------------------------------------------------------------------------------

SECRET = "s3cr3t"


def read(text: str | bytes) -> frames.Frame:
    return frames.read(text, Secrets())


@pytest.mark.parametrize(
    "thing",
    [
        read(json.dumps({"type": "registered_auth", "room_id": "r", "token": SECRET, "peer_id": "p"})),
        read(
            json.dumps(
                {
                    "type": "registered_auth",
                    "room_id": "r",
                    "token": None,
                    "peer_id": "p",
                    "peer_list": [{"token": SECRET}],
                    "peer_metadata": {"other": {"properties": {"_token_id": SECRET}}},
                    "ice_servers": [{"credential": SECRET}],
                }
            )
        ),
        read(json.dumps({"type": "metadata_updated", "peer_id": "p", "metadata": {"_token_id": SECRET}})),
        read(json.dumps({"type": "offer", "sdp": SECRET})),
        read(json.dumps({"type": "registered_auth", "token": SECRET})),
        read(json.dumps([SECRET])),
        read('{"token": "' + SECRET),
        read(SECRET.encode()),
        HttpAnswer(200, "application/json", SECRET.encode()),
        Identity("u", SECRET),
        Room("r", SECRET),
        http_api.read_identity(answer({"id_token": SECRET}), Secrets()),
        http_api.read_identity(answer(SECRET.encode()), Secrets()),
        read_room(answer({"token": SECRET})),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_repr(thing: object) -> None:
    """Neither the repr nor the text of anything that was read shows a token."""
    assert SECRET not in repr(thing)
    assert SECRET not in str(thing)


# --- text for a log ---------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters()), st.integers(1, 300))
@example("\ud800\x1b[31m\r\n\u2028\u202e", 200)
def test_shown(text: str, limit: int) -> None:
    """Whatever the server says becomes one printable line of bounded length."""
    line = shown(text, limit)
    assert line.isprintable()
    assert len(line) <= limit * 10 + 1
    line.encode("utf-8")


def test_shown_leaves_good_text_alone() -> None:
    """Text that is harmless is shown as it is, up to the limit and with a mark beyond it."""
    assert shown("Zimmer für 2, 四") == "Zimmer für 2, 四"
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 201) == "x" * 200 + "…"
