"""What `doctor` checks, what each answer means, and what you can do about it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

from worker_state.config import Config
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed, DialFailure, GiveUp, Lease, Renew, after_refusal
from worker_state.protocol.http_api import HttpAnswer, HttpFailure
from worker_state.protocol.status import Maintenance, Truth, word

TRUTH: Truth = Maintenance()
TRUTH_SHOWN = "maintenance, so that nobody uses it"
"""The status of the doctor's worker: clients in the same room must not try to use it."""
SLOW = "Something on the way is too slow or swallows the answer: a proxy, a firewall, a server under load."
PORTAL = "Something else answers there (a portal of the network, a proxy): look at the address in a browser."
TROUBLED = "The server has trouble of its own: ask its operator, and try again later."
ENDED = "The server or a proxy before it ended the connection: ask its operator."
NO_IDENTITY = "The server gives out no identity: ask its operator, or use --api-key (v3.0)."
NO_ROOM = "The server creates no room: ask its operator, or join one with --room and --token."
UNTRUSTED = (
    "The certificate is not trusted here: check the host name and this machine's clock; for an authority of your own "
    "name its file in SSL_CERT_FILE."
)
WAY_ADVICE = (  # cause, a word of its detail, advice: the first that fits
    (Cause.REFUSED, "", "Nothing listens at that port: check the port, and whether the server runs."),
    (Cause.UNREACHABLE, "resolved", "Check the name for a slip, and this machine's network and resolver (or its VPN)."),
    (Cause.TLS, "sslkeylogfile", "Unset SSLKEYLOGFILE, or name a file there that this user may write."),
    (Cause.TLS, "certificate", UNTRUSTED),
    (Cause.TLS, "", "What listens there speaks no TLS: check the port, or use ws:// and http:// if it has none."),
    (None, "", "Nobody answers: check the address, and whether a firewall or a VPN stands between."),
)
DIAL_ADVICE = {
    Cause.GARBAGE: "That is no WebSocket server: check the port of --ws (HTTP and it have two).",
    Cause.SHED: "The server is full or just starting: try again in a minute.",
    Cause.REJECTED: "Check the path of --ws, and whether a proxy before the server lets upgrades by.",
    Cause.UNANSWERED: f"{SLOW} Or the port of --ws is another server's.",
    Cause.UNACKNOWLEDGED: f"{SLOW} Or the port of --ws is another server's.",
}


class Step(StrEnum):
    """What is checked, in this order."""

    CONFIGURATION = "configuration"
    DNS = "DNS"
    TCP = "TCP"
    TLS = "TLS"
    HTTP = "HTTP"
    SIGN_IN = "sign-in"
    UPGRADE = "upgrade"
    ROOM = "room"
    REGISTRATION = "registration"
    DISCOVERY = "discovery"
    DELETION = "deletion"


class Outcome(StrEnum):
    """How a step ended: a skipped one has no meaning here, one that was not tried waits for another to be mended."""

    OK = "ok"
    FAILED = "FAILED"
    SKIPPED = "skipped"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step has shown. `detail` is a phrase; `advice`, for a failure, a sentence. Neither has a secret."""

    outcome: Outcome
    detail: str = ""
    advice: str = ""

    @property
    def is_well(self) -> bool:
        """Nothing has failed, and nothing was left out that should have been tried."""
        return self.outcome in (Outcome.OK, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Result:
    """A finding, its step, and how many seconds that took (None: it took none)."""

    step: Step
    finding: Finding
    seconds: float | None = field(default=None, compare=False)


ok: partial[Finding] = partial(Finding, Outcome.OK)
failed: partial[Finding] = partial(Finding, Outcome.FAILED)
skipped: partial[Finding] = partial(Finding, Outcome.SKIPPED)
not_tried: partial[Finding] = partial(Finding, Outcome.NOT_TRIED)


def all_well(results: Sequence[Result]) -> bool:
    """Every step is well."""
    return all(result.finding.is_well for result in results)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the server's two addresses, as TCP sees it."""

    option: str
    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_address(self) -> bool:
        """There is no name to look up."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True


def endpoints(config: Config) -> tuple[Endpoint, Endpoint]:
    """Where the WebSocket and the HTTP server listen."""

    def endpoint(option: str, url: str) -> Endpoint:
        parts = urlsplit(url)
        secure = parts.scheme in ("wss", "https")
        return Endpoint(option, parts.hostname or "", parts.port or (443 if secure else 80), secure)

    return endpoint("--ws", config.websocket_url), endpoint("--http", config.http_url)


def of_way(outcomes: Mapping[Endpoint, str | DialFailure]) -> Finding:
    """DNS, TCP or TLS, for the endpoints that have come so far."""
    troubles = {each: outcome for each, outcome in outcomes.items() if isinstance(outcome, DialFailure)}
    if not troubles:
        return ok(", ".join(dict.fromkeys(str(outcome) for outcome in outcomes.values())))
    detail = "; ".join(f"{each} ({each.option}): {trouble}" for each, trouble in troubles.items())
    return failed(detail, " ".join(dict.fromkeys(_way_advice(trouble) for trouble in troubles.values())))


def _way_advice(trouble: DialFailure) -> str:
    detail = trouble.detail.lower()
    return next(advice for cause, word, advice in WAY_ADVICE if cause in (trouble.cause, None) and word in detail)


def of_http(answer: HttpAnswer | HttpFailure) -> Finding:
    """The answer to a `/create-room` without a token, which creates nothing."""
    if isinstance(answer, HttpFailure):
        return failed(answer.why, "Check --http; a proxy or a firewall may cut the connection.")
    detail = f"HTTP {answer.status}" + (f" ({answer.content_type})" if answer.content_type else "")
    if answer.status >= 500 and answer.status != 501:  # 501: no POST is taken there
        return failed(detail, TROUBLED)
    if "html" in answer.content_type:
        return failed(detail, PORTAL)
    if answer.status // 100 == 3:
        return failed(detail, "It points elsewhere, and redirects are not followed: give the final address as --http.")
    if answer.status in (401, 403, 422):
        return ok("the server answers")
    return failed(detail, "There is no signaling server under this address: check --http, its port and its path.")


def of_dial(trouble: DialFailure | Closed) -> Finding:
    """An upgrade that gave no WebSocket, or a link that has ended."""
    return failed(str(trouble), DIAL_ADVICE.get(trouble.cause, ENDED))


def of_register(refusal: frames.RegisterError, config: Config) -> Finding:
    """A refused `register`; secrets in it are redacted already."""
    decision = after_refusal(refusal, own_room=config.creates_room, by_key=config.api_key is not None)
    match decision:
        case GiveUp() if config.api_key is not None:
            advice = "Check --api-key: it may be mistyped, revoked or too old, or the server may be a v2.0."
        case GiveUp():
            advice = "Check --room and --token; a room that a worker has created lives for 2 hours."
        case Renew(Lease.IDENTITY):
            advice = "The server does not take what it has given out itself: its clock or keys are wrong."
        case _:
            advice = TROUBLED
    return failed(f"refused: {decision.reason}", advice)


def search(peer_id: str, tags: Sequence[str]) -> frames.Message:
    """What this client sends to find a worker like the doctor's: by role, tags and status."""
    return frames.discover_workers(peer_id, tags=list(tags), properties={"status": word(TRUTH)})


def found(frame: frames.Frame, peer_id: str) -> Finding | None:
    """What a search says about this worker; None when the frame is no answer."""
    match frame:
        case frames.OtherMessage({"type": "peer_list", "peers": list(peers)}):
            if any(isinstance(peer, dict) and peer.get("peer_id") == peer_id for peer in peers):
                return ok("a second identity has found the worker by role, tag and status")
            advice = "The server has accepted the registration and does not show it: clients will not find this worker."
            return failed(f"the search found {len(peers)} workers, and not this one", advice)
        case frames.NotInRoom(code):
            advice = "The server has forgotten a registration at once: try again."
            return failed(f"the search was refused: {code}", advice)
        case _:
            return None


def of_second(finding: Finding) -> Finding:
    """The same trouble, of the second identity."""
    return replace(finding, detail=f"the second identity: {finding.detail}")


DELETED, ROOM_DELETED = "peer deleted", "Room status: deleted"
"""How the report of a deletion begins, and ends where the room went too. It proves nothing (F34, G08)."""


def of_deletion(reports: Mapping[str, str | HttpFailure], *, unanswered: int, room_left: bool) -> Finding:
    """What became of every identity. `unanswered` sign-ins may have created more; `room_left`: a room may stay."""
    room_left = room_left and not any(isinstance(report, str) and ROOM_DELETED in report for report in reports.values())
    if not reports and not unanswered and not room_left:
        return skipped("nothing was created")
    texts = {name: report.why if isinstance(report, HttpFailure) else report for name, report in reports.items()}
    deleted = {name for name, report in reports.items() if isinstance(report, str) and report.startswith(DELETED)}
    troubles = [f"{name}: {text}" for name, text in texts.items() if name not in deleted]
    if unanswered:
        troubles.append(f"{unanswered} sign-in without an answer may have left an identity")
    if room_left:
        troubles.append("a room may stay until its time is over: only a registered worker can have it deleted")
    if troubles:
        return failed("; ".join(troubles), "It may be left on the server: tell its operator.")
    answers, what = "; ".join(dict.fromkeys(texts.values())), "identity" if len(reports) == 1 else "identities"
    return ok(f"{len(reports)} {what}; the server answers: {answers}")
