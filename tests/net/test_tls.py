"""The transport under TLS, where a program to make certificates is at hand: who is trusted, and how it ends."""

import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.support.certificates import self_signed
from tests.support.dialled import PATIENT, Dialled
from tests.support.peers import (
    CLOSE,
    SOON,
    TEXT,
    Peer,
    Script,
    close_frame,
    frame,
    nobody_listening,
    serving,
    switching,
)
from tests.support.resolving import Resolver
from worker_state.net import http_client, tls
from worker_state.net.dial import WebSocketDial
from worker_state.net.http_client import HttpxHttp
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.http_api import HttpAnswer, HttpFailure
from worker_state.tools import doctor
from worker_state.tools.checks import Endpoint, of_way


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and named.example that only itself vouches for, with its key in the same file."""
    return self_signed(tmp_path_factory.mktemp("certificate") / "tls", "IP:127.0.0.1,DNS:named.example")


@asynccontextmanager
async def secured(script: Script, certificate: Path) -> AsyncIterator[int]:
    """Run the script behind TLS for every connection; gives the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def under_tls(peer: Peer) -> None:
        await script(Peer(trio.SSLStream(peer.stream, context, server_side=True)))

    async with serving(under_tls) as port:
        yield port


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def dialling(port: int, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Dialled:
    url = f"wss://{host}:{port}/"
    return Dialled(WebSocketDial(url, ssl_context=context))


async def upgraded(peer: Peer) -> None:
    await peer.upgrade()
    await peer.end()


async def test_conversation(certificate: Path) -> None:
    """Under a certificate that is trusted frames go both ways, and a polite close works."""

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        assert await peer.frame() == (TEXT, b"hello")
        await peer.send(frame(TEXT, b"hello yourself"))
        assert (await peer.frame())[0] == CLOSE
        await peer.send(close_frame(1000))
        await peer.end()

    async with secured(script, certificate) as port, dialling(port, context=trusting(certificate))() as made:
        assert not isinstance(made, DialFailure), made
        assert await made.send("hello") is None
        assert await made.receive() == "hello yourself"
        await made.close()
        assert await made.receive() == Closed(1000)


async def test_unknown_authority(certificate: Path) -> None:
    """A certificate that nobody vouches for is a TLS failure that says so, at once."""
    async with secured(upgraded, certificate) as port:
        begun = trio.current_time()
        async with dialling(port)() as made:
            assert isinstance(made, DialFailure)
        assert trio.current_time() - begun < SOON
    assert made.cause is Cause.TLS
    assert "certificate verify failed" in made.detail.lower()


async def test_other_host(certificate: Path) -> None:
    """A trusted certificate for another host is a TLS failure that says so."""
    async with (
        secured(upgraded, certificate) as port,
        dialling(port, host="localhost", context=trusting(certificate))() as made,
    ):
        assert isinstance(made, DialFailure)
    assert made.cause is Cause.TLS
    assert "hostname mismatch" in made.detail.lower()


async def test_close_with_the_connection_kept_open(certificate: Path) -> None:
    """A peer that sends a Close frame and then nothing, not even TLS's own end, holds nothing up."""

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.send(close_frame(1001, "going away"))
        await trio.sleep_forever()

    async with secured(script, certificate) as port:
        begun = trio.current_time()
        async with dialling(port, context=trusting(certificate))() as made:
            assert not isinstance(made, DialFailure), made
            assert await made.receive() == Closed(1001, "going away")
        assert trio.current_time() - begun < SOON


async def test_cancelled(certificate: Path) -> None:
    """Cancelled while it is open, a connection under TLS is ended at once, without a word."""
    begun, ended = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        begun.set()
        await peer.end()
        ended.set()

    async def client() -> None:
        async with dialling(port, context=trusting(certificate))() as made:
            assert not isinstance(made, DialFailure), made
            await made.receive()

    async with secured(script, certificate) as port, trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await ended.wait()


async def test_http_unknown_authority(certificate: Path) -> None:
    """The HTTP side does not talk to a server that nobody vouches for either."""
    heads = list[bytes]()

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())

    async with secured(script, certificate) as port:
        outcome = await HttpxHttp(f"https://127.0.0.1:{port}", within=PATIENT).post("/create-room", bearer="s3cr3t")
    assert isinstance(outcome, HttpFailure)
    assert heads == []


async def test_http_says_why(certificate: Path) -> None:
    """The HTTP side says that it is the certificate, for nothing else helps whoever has to mend it."""
    async with secured(upgraded, certificate) as port:
        outcome = await HttpxHttp(f"https://127.0.0.1:{port}", within=PATIENT).post("/create-room")
    assert isinstance(outcome, HttpFailure)
    assert "certificate verify failed" in outcome.why.lower()


# --- whom this machine trusts -----------------------------------------------------------------------------------------


@dataclass
class Clock:
    """A clock that stands still until it is moved on."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


async def dial_and_call(port: int, host: str = "127.0.0.1") -> list[object]:
    """What the dial and the HTTP side find: None where TLS has worked."""
    async with dialling(port, host=host)() as made:
        dialled = made if isinstance(made, DialFailure) else None
    outcome = await HttpxHttp(f"https://{host}:{port}", within=PATIENT).post("/")
    return [dialled, None if isinstance(outcome, HttpAnswer) and outcome.status == 200 else outcome]


async def both(peer: Peer) -> None:
    """A WebSocket server and an HTTP server in one."""
    head = await peer.head()
    await peer.send(switching(head) if b"pgrade" in head else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await peer.end()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of contexts that are as yet to be made, of dial and HTTP."""
    clock = Clock()
    monkeypatch.setattr(tls, "TRUST", tls.Trust(clock=clock))
    monkeypatch.setattr(http_client, "_TRUST", tls.Trust(clock=clock))
    return clock


async def test_g22_authorities_are_replaced(
    certificate: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file of authorities has changed, dial and HTTP trust the new ones, and the old ones no more."""
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    async with secured(both, certificate) as port:
        assert all(isinstance(each, DialFailure | HttpFailure) for each in await dial_and_call(port))
        shutil.copyfile(certificate, authorities)
        clock.now += tls.RENEW_EVERY
        assert await dial_and_call(port) == [None, None]
        authorities.write_bytes(b"")
        assert await dial_and_call(port) == [None, None]  # not yet
        clock.now += tls.RENEW_EVERY
        assert all(isinstance(each, DialFailure | HttpFailure) for each in await dial_and_call(port))


async def test_g22_a_context_that_is_empty(certificate: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context that was made while no file could be opened is made anew after the first failed verification."""
    made = list[ssl.SSLContext]()

    def make() -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if len(made) < 2 else trusting(certificate))
        return made[-1]

    for module, name in ((tls, "TRUST"), (http_client, "_TRUST")):
        monkeypatch.setattr(module, name, tls.Trust(make, clock))
    async with secured(both, certificate) as port:
        for _ in range(3):
            assert all(isinstance(each, DialFailure | HttpFailure) for each in await dial_and_call(port))
        assert len(made) == 2
        clock.now += tls.RENEW_EVERY
        assert await dial_and_call(port) == [None, None]


def test_g22_at_a_bounded_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a verification fails, or the file changes, there is one new context in ten seconds."""
    authorities = tmp_path / "authorities.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    made, clock = list[ssl.SSLContext](), Clock()

    def make() -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    trust = tls.Trust(make, clock)
    for number in range(100):
        authorities.write_bytes(b"x" * number)
        assert trust.context() is made[-1]
        trust.failed(ssl.SSLCertVerificationError("no"))
        clock.now += 1.0
    assert len(made) == 10
    for _ in range(100):
        clock.now += 1.0
        assert trust.context() is made[-1]
        trust.failed(ssl.SSLError("something else"))
    assert len(made) == 11


async def test_g23_key_log_that_cannot_be_opened(
    certificate: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in words that names the variable, of dial, HTTP and doctor; without the variable all is well."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with secured(both, certificate) as port:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
        dialled, called = await dial_and_call(port)
        looked = await doctor.connect(tls_endpoint(port), PATIENT, tls=True)
        assert isinstance(dialled, DialFailure)
        assert isinstance(looked, DialFailure)
        assert isinstance(called, HttpFailure)
        assert dialled.cause is looked.cause is Cause.TLS
        for why in (dialled.detail, looked.detail, called.why):
            assert "SSLKEYLOGFILE names a file that cannot be opened: " in why
        assert "SSLKEYLOGFILE" in of_way({tls_endpoint(port): looked}).advice
        monkeypatch.delenv("SSLKEYLOGFILE")
        assert await dial_and_call(port) == [None, None]


async def test_g30_the_dot_of_the_root(certificate: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is named with the root's dot is asked for, and checked, without it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
    asked = list[str]()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: asked.append(name)

    async def under_tls(peer: Peer) -> None:
        await both(Peer(trio.SSLStream(peer.stream, context, server_side=True)))

    async with serving(under_tls) as port:
        assert await dial_and_call(port, host="named.example.") == [None, None]
        assert await dial_and_call(port, host="named.example") == [None, None]
    assert asked == ["named.example"] * 4


# --- the doctor's look at TLS -----------------------------------------------------------------------------------------


def tls_endpoint(port: int) -> Endpoint:
    return Endpoint("--ws", "127.0.0.1", port, secure=True)


async def quiet(peer: Peer) -> None:
    await peer.end()


async def test_looked_at(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority of one's own, named in SSL_CERT_FILE, is trusted; without it the failure speaks of certificates."""
    async with secured(quiet, certificate) as port:
        refused = await doctor.connect(tls_endpoint(port), PATIENT, tls=True)
        assert isinstance(refused, DialFailure)
        assert refused.cause is Cause.TLS
        assert "certificate" in refused.detail
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setattr(tls, "TRUST", tls.Trust())
        assert await doctor.connect(tls_endpoint(port), PATIENT, tls=True) == (
            "127.0.0.1 has a certificate that is trusted here"
        )


async def test_looked_at_in_vain() -> None:
    """Where nobody listens, or nobody answers in time, there is no TLS to look at."""
    async with nobody_listening() as port:
        assert await doctor.connect(tls_endpoint(port), PATIENT, tls=True) == DialFailure(Cause.REFUSED)
        assert await doctor.connect(tls_endpoint(port), 0.0) == DialFailure(Cause.NO_ANSWER, "in 0 s")
