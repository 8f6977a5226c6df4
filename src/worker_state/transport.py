"""The outside world behind two small protocols, `Dial` and `Http`: the ONLY file that touches trio-websocket or httpx.

Both libraries can hang, leak or raise from odd places (FAULTS, part T); what they do wrong is dealt with here and
nowhere else. Whatever the network does comes out as a value (`DialFailure`, `Closed`, `HttpFailure`), never as an
exception. No decision about retrying is made here, and nothing of the protocol's content is known.
"""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cache
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from worker_state import streams
from worker_state.core.answers import HttpAnswer, HttpFailure
from worker_state.core.verdict import Cause, Closed, DialFailure
from worker_state.core.words import shown
from worker_state.handshake import Head

MAX_MESSAGE = 8 * 2**20
"""Bytes. `registered_auth` lists every peer at 463 bytes each and passes 1 MiB at 2,265 of them (FAULTS F22)."""
MAX_BODY = 64 * 2**10
"""Bytes of an HTTP answer, and of whatever comes before the 101 (FAULTS T3, T12). Real ones have some hundred."""
PATH_SAFE = "/%?:@!$&'()*+,;=~-._"
"""What may stand unquoted in a path or a query."""
UNREAD = 64
"""Frames that may wait in the library: with its default of 1 an unread frame blocks the pongs (FAULTS T8, T28)."""
HTTP_AT_ONCE = 20
"""Requests under way in one process, all workers together: thousands at once cost more CPU each (FAULTS T24)."""


class Socket(Protocol):
    """One open WebSocket connection."""

    async def send(self, text: str) -> Closed | None:
        """Send one text frame. Never cancel this and go on: half a frame may be on the wire (FAULTS T10)."""

    async def receive(self) -> str | bytes | Closed:
        """The next frame, or how the connection ended."""

    async def ping(self) -> None:
        """Return at the pong. May never return when the connection is dead: the caller sets the deadline."""

    async def close(self) -> None:
        """The closing handshake. May never return: the caller sets the deadline."""


class Dial(Protocol):
    """Opens a connection for as long as the context lasts, and aborts it at the end; or yields why there is none."""

    def __call__(self) -> AbstractAsyncContextManager[Socket | DialFailure]: ...


class Http(Protocol):
    """The HTTP side of the server."""

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        """One `POST`, bounded in time and size. Redirects are not followed: a token would go along with them."""


@cache
def websocket_ssl_context() -> ssl.SSLContext:
    """One verifying context for all WebSocket dials: a fresh one costs 18 ms of CPU each time (FAULTS T26)."""
    return ssl.create_default_context()


@cache
def _http_ssl_context() -> ssl.SSLContext:
    # A context of its own, because httpx changes the ALPN protocols of the one it is given (FAULTS T26).
    return ssl.create_default_context()


@cache
def _no_ssl_context() -> ssl.SSLContext:
    # httpx wants a context even for http://, where it is never used; an empty one is cheap and trusts nobody.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# --- the WebSocket ----------------------------------------------------------------------------------------------------


class WebSocketDial:
    """`Dial` over TCP and TLS: a stream of our own, which can always be aborted, under trio-websocket's protocol."""

    def __init__(
        self,
        url: str,
        *,
        connect_within: float,
        upgrade_within: float,
        open_stream: Callable[[str, int], Awaitable[trio.abc.Stream]] = trio.open_tcp_stream,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "wss"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._resource = quote(parts.path or "/", safe=PATH_SAFE) + (
            f"?{quote(parts.query, safe=PATH_SAFE)}" if parts.query else ""
        )
        name = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = name if self._port == (443 if self._secure else 80) else f"{name}:{self._port}"
        self._connect_within = connect_within
        self._upgrade_within = upgrade_within
        self._open_stream = open_stream
        self._ssl_context = ssl_context

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Socket | DialFailure]:
        stream = await self._connect()
        if isinstance(stream, DialFailure):
            yield stream
            return
        try:
            async with trio.open_nursery() as nursery:
                secured = await self._secure_stream(stream)
                yield secured if isinstance(secured, DialFailure) else await self._upgrade(secured, nursery)
                nursery.cancel_scope.cancel()
        finally:
            await streams.abort(stream)

    async def _connect(self) -> trio.abc.Stream | DialFailure:
        with trio.move_on_after(self._connect_within):
            try:
                return await self._open_stream(self._host, self._port)
            except (OSError, UnicodeError) as exc:  # the latter for a name that no resolver can be asked for
                return streams.why_not_connected(exc)
        return DialFailure(Cause.UNREACHABLE, f"no answer in {self._connect_within:g} s")

    async def _secure_stream(self, stream: trio.abc.Stream) -> trio.abc.Stream | DialFailure:
        if not self._secure:
            return stream
        context = self._ssl_context or websocket_ssl_context()
        secured = trio.SSLStream(stream, context, server_hostname=self._host, https_compatible=True)
        with trio.move_on_after(self._connect_within):
            try:
                await secured.do_handshake()
            except trio.BrokenResourceError as exc:
                return DialFailure(Cause.TLS, shown(str(exc.__cause__ or "the connection broke off")))
            return secured
        return DialFailure(Cause.TLS, f"no answer in {self._connect_within:g} s")

    async def _upgrade(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> Socket | DialFailure:
        head = Head(stream)
        reader = _Reader(nursery)
        with trio.move_on_after(self._upgrade_within) as scope:
            reader.on_end = scope.cancel
            connection = await wrap_client_stream(
                reader,  # type: ignore[arg-type]
                head,  # type: ignore[arg-type]
                self._host_header,
                self._resource,
                max_message_size=MAX_MESSAGE,
                message_queue_size=UNREAD,
            )
            head.done()
            return _WebSocket(connection, reader)
        rejection = head.rejection()
        if rejection is not None:
            return rejection
        if not reader.ended:
            return DialFailure(Cause.UNANSWERED, f"nothing in {self._upgrade_within:g} s")
        if head.received:
            return DialFailure(Cause.GARBAGE, "the answer is no WebSocket handshake")
        return DialFailure(Cause.CLOSED, "before the handshake was done")


class _Reader:
    """What trio-websocket takes for a nursery: runs its reader in ours, keeps its errors in, says when it has ended.

    Without this a peer that closes before the 101 hangs the dial for ever, and a `LocalProtocolError` of the reader
    takes the surrounding nursery down (FAULTS T1, T2, T9).
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.ended = False
        self.error: Exception | None = None
        self.on_end: Callable[[], None] = lambda: None

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._contain, task)

    async def _contain(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except Exception as exc:  # noqa: BLE001 - whatever the library's reader raises costs this one link
            self.error = exc
        self.ended = True
        self.on_end()


class _WebSocket:
    """`Socket` on a trio-websocket connection whose handshake is done."""

    def __init__(self, connection: WebSocketConnection, reader: _Reader) -> None:
        self._connection = connection
        self._reader = reader

    async def send(self, text: str) -> Closed | None:
        try:
            await self._connection.send_message(text)
        except (ConnectionClosed, LocalProtocolError):
            return self._why_closed()
        return None

    async def receive(self) -> str | bytes | Closed:
        try:
            return await self._connection.get_message()
        except ConnectionClosed:
            return self._why_closed()

    async def ping(self) -> None:
        with suppress(ConnectionClosed, LocalProtocolError):
            await self._connection.ping()

    async def close(self) -> None:
        with suppress(ConnectionClosed, LocalProtocolError):
            await self._connection.aclose()

    def _why_closed(self) -> Closed:
        reason = self._connection.closed
        if reason is not None and reason.code != 1006:
            return Closed(reason.code, shown(reason.reason or ""))
        if self._reader.error is not None:
            return Closed(1006, type(self._reader.error).__name__)
        return Closed(1006, "without a Close frame")


def _in_words(exc: BaseException) -> str:
    """What went wrong, in the words of the first cause that has any: httpx hands some errors on without theirs."""
    name = type(exc).__name__
    cause: BaseException | None = exc
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return name if cause is None else shown(f"{name}: {cause}")


# --- HTTP -------------------------------------------------------------------------------------------------------------

_at_once: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("worker_state_http_at_once")


def _limiter() -> trio.CapacityLimiter:
    try:
        return _at_once.get()
    except LookupError:
        _at_once.set(trio.CapacityLimiter(HTTP_AT_ONCE))
        return _at_once.get()


class HttpxHttp:
    """`Http` with a short-lived httpx client for each call, on shared SSL contexts (FAULTS T11, T12, T14, T24, T25)."""

    def __init__(self, url: str, *, within: float) -> None:
        self._base = url.rstrip("/")
        self._within = within
        self._secure = url.startswith("https:")

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        headers = {"Accept-Encoding": "identity"}
        if bearer is not None:
            if not (bearer.isascii() and bearer.isprintable()):
                return HttpFailure("the token cannot stand in a header")  # and must not stand in a complaint
            headers["Authorization"] = f"Bearer {bearer}"
        content = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode("ascii")
        with trio.move_on_after(self._within):
            async with _limiter():
                try:
                    return await self._post(path, content, headers)
                except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:  # the last for an impossible host
                    return HttpFailure(_in_words(exc))
        return HttpFailure(f"no whole answer in {self._within:g} s")

    async def _post(self, path: str, content: bytes, headers: dict[str, str]) -> HttpAnswer | HttpFailure:
        verify = _http_ssl_context() if self._secure else _no_ssl_context()
        # The one deadline around the whole call is the caller's scope: httpx's own is per read (T11).
        async with (
            httpx.AsyncClient(verify=verify, trust_env=False, timeout=None) as client,
            client.stream("POST", self._base + path, content=content, headers=headers) as response,
        ):
            received = bytearray()
            with trio.CancelScope() as enough:
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > MAX_BODY:
                        enough.cancel()  # not `break`: only a cancel closes httpx's nested generators, innermost first
            if len(received) > MAX_BODY:
                return HttpFailure(f"HTTP {response.status_code} with more than {MAX_BODY} bytes")
            return HttpAnswer(
                status=response.status_code,
                content_type=response.headers.get("content-type", ""),
                body=bytes(received),
                retry_after=response.headers.get("retry-after"),
            )
