"""The farewell: what tells a worker that leaves that its last signals have arrived, and what does not."""

import math
from functools import partial
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from worker_state import farewell
from worker_state.actors import status
from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.core.config import Config
from worker_state.core.status import Available

RECORD = wire.metadata(("tag",), {}, Available())
STORED = m.FrameReceived(1, wire.MetadataStored("me", RECORD))


class Leaving:
    """A farewell under way."""

    def __init__(self, nursery: trio.Nursery, record: wire.Message | None = None, earlier: int = 0) -> None:
        self.inbox, receive = trio.open_memory_channel[m.Note](math.inf)
        self.posted: list[wire.Message] = []
        self.over = False
        link = m.Link(1, 0.0, self._post, self._send)
        self._heard = partial(farewell.heard, [], receive, link, "me", "nonce", record, earlier)
        nursery.start_soon(self._run)

    async def put(self, note: m.Note) -> bool:
        """Whether it is over with this note."""
        await wait_all_tasks_blocked()
        self.inbox.send_nowait(note)
        await wait_all_tasks_blocked()
        return self.over

    async def _run(self) -> None:
        await self._heard()
        self.over = True

    def _post(self, message: wire.Message) -> bool:
        self.posted.append(message)
        return True

    async def _send(self, kind: str, text: str) -> bool:
        raise AssertionError("nobody waits here")


async def test_only_our_echo_tells(nursery: trio.Nursery) -> None:
    """Neither an update's answer nor an older echo says that the last signals have arrived; our own echo does."""
    leaving = Leaving(nursery)
    assert not await leaving.put(STORED)
    assert not await leaving.put(m.FrameReceived(1, wire.Echo("me", "older")))
    assert await leaving.put(m.FrameReceived(1, wire.Echo("me", "nonce")))
    assert leaving.posted == [wire.echo("me", "nonce")]


async def test_looks_are_answered_in_their_order(nursery: trio.Nursery) -> None:
    """Where echoes are refused, the answers to updates that are under way come before that of our look."""
    leaving = Leaving(nursery, RECORD, earlier=1)
    assert not await leaving.put(STORED)
    assert await leaving.put(STORED)
    assert leaving.posted == [wire.look("me", RECORD)]


@pytest.mark.parametrize("note", [m.CloseLink(0.5), m.FrameReceived(1, wire.NotInRoom("NOT_IN_ROOM"))])
async def test_no_answer_can_come(note: m.Note, nursery: trio.Nursery) -> None:
    """It is over when the time is, or when the server does not know us."""
    assert await Leaving(nursery).put(note)


async def test_no_deadline_cuts_it_short(autojump_clock: MockClock) -> None:
    """A deadline of the caller's that passes meanwhile changes nothing: whoever is cut short here has heard of the
    leave already, and would never end."""
    with trio.CancelScope(deadline=trio.current_time() + 1) as scope:
        async with trio.open_nursery() as nursery:
            leaving = Leaving(nursery)
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
                assert await leaving.put(m.CloseLink(0.5))
    assert leaving.over
    assert scope.cancel_called


async def test_the_end_that_comes_together_with_the_leave(nursery: trio.Nursery) -> None:
    """Who is told in one breath that the worker leaves and that its time is over (something has blocked the loop for
    long) ends, although its last signals may not have arrived."""

    async def unsent(kind: str, text: str) -> bool:
        raise AssertionError("nobody waits here")

    async def run() -> None:
        random, said = Random(1), list[m.Note]()
        config = Config("ws://127.0.0.1", "http://127.0.0.1")
        awake = trio.current_time
        await status.run(receive, config=config, random=random, nonce=lambda: "n", awake=awake, tell=said.append)
        ended.set()

    ended = trio.Event()
    inbox, receive = trio.open_memory_channel[m.Note](math.inf)
    now = trio.current_time()
    inbox.send_nowait(m.LinkOpened(m.Link(1, 0.0, lambda message: True, unsent)))
    inbox.send_nowait(m.WorkerRegistered(1, 0, "me", "room", "token", peers=0, settled=True, at=now))
    inbox.send_nowait(m.SignalSent(1, now))
    inbox.send_nowait(m.BeginLeave())
    inbox.send_nowait(m.CloseLink(0.5))
    nursery.start_soon(run)
    await wait_all_tasks_blocked()
    in_time = ended.is_set()
    inbox.send_nowait(m.CloseLink(0.5))  # so that this test ends in any case
    assert in_time
