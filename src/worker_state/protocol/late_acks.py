"""Answers to updates that may still come late: which of them are told apart from the answer that is waited for.

Pure. There are no correlation ids, but the server answers in order, and every answer shows all that is stored. So a
late one is known by its content: it confirms nothing, and it disproves nothing.
"""

from worker_state.protocol import frames

MOST = 8  # so many are kept in mind: a server that never answers an update must not fill the memory


class LateAcks:
    """What the updates said that were given up, or that belong to an earlier registration on the same link."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: list[frames.Message] = []

    def __repr__(self) -> str:
        return f"<LateAcks {len(self._records)}>"

    def add(self, record: frames.Message) -> None:
        """An update that said this is not waited for any longer."""
        self._records = [*self._records[1 - MOST :], record]

    def settles(self, stored: frames.Message, *, fits: bool) -> bool:
        """Whether this answer is a late one; `fits` says that it may as well be the one that is waited for."""
        late = next((n for n, record in enumerate(self._records) if not frames.differences(stored, record)), None)
        if fits:
            # Of two updates that said the same the first is answered first, and the other's answer is still to come.
            del self._records[: len(self._records) if late is None else late]
            return False
        if late is not None:
            del self._records[: late + 1]
        return late is not None
