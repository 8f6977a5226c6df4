"""A watched value: the present one first, then the newest, whoever is slow, late, gone or cancelled."""

import gc

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from worker_state.watched import Watched


async def collect(watched: Watched[int], into: list[int]) -> None:
    async for value in watched:
        into.append(value)  # noqa: PERF401 - what is seen matters while it goes on


async def test_present_value_first(autojump_clock: MockClock) -> None:
    """An iteration begins with the present value, although nobody has set one since."""
    watched = Watched(7)
    with trio.fail_after(1):
        async for value in watched:
            assert value == 7
            break


async def test_each_newer_value(nursery: trio.Nursery) -> None:
    """A watcher that keeps up sees every value in order, and ends when the value is closed."""
    watched, seen = Watched(0), list[int]()
    nursery.start_soon(collect, watched, seen)
    for value in (1, 2, 3):
        await wait_all_tasks_blocked()
        watched.set(value)
    await wait_all_tasks_blocked()
    assert seen == [0, 1, 2, 3]


async def test_slow_watcher() -> None:
    """A slow watcher misses what came in between and gets the newest."""
    watched = Watched(0)
    watching = aiter(watched)
    assert await anext(watching) == 0
    for value in (1, 2, 3):
        watched.set(value)
    assert await anext(watching) == 3


async def test_change_back_and_forth(autojump_clock: MockClock) -> None:
    """A watcher that slept through a change and its undoing is shown the value again rather than left asleep."""
    watched = Watched(0)
    watching = aiter(watched)
    await anext(watching)
    watched.set(1)
    watched.set(0)
    with trio.fail_after(1):
        assert await anext(watching) == 0


async def test_nothing_new(autojump_clock: MockClock) -> None:
    """An iteration waits as long as the value has not changed."""
    watched = Watched(0)
    watching = aiter(watched)
    await anext(watching)
    with trio.move_on_after(100) as scope:
        await anext(watching)
    assert scope.cancelled_caught


async def test_equal_value_wakes_nobody(nursery: trio.Nursery) -> None:
    """Setting what is there already wakes nobody."""
    watched, seen = Watched(0), list[int]()
    nursery.start_soon(collect, watched, seen)
    await wait_all_tasks_blocked()
    watched.set(0)
    await wait_all_tasks_blocked()
    assert seen == [0]
    nursery.cancel_scope.cancel()


async def test_several_watchers(nursery: trio.Nursery) -> None:
    """Watchers do not take values from each other."""
    watched, one, other = Watched(0), list[int](), list[int]()
    nursery.start_soon(collect, watched, one)
    nursery.start_soon(collect, watched, other)
    await wait_all_tasks_blocked()
    watched.set(1)
    await wait_all_tasks_blocked()
    assert one == other == [0, 1]
    nursery.cancel_scope.cancel()


async def test_close_ends_iterations(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Closing ends every iteration, the newest value delivered first to whoever has not seen it."""
    watched, seen = Watched(0), list[int]()
    late = aiter(watched)
    with trio.fail_after(1):
        async with trio.open_nursery() as watchers:
            watchers.start_soon(collect, watched, seen)
            await wait_all_tasks_blocked()
            watched.set(1)
            watched.close()
        assert seen == [0, 1]
        assert [value async for value in late] == [1]


async def test_iteration_of_a_closed_value(autojump_clock: MockClock) -> None:
    """An iteration that begins after the close gives the last value once and ends."""
    watched = Watched(0)
    watched.set(5)
    watched.close()
    watched.close()
    with trio.fail_after(1):
        assert [value async for value in watched] == [5]
    assert watched.value == 5


async def test_iteration_dropped_half_way() -> None:
    """An iteration that is left by break leaves nothing behind: no warning, and others go on."""
    watched = Watched(0)
    async for _ in watched:
        break
    gc.collect()
    watched.set(1)
    async for value in watched:
        assert value == 1
        break


async def test_cancelled_iteration(autojump_clock: MockClock) -> None:
    """A cancelled iteration can be taken up again and has lost nothing."""
    watched = Watched(0)
    watching = aiter(watched)
    await anext(watching)
    with trio.move_on_after(1):
        await anext(watching)
    watched.set(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(watching)
    assert scope.cancelled_caught
    assert await anext(watching) == 1


async def test_wait_for_what_is(autojump_clock: MockClock) -> None:
    """Waiting for what is true already returns the value at once, also after the close."""
    watched = Watched(3)
    with trio.fail_after(1):
        assert await watched.wait_for(lambda value: value == 3) == 3
        watched.close()
        assert await watched.wait_for(lambda value: value == 3) == 3


async def test_wait_for_what_becomes(nursery: trio.Nursery) -> None:
    """Waiting goes on through values that are not wanted and returns the first that is."""
    watched, found = Watched(0), list[int]()

    async def wait() -> None:
        found.append(await watched.wait_for(lambda value: value > 1))

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    watched.set(1)
    await wait_all_tasks_blocked()
    assert found == []
    watched.set(2)
    await wait_all_tasks_blocked()
    assert found == [2]


async def test_wait_for_sees_no_moment(autojump_clock: MockClock) -> None:
    """Waiting is for what is, not for what was for a moment: a change undone at once is missed."""
    watched = Watched(0)
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.wait_for, bool)
            await wait_all_tasks_blocked()
            watched.set(1)
            watched.set(0)
    assert scope.cancelled_caught


async def test_wait_for_what_will_never_be(autojump_clock: MockClock) -> None:
    """Waiting for what is not so raises when nobody sets the value any more, whether it began before or after that."""
    watched = Watched(0)
    with trio.fail_after(1):
        with pytest.RaisesGroup(trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watched.wait_for, bool)
                await wait_all_tasks_blocked()
                watched.close()
        with pytest.raises(trio.ClosedResourceError, match="nobody sets this value"):
            await watched.wait_for(bool)


async def test_last_value_before_the_close(autojump_clock: MockClock) -> None:
    """A wait that the last value satisfies returns although the close follows at once."""
    watched = Watched(0)
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.wait_for, bool)
            await wait_all_tasks_blocked()
            watched.set(1)
            watched.close()


async def test_wait_for_can_be_cancelled() -> None:
    """A cancelled wait raises only Cancelled, also when what it waits for is true."""
    watched = Watched(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await watched.wait_for(bool)
    assert scope.cancelled_caught


async def test_condition_that_raises() -> None:
    """What the condition raises reaches whoever waits with it, and nobody else."""
    watched = Watched(0)
    with pytest.raises(ZeroDivisionError):
        await watched.wait_for(lambda value: bool(1 // value))
    watched.set(1)


async def test_set_while_watching(autojump_clock: MockClock) -> None:
    """A watcher that sets the value itself is shown what it has set."""
    watched, seen = Watched(0), list[int]()
    with trio.fail_after(1):
        async for value in watched:
            seen.append(value)
            if value == 2:
                watched.close()
            else:
                watched.set(value + 1)
    assert seen == [0, 1, 2]


async def test_value_at_once() -> None:
    """What was set can be read at once, without a wait."""
    watched = Watched("a")
    watched.set("b")
    assert watched.value == "b"


async def test_repr() -> None:
    """The repr shows the value, and whether anybody sets it still."""
    watched = Watched(3)
    assert repr(watched) == "<Watched 3>"
    watched.close()
    assert repr(watched) == "<Watched closed 3>"


async def test_a_loop_of_waits_lets_others_run() -> None:
    """Waiting for what is so already is a checkpoint, too: a loop around it does not stop the world."""
    watched = Watched(1)
    ran = False

    async def other() -> None:
        nonlocal ran
        ran = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await watched.wait_for(lambda value: value == 1)
        await watched.wait_for(lambda value: value == 1)
        assert ran
