"""A pytest plugin that takes away what Windows and macOS lack: `python -m pytest -p tests.support.lacking …`.

It has to be loaded before the package is, which looks for some of it once.
"""

import asyncio  # noqa: F401 - before: where there is `fork`, it takes `register_at_fork` for granted
import errno
import os
import signal
import socket
import time
from typing import Any

for module, names in (
    (socket, "TCP_USER_TIMEOUT TCP_KEEPIDLE TCP_KEEPINTVL"),
    (time, "CLOCK_BOOTTIME"),
    (signal, "SIGHUP"),
    (os, "register_at_fork"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
        if name in getattr(module, "__all__", ()):
            module.__all__.remove(name)

_connect = socket.socket.connect


def _connect_as_windows(self: socket.socket, address: Any) -> None:
    """There a connect that is under way says EWOULDBLOCK, not EINPROGRESS."""
    try:
        _connect(self, address)
    except BlockingIOError:
        raise BlockingIOError(errno.EWOULDBLOCK, "as Windows says it") from None


socket.socket.connect = _connect_as_windows  # type: ignore[method-assign, assignment]
