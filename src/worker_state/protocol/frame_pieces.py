"""What comes over a WebSocket, in pieces of few frames each. Pure.

A WebSocket library handles all frames of what it is given without letting others run: 4 KiB of empty pongs are 2,000
(faults.md, G12). So it is given few at a time. It also collects the fragments of a message without counting them, and
an empty one has no bytes that a limit of bytes could see.
"""

import re
from collections import deque

AT_ONCE = 32  # frames of a piece: below a millisecond of the library's time
MOST_FRAGMENTS = 2**16  # of one message: of 8 MiB each would have 128 bytes; the library keeps some 60 for each
_HEAD_END = re.compile(rb"\n\r?\n")
_MORE = {126: 2, 127: 8}  # bytes of the length, by what stands in its place


class TooManyFragments(Exception):
    """A message has more than `MOST_FRAGMENTS`."""

    def __init__(self) -> None:
        super().__init__(f"a message of more than {MOST_FRAGMENTS} fragments")


class FramePieces:
    """The bytes of one side of one connection, from the head of its handshake on."""

    def __init__(self) -> None:
        self._waiting: bytes = b""
        self._head_seen: bytes | None = b""  # the last bytes of the handshake's head; None: it is over
        self._frame_head = b""  # the part of a frame's head that has come
        self._left = 0  # bytes of the present frame's payload that have not come
        self._fragments = 0  # of the present message
        self._ends = False  # the present frame is its last
        self._size = 0  # of the present message
        self._sizes: deque[int] = deque()  # of the whole messages that are unread
        self.in_message: bool = False  # a part of a message has come, and not all of it
        self.unread: int = 0  # bytes of whole messages that are in the library

    def add(self, data: bytes | bytearray) -> None:
        """These bytes have come. Only when `take` has given all that came before."""
        assert not self._waiting
        self._waiting = bytes(data)

    def take(self) -> bytes:
        """The next piece; empty when nothing waits. Raises `TooManyFragments`."""
        size = self._head_size() if self._head_seen is not None else self._frames_size()
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        return piece

    def _head_size(self) -> int:
        assert self._head_seen is not None
        before = len(self._head_seen)
        if end := _HEAD_END.search(seen := self._head_seen + self._waiting):
            self._head_seen = None
            return end.end() - before
        self._head_seen = seen[-2:]
        return len(self._waiting)

    def _frames_size(self) -> int:
        """Up to the end of the last frame of the next piece."""
        data, at, frames = self._waiting, 0, 0
        while at < len(data) and frames < AT_ONCE:
            if not self._left:
                head = self._frame_head + data[at : at + 14]
                size = 2 if len(head) < 2 else 2 + _MORE.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)
                at += size - len(self._frame_head)
                self._frame_head = b"" if len(head) >= size else head
                if self._frame_head:
                    return len(data)
                self._begin(head)
            came = min(self._left, len(data) - at)
            self._left, at = self._left - came, at + came
            if not self._left:
                frames += 1
                if self._ends:
                    self._end_message()
        return at

    def _begin(self, head: bytes) -> None:
        length = head[1] & 0x7F
        self._left = int.from_bytes(head[2 : 2 + _MORE[length]]) if length in _MORE else length
        self._ends = False
        if head[0] & 0x0F < 8:  # no ping, pong or Close frame: these come between the fragments
            self.in_message, self._ends = True, head[0] & 0x80 > 0
            self._size += self._left
            self._fragments = 0 if self._ends else self._fragments + 1
            if self._fragments > MOST_FRAGMENTS:
                raise TooManyFragments

    def _end_message(self) -> None:
        self._sizes.append(self._size)
        self.unread += self._size
        self.in_message, self._size = False, 0

    def message_read(self) -> None:
        """The library has handed over its oldest message."""
        self.unread -= self._sizes.popleft()
