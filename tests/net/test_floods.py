"""Floods of tiny frames (faults.md, G12): others run between them, and a message cannot grow without bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

from tests.support.dialled import Dialled
from tests.support.peers import PING, PONG, TEXT, Peer, frame, switching
from worker_state.net.dial import WebSocketDial
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Closed, DialFailure
from worker_state.protocol.frame_pieces import AT_ONCE, MOST_FRAGMENTS

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
        assert turns.count >= FLOOD // AT_ONCE / 2  # half of them: in the first turns the dial itself runs


async def test_g12_a_message_of_empty_fragments_costs_the_link() -> None:
    """A message that grows without bytes ends the link, in words."""
    async with flooded(b"\x01\x00" + b"\x00\x00" * MOST_FRAGMENTS) as (made, _):
        assert await made.receive() == Closed(1006, f"a message of more than {MOST_FRAGMENTS} fragments")
