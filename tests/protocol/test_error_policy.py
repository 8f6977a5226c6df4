"""What each refusal of the server means, as a table, and how failures and closes read in a log line."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.protocol.error_policy import (
    TRANSIENT_PAUSE,
    Cause,
    Closed,
    CodeMeaning,
    Decision,
    DialFailure,
    GiveUp,
    Lease,
    Renew,
    Retry,
    after_refusal,
    hint,
    hint_of,
    meaning_of_code,
    refuses_token,
    surely_answers,
)
from worker_state.protocol.frames import RegisterError, read
from worker_state.redact import Secrets

# The `register` rows of protocol.md, C: the frame, what it means in a room of our own, and in one that was given.
ROWS: list[tuple[str, Decision, Decision]] = [
    (
        '{"error": "Invalid token"}',
        Renew(Lease.IDENTITY, "the ID token is refused"),
        Renew(Lease.IDENTITY, "the ID token is refused"),
    ),
    (
        '{"type": "error", "reason": "Invalid token"}',
        Renew(Lease.ROOM, "wrong room token"),
        GiveUp("wrong room token"),
    ),
    ('{"type": "error", "reason": "Room not found"}', Renew(Lease.ROOM, "room not found"), GiveUp("room not found")),
    ('{"type": "error", "reason": "Room expired"}', Renew(Lease.ROOM, "room expired"), GiveUp("room expired")),
    *(
        (f'{{"type": "error", "reason": "{reason}"}}', GiveUp(reason), GiveUp(reason))
        for reason in (
            "Missing required fields during registration.",
            "No authentication provided. Use api_key, jwt, or id_token.",
            "Invalid API key",
            "Token revoked",
            "Token expired",
        )
    ),
    *(
        (f'{{"type": "error", "reason": "{reason}"}}', Retry(TRANSIENT_PAUSE, reason), Retry(TRANSIENT_PAUSE, reason))
        for reason in ("DynamoDB error", "API key validation failed", "Out of cheese", "", "invalid token")
    ),
    *(
        (f'{{"error": "{reason}"}}', Retry(TRANSIENT_PAUSE, reason), Retry(TRANSIENT_PAUSE, reason))
        for reason in ("Room not found", "Token revoked", "Internal error")
    ),
]


@pytest.mark.parametrize("own_room", [True, False], ids=["own room", "given room"])
@pytest.mark.parametrize(("frame", "own", "given_"), ROWS, ids=[row[0] for row in ROWS])
def test_refusals(frame: str, own: Decision, given_: Decision, own_room: bool) -> None:
    """Each refusal has the one decision that the table names, told apart by its type and by whose room it is."""
    refusal = read(frame, Secrets())
    assert isinstance(refusal, RegisterError)
    assert after_refusal(refusal, own_room=own_room) == (own if own_room else given_)


def test_a_key_for_a_server_without_keys() -> None:
    """A server before v3.0 misses the other fields of a `register` by key: the sentence says what it means."""
    refusal = RegisterError("Missing required fields during registration.", typed=True)
    decision = after_refusal(refusal, own_room=False, by_key=True)
    assert isinstance(decision, GiveUp)
    assert "knows no API keys" in decision.reason
    assert "use a room and its token in place of the key" in decision.reason


@given(reason=st.text(), typed=st.booleans(), own_room=st.booleans())
def test_unknown_refusals(reason: str, typed: bool, own_room: bool) -> None:
    """Any text gets a decision, no pause is 0, and what is said about it fits on one line of a log."""
    decision = after_refusal(RegisterError(reason, typed), own_room=own_room)
    assert decision.reason.isprintable()
    assert len(decision.reason) < 10_000
    assert not isinstance(decision, Retry) or decision.after > 0


def test_terminal_escape() -> None:
    """A server cannot write control sequences into the worker's log by a refusal."""
    decision = after_refusal(RegisterError("\x1b[2J\nfake line" + "x" * 1_000_000, typed=True), own_room=True)
    assert decision.reason.startswith(r"\x1b[2J\nfake line")
    assert len(decision.reason) < 300


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (DialFailure(Cause.REFUSED), "connection refused"),
        (DialFailure(Cause.REJECTED, "HTTP 503", status=503), "upgrade rejected (HTTP 503)"),
        (Closed(), "closed with 1006"),
        (Closed(1009, "too big"), "closed with 1009 (too big)"),
        (Closed(cause=Cause.SILENT), "silent"),
        (Closed(reason="no pong in 25 s", cause=Cause.SILENT), "silent (no pong in 25 s)"),
    ],
)
def test_text(failure: DialFailure | Closed, text: str) -> None:
    """A failure reads as a phrase, its detail in brackets."""
    assert str(failure) == text


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("", None),
        ("service restart", None),
        ("12", 12.0),
        ("server restarts, retry after 12", 12.0),
        ("Retry-After: 30", 30.0),
        ("please try again in 5 s", 5.0),
        ("error 1234 of 99", None),
        ("retry after 12345678", None),
        ("retry ٣", None),
    ],
)
def test_hint_in_a_close_reason(reason: str, seconds: float | None) -> None:
    """A close reason is read for a number of seconds only where it speaks of trying again."""
    assert hint_of(Closed(1012, reason)) == seconds


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("retry after 500 ms", 0.5),
        ("RETRY AFTER 500ms", 0.5),
        ("Retry in 2 min", 120.0),
        ("overloaded, retry in 1.5 minutes.", 90.0),
        ("retry in 1h", 3600.0),
        ("retry_after=7", 7.0),
        ("retry after 12, please", 12.0),
        ("max connection age reached after 7200 s", None),
        ("Try again later (code 1013)", None),
        ("no retry: error 500", None),
        ("gone after 30 s", None),
        ("retry after 3 attempts", None),
        ("retry after 1.2.3.4", None),
        ("retry after -5 s", None),
    ],
)
def test_g29_only_a_pause_that_is_asked_for_counts(reason: str, seconds: float | None) -> None:
    """A number in a close reason is a pause only behind "retry after" or "retry in", and in its unit."""
    assert hint_of(Closed(1012, reason)) == seconds


@given(
    st.text(max_size=123)
    | st.lists(
        st.sampled_from(
            ["retry", "Retry-After", " after ", " in ", "again", ": ", "9" * 6, "1.5", "٣", " ms", "min", "."]
        ),
        max_size=8,
    ).map("".join)
)
def test_g29_no_text_raises(text: str) -> None:
    """Whatever a close reason or a `Retry-After` says gives a finite pause or none."""
    for pause in (hint_of(Closed(1012, text)), hint(text), hint("9" * 5000), hint("12" + text)):
        assert pause is None or 0.0 <= pause < math.inf


def test_f22_too_big() -> None:
    """An answer to `register` that was too big will be as big on the next link; a later frame need not be."""
    assert hint_of(Closed(1009), registered=False) == 60.0
    assert hint_of(Closed(1009), registered=True) is None
    assert hint_of(Closed(1009)) is None


@pytest.mark.parametrize("reason", ["Invalid token", "Room expired", "DynamoDB error", "Token revoked"])
def test_an_error_of_the_register_rows_answers_a_register(reason: str) -> None:
    assert surely_answers(RegisterError(reason, typed=True))


@given(st.text())
def test_no_other_error_surely_answers_a_register(reason: str) -> None:
    assert not surely_answers(RegisterError(f"{reason} (somebody else's)", typed=True))


@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        ("PEER_NOT_FOUND", "Peer w-1 not found", CodeMeaning.NO_SUCH_PEER),
        ("PEER_NOT_IN_ROOM", "Target peer w-1 not in same room", CodeMeaning.FORGOTTEN),
        ("DELIVERY_FAILED", "Failed to deliver message to w-1", CodeMeaning.FORGOTTEN),
        ("PEER_NOT_IN_ROOM", "Target peer x not in same room", CodeMeaning.NOTHING),
        ("DELIVERY_FAILED", "x", CodeMeaning.NOTHING),
        ("INVALID_JSON", "x", CodeMeaning.NOTHING),
        ("UNKNOWN_MESSAGE_TYPE", "Unknown message type: error", CodeMeaning.NOTHING),
        ("UNKNOWN_MESSAGE_TYPE", "Unknown message type: peer_message", CodeMeaning.UNKNOWN),
        ("SELF_MESSAGE", "no messages to oneself", CodeMeaning.UNKNOWN),
        ("X", None, CodeMeaning.NOTHING),
    ],
)
def test_error_codes(code: str, text: str | None, meaning: CodeMeaning) -> None:
    """What an error with a code says: errors that answer another frame for sure are no refusal of an echo."""
    assert meaning_of_code({"type": "error", "code": code, "message": text}, "w-1") is meaning


@pytest.mark.parametrize(("status", "refused"), [(401, True), (403, False), (500, False), (None, False)])
def test_token_refused(status: int | None, refused: bool) -> None:
    """HTTP 401 alone says that the ID token is not good enough."""
    assert refuses_token(status) is refused
