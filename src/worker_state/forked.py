"""What a forked child (of multiprocessing, say) must not keep: its parent's sockets (G24).

A connection ends for the other side, and a port is free, when the last process has closed its copy.
"""

import os
from contextlib import suppress
from weakref import WeakSet

import trio

_ours: WeakSet[trio.socket.SocketType] = WeakSet()
_copied: WeakSet[trio.socket.SocketType] = WeakSet()


def keep_from_children(socket: trio.socket.SocketType) -> None:
    """A child that is forked from now on closes its copy."""
    _ours.add(socket)


def may_have_copies(socket: trio.socket.SocketType) -> bool:
    """Whether something was forked since: a child needs a moment to close its copy, and a stopped one does not."""
    return socket in _copied


def _close_copies() -> None:
    for socket in list(_ours):
        # Not `close`, which would take the socket out of the epoll that the parent waits with.
        if (copy := socket.detach()) >= 0:
            with suppress(OSError):
                os.close(copy)


if hasattr(os, "register_at_fork"):  # else nothing forks
    os.register_at_fork(before=lambda: _copied.update(_ours), after_in_child=_close_copies)
