"""HTTP behind one small protocol, `Http`: the ONLY file that touches httpx.

What the library does wrong (FAULTS, T11 to T14, T24 to T26) is dealt with here and nowhere else. Whatever the network
does comes out as a value, never as an exception; nothing of what is asked or answered is known.
"""

import json
import ssl
from collections.abc import Mapping
from contextlib import aclosing
from functools import cache
from typing import Any, Protocol

import httpx
import trio

from worker_state.core.answers import HttpAnswer, HttpFailure
from worker_state.core.words import shown

MAX_BODY = 64 * 2**10
"""Bytes of an HTTP answer, and of whatever comes before the 101 (FAULTS T3, T12). Real ones have some hundred."""
HTTP_AT_ONCE = 20
"""Requests under way in one process, all workers together: thousands at once cost more CPU each (FAULTS T24)."""


class Http(Protocol):
    """The HTTP side of the server."""

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        """One `POST`, bounded in time and size. Redirects are not followed: a token would go along with them."""


@cache
def _http_ssl_context() -> ssl.SSLContext:
    # A context of its own, because httpx changes the ALPN protocols of the one it is given (FAULTS T26).
    return ssl.create_default_context()


@cache
def _no_ssl_context() -> ssl.SSLContext:
    # httpx wants a context even for http://, where it is never used; an empty one is cheap and trusts nobody.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _in_words(exc: BaseException) -> str:
    """What went wrong, in the words of the first cause that has any: httpx hands some errors on without theirs."""
    name = type(exc).__name__
    cause: BaseException | None = exc
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return name if cause is None else shown(f"{name}: {cause}")


_at_once: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("worker_state_http_at_once")


def _limiter() -> trio.CapacityLimiter:
    try:
        return _at_once.get()
    except LookupError:
        _at_once.set(trio.CapacityLimiter(HTTP_AT_ONCE))
        return _at_once.get()


class HttpxHttp:
    """`Http` with a short-lived httpx transport for each call, on shared SSL contexts (FAULTS T11, T12, T14, T24, T25).

    A client around it would follow redirects, keep cookies and read the environment, none of which is wanted, for two
    fifths of the cost of a call.
    """

    def __init__(self, url: str, *, within: float) -> None:
        self._base = url.rstrip("/")
        self._within = within
        self._secure = url.startswith("https:")

    async def post(
        self, path: str, *, body: Mapping[str, Any] | None = None, bearer: str | None = None
    ) -> HttpAnswer | HttpFailure:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "worker_state"}
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
        request = httpx.Request("POST", self._base + path, content=content, headers=headers)
        # The one deadline around the whole call is the caller's scope: httpx's own is per read (T11).
        async with (
            httpx.AsyncHTTPTransport(verify=verify, trust_env=False) as transport,
            aclosing(await transport.handle_async_request(request)) as response,
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
