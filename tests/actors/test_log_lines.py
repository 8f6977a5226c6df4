"""What the log says of trouble and recovery: the first failure loud, repeats quiet and counted, one line at the end."""

import logging
from collections.abc import Callable, Iterator

import pytest

from worker_state.actors import log_lines
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.redact import Secrets
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
    assert caplog.messages[-1] == "sign-in has succeeded at attempt 4"


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


def started() -> log_lines.Registrations:
    """The lines of a worker that was registered on link 1."""
    lines = log_lines.Registrations(show_session_string=False)
    lines.accepted(1, None, "room", 0.0)
    return lines


LINES: list[tuple[Callable[[], None], int, str, dict[str, object]]] = [
    (
        lambda: log_lines.Dials().lost(3, Closed(cause=Cause.SILENT), 0.25),
        logging.WARNING,
        "connection_lost",
        {"epoch": 3, "cause": "silent", "code": 1006, "pause": 0.25},
    ),
    (
        lambda: log_lines.Dials().send_failed(3, "offer\n", Closed()),
        logging.ERROR,
        "send_failed",
        {"epoch": 3, "frame": r"offer\n"},
    ),
    (
        lambda: log_lines.Registrations(show_session_string=True).accepted(1, None, "key's\n", 0.0, given="ours"),
        logging.WARNING,
        "other_room",
        {"room": r"key's\n", "given": "ours"},
    ),
    (
        lambda: started().accepted(2, None, "other\n", 0.0),
        logging.WARNING,
        "session_string_changed",
        {"room": r"other\n"},
    ),
    (
        lambda: started().renewing("room", "expired", 0.2),
        logging.WARNING,
        "credential_refused",
        {"credential": "room", "reason": "expired", "pause": 0.2},
    ),
    (
        lambda: started().evicted("why", 0.1, 2, 4),
        logging.WARNING,
        "evicted",
        {"reason": "why", "pause": 0.1, "in_an_hour": 2},
    ),
    (lambda: started().postponed(), logging.ERROR, "registration_postponed", {}),
    (
        lambda: started().unsent(2, "busy"),
        logging.ERROR,
        "send_failed",
        {"epoch": 2, "frame": "register", "status": "busy"},
    ),
    (lambda: started().swallowed(2), logging.WARNING, "register_swallowed", {"epoch": 2}),
    (
        lambda: started().call_failed(log_lines.ROOM_CREATION, "HTTP 500"),
        logging.ERROR,
        "http_failed",
        {"call": "room_creation", "reason": "HTTP 500", "attempt": 1},
    ),
    (
        lambda: log_lines.frame("sent", 2, '{"type":"ping"}', Secrets()),
        logging.DEBUG,
        "frame",
        {"direction": "sent", "epoch": 2},
    ),
    (lambda: log_lines.status_postponed("busy", "why"), logging.ERROR, "status_postponed", {"status": "busy"}),
    (
        lambda: log_lines.record_repaired(("tags", "status"), forged=True),
        logging.WARNING,
        "record_repaired",
        {"fields": "tags,status", "forged": True},
    ),
    (lambda: log_lines.reservation_over(60.0), logging.WARNING, "reservation_over", {"limit": 60.0}),
    (lambda: log_lines.woken(12.0), logging.INFO, "woken", {"stopped": 12.0}),
    (lambda: log_lines.echoes(refused=True), logging.WARNING, "echo_refused", {}),
    (lambda: log_lines.echoes(refused=False), logging.INFO, "echo_taken", {}),
]


@pytest.mark.parametrize(("line", "level", "event", "fields"), LINES, ids=[line[2] for line in LINES])
def test_each_line_has_its_event_and_fields(
    caplog: pytest.LogCaptureFixture, line: Callable[[], None], level: int, event: str, fields: dict[str, object]
) -> None:
    """Programs read the event and the fields of a line, and its level decides whether anybody sees it."""
    line()
    assert said(caplog)[-1] == (level, event, fields)


def test_who_has_written_in_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """A record that was forged, and one that the server does not keep, are told apart."""
    log_lines.record_repaired(("tags",), forged=True)
    log_lines.record_repaired(("tags",), forged=False)
    assert [message.split(" this worker")[0] for message in caplog.messages] == [
        "somebody has changed",
        "the server does not keep",
    ]


def test_one_failed_dial(caplog: pytest.LogCaptureFixture) -> None:
    """After one failed dial the recovery is no line of its own, after two it is; and each tells which dial follows."""
    dials = log_lines.Dials()
    for count in (1, 2):
        for _ in range(count):
            dials.failed(7, DialFailure(Cause.REFUSED), 0.5)
        dials.opened(7)
    assert [event for _, event, _ in said(caplog)] == ["dial_failed"] * 3 + ["connected"]
    assert [message.rpartition("; ")[2] for message in caplog.messages[:3]] == [
        "dial 2 follows in 0.5 s",
        "dial 2 follows in 0.5 s",
        "dial 3 follows in 0.5 s",
    ]


def test_a_first_registration_on_a_later_link(caplog: pytest.LogCaptureFixture) -> None:
    """The attempts of a registration are the links since the last one, from the first link on."""
    lines = log_lines.Registrations(show_session_string=False)
    lines.accepted(3, None, "room", 0.0)
    assert said(caplog)[0][2]["attempt"] == 3


def test_a_register_that_could_not_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once until one is accepted, not before the start, and not beside a request that waits for a link."""
    lines = log_lines.Registrations(show_session_string=False)
    lines.unsent(1, "busy")
    assert said(caplog) == []
    for _ in range(2):
        lines.accepted(1, None, "room", 0.0)
        lines.unsent(2, "busy")
        lines.unsent(3, "busy")
    lines.accepted(4, None, "room", 0.0)
    lines.postponed()
    lines.unsent(5, "busy")
    assert [event for _, event, _ in said(caplog) if event != "registered"] == [
        "send_failed",
        "send_failed",
        "registration_postponed",
    ]


def test_the_recovery_of_an_http_call(caplog: pytest.LogCaptureFixture) -> None:
    """It says which attempt has succeeded, and the next failure is the first again."""
    lines = started()
    for _ in range(2):
        lines.call_failed(log_lines.SIGN_IN, "HTTP 500")
    lines.call_succeeded(log_lines.SIGN_IN)
    lines.call_failed(log_lines.SIGN_IN, "HTTP 500")
    assert [fields for _, event, fields in said(caplog) if event != "registered"] == [
        {"call": "sign_in", "reason": "HTTP 500", "attempt": 1},
        {"call": "sign_in", "reason": "HTTP 500", "attempt": 2},
        {"call": "sign_in", "attempt": 3},
        {"call": "sign_in", "reason": "HTTP 500", "attempt": 1},
    ]
