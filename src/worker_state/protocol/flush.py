"""Whether a leaving worker's last signals have arrived: a frame sent behind them says so when it is answered.

The server handles the frames of one socket in order. The cleanup actor sets the time limit, with `CloseLink`.
"""

import math

from worker_state.protocol import frames
from worker_state.protocol.record import look


class SignalFlush:
    """The signals that were sent on one link. Times are in seconds of the caller's clock."""

    def __init__(self) -> None:
        self._sent_at = -math.inf
        self._nonce: str | None = None
        self._acks = math.inf  # of updates, until that of our look

    @property
    def needed(self) -> bool:
        """The last signal may not have arrived yet."""
        return self._sent_at > -math.inf

    def sent(self, at: float) -> None:
        """The socket has taken over a signal."""
        self._sent_at = at

    def echoed(self, sent_at: float) -> None:
        """An echo that was sent then has come back."""
        if self._sent_at < sent_at:
            self._sent_at = -math.inf

    def begin(self, peer_id: str, nonce: str, record: frames.Message | None, earlier: int) -> frames.Message:
        """The frame to send behind the signals: an echo, or (where echoes are refused) a look at this record, whose ack
        comes after those of so many `earlier` updates."""
        if record is None:
            self._nonce = nonce
            return frames.echo(peer_id, nonce)
        self._acks = earlier + 1
        return frames.update_metadata(peer_id, look(record))

    def ended_by(self, frame: frames.Frame) -> bool:
        """Whether this frame answers it, or says that no answer can come."""
        match frame:
            case frames.Echo(nonce=nonce):
                return nonce == self._nonce
            case frames.MetadataUpdated():
                self._acks -= 1
                return self._acks <= 0
            case _:
                return isinstance(frame, frames.NotInRoom)
