"""The mailbox: everything in order, nothing lost when the reader is cancelled, nobody waits."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from worker_state.mailbox import Mailbox


async def test_all_notes_come_in_order() -> None:
    """What was put in is taken at once, the oldest first, and once only."""
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.put(2)
    assert len(mailbox) == 2
    await mailbox.filled()
    assert mailbox.take() == [1, 2]
    assert len(mailbox) == 0
    assert mailbox.take() == []


async def test_a_reader_is_woken_by_the_first_note(nursery: trio.Nursery) -> None:
    """Who waits at an empty mailbox goes on with all that was put in before it runs again."""
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int] = []

    async def read() -> None:
        while len(taken) < 3:
            await mailbox.filled()
            taken.extend(mailbox.take())

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    assert repr(mailbox) == "<Mailbox of 0, read>"
    mailbox.put(1)
    mailbox.put(2)
    assert repr(mailbox) == "<Mailbox of 2>"
    await wait_all_tasks_blocked()
    assert taken == [1, 2]
    mailbox.put(3)


async def test_a_reader_that_gives_up_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """After a deadline has cut the waiting short, the next note wakes nobody and is there for the next reading."""
    mailbox: Mailbox[int] = Mailbox()
    with trio.move_on_after(1) as scope:
        await mailbox.filled()
    assert scope.cancelled_caught
    mailbox.put(1)
    await mailbox.filled()
    assert mailbox.take() == [1]


async def test_waiting_is_cancelled_at_once() -> None:
    """In a scope that is cancelled already an empty mailbox is not waited at."""
    mailbox: Mailbox[int] = Mailbox()
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.filled()
        pytest.fail("the cancel was not delivered")  # pragma: no cover
    assert scope.cancelled_caught
