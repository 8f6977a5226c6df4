"""One open link, over a socket whose both directions the test holds in its hands."""

import dataclasses
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from worker_state import announce
from worker_state.core import messages as m
from worker_state.core.config import Timing
from worker_state.core.pace import Deadlines
from worker_state.core.verdict import Cause, Closed, Sign
from worker_state.served import Served, _Turn

LEAVES = Closed(reason="the worker leaves", cause=Cause.DROPPED)


class Held:
    """What the server sends is put in, what it gets is listed; while `stuck` no frame goes out."""

    connected_at = 0.0

    def __init__(self) -> None:
        self.put, self._come = trio.open_memory_channel[str | bytes | Sign | Closed](math.inf)
        self.sent: list[str | bytes] = []
        self.flowing = trio.Event()
        self.flowing.set()
        self.over_at = math.inf

    async def _take(self, frame: str | bytes) -> None:
        await self.flowing.wait()
        self.sent.append(frame)

    async def send(self, text: str) -> None:
        await self._take(text)

    async def ping(self) -> None:
        await self._take("ping")

    async def pong(self, payload: bytes) -> None:
        await self._take(payload)

    async def close(self) -> None:
        await self._take("Close")

    async def receive(self) -> str | bytes | Sign | Closed:
        return await self._come.receive()

    async def abort(self) -> None:
        raise AssertionError("that is the connection actor's to do")


@asynccontextmanager
async def served(socket: Held) -> AsyncIterator[tuple[Served, m.Link]]:
    links: list[m.Link] = []

    def tell(note: m.Event) -> None:
        if isinstance(note, m.LinkOpened):
            links.append(note.link)

    async with trio.open_nursery() as nursery:
        link = Served(1, socket, nursery, Timing(), announce.Dials())

        async def pump() -> None:
            await link.pump(Deadlines(connect=1.0, acknowledge=1.0, register=60.0), tell)
            socket.over_at = trio.current_time()

        nursery.start_soon(pump)
        await wait_all_tasks_blocked()
        yield link, links[0]
        link.end(LEAVES)


def test_a_frame_that_waits_shows_no_secret() -> None:
    """The `repr` of what is to be sent names its type and not its text."""
    turn = _Turn("register", partial(Held().send, '{"type": "register", "token": "a1b2c3"}'))
    assert "register" in repr(turn)
    assert "a1b2c3" not in repr(turn)


async def test_a_ping_is_answered_behind_however_many_frames(autojump_clock: MockClock) -> None:
    """Its pong repeats the payload, and goes out although sixty frames came before it (FAULTS T8, T28)."""
    socket = Held()
    async with served(socket):
        for _ in range(60):
            socket.put.send_nowait('{"type": "ping"}')
        socket.put.send_nowait(Sign(ping=b"alive?"))
        await wait_all_tasks_blocked()
        assert socket.sent == [b"alive?"]


async def test_a_flood_of_pings_fills_nothing(autojump_clock: MockClock) -> None:
    """While a frame is stuck, only the latest ping keeps a pong waiting, behind what was there before it."""
    socket = Held()
    async with served(socket) as (link, _):
        socket.flowing = trio.Event()
        link.post({"type": "one"})
        await wait_all_tasks_blocked()
        link.post({"type": "two"})
        for number in range(1_000):
            socket.put.send_nowait(Sign(ping=str(number).encode()))
        await wait_all_tasks_blocked()
        socket.flowing.set()
        await wait_all_tasks_blocked()
    assert socket.sent == ['{"type":"one"}', '{"type":"two"}', b"999"]


async def test_a_ping_while_closing_gets_no_pong(autojump_clock: MockClock) -> None:
    """Nothing goes out behind our Close frame, and the answer to it ends the link (FAULTS T9)."""
    socket = Held()
    async with served(socket) as (link, _):
        link.close(LEAVES, 0.5)
        socket.put.send_nowait(Sign(ping=b"still there?"))
        await wait_all_tasks_blocked()
        link.post({"type": "late"})
        socket.put.send_nowait(Closed(1000))
        await wait_all_tasks_blocked()
        assert link.over == dataclasses.replace(LEAVES, code=1000)
        assert socket.over_at == 0.0
    assert socket.sent == ["Close"]


async def test_a_close_without_an_answer_is_bounded(autojump_clock: MockClock) -> None:
    """The link is over when its time for that is, although nobody has answered."""
    socket = Held()
    async with served(socket) as (link, _):
        link.close(LEAVES, 0.5)
        await trio.sleep(0.6)
        assert socket.over_at == 0.5
    assert socket.sent == ["Close"]
