"""HTTP behind one small protocol, `Http`: the ONLY file that touches httpx, and httpcore below it.

What the libraries do wrong (FAULTS, T11 to T14, T24 to T26) is dealt with here and nowhere else. Whatever the network
does comes out as a value, never as an exception; nothing of what is asked or answered is known.
"""

import json
import math
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Protocol

import httpcore
import httpx
import trio

from worker_state import streams
from worker_state.core.answers import HttpAnswer, HttpFailure
from worker_state.core.words import masked, shown

MAX_BODY = 64 * 2**10
"""Bytes of an HTTP answer, and of whatever comes before the 101 (FAULTS T3, T12). Real ones have some hundred."""
LIBRARIES = (httpx.InvalidURL, httpcore.NetworkError, httpcore.ProtocolError)
"""What the two raise for what is wrong with an address, with the network, and with what came from it."""
HTTP_AT_ONCE = 20
"""Requests under way in one process, all workers together: thousands at once cost more CPU each (FAULTS T24)."""


class Http(Protocol):
    """The HTTP side of the server."""

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        """One `POST`, bounded in time and size. Redirects are not followed: a token would go along with them."""


def _in_words(exc: Exception, bearer: str | None) -> str:
    """The libraries quote what came from the server, which may repeat what it was asked with."""
    return shown(masked(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__, [bearer]))


_at_once: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("worker_state_http_at_once")


def _limiter() -> trio.CapacityLimiter:
    try:
        return _at_once.get()
    except LookupError:
        _at_once.set(trio.CapacityLimiter(HTTP_AT_ONCE))
        return _at_once.get()


class HttpxHttp:
    """`Http` with httpx's requests, each over one connection of httpcore's, its engine, on a stream of our own.

    Client and pool would follow redirects, keep cookies, read the environment and wait for each other (FAULTS T11 to
    T14, T24, T25), none of which is wanted, for half the cost of a call.
    """

    __slots__ = (
        "_base",
        "_within",
    )

    def __init__(self, url: str, *, within: float) -> None:
        self._base = url.rstrip("/")
        self._within = within

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "worker_state"}
        if bearer is not None:
            if not (bearer.isascii() and bearer.isprintable()) or bearer != bearer.strip():
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
                except (*LIBRARIES, UnicodeError) as exc:  # the last for an impossible host
                    return HttpFailure(_in_words(exc, bearer))
        return HttpFailure(f"no whole answer in {self._within:g} s")

    async def _post(self, path: str, content: bytes, headers: dict[str, str]) -> HttpAnswer | HttpFailure:
        request = httpx.Request("POST", self._base + path, content=content, headers=headers)
        scheme, host, target = request.url.raw_scheme, request.url.raw_host.decode("ascii"), request.url.raw_path
        port = request.url.port or (443 if scheme == b"https" else 80)
        # The one deadline around the whole call is the caller's scope: the libraries' own are per read (T11).
        try:
            stream = await streams.open_tcp_stream(host, port, math.inf)
        except OSError as exc:
            return HttpFailure(str(streams.why_not_connected(exc)))
        try:
            secured = stream if scheme != b"https" else await _secured(stream, host)
            url = httpcore.URL(scheme=scheme, host=request.url.raw_host, port=port, target=target)
            connection = httpcore.AsyncHTTP11Connection(url.origin, _Bytes(secured))
            asked = httpcore.Request(request.method, url, headers=request.headers.raw, content=content)
            return await _read(await connection.handle_async_request(asked))
        finally:
            stream.close()


async def _read(response: httpcore.Response) -> HttpAnswer | HttpFailure:
    received = bytearray()
    async with aclosing(response):
        with trio.CancelScope() as enough:
            async for chunk in response.aiter_stream():
                received += chunk
                if len(received) > MAX_BODY:
                    enough.cancel()  # not `break`: only a cancel closes the nested generators, innermost first
    if len(received) > MAX_BODY:
        return HttpFailure(f"HTTP {response.status} with more than {MAX_BODY} bytes")
    fields = httpx.Headers(response.headers)
    return HttpAnswer(response.status, fields.get("content-type", ""), bytes(received), fields.get("retry-after"))


async def _secured(stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
    try:
        return await streams.secure(stream, host)
    except trio.BrokenResourceError as exc:
        raise httpcore.ConnectError(str(exc)) from exc


class _Bytes(httpcore.AsyncNetworkStream):
    """A trio stream as httpcore wants it. Its time-outs are ignored: the caller's scope has the one that counts."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as exc:
            raise httpcore.ReadError(str(exc.__cause__ or exc)) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        try:
            await self._stream.send_all(buffer)
        except trio.BrokenResourceError as exc:
            raise httpcore.WriteError(str(exc.__cause__ or exc)) from exc

    async def aclose(self) -> None:
        pass  # whoever has opened it closes it
