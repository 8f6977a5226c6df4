"""Whether the server may still list a peer whose socket is over: then its deletion may take the room along.

`/delete-peer` for the last registered peer of a room deletes the room, whoever has created it (FAULTS G01). Pure.
"""

import math

NOTICE = 0.2
"""Seconds from the server's Close frame until it has forgotten what was registered through that socket."""
LETS_GO = 60.0
"""Seconds until a server has noticed that a socket is dead (seen: 25 to 47, FAULTS F01)."""


class Listing:
    """The registrations of one peer, as far as the end of its sockets tells."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = -math.inf
        """The server may list the peer until then, in seconds of the caller's clock."""

    def lost(self, now: float, *, closed: bool) -> None:
        """A socket is over through which the peer has registered. `closed`: the server has sent a Close frame."""
        self.until = now + (NOTICE if closed else LETS_GO)

    def ends_soon(self, now: float) -> bool:
        """It is worth waiting until the server surely lists the peer no more."""
        return self.until - now < 2 * NOTICE
