"""Whether the last signals of a worker that leaves have arrived: what is sent behind them says so when it is answered.

The server handles the frames of one socket in their order. No time is limited in here: the cleanup actor waits no
longer than it wants to, and says so with `CloseLink`.
"""

import math

from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.inbox import Inbox, receive_until


class Spoken:
    """The signals that were sent on one link. Times are in seconds of trio's clock."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -math.inf

    @property
    def unheard(self) -> bool:
        """The last of them may be on its way yet."""
        return self._last > -math.inf

    def sent(self, at: float) -> None:
        """The socket has taken over one."""
        self._last = at

    def echoed(self, sent_at: float) -> None:
        """An echo that was sent then has come back."""
        if self._last < sent_at:
            self._last = -math.inf


async def heard(
    notes: list[m.Note],
    inbox: Inbox,
    link: m.Link,
    peer_id: str,
    nonce: str,
    record: wire.Message | None,
    earlier: int,
) -> None:
    """Send an echo, or with a record (where echoes are refused) a look at it; return when that is answered, or when no
    answer can come any more, as these notes or those in the inbox say. So many `earlier` updates are answered before a
    look."""
    link.post(wire.echo(peer_id, nonce) if record is None else wire.look(peer_id, record))
    looks = math.inf if record is None else earlier + 1
    while True:
        for note in notes:
            match note:
                case m.FrameReceived(_, wire.Echo(_, received)) if received == nonce:
                    return
                case m.FrameReceived(_, wire.NotInRoom()) | m.LinkLost() | m.CloseLink():
                    return
                case m.FrameReceived(_, wire.MetadataStored()):
                    looks -= 1
        if looks <= 0:
            return
        notes = await receive_until(inbox, math.inf)
