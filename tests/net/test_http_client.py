"""The HTTP side of the transport: one POST, bounded in time and size, and whatever comes back is a value."""

import gzip
import json
import ssl
from typing import Any

import pytest
import trio

from tests.support.peers import SOON, Peer, Script, nobody_listening, serving
from worker_state.net import tls
from worker_state.net.http_client import HTTP_AT_ONCE, MAX_BODY, HttpxHttp
from worker_state.protocol.http_api import HttpAnswer, HttpFailure, read_identity
from worker_state.redact import Secrets

PATIENT = 20.0
SECRET = "s3cr3t"


def talking(port: int, *, within: float = PATIENT, scheme: str = "http") -> HttpxHttp:
    return HttpxHttp(f"{scheme}://127.0.0.1:{port}/", within=within)


def answering(*parts: bytes) -> Script:
    """A peer that takes a request, sends these parts and waits for the client to go."""

    async def script(peer: Peer) -> None:
        await peer.head()
        for part in parts:
            await peer.send(part)
        await peer.end()

    return script


def closing_after(*parts: bytes) -> Script:
    """A peer that takes a request, sends these parts and closes."""

    async def script(peer: Peer) -> None:
        await peer.head()
        for part in parts:
            await peer.send(part)
        await peer.stream.aclose()

    return script


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def posted(script: Script, *, within: float = PATIENT, **given_: Any) -> HttpAnswer | HttpFailure:
    """What a POST to this peer gives, which may not take longer than its deadline allows."""
    async with serving(script) as port:
        begun = trio.current_time()
        outcome = await talking(port, within=within).post("/anonymous-signin", **given_)
        assert trio.current_time() - begun < SOON
    return outcome


async def failing(script: Script, **given_: Any) -> str:
    outcome = await posted(script, **given_)
    assert isinstance(outcome, HttpFailure), outcome
    assert outcome.why.isprintable()
    return outcome.why


# --- the request ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "body", "there", "absent"),
    [
        ({}, b"", {"content-length: 0", "accept-encoding: identity"}, {"authorization", "content-type", "cookie"}),
        ({"bearer": SECRET}, b"", {"content-length: 0", f"authorization: bearer {SECRET}"}, {"content-type"}),
        (
            {"body": {"peer_id": "ä"}},
            b'{"peer_id": "\\u00e4"}',
            {"content-type: application/json", "content-length: 21"},
            {"authorization"},
        ),
    ],
    ids=["sign in", "create room", "delete peer"],
)
async def test_request(given_: dict[str, Any], body: bytes, there: set[str], absent: set[str]) -> None:
    """A request has the method, the path, the headers and the body that the server expects, and no other secret."""
    heads = list[list[str]]()

    async def script(peer: Peer) -> None:
        heads.append((await peer.head()).decode("ascii").split("\r\n"))
        assert await peer.take(len(body)) == body
        await peer.send(ok(b"{}", "Content-Type: application/json"))
        await peer.end()

    assert await posted(script, **given_) == HttpAnswer(200, "application/json", b"{}")
    [first, *headers] = heads[0]
    assert first == "POST /anonymous-signin HTTP/1.1"
    lower = [header.lower() for header in headers]
    assert there <= set(lower)
    assert not absent & {header.partition(":")[0] for header in lower}


@pytest.mark.parametrize("base", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/", "http://127.0.0.1:{}//"])
async def test_base_url(base: str) -> None:
    """A slash at the end of the URL makes no difference."""
    lines = list[bytes]()

    async def script(peer: Peer) -> None:
        lines.append((await peer.head()).split(b"\r\n")[0])
        await peer.send(ok(b""))
        await peer.end()

    async with serving(script) as port:
        await HttpxHttp(base.format(port), within=PATIENT).post("/delete-peer")
    assert lines == [b"POST /delete-peer HTTP/1.1"]


@pytest.mark.parametrize("bearer", [f"{SECRET}\r\nX-Evil: 1", f"{SECRET}\n", f"{SECRET}\x00"])
async def test_impossible_token(bearer: str) -> None:
    """An ID token that cannot stand in a header is a failure that does not repeat it."""
    why = await failing(answering(ok(b"")), bearer=bearer)
    assert SECRET not in why


async def test_token_of_another_script() -> None:
    """An ID token with letters beyond ASCII, as only a broken server gives it, is a failure like any other."""
    assert SECRET not in await failing(answering(ok(b"")), bearer=f"{SECRET}ä")


async def test_impossible_name() -> None:
    """A host name that cannot be looked up, which `Config` accepts, is a failure like any other."""
    with trio.fail_after(PATIENT):
        assert isinstance(await HttpxHttp("http://☃☃.example/", within=PATIENT).post("/"), HttpFailure)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (ok(b""), HttpAnswer(200, "", b"")),
        (ok(b'{"a": 1}', "Content-Type: application/json"), HttpAnswer(200, "application/json", b'{"a": 1}')),
        (ok(b"<html>", "Content-Type: text/html"), HttpAnswer(200, "text/html", b"<html>")),
        (
            b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\nInternal Server Error",
            HttpAnswer(500, "text/plain", b"Internal Server Error"),
        ),
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n",
            HttpAnswer(503, "", b"", retry_after="30"),
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", HttpAnswer(200, "", b"{}")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"{}"), HttpAnswer(200, "", b"{}")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", HttpAnswer(204, "", b"")),
        (ok(b"{}", "Content-Type: \xff", "Retry-After: \xff"), HttpAnswer(200, "ÿ", b"{}", retry_after="ÿ")),
        (ok(b"x" * MAX_BODY), HttpAnswer(200, "", b"x" * MAX_BODY)),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_answer(sent: bytes, answer: HttpAnswer) -> None:
    """An answer is given back as it came, whatever its status, although the connection stays open."""
    assert await posted(answering(sent)) == answer


async def test_answer_that_ends_with_the_connection() -> None:
    """An answer without a length ends with the connection."""
    assert await posted(closing_after(b"HTTP/1.0 200 OK\r\n\r\n", b"{}")) == HttpAnswer(200, "", b"{}")


async def test_captive_portal() -> None:
    """A captive portal's page, 200 and HTML, gives no identity."""
    outcome = await posted(answering(ok(b"<html>Log in</html>", "Content-Type: text/html")))
    assert isinstance(outcome, HttpAnswer)
    assert read_identity(outcome, Secrets()) == HttpFailure("HTTP 200, but the body is no JSON (text/html)")


async def test_redirect() -> None:
    """A redirect is an answer like any other: it is not followed, and the token goes nowhere else."""
    strangers = list[bytes]()

    async def stranger(peer: Peer) -> None:
        strangers.append(await peer.head())

    async with serving(stranger) as elsewhere:
        head = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n"
        outcome = await posted(answering(head.encode()), bearer=SECRET)
    assert outcome == HttpAnswer(302, "", b"")
    assert strangers == []


@pytest.mark.parametrize("location", ["http://[::1", "\x01", "ftp://x/", "http://☃☃/", "//", "http://h:99999/"])
async def test_impossible_redirect(location: str) -> None:
    """A redirect to where nobody can go is a value."""
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    assert isinstance(await posted(answering(head.encode())), HttpAnswer | HttpFailure)


async def test_gzip_bomb() -> None:
    """A compressed body is not inflated: 20 kB stay 20 kB, and are no JSON."""
    bomb = gzip.compress(bytes(20 * 2**20))
    assert len(bomb) < MAX_BODY
    outcome = await posted(answering(ok(bomb, "Content-Encoding: gzip", "Content-Type: application/json")))
    assert outcome == HttpAnswer(200, "application/json", bomb)
    assert isinstance(outcome, HttpAnswer)
    assert isinstance(read_identity(outcome, Secrets()), HttpFailure)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("framing", ["Content-Length: 65537", "Content-Length: 99999999999", "Connection: close"])
async def test_oversized_body(status: int, framing: str) -> None:
    """A body of more than 64 KiB is broken off, however it is framed, and only then."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(f"HTTP/1.1 {status} x\r\n{framing}\r\n\r\n".encode() + b"x" * 65_537)
        while framing != "Content-Length: 65537":
            await peer.send(b"x" * 10_000)
            sent += 10_000
        await peer.end()

    assert await failing(script) == f"HTTP {status} with more than 65536 bytes"
    assert sent < 64 * 2**20


async def test_endless_head() -> None:
    """A head without an end is broken off."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.send(b"X-Pad: x\r\n" * 1_000)

    assert (await failing(script)).startswith("RemoteProtocolError")


# --- no answer --------------------------------------------------------------------------------------------------------


async def test_refused() -> None:
    """A port at which nobody listens is a failure, known at once."""
    async with nobody_listening() as port:
        outcome = await talking(port).post("/anonymous-signin")
    assert outcome == HttpFailure("connection refused")


async def reset_unread(peer: Peer) -> None:
    await peer.reset()


async def reset_after_the_request(peer: Peer) -> None:
    await peer.head()
    await peer.reset()


async def reset_in_the_body(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await trio.sleep(0.05)
    await peer.reset()


async def test_a_failure_has_no_full_stop() -> None:
    """What a library says stands within a sentence of ours, so it ends without one of its own."""
    outcome = await posted(closing_after())
    assert isinstance(outcome, HttpFailure)
    assert outcome.why == "RemoteProtocolError: Server disconnected without sending a response"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(reset_unread, id="reset before the request was read"),
        pytest.param(reset_after_the_request, id="reset after the request"),
        pytest.param(reset_in_the_body, id="reset in the body"),
        pytest.param(closing_after(), id="closed after the request"),
        pytest.param(closing_after(b"HTTP/1.1 200 O"), id="closed in the head"),
        pytest.param(closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), id="closed in the body"),
        pytest.param(closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha"), id="in a chunk"),
        pytest.param(answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), id="another protocol"),
        pytest.param(answering(b"\x00\xff" * 100), id="bytes"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), id="impossible length"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="impossible chunk"),
    ],
)
async def test_broken_off(script: Script) -> None:
    """A connection that ends early or speaks no HTTP is a failure, known at once."""
    assert await failing(script)


async def drip(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await peer.send(b"x")
        await trio.sleep(0.02)


async def drip_in_the_head(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        await peer.send(b"x")
        await trio.sleep(0.02)


async def silent(peer: Peer) -> None:
    await peer.end()


async def unread(peer: Peer) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("script", [drip, drip_in_the_head, silent, unread])
async def test_slow(script: Script) -> None:
    """The deadline is around the whole request: neither silence nor one byte now and then gets past it."""
    assert await failing(script, within=0.3) == "no whole answer in 0.3 s"


@pytest.mark.parametrize(
    "script", [pytest.param(answering(ok(b"")), id="plain HTTP"), pytest.param(reset_unread, id="reset")]
)
async def test_no_tls_there(script: Script) -> None:
    """A peer that does not speak TLS under https:// is a failure, known at once."""

    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await script(peer)

    async with serving(plain) as port:
        outcome = await talking(port, scheme="https").post("/anonymous-signin")
    assert isinstance(outcome, HttpFailure)


# --- nothing from the surroundings, nothing left behind ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_proxy_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables of the environment are ignored: the WebSocket ignores them too, and tokens go to nobody else."""
    async with nobody_listening() as nowhere:
        monkeypatch.setenv(name, f"http://127.0.0.1:{nowhere}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert await posted(answering(ok(b"{}")), bearer=SECRET) == HttpAnswer(200, "", b"{}")


async def test_netrc(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password file of the user's is not looked into."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login someone password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    heads = list[bytes]()

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(ok(b"{}"))
        await peer.end()

    await posted(script)
    assert b"authorization" not in heads[0].lower()


async def test_cookies() -> None:
    """A cookie that one answer sets does not go out with the next request."""
    heads = list[bytes]()

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(ok(b"{}", "Set-Cookie: session=1"))
        await peer.end()

    async with serving(script) as port:
        http = talking(port)
        await http.post("/anonymous-signin")
        await http.post("/create-room")
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)


OVERSIZED = answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY + 1))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answering(ok(b"{}")), id="answered"),
        pytest.param(OVERSIZED, id="broken off"),
        pytest.param(drip, id="too slow"),
    ],
)
async def test_connection_is_closed(script: Script) -> None:
    """No connection outlives its request."""
    ended = trio.Event()

    async def watched(peer: Peer) -> None:
        try:
            await script(peer)
        finally:
            ended.set()

    async with serving(watched) as port:
        await talking(port, within=0.5).post("/anonymous-signin")
        await ended.wait()


@pytest.mark.parametrize("script", [silent, drip], ids=["waiting for the answer", "in the body"])
async def test_cancelled(script: Script) -> None:
    """A cancelled request raises only Cancelled, and its connection is ended."""
    begun, ended, after = trio.Event(), trio.Event(), trio.Event()
    cancel = trio.CancelScope()

    async def watched(peer: Peer) -> None:
        begun.set()
        try:
            await script(peer)
        finally:
            ended.set()

    async def client() -> None:
        with cancel:
            await talking(port).post("/anonymous-signin")
        after.set()

    async with serving(watched) as port, trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await begun.wait()
        await trio.sleep(0.1)  # for the client to come to the stage's await; correct also if it does not
        cancel.cancel()
        await ended.wait()
        await after.wait()
    assert cancel.cancelled_caught


async def test_at_once() -> None:
    """Of many requests in one process only twenty are under way at a time, and all are answered."""
    under_way = most = 0

    async def script(peer: Peer) -> None:
        nonlocal under_way, most
        await peer.head()
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(0.05)
        under_way -= 1
        await peer.send(ok(b"{}"))
        await peer.end()

    outcomes = list[HttpAnswer | HttpFailure]()

    async def ask() -> None:
        outcomes.append(await talking(port).post("/anonymous-signin"))

    async with serving(script) as port, trio.open_nursery() as nursery:
        for _ in range(3 * HTTP_AT_ONCE):
            nursery.start_soon(ask)
    assert outcomes == [HttpAnswer(200, "", b"{}")] * 3 * HTTP_AT_ONCE
    assert 1 < most <= HTTP_AT_ONCE


async def test_deadline_counts_the_queue() -> None:
    """The time that a request waits for its turn counts, so that the deadline is the caller's whole wait."""
    outcomes = list[HttpAnswer | HttpFailure]()

    async def ask() -> None:
        outcomes.append(await talking(port, within=0.5).post("/anonymous-signin"))

    async with serving(silent) as port:
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(2 * HTTP_AT_ONCE):
                nursery.start_soon(ask)
        assert trio.current_time() - begun < SOON
    assert outcomes == [HttpFailure("no whole answer in 0.5 s")] * 2 * HTTP_AT_ONCE


async def test_repeated_secret() -> None:
    """No failure of the transport's repeats the token that was sent, also where the server does."""
    header = f"X-\u00e9: Bearer {SECRET}\r\n\r\n".encode()
    answers = (b"\x00\xff" * 100, SECRET.encode() + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + header)
    for script in (reset_in_the_body, closing_after(), *map(answering, answers)):
        assert SECRET not in await failing(script, bearer=SECRET)


def test_body_is_ascii_json() -> None:
    """What is sent as a body survives any reader: JSON escapes all but ASCII."""
    assert json.dumps({"peer_id": "\ud800"}).isascii()


def test_certificates_are_checked() -> None:
    """The one context that https:// and wss:// use verifies certificate and host name."""
    context = tls.TRUST.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert tls.TRUST.context() is context
