"""TLS: whom this machine trusts, and the handshake."""

import math
import os
import ssl
import time
from collections.abc import Callable

import trio

from worker_state.net import tcp
from worker_state.protocol.error_policy import Cause, DialFailure, in_words

RENEW_EVERY = 10.0  # seconds between two contexts: making one takes 18 ms of CPU (faults.md, T26)

KEY_LOG = "SSLKEYLOGFILE"


class TlsUnavailable(Exception):
    """This process can do no TLS; the text says why."""


class Trust:
    """The authorities that this machine trusts, in one verifying context for all who share it.

    The context is made anew when its files have changed, and after a certificate was not trusted: authorities are
    replaced, and a context that was made while no file could be opened is empty (faults.md, G22).
    """

    def __init__(
        self,
        make: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        clock: Callable[[], float] = time.monotonic,  # other threads have other runs of trio, with other clocks
    ) -> None:
        self._make = make
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._made_at = -math.inf
        self._files: object = None
        self._doubted = False

    def context(self) -> ssl.SSLContext:
        """The present context. Raises `TlsUnavailable`."""
        old = self._clock() - self._made_at >= RENEW_EVERY
        if self._context is None or (old and (self._doubted or self._files != _trust_files())):
            self._files = _trust_files()
            try:
                self._context = self._make()
            except Exception as error:
                why = f"{KEY_LOG} names a file that cannot be opened" if _opens_key_log(error) else "no TLS here"
                raise TlsUnavailable(f"{why}: {in_words(error)}") from error
            self._made_at, self._doubted = self._clock(), False
        return self._context

    def failed(self, error: BaseException) -> None:
        """This error has ended a handshake, or what was built on it."""
        self._doubted = self._doubted or any(isinstance(each, ssl.SSLCertVerificationError) for each in causes(error))


TRUST = Trust()
"""Of the WebSocket, and of what looks at certificates. HTTP has its own: httpx sets ALPN on it."""


def causes(error: BaseException) -> list[BaseException]:
    """The error, and what has led to it, the newest first."""
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)  # the context, too: httpx's pool raises `from None`
    return found


def server_name(host: str) -> str:
    """The host as certificates and SNI name it: without the dot of the root, which is in no certificate."""
    return host.removesuffix(".")


async def secure(
    stream: trio.abc.Stream, host: str, context: ssl.SSLContext | None = None
) -> trio.SSLStream[trio.abc.Stream] | DialFailure:
    """TLS over a stream with that host's certificate, or why there is none. The caller sets the deadline."""
    try:
        context = context or TRUST.context()
        secured = trio.SSLStream(stream, context, server_hostname=server_name(host), https_compatible=True)
        await secured.do_handshake()
    except Exception as error:  # noqa: BLE001 - whatever ends a handshake, it is a failed dial
        TRUST.failed(error)
        if tcp.gave_up(error):
            return DialFailure(Cause.UNACKNOWLEDGED)
        broken = isinstance(error, trio.BrokenResourceError | ssl.SSLError)
        return DialFailure(Cause.TLS, in_words(error.__cause__ or "the connection broke off" if broken else error))
    return secured


def _trust_files() -> object:
    paths = ssl.get_default_verify_paths()
    return [(path, _version(path)) for path in (paths.cafile, paths.capath)]


def _version(path: str | None) -> object:
    try:
        status = os.stat(path or "")
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _opens_key_log(error: Exception) -> bool:
    return isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and bool(os.environ.get(KEY_LOG))
