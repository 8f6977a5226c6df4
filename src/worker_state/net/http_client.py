"""HTTP behind one small protocol, `Http`: the ONLY file that touches httpx.

What the network does comes out as a value, never as an exception.
"""

import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import httpx
import trio

from worker_state.net import tcp, tls
from worker_state.net.addresses import Addresses, limiter
from worker_state.protocol import http_api
from worker_state.protocol.http_api import HttpAnswer, HttpFailure, HttpRequest, Identity, Room, Sending
from worker_state.redact import Secrets

MAX_BODY = 64 * 2**10  # bytes of an HTTP answer that are read (faults.md, T12). Real ones have some hundred.
LONGEST_WHY = 2**14  # characters of a failure, which `ServerApi` redacts and then cuts
NEXT_ADDRESS_AFTER = 3.0  # seconds that a connection, TLS included, may take while there is another address
HTTP_AT_ONCE = 20  # requests under way in one process: thousands at once cost more CPU each (faults.md, T24)


class Http(Protocol):
    """The HTTP side of the server."""

    async def post(
        self,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        bearer: str | None = None,
        sending: Sending | None = None,
    ) -> HttpAnswer | HttpFailure:
        """One `POST`, bounded in time and size. Redirects are not followed: a token would go along with them."""


class ServerApi:
    """The server's three calls, over any `Http`. A failure is a value; nothing is raised. What comes out is without
    secrets, but for the credentials themselves."""

    def __init__(self, http: Http, secrets: Secrets) -> None:
        self._http = http
        self._secrets = secrets  # what comes in is learned, before anybody can send it

    async def sign_in(self, sending: Sending | None = None) -> Identity | HttpFailure:
        """Create an identity. Each one needs its own `delete_peer`."""
        return http_api.read_identity(await self._post(http_api.sign_in(), sending), self._secrets)

    async def create_room(self, id_token: str, sending: Sending | None = None) -> Room | HttpFailure:
        """Create a room, as the identity that this token belongs to."""
        return http_api.read_room(await self._post(http_api.create_room(id_token), sending), self._secrets)

    async def delete_peer(self, peer_id: str) -> str | HttpFailure:
        """Ask for the deletion of an identity; gives the server's report, which proves nothing (faults.md, F34)."""
        return http_api.read_deletion(await self._post(http_api.delete_peer(peer_id)), self._secrets)

    async def post(self, request: HttpRequest) -> HttpAnswer | HttpFailure:
        """Any of the three, as it is answered."""
        return http_api.read_any(await self._post(request), self._secrets)

    async def _post(self, request: HttpRequest, sending: Sending | None = None) -> HttpAnswer | HttpFailure:
        return await self._http.post(request.path, bearer=request.bearer, body=request.body, sending=sending)


_at_once: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("worker_state_http_at_once")
_TRUST = tls.Trust()  # not the WebSocket's: httpx sets ALPN on it
_PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for http://, where none is used: httpx would make one each time


class HttpxHttp:
    """`Http` with a short-lived client for each request: no pool is shared, so none can clog (T13, T24, T25)."""

    __slots__ = ("_addresses", "_base", "_within")

    def __init__(self, url: str, *, within: float) -> None:
        self._base = url.rstrip("/")
        self._within = within
        self._addresses = Addresses()

    async def post(
        self,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        bearer: str | None = None,
        sending: Sending | None = None,
    ) -> HttpAnswer | HttpFailure:
        headers = {"Accept-Encoding": "identity", "User-Agent": "worker_state"}
        if bearer is not None:
            if not (bearer.isascii() and bearer.isprintable()) or bearer != bearer.strip():
                return HttpFailure("the token cannot stand in a header")  # and must not stand in a complaint
            headers["Authorization"] = f"Bearer {bearer}"
        content = b""
        if body is not None:
            headers["Content-Type"], content = "application/json", json.dumps(body).encode("ascii")

        async def traced(step: str, _: object) -> None:  # httpcore calls it
            if sending is not None and step == "http11.send_request_headers.started":
                sending()

        # The one deadline is the scope around the whole request: httpx's own are per read (faults.md, T11).
        with trio.move_on_after(self._within):
            async with limiter(_at_once, HTTP_AT_ONCE):
                try:
                    return await self._post(httpx.URL(self._base + path), content, headers, traced)
                except Exception as exc:  # noqa: BLE001 - whatever a library raises, the call has failed (G28)
                    _TRUST.failed(exc)
                    return HttpFailure(_why(exc, bearer))
        return HttpFailure(f"no whole answer in {self._within:g} s")

    async def _post(
        self, url: httpx.URL, content: bytes, headers: dict[str, str], traced: Callable[[str, object], Awaitable[None]]
    ) -> HttpAnswer | HttpFailure:
        """Ask the first address behind which somebody takes the request, which is sent once. httpx is told addresses,
        for it would look up the name in trio's threads (faults.md, G27) and always begin with the first (G32)."""
        host = url.raw_host.decode("ascii")
        headers |= {"Host": url.netloc.decode("ascii")}
        secure = url.scheme == "https"
        context = _TRUST.context() if secure else _PLAIN
        found = await self._addresses.find(host, url.port or (443 if secure else 80))
        names = list(dict.fromkeys(str(each[4][0]) for each in found))
        for name in names:
            last = name == names[-1]
            self._addresses.tried(name)
            client = httpx.AsyncClient(
                verify=context,
                trust_env=False,
                timeout=httpx.Timeout(None, connect=None if last else NEXT_ADDRESS_AFTER),
            )
            asked = client.stream(
                "POST",
                url.copy_with(host=name),
                content=content,
                headers=headers,
                extensions={"sni_hostname": tls.server_name(host), "trace": traced},
            )
            try:
                async with client, asked as response:
                    answer = await _read(response)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if last:
                    raise
            else:
                self._addresses.served(name)
                return answer
        raise OSError("the host has no address")


async def _read(response: httpx.Response) -> HttpAnswer | HttpFailure:
    body = b""
    with trio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY:
                enough.cancel()  # not `break`: only a cancel closes httpx's nested generators, innermost first
    if len(body) > MAX_BODY:
        return HttpFailure(f"HTTP {response.status_code} with more than {MAX_BODY} bytes")
    headers = response.headers
    return HttpAnswer(response.status_code, headers.get("content-type", ""), body, headers.get("retry-after"))


def _why(exc: Exception, bearer: str | None) -> str:
    """In words. The libraries quote the server, which may repeat the token: it is hidden before anything is cut."""
    causes = tls.causes(exc)
    if isinstance(exc, httpx.ConnectError | OSError | UnicodeError):
        for cause in causes:
            if isinstance(cause, OSError | UnicodeError) and not isinstance(cause, ssl.SSLError):
                return str(tcp.why_not_connected(cause))
    said = next((str(cause).rstrip(".") for cause in causes if str(cause)), "")  # it stands within a sentence
    return Secrets(bearer).shown(f"{type(exc).__name__}: {said}" if said else type(exc).__name__, LONGEST_WHY)
