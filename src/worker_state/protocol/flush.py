"""Whether a leaving worker's last signals have arrived: a frame sent behind them says so when it is answered.

Pure. The server handles the frames of one socket in order. No time limit in here: the cleanup actor says with
`CloseLink` that it waits no longer.
"""

import math

from worker_state.protocol import frames


class SignalFlush:
    """The signals that were sent on one link. Times are in seconds of the caller's clock."""

    __slots__ = ("_answers", "_nonce", "_sent_at")

    def __init__(self) -> None:
        self._sent_at = -math.inf
        self._nonce: str | None = None
        self._answers = math.inf

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
        """The frame to send behind the signals: an echo, or with a record (where echoes are refused) a look at it,
        which is answered after this many `earlier` updates."""
        if record is None:
            self._nonce = nonce
            return frames.echo(peer_id, nonce)
        self._answers = earlier + 1
        return frames.look(peer_id, record)

    def ended_by(self, frame: frames.Frame) -> bool:
        """Whether this frame answers it, or says that no answer can come."""
        match frame:
            case frames.Echo(nonce=nonce):
                return nonce == self._nonce
            case frames.MetadataUpdated():
                self._answers -= 1
                return self._answers <= 0
            case _:
                return isinstance(frame, frames.NotInRoom)
