"""Whether the server may still list a peer whose socket is over.

`/delete-peer` for the last listed peer of a room deletes the room, even one that others created (G01).
"""

import math

NOTICE = 0.2  # seconds from the server's Close frame until it has forgotten what was registered through that socket
LETS_GO = 60.0  # seconds until a server has noticed that a socket is dead (seen: 25 to 47, F01)


class PeerListing:
    """The registrations of one peer, as far as the ends of its sockets tell. Times are of the caller's clock."""

    def __init__(self) -> None:
        self._late = -math.inf
        self.until: float = -math.inf  # the server may list the peer until then

    def lost(self, now: float, *, closed: bool, unanswered: bool) -> None:
        """A socket is over through which the peer has registered. `closed`: the server has sent a Close frame;
        `unanswered`: a `register` was not answered, and may take effect yet (F03)."""
        if not closed:
            self.until = now + LETS_GO
            if unanswered:
                self._late = self.until
        else:
            # If it was answered, the server forgets the peer, even one registered by another socket. Else it may not.
            self.until = max(self.until if unanswered else self._late, now + NOTICE)

    def ends_soon(self, now: float) -> bool:
        """It is worth waiting until the server surely lists the peer no more."""
        return self.until - now < 2 * NOTICE
