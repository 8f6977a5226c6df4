"""Unread signals are bounded in number and in bytes."""

import pytest
import trio
import trio.testing

from worker_state.signal_buffer import SignalBuffer


async def test_g10_bounded_in_bytes() -> None:
    """A message that needs more bytes than are left is refused, a smaller one still taken; reading makes room."""
    buffer = SignalBuffer(10, 100)
    buffer.put({"n": 1}, 60)
    with pytest.raises(trio.WouldBlock):
        buffer.put({"n": 2}, 41)
    buffer.put({"n": 3}, 40)
    assert buffer.receive_nowait() == {"n": 1}
    assert await buffer.receive() == {"n": 3}
    buffer.put({"n": 4}, 100)


async def test_g10_bounded_in_number() -> None:
    """Messages of no bytes are bounded, too."""
    buffer = SignalBuffer(1, 100)
    buffer.put({"n": 1}, 0)
    with pytest.raises(trio.WouldBlock):
        buffer.put({"n": 2}, 0)
    assert buffer.statistics().current_buffer_used == 1


async def test_a_reader_that_waits_gets_any_message() -> None:
    """What somebody waits for is never unread, so no bound of what is unread can lose it."""
    buffer, got = SignalBuffer(1, 100), list[object]()

    async def read() -> None:
        got.append(await buffer.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        buffer.put({"n": 1}, 1000)
        with pytest.raises(trio.WouldBlock):
            buffer.put({"n": 2}, 1000)
    assert got == [{"n": 1}]
    buffer.put({"n": 3}, 100)
    buffer.close()
    assert buffer.receive_nowait() == {"n": 3}
    with pytest.raises(trio.EndOfChannel):
        await buffer.receive()
