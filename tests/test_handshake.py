"""The head of a handshake: read as it comes, and broken off as soon as it can be no 101 any more."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import check_two_way_stream, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from worker_state.core.verdict import Cause
from worker_state.handshake import Head

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n"


async def test_accepted() -> None:
    """A 101 passes byte by byte, with the frames behind it, and is no rejection."""
    near, far = memory_stream_pair()
    head = Head(near)
    for byte in ACCEPTED + b"\x81\x02{}":
        await far.send_all(bytes([byte]))
        assert await head.receive_some() == bytes([byte])
    assert head.rejection() is None


async def test_a_reader_that_was_waiting_when_it_was_done(nursery: trio.Nursery) -> None:
    """What was waited for before the handshake was done passes as well, whatever it looks like, and is not kept."""
    near, far = memory_stream_pair()
    head = Head(near)
    got: list[bytes] = []

    async def read() -> None:
        got.append(bytes(await head.receive_some()))

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    head.done()
    await far.send_all(b"\x81\x04\r\n\r\n")
    await wait_all_tasks_blocked()
    assert got == [b"\x81\x04\r\n\r\n"]
    assert not head.received


async def test_refused() -> None:
    """A refusal breaks the stream off at the end of its head, and its status and hint are known without the body."""
    near, far = memory_stream_pair()
    head = Head(near)
    await far.send_all(REFUSED[:-1])
    assert await head.receive_some() == REFUSED[:-1]
    assert head.rejection() is None
    await far.send_all(REFUSED[-1:])
    with pytest.raises(trio.BrokenResourceError):
        await head.receive_some()
    rejection = head.rejection()
    assert rejection is not None
    assert (rejection.cause, rejection.status, rejection.retry_after) == (Cause.SHED, 503, "7")


async def test_refused_without_a_hint() -> None:
    """A refusal without `Retry-After` has none."""
    near, far = memory_stream_pair()
    head = Head(near)
    await far.send_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError):
        await head.receive_some()
    rejection = head.rejection()
    assert rejection is not None
    assert (rejection.status, rejection.retry_after, str(rejection)) == (404, None, "upgrade rejected (HTTP 404)")


@pytest.mark.parametrize("garbage", [b"220 mail ESMTP\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\0" * 9])
async def test_garbage(garbage: bytes) -> None:
    """What is no HTTP breaks the stream off, and is no rejection."""
    near, far = memory_stream_pair()
    head = Head(near)
    await far.send_all(garbage)
    with pytest.raises(trio.BrokenResourceError):
        await head.receive_some()
    assert head.rejection() is None
    assert head.received == garbage


async def test_endless_head() -> None:
    """A head that does not end is broken off while it is small."""
    near, far = memory_stream_pair()
    head = Head(near)
    await far.send_all(b"HTTP/1.1 101 Switching Protocols\r\n")
    await head.receive_some()

    async def read_on() -> None:
        while True:
            await far.send_all(b"X-Header: and another one\r\n" * 40)
            await head.receive_some()

    with pytest.raises(trio.BrokenResourceError):
        await read_on()
    assert len(head.received) < 64 * 2**10


async def test_done() -> None:
    """Once the handshake is done everything passes, and nothing is kept."""
    near, far = memory_stream_pair()
    head = Head(near)
    await far.send_all(ACCEPTED)
    await head.receive_some()
    head.done()
    await far.send_all(REFUSED + b"x" * 100_000)
    assert len(await head.receive_some()) == len(REFUSED) + 100_000
    assert head.received == b""


async def test_end_of_stream() -> None:
    """The end of the stream comes through as the end."""
    near, far = memory_stream_pair()
    head = Head(near)
    await far.send_eof()
    assert await head.receive_some() == b""
    assert head.rejection() is None


async def test_it_is_a_stream() -> None:
    """It keeps every promise of trio's streams: cancellation, closing, busy and broken ends."""

    async def maker(
        pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]],
    ) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        heads = tuple(Head(end) for end in pair())
        for head in heads:
            head.done()
        return heads[0], heads[1]

    await check_two_way_stream(lambda: maker(memory_stream_pair), lambda: maker(lockstep_stream_pair))
