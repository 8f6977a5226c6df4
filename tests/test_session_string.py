"""The session string: what clients in the field can read, and what is refused without a word of the secret."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.errors import SessionStringError
from worker_state.session_string import PREFIX, SessionString

SECRET = "s3cr3t"
GOOD = SessionString("ROOM", SECRET, "PEER")


def encoded(raw: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(raw).decode("ascii")


def test_spelling() -> None:
    """Prefix, key names, alphabet and padding are those that clients in the field expect."""
    assert str(SessionString("r", "t", "p")) == "sleap-session:eyJyIjogInIiLCAidCI6ICJ0IiwgInAiOiAicCJ9"


@given(room_id=st.text(), token=st.text(), peer_id=st.text())
def test_field_decoder(room_id: str, token: str, peer_id: str) -> None:
    """A plain urlsafe base64 and JSON parser, as clients have it, reads every session string."""
    text = str(SessionString(room_id, token, peer_id))
    body = json.loads(base64.urlsafe_b64decode(text.removeprefix("sleap-session:")))
    assert body == {"r": room_id, "t": token, "p": peer_id}


@given(room_id=st.text(), token=st.text(), peer_id=st.text())
def test_alphabet(room_id: str, token: str, peer_id: str) -> None:
    """A session string is printable ASCII without white space, with its padding, whatever is in it."""
    text = str(SessionString(room_id, token, peer_id))
    assert text.isascii()
    assert text.isprintable()
    assert not {" ", "+", "/"} & set(text)
    assert len(text.removeprefix(PREFIX)) % 4 == 0


@given(
    room_id=st.text(min_size=1),
    token=st.text(min_size=1),
    peer_id=st.text(min_size=1),
    around=st.text(alphabet=" \t\r\n", max_size=3),
)
def test_round_trip(room_id: str, token: str, peer_id: str, around: str) -> None:
    """What was encoded is parsed again, white space around it forgiven."""
    session = SessionString(room_id, token, peer_id)
    assert SessionString.parse(around + str(session) + around) == session


def test_unknown_keys() -> None:
    """Keys that a later version may add are ignored."""
    assert SessionString.parse(encoded(b'{"r": "a", "t": "b", "p": "c", "v": 2}')) == SessionString("a", "b", "c")


def test_repr() -> None:
    """The repr shows room and peer and not the token."""
    assert repr(GOOD) == "SessionString(room_id='ROOM', peer_id='PEER')"


MALFORMED: list[tuple[str, Any, str]] = [
    ("no text", 7, "a session string is text, not int"),
    ("bytes", str(GOOD).encode(), "a session string is text, not bytes"),
    ("nothing", "", "begins with 'sleap-session:'"),
    ("no prefix", str(GOOD).removeprefix(PREFIX), "begins with 'sleap-session:'"),
    ("another prefix", str(GOOD).replace("sleap", "sheep"), "begins with 'sleap-session:'"),
    ("a prefix in capitals", str(GOOD).replace("sleap", "SLEAP"), "begins with 'sleap-session:'"),
    ("cut off", str(GOOD)[:-1], "no urlsafe base64 with its padding"),
    ("without its padding", str(SessionString("R", SECRET, "P")).rstrip("="), "no urlsafe base64"),
    ("a space inside", str(GOOD)[:30] + " " + str(GOOD)[30:], "no urlsafe base64"),
    ("a letter of another script", str(GOOD)[:-4] + "яяяя", "no urlsafe base64"),
    ("twice", str(GOOD) + str(GOOD), "no urlsafe base64"),
    ("nothing behind the prefix", PREFIX, "contains JSON, this one does not"),
    ("no JSON", encoded(b"room=ROOM&token=s3cr3t"), "contains JSON, this one does not"),
    ("half the JSON", encoded(b'{"r": "ROOM", "t": "s3cr3t"'), "contains JSON, this one does not"),
    ("no UTF-8", encoded(b'{"r": "\xff", "t": "s3cr3t", "p": "x"}'), "contains JSON, this one does not"),
    ("nested too deeply", encoded(b"[" * 100_000), "contains JSON, this one does not"),
    ("a number too long", encoded(b"1" * 10_000), "contains JSON, this one does not"),
    ("a list", encoded(b'["ROOM", "s3cr3t", "PEER"]'), "is an object, this one is not"),
    ("a string", encoded(b'"s3cr3t"'), "is an object, this one is not"),
    ("null", encoded(b"null"), "is an object, this one is not"),
    ("no room", encoded(b'{"t": "s3cr3t", "p": "PEER"}'), "has no room id (key 'r', a string)"),
    ("no token", encoded(b'{"r": "s3cr3t", "p": "PEER"}'), "has no room token (key 't', a string)"),
    ("no peer", encoded(b'{"r": "ROOM", "t": "s3cr3t"}'), "has no peer id (key 'p', a string)"),
    ("a room of null", encoded(b'{"r": null, "t": "s3cr3t", "p": "PEER"}'), "has no room id"),
    ("a token of digits", encoded(b'{"r": "ROOM", "t": 123456, "p": "PEER"}'), "has no room token"),
    ("a peer in a list", encoded(b'{"r": "ROOM", "t": "s3cr3t", "p": ["PEER"]}'), "has no peer id"),
]


@pytest.mark.parametrize(("text", "sentence"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_malformed(text: Any, sentence: str) -> None:
    """Whatever is malformed is refused with a sentence that says what is wrong and repeats nothing of it."""
    with pytest.raises(SessionStringError) as caught:
        SessionString.parse(text)
    said = str(caught.value)
    assert sentence in said
    assert SECRET not in said
    assert "123456" not in said
    assert str(text).removeprefix(PREFIX)[:12] not in said or not str(text).removeprefix(PREFIX)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.text() | st.text().map(PREFIX.__add__) | st.binary().map(encoded))
def test_arbitrary_text(text: str) -> None:
    """No text at all raises anything but `SessionStringError`."""
    try:
        session = SessionString.parse(text)
    except SessionStringError:
        return
    assert SessionString.parse(str(session)) == session


def test_the_other_alphabet() -> None:
    """The standard alphabet of base64 is refused: clients in the field read the urlsafe one only."""
    text = str(SessionString("~~~???", "~~~???", "~~~???"))
    assert "_" in text
    with pytest.raises(SessionStringError, match="urlsafe base64"):
        SessionString.parse(text.replace("_", "/").replace("-", "+", 1).replace("sleap+", "sleap-"))
