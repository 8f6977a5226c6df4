"""Floods of tiny frames (faults.md, G12): others run between them, and a message cannot grow without bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from tests.support.dialled import Dialled
from tests.support.peers import PING, PONG, TEXT, Peer, frame, switching
from worker_state.net.dial import WebSocketDial
from worker_state.net.websocket import UNREAD_BYTES, Socket, WebSocket
from worker_state.protocol.error_policy import Closed, DialFailure
from worker_state.protocol.frame_pieces import MOST_FRAGMENTS

FLOOD = 1024  # frames


class Turns:
    """How often everybody else could have run."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1


@asynccontextmanager
async def flooded(data: bytes, *, with_the_head: bool = False) -> AsyncIterator[tuple[Socket, Turns]]:
    """A socket to whom all of this has come; the turns since then."""
    near, far = memory_stream_pair()
    turns = Turns()

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        return near

    async def answer() -> None:
        head = await Peer(far).head()
        await far.send_all(switching(head) + (data if with_the_head else b""))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            async with Dialled(WebSocketDial("ws://h/", open_stream=open_stream))() as made:
                assert not isinstance(made, DialFailure)
                nursery.start_soon(turns.run)
                if not with_the_head:
                    await far.send_all(data)
                yield made, turns
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("each", [frame(PONG), frame(PING), b"\x00\x00"], ids=["pongs", "pings", "empty fragments"])
@pytest.mark.parametrize("with_the_head", [False, True])
async def test_g12_others_run_between_tiny_frames(each: bytes, with_the_head: bool) -> None:
    """Whatever comes at once, in the segment of the 101 or later, others run after every few frames of it."""
    first, last = (b"\x01\x00", b"\x80\x01x") if each[0] == 0 else (b"", frame(TEXT, b"x"))
    async with flooded(first + each * FLOOD + last, with_the_head=with_the_head) as (made, turns):
        assert await made.receive() == "x"
        assert turns.count >= FLOOD // 64  # less than one for each piece: in the first turns the dial itself runs


async def test_g12_a_message_of_empty_fragments_costs_the_link() -> None:
    """A message that grows without bytes ends the link, in words."""
    async with flooded(b"\x01\x00" + b"\x00\x00" * MOST_FRAGMENTS) as (made, _):
        assert await made.receive() == Closed(1006, f"a message of more than {MOST_FRAGMENTS} fragments")


async def test_g10_unread_messages_are_bounded_in_bytes() -> None:
    """A socket from which nobody receives stops reading before many long messages are in memory, and goes on later."""
    each, count = frame(TEXT, b"x" * 2**20), 12
    near, far = memory_stream_pair()

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        return near

    async def answer() -> None:
        await Peer(far).upgrade()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            async with Dialled(WebSocketDial("ws://h/", open_stream=open_stream))() as made:
                assert isinstance(made, WebSocket)
                await far.send_all(each * count)
                await wait_all_tasks_blocked()
                assert UNREAD_BYTES < made.unread <= UNREAD_BYTES + len(each)
                for _ in range(count):
                    assert len(await made.receive()) == 2**20  # type: ignore[arg-type]
                assert made.unread == 0
