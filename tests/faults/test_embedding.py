"""A worker inside a program of its own: what it is told stays said, what is raised leaves, and waiting ends."""

import logging
import math
import random
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.support.embedded import INTERRUPTED, PLACES, TOLD, Place, Wait, around_its_block
from tests.support.processes import environment
from tests.support.showing import showing
from tests.support.worlds import FakeWorld, World, scenario
from worker_state import Config, Manager, SignInFailed, State, Timing, open_state_manager, run_state_manager
from worker_state.background import open_background
from worker_state.devserver import DevServer, serve
from worker_state.manager import run_in_world
from worker_state.protocol.http_api import HttpAnswer, HttpFailure
from worker_state.protocol.status import Available, Busy, Maintenance, Reserved, Truth
from worker_state.testing import in_memory, on_sockets
from worker_state.tools.observer import open_roster
from worker_state.tools.roster import Roster
from worker_state.watched import Watched

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds after which a program hangs."""
EXIT = Timing(exit=0.4)
"""Long enough for a deadline to pass meanwhile."""

# G50: what the body raises leaves, as itself


@asynccontextmanager
async def a_manager(world: World, run: Callable[..., Awaitable[None]] | None = None) -> AsyncIterator[Manager]:
    """`open_state_manager`, or what it is made of around another task (`run`)."""
    config = world.config(timing=EXIT)
    async with open_state_manager(config) if run is None else open_background(partial(run, config)) as manager:
        yield manager


@asynccontextmanager
async def a_roster(world: World) -> AsyncIterator[Watched[Roster]]:
    """`open_roster` in this world."""
    async with open_roster(world.config(**world.kit.given_room(), timing=EXIT)) as rosters:
        yield rosters


Open = Callable[[World], AbstractAsyncContextManager[object]]
Ends = Callable[[], Awaitable[None]]
"""What a body awaits for its end to come."""
Program = Callable[[Callable[[Ends], Awaitable[None]]], Awaitable[None]]
"""What stands around a body, and how it makes it end."""


async def nobody(body: Callable[[Ends], Awaitable[None]]) -> None:
    await body(trio.lowlevel.checkpoint)


async def a_deadline(body: Callable[[Ends], Awaitable[None]]) -> None:
    with trio.move_on_after(math.inf) as scope:
        await body(lambda: expire(scope, 0.0))
    assert scope.cancelled_caught


async def a_deadline_that_fails(body: Callable[[Ends], Awaitable[None]]) -> None:
    with trio.fail_after(math.inf) as scope:
        await body(lambda: expire(scope, 0.0))


async def a_deadline_during_the_exit(body: Callable[[Ends], Awaitable[None]]) -> None:
    with trio.move_on_after(math.inf) as scope:
        await body(lambda: expire(scope, EXIT.exit / 4))
    assert scope.cancelled_caught


async def a_cancelled_nursery(body: Callable[[Ends], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(body, lambda: expire(nursery.cancel_scope, 0.0))


async def a_sibling_that_fails(body: Callable[[Ends], Awaitable[None]]) -> None:
    failing = trio.Event()

    async def fail() -> None:
        await failing.wait()
        raise ZeroDivisionError

    async def ends() -> None:
        failing.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        nursery.start_soon(body, ends)


async def expire(scope: trio.CancelScope, seconds: float) -> None:
    """Its deadline passes: now, for who waits for it, or later, and then nobody does."""
    scope.deadline = trio.current_time() + seconds
    if not seconds:
        await trio.sleep_forever()


CANCELS: dict[Program, type[Exception] | None] = {
    a_deadline: None,
    a_deadline_that_fails: trio.TooSlowError,
    a_cancelled_nursery: None,
    a_sibling_that_fails: ZeroDivisionError,
    a_deadline_during_the_exit: None,
}
"""What leaves a program whose body raises nothing of its own."""
ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: OSError("disk full"),
    lambda: AssertionError("of a test"),
    lambda: SystemExit(3),
    KeyboardInterrupt,
    GeneratorExit,
    StopAsyncIteration,
    lambda: ExceptionGroup("of a nursery", [OSError("disk full")]),
)


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """The errors in a tree of groups."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    elif error is not None:
        yield error


async def what_leaves(
    opened: AbstractAsyncContextManager[object], program: Program, raised: BaseException | None
) -> tuple[BaseException | None, BaseException | None]:
    """What leaves the block, and what leaves the program, when the body raises this in its `finally`."""
    block: BaseException | None = None

    async def body(ends: Ends) -> None:
        nonlocal block
        try:
            async with opened:
                try:
                    await ends()
                finally:
                    if raised is not None:
                        raise raised
        except BaseException as error:
            block = error
            raise

    try:
        await program(body)
    except BaseException as error:  # noqa: BLE001 - all of them are looked at
        return block, error
    return block, None


@pytest.mark.parametrize("kind", ["fake", "real"])
@pytest.mark.parametrize("opened", [a_manager, a_roster])
@pytest.mark.parametrize("program", [nobody, *CANCELS])
def test_g50_what_the_body_raises_leaves(
    kind: str, opened: Open, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends the block, what its body raises leaves it as the very same object, and the program with it."""

    @scenario
    async def each_error(world: World) -> None:
        if program is a_deadline_during_the_exit:
            world.hang_http("/delete-peer")
        for make in ERRORS:
            raised = make()
            block, outside = await what_leaves(opened(world), program, raised)
            assert block is raised
            others = {ZeroDivisionError} if program is a_sibling_that_fails else set()
            assert [error for error in leaves(outside) if type(error) not in others] == [*leaves(raised)]

    each_error(kind, caplog)


@pytest.mark.parametrize("kind", ["fake", "real"])
@pytest.mark.parametrize("opened", [a_manager, a_roster])
@pytest.mark.parametrize("program", CANCELS)
def test_g50_a_cancelled_body_is_cancelled(
    kind: str, opened: Open, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that is only cancelled leaves by `trio.Cancelled` alone, which its own scope catches, as ever."""

    @scenario
    async def cancelled(world: World) -> None:
        if program is a_deadline_during_the_exit:
            world.hang_http("/delete-peer")
        block, outside = await what_leaves(opened(world), program, None)
        assert {type(error) for error in leaves(block)} == {trio.Cancelled}
        assert [type(error) for error in leaves(outside)] == [error for error in (CANCELS[program],) if error]

    cancelled(kind, caplog)


@pytest.mark.parametrize("kind", ["fake", "real"])
@pytest.mark.parametrize("opened", [a_manager, a_roster])
def test_g50_a_group_with_a_cancel_inside(kind: str, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """A group with a cancel inside leaves the block as it is; the scope that was cancelled takes its part of it."""
    raised: list[BaseException] = []

    async def mixed(scope: trio.CancelScope) -> None:
        try:
            await expire(scope, 0.0)
        except trio.Cancelled as cancelled:
            raised.append(BaseExceptionGroup("of a nursery", [OSError("disk full"), cancelled]))
            raise raised[0] from None

    async def program(body: Callable[[Ends], Awaitable[None]]) -> None:
        with trio.move_on_after(math.inf) as scope:
            await body(partial(mixed, scope))

    @scenario
    async def leaving(world: World) -> None:
        block, outside = await what_leaves(opened(world), program, None)
        assert block is raised[0]
        assert isinstance(outside, ExceptionGroup)
        assert (outside.message, [type(error) for error in outside.exceptions]) == ("of a nursery", [OSError])

    leaving(kind, caplog)


@scenario
async def test_g50_a_failed_start_is_raised_on_entering(world: World) -> None:
    """`StartupFailed` leaves as itself, and the body is not entered."""
    world.fail_http("/anonymous-signin", 500, b"no")
    with pytest.raises(SignInFailed):
        async with a_manager(world):
            raise AssertionError("never entered")


class Broken:
    """A manager that ends with a bug of its own, when it is cancelled or when it is told so."""

    def __init__(self, world: World) -> None:
        self.bug = LookupError("a bug")
        self.breaks = trio.Event()
        self._world = world

    def __call__(self) -> AbstractAsyncContextManager[object]:
        return a_manager(self._world, self._run)

    async def _run(self, config: Config, *, task_status: "trio.TaskStatus[Manager]") -> None:
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(await nursery.start(self._world.run, config))
                await self.breaks.wait()
                nursery.cancel_scope.cancel()
        finally:
            raise self.bug

    async def ends(self) -> None:
        self.breaks.set()
        await trio.sleep_forever()

    async def program(self, body: Callable[[Ends], Awaitable[None]]) -> None:
        """In which it breaks while the body waits."""
        await body(self.ends)


@scenario
async def test_g50_a_manager_that_fails_alone(world: World) -> None:
    """A manager's bug leaves as itself, also beside a cancel; where it has cancelled the body, with its own context."""
    for program in (nobody, a_deadline):
        broken = Broken(world)
        block, _ = await what_leaves(broken(), program, None)
        assert block is broken.bug
    broken = Broken(world)
    broken.bug.__context__ = context = KeyError()
    block, _ = await what_leaves(broken(), broken.program, None)
    assert block is broken.bug
    assert block.__context__ is context


@scenario
async def test_g50_a_manager_that_fails_with_its_body(world: World) -> None:
    """When both fail, both leave in one group, the body's error first; no cancel is among them."""
    for program in (None, nobody, a_deadline, a_deadline_during_the_exit):
        for raised, group in ((OSError("disk full"), ExceptionGroup), (SystemExit(3), BaseExceptionGroup)):
            broken = Broken(world)
            block, _ = await what_leaves(broken(), program or broken.program, raised)
            assert type(block) is group
            assert block.exceptions == (raised, broken.bug)


@scenario
async def test_g50_a_manager_that_fails_under_a_group_of_its_body(world: World) -> None:
    """Of a body's group the cancel that the manager's bug has caused is taken out."""
    broken = Broken(world)
    with pytest.RaisesGroup(pytest.RaisesGroup(OSError), LookupError):
        async with broken():
            try:
                await broken.ends()
            except trio.Cancelled as cancelled:
                raise BaseExceptionGroup("of a nursery", [OSError("disk full"), cancelled]) from None


# G51: who waits beside a manager that ends is cancelled with it, and only who waits elsewhere is told


class CtrlC(logging.Handler):
    """Ctrl-C is pressed while the worker says that its connection is lost: it is raised in the middle of an actor."""

    def emit(self, record: logging.LogRecord) -> None:
        if "connection lost" in record.getMessage():
            raise KeyboardInterrupt


@asynccontextmanager
async def somebody_waits(world: World, place: Place) -> AsyncIterator[Manager]:
    """In this place somebody waits for everything that there is, and for nothing that comes."""
    async with place(partial(world.run, world.config())) as (manager, nursery):
        await manager.synced()
        world.mute()
        manager.set_busy("job-1")
        for wait in TOLD:
            nursery.start_soon(wait, manager)
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield manager


@pytest.mark.parametrize("kind", ["fake", "real"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_g51_ctrl_c_in_the_middle_of_the_manager(kind: str, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but the Ctrl-C leaves a program in which others wait beside the manager, or around it."""

    @scenario
    async def interrupted(world: World) -> None:
        logger, handler = logging.getLogger("worker_state"), CtrlC()
        seen: BaseException | None = None
        try:
            async with somebody_waits(world, place):
                logger.addHandler(handler)
                world.cut()
                await trio.sleep_forever()
        except BaseException as error:  # noqa: BLE001 - all that leaves is looked at
            seen = error
        finally:
            logger.removeHandler(handler)
        assert [type(error) for error in leaves(seen)] == [KeyboardInterrupt]

    for _ in range(8 if kind == "fake" else 1):  # the scheduler throws dice
        interrupted(kind, caplog)


@scenario
async def test_g51_an_error_of_the_body(world: World) -> None:
    """An error of the body is not added to by those who wait around its block."""
    with pytest.RaisesGroup(OSError):
        async with somebody_waits(world, around_its_block):
            raise OSError("disk full")


@scenario
async def test_g51_an_error_of_a_watcher(world: World) -> None:
    """The same for those who wait around a watched room."""
    with pytest.RaisesGroup(OSError):
        async with trio.open_nursery() as nursery, a_roster(world) as rosters:
            nursery.start_soon(rosters.wait_for, lambda _: False)
            await trio.testing.wait_all_tasks_blocked(0.01)
            raise OSError("disk full")


OURS = re.compile(r"/src/worker_state/(actors/|supervisor|net/)")


@scenario
async def test_g51_ctrl_c_strikes_in_no_task_of_ours(world: World) -> None:
    """Whatever the manager does, in its tasks and at a call, is left alone: Ctrl-C comes to the program's own code."""
    called: dict[str, bool] = {}
    is_ours = cache(lambda filename: OURS.search(filename) is not None)

    def look(frame: FrameType, kind: str, _: object) -> None:
        code = frame.f_code
        if kind == "call" and is_ours(code.co_filename):
            called.setdefault(code.co_qualname, True)
            called[code.co_qualname] &= trio.lowlevel.currently_ki_protected()

    sys.setprofile(look)
    try:
        manager = await world.start()
        await manager.synced()
        manager.set_busy("job-1")
        await manager.send_signal({"type": "offer", "target": "nobody"})
        world.cut()
        await manager.states.wait_for(lambda state: not state.connected)
        if isinstance(world, FakeWorld):
            await trio.sleep(7200)  # after which there are several identities to delete
        await manager.synced()
        await world.stop(manager)
    finally:
        sys.setprofile(None)
    assert {"ServedLink._write", "ApiCalls._call", "run_actor", "CleanupActor._delete"} <= set(called)
    assert [name for name, protected in called.items() if not protected] == []


async def interrupt(server: DevServer, place: str, moment: float) -> tuple[int | None, str]:
    """Press Ctrl-C so many seconds after a program is ready: its exit code, None if it hangs, and its stderr (where it
    hangs)."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.support.embedded", place]
    command += [server.ws_url, server.http_url]
    # Not under coverage: Ctrl-C inside its lock leaves that locked, and the program hangs.
    untraced = {name: value for name, value in environment().items() if not name.startswith("COVERAGE_")}
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=untraced
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said, code = b"", None
    try:
        with trio.move_on_after(PATIENCE):
            await process.stdout.receive_some()
            await trio.sleep(moment)
            process.send_signal(signal.SIGINT)
            async for part in process.stderr:
                said += part
            code = await process.wait()
        if code is None:
            process.send_signal(signal.SIGABRT)
            with trio.move_on_after(5.0):
                async for part in process.stderr:
                    said += part
    finally:
        process.kill()
    return code, said.decode()


@pytest.mark.parametrize("programs", [12, pytest.param(200, marks=pytest.mark.slow)])
async def test_g52_programs_end_quietly(programs: int) -> None:
    """Whenever Ctrl-C comes, a program under heavy traffic ends as its own handler says, and without a word.

    No task of ours may be struck, for that would be a `TrioInternalError`, and none may wait for ever.
    """
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    at_once = trio.CapacityLimiter(4)

    async def one(place: str, moment: float) -> None:
        async with at_once:
            code, said = await interrupt(server, place, moment)
        if code is None:
            end = "left behind"
        elif (code, said) == (INTERRUPTED, ""):
            end = "quiet"
        else:
            end = "TrioInternalError" if "TrioInternalError" in said else "other"
        ends[end] += 1
        if end != "quiet":
            wrong.append(f"{place}, {moment:.3f} s: {code}\n{said}")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        async with trio.open_nursery() as running:
            for _, place in zip(range(programs), cycle(PLACES), strict=False):
                running.start_soon(one, place, random.uniform(0.0, 0.3))
        nursery.cancel_scope.cancel()
    print(f"Ctrl-C in {programs} programs: {dict(ends)}")  # noqa: T201 - `pytest -rP` shows it
    assert not wrong, f"{len(wrong)} of {programs}, {dict(ends)}:\n" + "\n".join(wrong)


@scenario
async def test_g51_who_waits_elsewhere_is_told(world: World) -> None:
    """Those whom nothing cancels are told that the manager has ended, each in its way."""
    seen: dict[object, BaseException] = {}

    async def wait(waiting: Wait, manager: Manager) -> None:
        try:
            await waiting(manager)
        except Exception as error:  # noqa: BLE001 - all of them are looked at
            seen[waiting] = error

    manager = await world.start()
    await manager.synced()
    world.mute()
    manager.set_busy("job-1")
    async with trio.open_nursery() as nursery:
        for waiting in TOLD:
            nursery.start_soon(wait, waiting, manager)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await world.stop(manager)
    assert {waiting: type(error) for waiting, error in seen.items()} == TOLD


# G57: what was true before a `busy` block is true after it


@scenario
async def test_g57_a_job_ends_in_what_the_operator_has_set(world: World) -> None:
    """A worker in maintenance that does a job all the same is in maintenance again, for everybody."""
    manager = await world.start()
    manager.set_maintenance()
    with manager.busy("job-1"):
        await manager.synced()
        assert world.shown(manager) == ("busy", "job-1", None)
    await manager.synced()
    assert world.shown(manager) == ("maintenance", None, None)


@scenario
async def test_g57_a_reservation_is_kept_for_its_client(world: World) -> None:
    """A reservation outlasts another job's block, and is fulfilled by its own."""
    manager = await world.start()
    manager.set_reserved("job-2")
    with manager.busy("job-1"):
        pass
    await manager.synced()
    assert world.shown(manager) == ("reserved", None, "job-2")
    with manager.busy("job-2"):
        pass
    await manager.synced()
    assert world.shown(manager) == ("available", None, None)


def say(manager: Manager, truth: Truth) -> None:
    match truth:
        case Available():
            manager.set_available()
        case Maintenance():
            manager.set_maintenance()
        case Reserved(job_id):
            manager.set_reserved(job_id)
        case Busy(job_id):
            manager.set_busy(job_id)


@dataclass(eq=False)
class Said:
    """One statement: it holds for ever, or while its block lasts."""

    truth: Truth
    holds: bool = True


class Model:
    """What is true is what was said last of all that still holds."""

    def __init__(self) -> None:
        self.said: list[Said] = [Said(Available())]
        self.draining = False

    @property
    def truth(self) -> Truth:
        last = [each.truth for each in self.said if each.holds][-1]
        return Maintenance() if self.draining and last == Available() else last

    def say(self, truth: Truth) -> Said:
        self.said.append(Said(truth))
        return self.said[-1]

    def begin(self, job_id: str) -> Said:
        if self.truth == Reserved(job_id):
            self.say(Available())
        return self.say(Busy(job_id))


STATEMENTS: list[Truth] = [Available(), Maintenance(), Busy("plain"), Reserved("a"), Reserved("b")]
STEPS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from("abc")),
    st.tuples(st.just("end"), st.integers(0, 3)),
    st.tuples(st.just("say"), st.sampled_from(STATEMENTS)),
    st.tuples(st.just("drain"), st.none()),
)


@given(st.lists(STEPS, max_size=20))
def test_g57_blocks_and_statements_in_any_order(steps: list[tuple[str, object]]) -> None:
    """Whatever begins, ends and is said, in whatever order: the last thing said that still holds is true."""

    async def check() -> None:
        manager, model = showing(State()), Model()
        blocks: list[tuple[ExitStack, Said]] = []

        def tell(truth: Truth) -> None:
            say(manager, truth)
            if truth != model.truth:
                model.say(truth)

        for step in steps:
            match step:
                case "begin", str(job_id):
                    block = ExitStack()
                    block.enter_context(manager.busy(job_id))
                    blocks.append((block, model.begin(job_id)))
                case "end", int(number) if blocks:
                    block, said = blocks.pop(number % len(blocks))
                    block.close()
                    said.holds = False
                case "say", Available() | Maintenance() | Busy() as truth:
                    tell(truth)
                case "say", Reserved() as truth if not blocks:  # one inside a block is looked at below
                    tell(truth)
                case "drain", _:
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await manager.draining()
                    model.draining = True
                case _:
                    pass
            assert manager.state.truth == model.truth

    trio.run(check)


@pytest.mark.parametrize("last", ["job-1", "job-2"])
def test_g57_a_second_job_that_was_promised_during_the_first(last: str) -> None:
    """A worker that has promised a second job is busy until the last of both ends, and then available."""

    async def check() -> None:
        manager = showing(State())
        blocks = {job_id: ExitStack() for job_id in ("job-1", "job-2")}
        blocks["job-1"].enter_context(manager.busy("job-1"))
        manager.set_reserved("job-2")
        blocks["job-2"].enter_context(manager.busy("job-2"))
        (first,) = set(blocks) - {last}
        seen: list[Truth] = []
        for job_id in (first, last):
            blocks[job_id].close()
            seen.append(manager.state.truth)
        assert seen == [Busy(last), Available()]

    trio.run(check)


def test_g57_a_job_that_is_named_again() -> None:
    """What is said of a block's own job ends with the block, also under another one that has begun since."""

    async def check() -> None:
        manager, first = showing(State()), ExitStack()
        seen: list[Truth] = []
        with manager.busy("job-1"):
            manager.set_maintenance()
            manager.set_busy("job-1")
        seen.append(manager.state.truth)
        first.enter_context(manager.busy("job-1"))
        with manager.busy("job-2"):
            manager.set_busy("job-1")
            first.close()
            seen.append(manager.state.truth)
        seen.append(manager.state.truth)
        assert seen == [Available(), Busy("job-2"), Available()]

    trio.run(check)


@scenario
async def test_g56_another_loop(world: World) -> None:
    """A `trio.run` in another thread that waits on the manager is refused in words, and the worker goes on."""
    manager = await world.start()

    async def read_state() -> object:
        return await anext(aiter(manager.states))

    for wait in (
        manager.synced,
        manager.draining,
        partial(manager.wait_for, lambda state: state.status == "busy"),
        partial(manager.send_signal, {"type": "candidate"}),
        manager.signals.receive,
        read_state,
    ):
        with pytest.raises(RuntimeError, match="not in this thread"):
            await trio.to_thread.run_sync(trio.run, wait)
    await manager.synced()


class _Below(trio.abc.Clock):
    """Trio's own clock, a day below zero."""

    def __init__(self) -> None:
        self._clock = MockClock(autojump_threshold=0)

    def start_clock(self) -> None:
        self._clock.start_clock()

    def current_time(self) -> float:
        return self._clock.current_time() - 86400.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return self._clock.deadline_to_sleep_time(deadline + 86400.0)


def test_g58_a_clock_below_zero() -> None:
    """A program whose clock is below zero has a worker like any other."""

    async def life() -> None:
        with trio.fail_after(60):
            async with in_memory() as kit, open_state_manager(kit.config()) as manager:
                assert trio.current_time() < 0
                await manager.synced()

    trio.run(life, clock=_Below())


class _SlowLookup:
    """HTTP that never gets as far as sending: the name is looked up for ever."""

    async def post(self, path: str, **_: object) -> HttpAnswer | HttpFailure:
        await trio.sleep_forever()
        raise AssertionError


async def test_g58_a_cancel_during_the_look_up(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that is cancelled before its sign-in was sent ends at once, and nothing is said to be left."""
    async with in_memory() as kit:
        config = kit.config()
        with trio.move_on_after(5):
            await run_in_world(config, replace(kit.world(config), http=_SlowLookup()))
    assert trio.current_time() == pytest.approx(5.0, abs=0.01)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class _LookedUpLate(trio.abc.HostnameResolver):
    """A name server that answers when it is told to: everything is on this machine."""

    def __init__(self) -> None:
        self.asked, self.answer = trio.Event(), trio.Event()

    async def getaddrinfo(self, _: object, port: int, *__: object) -> list[Any]:  # type: ignore[override]
        self.asked.set()
        await self.answer.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise AssertionError


@pytest.mark.parametrize("sent", [False, True])
async def test_g58_a_cancel_during_the_look_up_over_sockets(sent: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A cancel ends a sign-in whose name is being looked up, and leaves one that was sent its time to be answered."""
    caplog.set_level(logging.ERROR, "worker_state")
    resolver = _LookedUpLate()
    async with on_sockets() as kit, trio.open_nursery() as nursery:
        trio.socket.set_custom_hostname_resolver(resolver)
        kit.hang_http("/anonymous-signin")
        http = kit.http_url.replace("127.0.0.1", "localhost")
        config = replace(kit.config(timing=Timing(exit=120.0)), http_url=http)
        ended = trio.Event()

        async def run() -> None:
            with scope:
                await run_state_manager(config)
            ended.set()

        scope = trio.CancelScope()
        nursery.start_soon(run)
        with trio.fail_after(30):
            await resolver.asked.wait()
            if sent:
                resolver.answer.set()
                while not kit.server._released["/anonymous-signin"].statistics().tasks_waiting:
                    await trio.sleep(0.01)
            scope.cancel()
            if sent:
                await trio.sleep(0.1)
                assert not ended.is_set()
                kit.release_http()
            await ended.wait()
        assert not kit.rooms.users
    assert not caplog.records
