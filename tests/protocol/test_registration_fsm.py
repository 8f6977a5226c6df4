"""The registration's state machine: the table is the whole truth about it, and the picture is drawn from it."""

from itertools import product

import pytest

from worker_state.protocol.registration_fsm import TABLE, IllegalStep, Phase, Step, after

LEGAL = {
    ("offline", "link opened", "unregistered"),
    ("offline", "leave begun", "leaving"),
    ("unregistered", "register sent", "registering"),
    ("unregistered", "accepted", "registered"),
    ("unregistered", "link lost", "offline"),
    ("unregistered", "leave begun", "leaving"),
    ("registering", "accepted", "registered"),
    ("registering", "refused", "unregistered"),
    ("registering", "swallowed", "unregistered"),
    ("registering", "link lost", "offline"),
    ("registering", "leave begun", "leaving"),
    ("registered", "register sent", "registering"),
    ("registered", "forgotten", "unregistered"),
    ("registered", "link lost", "offline"),
    ("registered", "leave begun", "leaving"),
}
PAIRS = list(product(Phase, Step))


@pytest.mark.parametrize(("phase", "step"), PAIRS)
def test_every_pair(phase: Phase, step: Step) -> None:
    """A pair either leads to the phase that this file names, or raises and leaves the table as it was."""
    following = [then for a_phase, a_step, then in LEGAL if (a_phase, a_step) == (phase, step)]
    if following:
        assert [after(phase, step)] == following
    else:
        before = dict(TABLE)
        with pytest.raises(IllegalStep, match=f"^'{step}' cannot happen while {phase}$"):
            after(phase, step)
        assert before == TABLE


def test_reachable() -> None:
    """Every phase can be reached from the first one."""
    reached = {Phase.OFFLINE}
    while more := {then for (phase, _), then in TABLE.items() if phase in reached} - reached:
        reached |= more
    assert reached == set(Phase)


def test_every_step_is_used() -> None:
    """Every step can happen in some phase."""
    assert {step for _, step in TABLE} == set(Step)


def test_no_way_out_of_leaving() -> None:
    """Once leaving has begun, no step leads anywhere: nothing registers any more."""
    assert not any(phase is Phase.LEAVING for phase, _ in TABLE)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.LEAVING])
def test_leaving_from_everywhere(phase: Phase) -> None:
    """The worker may leave in any phase."""
    assert after(phase, Step.LEAVE_BEGUN) is Phase.LEAVING


def test_registered_only_by_acceptance() -> None:
    """Nothing but the server's acceptance makes a worker registered, also when it comes behind an error."""
    pairs = {pair for pair, then in TABLE.items() if then is Phase.REGISTERED}
    assert pairs == {(Phase.REGISTERING, Step.ACCEPTED), (Phase.UNREGISTERED, Step.ACCEPTED)}
