"""A worker inside a program of its own: what it is told stays said, what is raised leaves, and waiting ends."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.worlds import World, scenario
from worker_state import Manager, State
from worker_state.core import messages as m
from worker_state.core.counts import Counts
from worker_state.core.state import fold
from worker_state.core.status import Available, Busy, Maintenance, Reserved, Truth
from worker_state.watched import Watched

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


def offline() -> Manager:
    """A manager whose notes reach the snapshot and nobody else."""
    states = Watched(State())

    def tell(note: m.Note) -> None:
        states.set(fold(states.value, note, 0.0))

    def unused() -> Any:
        raise NotImplementedError

    return Manager(tell, states, unused, unused, unused, Counts())


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
        manager, model = offline(), Model()
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
        manager = offline()
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
        manager, first = offline(), ExitStack()
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
