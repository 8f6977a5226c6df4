"""One connection between a worker and the server, and everything that a network can do to it.

What travels in it (frames or bytes) is the business of its two ends: `fast` and `raw`. Here are resets, half-open
states, stalls, and the server's keepalive that ends every one of them within 50 s.
"""

from collections.abc import Callable
from random import Random
from typing import Protocol

from tests.simulation.net import Net, Pipe
from worker_state.config import Timing
from worker_state.devserver.model import Message
from worker_state.net.tcp import ASK_AFTER


class End:
    """Something that travels and is no content."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ANOTHER = "another token"
"""Of a room whose first one nobody can enter with any more."""
FIN, RST, TIMED_OUT = End("FIN"), End("RST"), End("TIMED_OUT")
PART = End("PART")
"""A part of a message has come, and is no end at all. Where bytes travel, the bytes themselves are that."""


class Ping:
    """A WebSocket ping, or with `answered` its pong."""

    def __init__(self, number: int, *, answered: bool = False) -> None:
        self.number = number
        self.answered = answered


class CloseFrame:
    """A WebSocket Close frame."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason


UNACKNOWLEDGED = Timing().unacknowledged

Item = str | bytes | End | Ping | CloseFrame


class Codec(Protocol):
    """The server's end: turns what the rules want into what travels."""

    def text(self, message: Message) -> None: ...
    def junk(self, data: str | bytes) -> None: ...
    def ping(self) -> None: ...
    def tiny(self, count: int) -> None: ...
    def close(self, code: int, reason: str) -> None: ...


class Conn:
    """A connection; hashable by identity, which is how the rules know it."""

    def __init__(
        self,
        net: Net,
        chance: Random,
        number: int,
        owner: str,
        *,
        at_client: Callable[[Item], None],
        at_server: Callable[["Conn", Item], None],
        lost: Callable[["Conn"], None],
    ) -> None:
        self.number = number
        self.owner = owner
        self.up: Pipe[Item] = Pipe(net, chance.uniform(0.0005, 0.04), lambda item: at_server(self, item))
        self.down: Pipe[Item] = Pipe(net, chance.uniform(0.0005, 0.04), at_client)
        self.codec: Codec
        self.client_open = True
        """The worker still holds it."""
        self.server_open = True
        """The server believes that it lives."""
        self.said_goodbye = False
        """The worker has ended it, with a Close frame."""
        self.torn = False
        """The network has cut or stalled it: a goodbye may not have come through."""
        self.inherited = False
        """A child process holds the socket, too: the server hears nothing of what the worker does with it."""
        self.registers = 0
        """`register` frames that the server has answered on it."""
        self._net = net
        self._chance = chance
        self._lost = lost
        self._at_client = at_client
        self._given_up = False
        self.up.on_lost = self._kernel_gives_up

    def __repr__(self) -> str:
        return f"#{self.number}"

    # the two sides let go

    def abandon(self, how: End) -> None:
        """The worker closes its socket: FIN or RST goes to the server, if the network lets it."""
        if self.client_open:
            self.client_open = False
            self.down.cut_off()
            self.up.put(how)
            # Whatever happens to that, the server's keepalive finds out.
            if not self.inherited:
                self._net.after(self._chance.uniform(40, 50), self.server_notices)

    def server_closes(self, code: int, reason: str = "") -> None:
        """The server says goodbye, which may be lost, and forgets the connection."""
        if self.server_open:
            self.codec.close(code, reason)
            self.down.put(FIN)
            self.server_notices()

    def server_notices(self) -> None:
        """The server knows that this connection is over."""
        if self.server_open:
            self.server_open = False
            self._lost(self)

    def _kernel_gives_up(self) -> None:
        """What the worker sends is acknowledged by nobody: its kernel ends the connection after a while."""
        if not self._given_up:
            self._given_up = True
            self._net.after(UNACKNOWLEDGED, lambda: self.to_client(TIMED_OUT))

    # what the network does

    def break_(self, client_after: float, server_after: float) -> None:
        """Nothing passes any more, and each side notices after so many seconds (the client perhaps never)."""
        self.torn = True
        self.up.cut_off()
        self.down.cut_off()
        # At the latest its kernel finds out, which asks when nothing is heard.
        self._net.after(min(client_after, ASK_AFTER + UNACKNOWLEDGED), lambda: self.to_client(RST))
        self._net.after(min(server_after, 50.0), self.server_notices)

    def leave_to_a_child(self) -> None:
        """The worker loses it, and a child that it has forked does not: to the server it lives on, until somebody
        calls `server_notices`."""
        self.torn = self.inherited = True
        self.up.cut_off()
        self.down.cut_off()
        self.to_client(RST)

    def trickle(self, rate: float) -> Callable[[], None]:
        """What the server sends comes at so many bytes a second, until what this returns is called."""

        def pieces(item: Item) -> list[tuple[Item, float]]:
            size = int(rate)
            if isinstance(item, bytes):
                parts = [item[at : at + size] for at in range(0, len(item), size)]
                return [(part, len(part) / rate) for part in parts]
            if isinstance(item, str):
                return [(PART, 1.0)] * (len(item) // size) + [(item, len(item) % size / rate)]
            return [(item, 0.0)]

        self.down.pace = pieces
        return self.down.hurry

    def to_client(self, item: Item) -> None:
        """The worker's side sees this now, past the pipe."""
        if self.client_open:
            self._at_client(item)

    def stall(self, *, up: bool, down: bool) -> Callable[[], None]:
        """Nothing passes, nothing is lost; ends by what is returned, or by the server's keepalive."""
        self.torn = True
        releases = [pipe.stall() for pipe, wanted in ((self.up, up), (self.down, down)) if wanted]
        over = False

        def release() -> None:
            nonlocal over
            if not over:
                over = True
                for each in releases:
                    each()

        def keepalive() -> None:
            if not over and self.server_open and not self.inherited:
                self.server_notices()
                self.down.put(RST)

        self._net.after(self._chance.uniform(40, 50), keepalive)
        return release
