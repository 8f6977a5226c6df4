"""What the doctor makes of each answer."""

import pytest

from worker_state import Config
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.http_api import HttpAnswer, HttpFailure
from worker_state.redact import Secrets
from worker_state.tools import checks as c
from worker_state.tools.checks import Endpoint, Finding, Outcome, Result, Step

WS, HTTP = c.endpoints(Config("wss://signaling.example.org/path", "http://[::1]:8001"))
JSON, HTML = "application/json", "text/html; charset=utf-8"
OWN_ROOM = Config("ws://localhost", "http://localhost")
GIVEN_ROOM = Config("ws://localhost", "http://localhost", room_id="r", room_token="t")
BY_KEY = Config("ws://localhost", "http://localhost", api_key="slp_x")


def test_endpoints() -> None:
    """Host and port are what TCP needs, with the scheme's usual port."""
    assert Endpoint("--ws", "signaling.example.org", 443, secure=True) == WS
    assert Endpoint("--http", "::1", 8001, secure=False) == HTTP
    assert (str(WS), str(HTTP)) == ("signaling.example.org:443", "[::1]:8001")
    assert (WS.is_address, HTTP.is_address) == (False, True)
    assert c.endpoints(OWN_ROOM)[1].port == 80


def test_whole_way() -> None:
    """Where nothing fails, what was found is said once."""
    assert c.of_way({WS: "found", HTTP: "found"}) == c.ok("found")
    assert c.of_way({WS: "one", HTTP: "two"}) == c.ok("one, two")


@pytest.mark.parametrize(
    ("trouble", "advice"),
    [
        (DialFailure(Cause.REFUSED), "Nothing listens at that port"),
        (DialFailure(Cause.UNREACHABLE, "the host name cannot be resolved"), "Check the name"),
        (DialFailure(Cause.UNREACHABLE, "no route to host"), "Nobody answers"),
        (DialFailure(Cause.NO_ANSWER, "in 10 s"), "Nobody answers"),
        (DialFailure(Cause.TLS, "CERTIFICATE_VERIFY_FAILED"), "The certificate is not trusted here"),
        (DialFailure(Cause.TLS, "wrong version number"), "What listens there speaks no TLS"),
    ],
)
def test_no_way(trouble: DialFailure, advice: str) -> None:
    """A failure on the way names the endpoint with its option, and says what to do, once."""
    one = c.of_way({WS: trouble, HTTP: "found"})
    assert one.outcome is Outcome.FAILED
    assert one.detail == f"signaling.example.org:443 (--ws): {trouble}"
    assert one.advice.startswith(advice)
    both = c.of_way({WS: trouble, HTTP: trouble})
    assert both.detail == f"signaling.example.org:443 (--ws): {trouble}; [::1]:8001 (--http): {trouble}"
    assert both.advice == one.advice


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (HttpAnswer(422, JSON, b""), c.ok("the server answers")),
        (HttpAnswer(500, JSON, b""), c.failed("HTTP 500 (application/json)", c.TROUBLED)),
        (HttpAnswer(200, HTML, b""), c.failed(f"HTTP 200 ({HTML})", c.PORTAL)),
        (
            HttpFailure("ReadError"),
            c.failed("ReadError", "Check --http; a proxy or a firewall may cut the connection."),
        ),
    ],
)
def test_http(answer: HttpAnswer | HttpFailure, finding: Finding) -> None:
    """Only what this server alone says counts as its answer."""
    assert c.of_http(answer) == finding


@pytest.mark.parametrize(
    ("status", "advice"),
    [(301, "It points elsewhere"), (404, "There is no signaling server"), (501, "There is no signaling server")],
)
def test_another_server(status: int, advice: str) -> None:
    """Another server is told from a portal."""
    assert c.of_http(HttpAnswer(status, "", b"")).detail == f"HTTP {status}"
    assert c.of_http(HttpAnswer(status, "", b"")).advice.startswith(advice)


@pytest.mark.parametrize(
    ("trouble", "advice"),
    [
        (DialFailure(Cause.GARBAGE), "That is no WebSocket server"),
        (DialFailure(Cause.SHED, "HTTP 503"), "The server is full"),
        (DialFailure(Cause.REJECTED, "HTTP 404"), "Check the path of --ws"),
        (DialFailure(Cause.UNANSWERED), c.SLOW),
        (DialFailure(Cause.CLOSED), "The server or a proxy"),
        (Closed(1006), "The server or a proxy"),
    ],
)
def test_upgrade(trouble: DialFailure | Closed, advice: str) -> None:
    """Each way of getting no WebSocket has its own advice."""
    finding = c.of_dial(trouble)
    assert (finding.outcome, finding.detail) == (Outcome.FAILED, str(trouble))
    assert finding.advice.startswith(advice)


@pytest.mark.parametrize(
    ("reason", "typed", "config", "detail", "advice"),
    [
        ("Invalid token", True, GIVEN_ROOM, "refused: wrong room token", "Check --room and --token"),
        ("Room expired", True, GIVEN_ROOM, "refused: room expired", "Check --room and --token"),
        ("Invalid API key", True, BY_KEY, "refused: Invalid API key", "Check --api-key"),
        ("Invalid token", False, OWN_ROOM, "refused: the ID token is refused", "The server does not take what it has"),
        ("Room not found", True, OWN_ROOM, "refused: room not found", c.TROUBLED),
        ("DynamoDB error", True, BY_KEY, "refused: DynamoDB error", c.TROUBLED),
    ],
)
def test_registration(reason: str, typed: bool, config: Config, detail: str, advice: str) -> None:
    """Each refusal says which of the person's values is wrong, or that none is."""
    finding = c.of_register(frames.RegisterError(reason, typed), config)
    assert finding.detail == detail
    assert finding.advice.startswith(advice)


def test_the_second_identity() -> None:
    """Its trouble is told as its own, with the same advice."""
    finding = c.of_second(c.failed("HTTP 500: no", c.NO_ROOM))
    assert finding == c.failed("the second identity: HTTP 500: no", c.NO_ROOM)


def test_search() -> None:
    """The search is a client's, by role, tag and the status that the doctor's worker has."""
    assert c.search("me", ("a", "b")) == {
        "type": "discover_peers",
        "from_peer_id": "me",
        "filters": {"role": "worker", "tags": ["a", "b"], "properties": {"status": "maintenance"}},
    }


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ({"type": "peer_list", "peers": [{"peer_id": "other"}, {"peer_id": "me"}]}, Outcome.OK),
        ({"type": "peer_list", "peers": [{"peer_id": "other"}, 3]}, Outcome.FAILED),
        ({"type": "error", "code": "NOT_IN_ROOM", "message": ""}, Outcome.FAILED),
        ({"type": "peer_list", "peers": None}, None),
        ({"type": "ping"}, None),
    ],
)
def test_found(message: frames.Message, outcome: Outcome | None) -> None:
    """Only a list with this very worker in it is a discovery; what is no answer says nothing."""
    finding = c.found(frames.read(frames.encode(message), Secrets()), "me")
    assert (finding and finding.outcome) == outcome


GONE = "peer deleted successfully. Room status: deleted"


@pytest.mark.parametrize(
    ("reports", "unanswered", "room_left", "finding"),
    [
        ({}, 0, False, c.skipped("nothing was created")),
        ({"a": GONE}, 0, False, c.ok(f"1 identity; the server answers: {GONE}")),
        ({"a": GONE}, 0, True, c.ok(f"1 identity; the server answers: {GONE}")),
        (
            {"a": "peer deleted", "b": "peer deleted", "c": GONE},
            0,
            False,
            c.ok(f"3 identities; the server answers: peer deleted; {GONE}"),
        ),
        ({"a": "Failed to delete", "b": "peer deleted"}, 0, False, "a: Failed to delete"),
        ({"a": HttpFailure("HTTP 500: no")}, 0, False, "a: HTTP 500: no"),
        ({}, 1, False, "1 sign-in without an answer may have left an identity"),
        ({"a": "peer deleted"}, 0, True, "a room may stay until its time is over: only a registered worker"),
    ],
)
def test_deletion(
    reports: dict[str, str | HttpFailure], unanswered: int, room_left: bool, finding: Finding | str
) -> None:
    """The end is good only when everything is known to be gone."""
    said = c.of_deletion(reports, unanswered=unanswered, room_left=room_left)
    if isinstance(finding, Finding):
        assert said == finding
    else:
        assert said.outcome is Outcome.FAILED
        assert said.detail.startswith(finding)


@pytest.mark.parametrize(
    ("finding", "well"),
    [(c.ok(), True), (c.skipped("why"), True), (c.failed("why", "what"), False), (c.not_tried("why"), False)],
)
def test_all_well(finding: Finding, well: bool) -> None:
    """What was not tried is not well."""
    assert c.all_well([Result(Step.DNS, c.ok()), Result(Step.TCP, finding)]) is well
