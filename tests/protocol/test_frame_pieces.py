"""What comes over a WebSocket is handed on whole, few frames at a time; fragments are counted."""

from random import Random

import pytest

from tests.support.peers import CLOSE, PING, PONG, TEXT, frame
from worker_state.protocol.frame_pieces import AT_ONCE, MOST_FRAGMENTS, FramePieces, TooManyFragments

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
MASKED = b"\x81\x82\x01\x02\x03\x04\x60\x60"  # as clients send it


def taken(pieces: FramePieces, data: bytes) -> list[bytes]:
    pieces.add(data)
    return list(iter(pieces.take, b""))


def upgraded() -> FramePieces:
    pieces = FramePieces()
    assert taken(pieces, HEAD) == [HEAD]
    return pieces


@pytest.mark.parametrize("each", [frame(PONG), frame(PING, b"abc"), frame(TEXT, b"{}"), MASKED])
def test_g12_few_frames_at_a_time(each: bytes) -> None:
    """Of many tiny frames that come together a piece has `AT_ONCE`, and the last one the rest."""
    assert taken(upgraded(), each * (2 * AT_ONCE + 3)) == [each * AT_ONCE, each * AT_ONCE, each * 3]


def test_g12_behind_the_head() -> None:
    """Frames that come with the head of the handshake are bounded, too, wherever the head is cut."""
    pongs = frame(PONG) * (AT_ONCE + 1)
    for at in range(1, len(HEAD)):
        pieces = FramePieces()
        assert taken(pieces, HEAD[:at]) == [HEAD[:at]]
        assert taken(pieces, HEAD[at:] + pongs) == [HEAD[at:], frame(PONG) * AT_ONCE, frame(PONG)]


def test_long_frames() -> None:
    """A long frame is one, however it is cut."""
    data = frame(TEXT, b"x" * 70_000) + frame(TEXT, b"y" * 300)
    pieces = upgraded()
    assert [piece for at in range(0, len(data), 4096) for piece in taken(pieces, data[at : at + 4096])] == [
        data[at : at + 4096] for at in range(0, len(data), 4096)
    ]


def test_g21_a_message_that_has_begun() -> None:
    """From the first byte of a message to its last it is known that more must come, whatever comes between."""
    pieces = upgraded()
    for data, begun in [
        (frame(PONG), False),
        (frame(TEXT, b"whole"), False),
        (b"\x01\x02a", True),  # a fragment
        (b"b" + frame(PING, b"p"), True),
        (b"\x80\x7e\x01", True),  # the last one, of 256 bytes
        (b"\x00" + bytes(255), True),
        (bytes(1), False),
    ]:
        taken(pieces, data)
        assert pieces.in_message == begun


def test_nothing_is_lost() -> None:
    """Whatever comes, and however it is cut, comes out again in order; the end comes out as the end."""
    random = Random(4)
    whole = HEAD + b"".join(
        random.choice([frame(TEXT, bytes(random.choice([0, 1, 125, 126, 5000, 70_000]))), frame(PONG), MASKED])
        for _ in range(300)
    )
    pieces, out, at = FramePieces(), b"", 0
    while at < len(whole):
        size = random.choice([1, 2, 3, 100, 4096])
        out += b"".join(taken(pieces, whole[at : at + size]))
        at += size
    assert out == whole
    assert taken(pieces, b"") == []


def test_g12_empty_fragments_are_counted() -> None:
    """A message of more fragments than any has is refused; pings between them do not count, nor do other messages."""
    first, each, last = b"\x01\x00", b"\x00\x00", b"\x80\x00"
    pieces = upgraded()
    taken(pieces, (first + each * 9 + last) * (MOST_FRAGMENTS // 9))
    taken(pieces, first + (each + frame(PING)) * (MOST_FRAGMENTS - 1))
    with pytest.raises(TooManyFragments, match="a message of more than 65536 fragments"):
        taken(pieces, frame(PING) + each + frame(CLOSE))
