"""The `register` that was sent last: until when to wait for its answer, and whether one is unanswered yet.

Frames of one socket are answered in order. So if a frame sent behind a `register` is answered first, the server has
swallowed the `register` (G05). That frame is an echo, or a look at the record: the answer to a look comes back on this
socket even while somebody else holds the peer id, and gets the echo. Behind a later `register` of a link it is always
an echo, for its nonce tells its answer from those to what was sent before.
"""

import math

from worker_state.protocol import frames
from worker_state.protocol.echo import REGISTER_PREFIX
from worker_state.protocol.frames import Message
from worker_state.protocol.record import look

FIRST_PROBE = 5.0  # seconds from a `register` to the first frame behind it; further pauses double, for a busy server


class PendingRegister:
    """The last `register` of one worker. Times are in seconds of the caller's clock."""

    def __init__(self) -> None:
        self.epoch: int = 0  # the link that it was sent on
        self.is_first: bool = False  # on that link: nothing was sent before it
        self.revision: int = 0  # of the status that it carried
        self.sent_at: float = 0.0
        self.nonce: str = ""  # of the echoes behind it
        self.record: Message = {}  # that it carries
        self.looks: int = 0  # how many were sent behind it, on a link that has carried no other update
        self.unanswered: int = 0  # how many on this link are not answered for sure: one may yet take effect (F03)
        self._swallowed_on = 0
        self.answer_by: float  # when the waiting is over
        self.probe_at: float  # when the next frame is to be sent behind it
        self.over()

    def link_opened(self) -> None:
        """Nothing was sent on the present link."""
        self.unanswered = 0

    def is_first_on(self, epoch: int) -> bool:
        """Whether nothing was sent on this link yet."""
        return epoch != self.epoch

    def sent(self, now: float, epoch: int, revision: int, record: Message, answer_by: float, nonce: str) -> None:
        """A `register` was sent on this link, with this record, whose status is of this revision."""
        self.over()
        self.unanswered += 1
        self.is_first = self.is_first_on(epoch)
        self.epoch, self.revision, self.sent_at, self.nonce = epoch, revision, now, REGISTER_PREFIX + nonce
        self.record, self.answer_by, self.probe_at = record, answer_by, now + FIRST_PROBE

    def answered(self) -> None:
        """The server has answered one, or it was never sent. An answer too many does not count for the next one."""
        self.unanswered = max(0, self.unanswered - 1)

    def over(self, *, doubtful: bool = False) -> None:
        """It was answered, or never will be. `doubtful`: by an error that may have been about another part's frame."""
        self.doubtful = doubtful
        self.answer_by = self.probe_at = math.inf
        self.record, self.looks, self._probes = {}, 0, 0

    @property
    def due(self) -> float:
        """When something is to be done, unless an answer comes."""
        return min(self.answer_by, self.probe_at)

    def probe(self, peer_id: str, now: float) -> Message:
        """The frame that is sent behind it now: a look at the record, or an echo."""
        self._probes += 1
        self.probe_at = now + FIRST_PROBE * 2.0**self._probes
        if not self.is_first or self._probes % 2 == 0:
            return frames.echo(peer_id, self.nonce)
        self.looks += 1
        return frames.update_metadata(peer_id, look(self.record))

    def overtaken_by(self, nonce: str | None) -> bool:
        """Whether an echo with this nonce, or NOT_IN_ROOM (None), answers what was sent behind it."""
        return self._probes > 0 and nonce in (self.nonce, None)

    def swallowed(self) -> bool:
        """The server has swallowed it. True: not for the first time on this link, which is of no use then."""
        again, self._swallowed_on = self._swallowed_on == self.epoch, self.epoch
        self.over()
        return again

    def grant(self, until: float) -> None:
        """The answer may come as late as this, for nobody could read it before."""
        self.answer_by = max(self.answer_by, until)
