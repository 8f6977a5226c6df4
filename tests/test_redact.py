"""What is secret stands in no text that comes from outside, in whatever form somebody has put it there."""

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.leaks import FORMS, decoded
from worker_state.redact import HIDDEN, KEPT, Secrets, shown_frame
from worker_state.session_string import SessionString

TOKEN = "5e6f70"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

tokens = st.text("0123456789abcdefABCDEF_-.~+/=!*", min_size=4, max_size=40).filter(lambda text: text not in HIDDEN)


@given(secret=tokens, form=st.sampled_from(sorted(FORMS)), before=st.text(max_size=9), behind=st.text(max_size=9))
def test_g13_every_form(secret: str, form: str, before: str, behind: str) -> None:
    """A secret is hidden in each form, whatever stands beside it, and also from whoever takes the escapes away."""
    word = FORMS[form](secret)
    found = Secrets(secret).redacted(f"{before} {word} {behind}")
    assume(secret not in "".join(decoded(f"{before} {HIDDEN} {behind}")))
    assert word not in found
    assert all(secret not in text for text in decoded(found))


@given(
    room=st.text(max_size=8),
    token=tokens,
    peer=st.text(max_size=8),
    before=st.sampled_from(["", "session=", "x", "ab"]),
)
def test_g13_session_strings(room: str, token: str, peer: str, before: str) -> None:
    """A session string with a known token in it is hidden, with its name or without, wherever it begins."""
    encoded = str(SessionString(room, token, peer)).removeprefix("sleap-session:")
    assert encoded not in Secrets(token).redacted(f"{before}{encoded}")
    assert encoded not in Secrets().redacted(f"connect with sleap-session:{encoded}")


@pytest.mark.parametrize(
    "text",
    [
        "slp_acct_0123456789",
        JWT,
        "ws://user:pa55word@proxy.example/",
        "https://:pa55word@server.example",
    ],
)
def test_g13_what_looks_like_a_secret(text: str) -> None:
    """Somebody else's key, token or password is hidden, too."""
    found = Secrets().redacted(f"no {text} here")
    assert HIDDEN in found
    assert all(part not in found for part in (text, "pa55word", "0123456789", "c2lnbmF0dXJl"))


def test_parts_of_a_known_jwt() -> None:
    """The signature alone is hidden, too; it does not look like a token."""
    assert Secrets(JWT).redacted("signature c2lnbmF0dXJl is bad") == f"signature {HIDDEN} is bad"


@pytest.mark.parametrize(
    "text", ["", "Room not found", "100 % of 20 &#x; \\u", "50%41%ff", "\\u0000\\x1b[2J", "x" * 300]
)
def test_other_texts(text: str) -> None:
    """A text without a secret stays as it is, with its escapes."""
    assert Secrets(TOKEN, None, "", "abc").redacted(text) == text


def test_no_control_character_comes_out_of_an_escape() -> None:
    """A text that is told without its escapes is still harmless to a terminal."""
    assert Secrets(TOKEN).redacted(r"\u001b[2J%1b\x1b &#27; \u0035e6f70") == rf"\u001b[2J%1b\x1b &#27; {HIDDEN}"


def test_cut_behind_the_secrets() -> None:
    """A secret at the edge of what is shown leaves no half of it."""
    assert TOKEN[:3] not in Secrets(TOKEN).shown("x" * 197 + TOKEN)


def test_ids() -> None:
    """An id that repeats a known secret is told from one that only looks like something."""
    secrets = Secrets(TOKEN)
    assert secrets.hold(f"room-{TOKEN}")
    assert secrets.hold(f"room-{quote('5e', safe='').replace('5', '%35')}6f70")
    assert not secrets.hold("eyJoe's room")


def test_learned_secrets_are_bounded_and_given_ones_stay() -> None:
    """Tokens that were renewed long ago take no memory; a worker that lives for years still keeps its API key."""
    secrets = Secrets("the-api-key")
    for number in range(100):
        secrets.learn(f"token-{number:04}")
        secrets.learn(f"token-{number:04}")
    assert secrets.redacted("the-api-key token-0099") == f"{HIDDEN} {HIDDEN}"
    assert not secrets.hold(f"token-{99 - KEPT:04}")
    assert secrets.hold(f"token-{100 - KEPT:04}")


def test_a_frame_is_shown_without_secrets() -> None:
    """Also where a public member, or its name, has one."""
    text = json.dumps({"type": "error", "message": TOKEN, "peers": {base64.b64encode(TOKEN.encode()).decode(): 1}})
    assert TOKEN not in (line := shown_frame(text, Secrets(TOKEN)))
    assert base64.b64encode(TOKEN.encode()).decode() not in line
    assert html.escape(line, quote=False) == line


def test_repr() -> None:
    """The registry does not say what it knows."""
    assert TOKEN not in f"{Secrets(TOKEN)!r}{Secrets(TOKEN)}"
