"""What the log says of trouble and recovery: the first failure loud, repeats quiet and counted, one line at the end."""

import logging
from collections.abc import Iterator

import pytest

from worker_state.actors import log_lines
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.session_string import SessionString

SESSION = SessionString("room", "secret", "peer")


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, "worker_state"):
        yield


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, dict[str, object]]]:
    """Level, event and fields of all that was logged."""
    return [(each.levelno, each.worker_state_event, each.worker_state_fields) for each in caplog.records]  # type: ignore[attr-defined]


def test_dials_that_fail_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """The first failed dial is a warning, the next are counted for who debugs, and the recovery says how many."""
    dials = log_lines.Dials()
    for _ in range(3):
        dials.failed(7, DialFailure(Cause.REFUSED), 0.5)
    dials.opened(7)
    dials.opened(8)
    fields = {"epoch": 7, "cause": "refused", "pause": 0.5}
    assert said(caplog) == [
        (logging.WARNING, "dial_failed", fields | {"attempt": 1}),
        (logging.DEBUG, "dial_failed", fields | {"attempt": 2}),
        (logging.DEBUG, "dial_failed", fields | {"attempt": 3}),
        (logging.INFO, "connected", {"epoch": 7, "attempt": 4}),
    ]


def test_a_long_row_of_failed_dials(caplog: pytest.LogCaptureFixture) -> None:
    """Now and then it is said again, ever more rarely: long silence looks like a program that hangs."""
    dials = log_lines.Dials()
    for _ in range(200):
        dials.failed(7, DialFailure(Cause.REFUSED), 12.0)
    told = [fields["attempt"] for level, _, fields in said(caplog) if level >= logging.INFO]
    assert told == [1, 16, 32, 64, 128]


def test_a_lost_link(caplog: pytest.LogCaptureFixture) -> None:
    """A lost link is a warning with the cause, the code and the pause before the next dial."""
    log_lines.Dials().lost(3, Closed(1012, "restart"), 0.25)
    ((level, event, fields),) = said(caplog)
    assert (level, event, fields["code"], fields["pause"]) == (logging.WARNING, "connection_lost", 1012, 0.25)


def test_g08_no_dial_is_promised_that_does_not_follow(caplog: pytest.LogCaptureFixture) -> None:
    """Where the start ends with the first trouble, that is said without a next dial."""
    dials = log_lines.Dials(once=True)
    dials.failed(1, DialFailure(Cause.REFUSED), 0.5)
    dials.lost(1, Closed(1012, "restart"), 0.25)
    assert caplog.messages == ["no connection: connection refused", f"connection lost: {Closed(1012, 'restart')}"]
    assert [fields["pause"] for _, _, fields in said(caplog)] == [None, None]


def test_recovery_says_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    """A registration after a loss is one line with the attempts and the time without one."""
    lines = log_lines.Registrations(show_session_string=True)
    lines.lost(1.0)
    lines.accepted(1, SESSION, "room", 2.0)
    lines.lost(10.0)
    lines.lost(12.0)
    lines.accepted(4, SESSION, "room", 14.5)
    assert [fields for _, event, fields in said(caplog) if event == "registered"] == [
        {"epoch": 1, "attempt": 1, "downtime": 0.0},
        {"epoch": 4, "attempt": 3, "downtime": 4.5},
    ]
    assert caplog.messages == [
        f"worker registered, session string: {SESSION}",
        "Worker re-registered with signaling server",
    ]


def test_a_new_room_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A registration in another room gives the new session string, which clients need."""
    lines = log_lines.Registrations(show_session_string=True)
    lines.accepted(1, SESSION, "room", 0.0)
    moved = SessionString("other", "secret", "peer")
    lines.accepted(2, moved, "other", 1.0)
    assert caplog.messages[-1] == f"the old session string is of no use any more, the new one is: {moved}"


def test_a_withheld_session_string_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Withheld, the session string stands in no line, at the start as little as after a move."""
    lines = log_lines.Registrations(show_session_string=False)
    lines.accepted(1, SESSION, "room", 0.0)
    lines.accepted(2, SessionString("other", "secret", "peer"), "other", 1.0)
    assert "sleap-session" not in caplog.text
    assert "secret" not in repr(said(caplog))


def test_a_refusal_is_said_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    """The same refusal again is not repeated, until a registration has been accepted."""
    lines = log_lines.Registrations(show_session_string=True)
    for reason in ("full", "full", "closed", "closed"):
        lines.refused(reason)
    lines.accepted(1, SESSION, "room", 0.0)
    lines.refused("closed")
    assert [fields["reason"] for _, event, fields in said(caplog) if event == "registration_refused"] == [
        "full",
        "closed",
        "closed",
    ]


def test_http_calls_that_fail_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """The first failed HTTP call is an error, the next are counted for who debugs, and the recovery says how many."""
    lines = log_lines.Registrations(show_session_string=True)
    for _ in range(3):
        lines.call_failed(log_lines.SIGN_IN, "HTTP 500")
    lines.call_succeeded(log_lines.SIGN_IN)
    assert [(level, event) for level, event, _ in said(caplog)] == [
        (logging.ERROR, "http_failed"),
        (logging.DEBUG, "http_failed"),
        (logging.DEBUG, "http_failed"),
        (logging.INFO, "http_recovered"),
    ]
    assert caplog.messages[-1] == "sign-in has succeeded after 3 failures"


def test_renewals_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """After the start a renewed token and a new room are a line each; the first ones are part of the start."""
    lines = log_lines.Registrations(show_session_string=True)
    lines.call_succeeded(log_lines.SIGN_IN)
    lines.call_succeeded(log_lines.ROOM_CREATION)
    assert said(caplog) == []
    lines.accepted(1, SESSION, "room", 0.0)
    lines.call_succeeded(log_lines.SIGN_IN)
    lines.call_succeeded(log_lines.ROOM_CREATION)
    assert caplog.messages[1:] == ["the ID token was renewed", "a new room was created"]


def test_the_fourth_eviction_within_an_hour_is_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """Each eviction is a warning, and the one that makes them many an error as well."""
    lines = log_lines.Registrations(show_session_string=True)
    for number in range(1, 6):
        lines.evicted("the server has forgotten this worker", 0.1, number, 4)
    assert [event for level, event, _ in said(caplog) if level == logging.ERROR] == ["evicted_often"]


def test_a_refusal_after_the_start_says_that_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A first one ends the start; a later one may be all that the log has for hours."""
    lines = log_lines.Registrations(show_session_string=False)
    lines.refused("room not found")
    lines.accepted(1, None, "room", 0.0)
    lines.refused("room not found")
    assert [line for line in caplog.messages if "refused" in line] == [
        "registration refused: room not found",
        "registration refused: room not found; it is tried again until it is accepted",
    ]
