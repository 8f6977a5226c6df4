"""When to dial again: never at once, never often, soon when it helps, and spread evenly when everybody comes."""

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.protocol.error_policy import Cause
from worker_state.protocol.reconnect import Deadlines, ReconnectParameters, ReconnectPolicy

P = ReconnectParameters()
SEEDS = range(200)
AWAY = [Cause.REFUSED, Cause.UNREACHABLE]
FULL = [Cause.NO_ANSWER, Cause.UNACKNOWLEDGED]
BUSY = [each for each in Cause if each not in (*AWAY, *FULL)]
LONGEST = max(P.hint_most, P.busy_most)


def registered(seed: int = 1, since: float = 0.0, parameters: ReconnectParameters | None = None) -> ReconnectPolicy:
    """A pace whose worker has been registered since then."""
    pace = ReconnectPolicy(Random(seed), parameters)
    pace.dialling(since)
    pace.answered(since)
    return pace


def dial(pace: ReconnectPolicy, now: float, cause: Cause, hint: float | None = None, after: float = 0.0) -> float:
    """A dial that begins now and ends so many seconds later; when the next one begins."""
    pace.dialling(now)
    return now + after + pace.failed(now + after, cause, hint)


def dials(pace: ReconnectPolicy, now: float, cause: Cause, until: float, after: float = 0.0) -> list[float]:
    """When the dials begin that all fail alike."""
    times = []
    while now < until:
        times.append(now)
        now = dial(pace, now, cause, after=after)
    return times


# --- whatever happens -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One dial, and what became of it."""

    lasts: float
    cause: Cause
    hint: float | None
    outcome: str
    held: float
    code: int


turns = st.lists(
    st.builds(
        Turn,
        lasts=st.sampled_from([0.0, 0.001, 0.4, 12.0, 240.0]),
        cause=st.sampled_from(Cause),
        hint=st.none() | st.sampled_from([0.0, 1.0, 30.0, 1e4, -1.0, math.nan, math.inf, -math.inf]),
        outcome=st.sampled_from(["failed", "failed", "failed", "lost", "moved", "closed at once"]),
        held=st.sampled_from([0.0, 1.0, 29.9, 30.0, 3600.0]),
        code=st.sampled_from([1000, 1001, 1006, 1012, 1013]),
    ),
    min_size=1,
    max_size=120,
)


def live(pace: ReconnectPolicy, history: list[Turn], now: float) -> tuple[list[float], list[float]]:
    """Let it all happen, one dial after the other; when the dials began, and the pauses before the next."""
    times, pauses = [], []
    for turn in history:
        times.append(now)
        pace.dialling(now)
        now += turn.lasts
        if turn.outcome == "failed":
            pause = pace.failed(now, turn.cause, turn.hint)
        elif turn.outcome == "closed at once":
            pause = pace.lost(now, turn.cause, turn.code, turn.hint)
        else:
            pace.answered(now)
            pace.proved(now)
            now += turn.held
            pause = pace.moved(now) if turn.outcome == "moved" else pace.lost(now, turn.cause, turn.code, turn.hint)
        pauses.append(pause)
        now += pause
    return times, pauses


@given(seed=st.integers(), history=turns, begin=st.sampled_from([-1e6, 0.0, 1e6]))
def test_bounds(seed: int, history: list[Turn], begin: float) -> None:
    """No pause is shorter than 0.05 s or longer than five minutes, and none is no number."""
    _, pauses = live(ReconnectPolicy(Random(seed)), history, begin)
    assert all(P.shortest <= pause <= LONGEST for pause in pauses)


@given(seed=st.integers(), history=turns)
def test_polite(seed: int, history: list[Turn]) -> None:
    """There are at most 20 dials in any minute, whatever the server and the worker do."""
    times, _ = live(ReconnectPolicy(Random(seed)), history, 0.0)
    assert all(later - earlier > 60 - 1e-6 for earlier, later in zip(times, times[P.most :], strict=False))


@given(seed=st.integers(), history=turns)
def test_same_seed(seed: int, history: list[Turn]) -> None:
    """The same seed and the same history give the same pauses, so that a simulation can be repeated."""
    assert live(ReconnectPolicy(Random(seed)), history, 0.0) == live(ReconnectPolicy(Random(seed)), history, 0.0)


@pytest.mark.parametrize("cause", Cause)
def test_for_a_month(cause: Cause) -> None:
    """Trouble that lasts for a month is asked about at least every 75 s, and nothing overflows."""
    pace, now = ReconnectPolicy(Random(1)), 0.0
    for _ in range(2_000):
        now, before = dial(pace, now, cause, after=1_200.0), now
        assert now - before <= 1_200 + P.busy_most


def test_two_seeds() -> None:
    """Two workers with different seeds do not dial together."""
    one, other = (dials(ReconnectPolicy(Random(seed)), 0.0, Cause.SHED, 3_600.0) for seed in (1, 2))
    assert set(one) & set(other) == {0.0}


# --- one worker, and a server that is fine ----------------------------------------------------------------------------


def test_blip() -> None:
    """After a link that had lived, the first dial comes within 0.3 s, spread over all of it."""
    drawn = sorted(registered(seed).lost(30.0, Cause.SILENT) for seed in SEEDS)
    assert drawn[-1] <= P.blip
    assert drawn[0] < 0.06
    assert drawn[-1] > 0.28
    assert drawn[len(drawn) // 2] < 0.2


@pytest.mark.parametrize("code", [1001, 1012, 1013])
def test_told(code: int) -> None:
    """When the server has said to everybody that it goes, the first dials are spread over five seconds."""
    drawn = [registered(seed).lost(100.0, code=code) for seed in SEEDS]
    assert max(drawn) <= P.announced
    assert max(drawn) - min(drawn) > 0.9 * P.announced


def test_lost_syn() -> None:
    """The first dial after a blip waits 0.4 s for its SYN-ACK and is repeated at once, once."""
    pace = registered()
    pace.lost(100.0)
    assert pace.dialling(100.2).connect == P.connect_first
    assert pace.failed(100.6, Cause.NO_ANSWER) == P.shortest
    assert pace.dialling(100.65).connect == P.connect
    assert pace.failed(100.65 + P.connect, Cause.NO_ANSWER) > P.shortest


def test_first_start() -> None:
    """The very first dial has all the time: nobody misses this worker yet."""
    assert ReconnectPolicy(Random(1)).dialling(0.0).connect == P.connect


def test_moved() -> None:
    """A link that we left for another is followed by a quick dial, and what failed before is not forgotten."""
    pace = ReconnectPolicy(Random(1))
    for now in (0.0, 100.0, 300.0):
        dial(pace, now, Cause.CLOSED)
    before = repr(pace)
    assert pace.moved(500.0) <= P.blip
    assert repr(pace) == before


# --- nobody there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", AWAY)
@pytest.mark.parametrize(("outage", "within"), [(1.0, 1.0), (5.0, 5.0), (20.0, 12.0), (60.0, 12.0), (600.0, 12.0)])
def test_found_again(cause: Cause, outage: float, within: float) -> None:
    """A server that was away is found again within as long again, and within 12 s however long it was; the many come
    spread over that time, for what a full queue can take in depends on it."""
    after = sorted(first_dial_after(registered(seed), outage, cause) for seed in SEEDS)
    assert after[-1] <= within
    assert after[len(after) * 9 // 10] >= 0.6 * within
    assert after[len(after) // 2] <= 0.5 * within


def first_dial_after(pace: ReconnectPolicy, outage: float, cause: Cause) -> float:
    """How long after the end of an outage that began at 100 s the next dial comes."""
    now = 100.0 + pace.lost(100.0)
    while now < 100 + outage:
        now = dial(pace, now, cause)
    return now - 100 - outage


# --- somebody there who cannot serve ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cause", "most"), [*((each, P.full_most) for each in FULL), (Cause.SHED, P.busy_most)])
def test_growth(cause: Cause, most: float) -> None:
    """Each dial comes when two fifths of the time have passed again, up to the longest pause."""
    times = dials(ReconnectPolicy(Random(3)), 0.0, cause, 3_600.0)
    assert 0 < times[1] <= max(P.window, P.connect)
    for earlier, later in pairwise(times[2:]):
        assert later - earlier == pytest.approx((P.growth - 1) * earlier) or 0.8 * most <= later - earlier <= most
    assert times[-1] - times[-2] >= 0.8 * most


def test_even() -> None:
    """In every window that ends at 1.4 times its beginning each worker dials once, and all are evenly spread."""
    windows = [(P.window * P.growth**k, P.window * P.growth ** (k + 1)) for k in range(6)]
    everybody = [dials(ReconnectPolicy(Random(seed)), 0.0, Cause.SHED, 60.0) for seed in range(1_000)]
    for begin, end in windows:
        inside = [[math.log(t / begin, P.growth) for t in times if begin <= t < end] for times in everybody]
        assert all(len(places) <= 1 for places in inside)
        places = sorted(place for each in inside for place in each)
        assert len(places) >= 990
        assert all(abs(place - n / len(places)) < 0.06 for n, place in enumerate(places))


def test_long_dial() -> None:
    """A dial that took longer than its window is followed in the next one, at the same place."""
    pace = ReconnectPolicy(Random(1))
    second = dial(pace, 0.0, Cause.NO_ANSWER, after=P.connect)
    third = dial(pace, second, Cause.NO_ANSWER, after=P.connect)
    assert P.connect < second <= P.connect * 1.05 * P.growth
    rows = [math.log(each / P.connect, P.growth) for each in (second, third)]
    assert rows[1] - rows[0] == pytest.approx(round(rows[1] - rows[0]))


def test_wide_window() -> None:
    """After a long absence everybody comes back over twelve seconds, and the first window is not shorter than that."""
    pace = registered()
    now = max(dials(pace, 100.0 + pace.lost(100.0), Cause.REFUSED, 400.0))
    spread = [dial(ReconnectPolicy(Random(seed)), 0.0, Cause.SHED) for seed in SEEDS]
    assert max(spread) < P.window + 0.1
    times = dials(pace, now + 10, Cause.SHED, now + 100)
    assert times[2] - times[0] > P.poll_most


def test_refusal_forgets() -> None:
    """A refusal ends the overload: the server has gone, and what comes back will be another one."""
    pace = ReconnectPolicy(Random(1))
    now = max(dials(pace, 0.0, Cause.SHED, 1_000.0))
    now = dial(pace, now, Cause.REFUSED)
    assert dial(pace, now, Cause.SHED) - now <= P.poll_most * P.growth


def test_unreachable_forgets_nothing() -> None:
    """A network that is gone for a moment says nothing about the server."""
    pace = ReconnectPolicy(Random(1))
    now = max(dials(pace, 0.0, Cause.SHED, 1_000.0))
    now = dial(pace, now, Cause.UNREACHABLE)
    assert dial(pace, now, Cause.SHED) - now >= 0.8 * P.busy_most


def test_accept_then_close() -> None:
    """A server that accepts and closes at once is not hammered: an hour of it is some two hundred links."""
    pace, now, links = registered(), 100.0, 0
    now += pace.lost(now)
    while now < 3_700:
        pace.dialling(now)
        now += 0.01 + pace.lost(now + 0.01)
        links += 1
    assert 180 <= links <= 240


@pytest.mark.parametrize("held", [0.0, 0.1, 29.9])
def test_short_link(held: float) -> None:
    """A registration that was answered and lost within 30 s never came back: the pauses go on growing."""
    pace = ReconnectPolicy(Random(1))
    now = max(dials(pace, 0.0, Cause.CLOSED, 600.0)) + 1.0
    pace.dialling(now)
    pace.answered(now)
    pace.answered(now + held)
    assert pace.lost(now + held) >= 0.8 * P.full_most


@pytest.mark.parametrize(
    ("cause", "held", "least", "most"),
    [
        (Cause.CLOSED, 5.0, 0.8 * (P.full_most - 5), P.full_most - 5),
        (Cause.REJECTED, 50.0, 0.8 * (P.busy_most - 50), P.busy_most - 50),
        (Cause.CLOSED, 60.0, P.shortest, P.announced),
        (Cause.UNANSWERED, 240.0, P.shortest, P.announced),
    ],
)
def test_held_in_vain(cause: Cause, held: float, least: float, most: float) -> None:
    """Who was held without an answer has paused for it, and comes back within five seconds after a long time."""
    drawn = []
    for seed in SEEDS:
        pace = ReconnectPolicy(Random(seed))
        now = max(dials(pace, 0.0, Cause.CLOSED, 1_000.0)) + P.busy_most
        drawn.append(dial(pace, now, cause, after=held) - now - held)
    assert least - 1e-6 <= min(drawn)
    assert max(drawn) <= most + 1e-6
    assert max(drawn) - min(drawn) > 0.15 * most


def test_held_drift_apart() -> None:
    """Who is held for a minute again and again pauses for as long each time, everybody for another while: after ten
    minutes those who began together are spread evenly over most of the minute."""
    begun = [dials(ReconnectPolicy(Random(seed)), 0.0, Cause.CLOSED, 600.0, after=60.0) for seed in SEEDS]
    for times in begun:
        pauses = [later - earlier - 60 for earlier, later in pairwise(times)]
        assert max(pauses) - min(pauses) < 1e-6
    tenth = sorted(times[9] for times in begun)
    quarters = [tenth[len(tenth) * n // 4] for n in range(4)] + [tenth[-1]]
    assert tenth[-1] - tenth[0] > 42
    assert all(8 < later - earlier < 15 for earlier, later in pairwise(quarters))


def test_held_when_full() -> None:
    """A dial that a full kernel has dropped is no pause: it holds nothing of ours, and is followed by a whole one."""
    pace = ReconnectPolicy(Random(1))
    now = max(dials(pace, 0.0, Cause.NO_ANSWER, 1_000.0)) + P.full_most
    assert dial(pace, now, Cause.NO_ANSWER, after=P.connect) - now - P.connect >= 0.8 * P.full_most


@pytest.mark.parametrize("cause", [*FULL, Cause.SHED])
def test_back_behind_a_front(cause: Cause) -> None:
    """When a front that had closed for long says that it is full, the windows begin anew, once."""
    waits = []
    for seed in SEEDS:
        pace = ReconnectPolicy(Random(seed))
        now = max(dials(pace, 0.0, Cause.CLOSED, 600.0)) + P.full_most
        then = dial(pace, now, cause)
        waits.append(then - now)
        then = max(dials(pace, then, Cause.CLOSED, then + 600)) + P.full_most
        assert dial(pace, then, cause) - then >= 0.8 * P.full_most
    assert max(waits) <= P.growth * max(P.connect, P.poll_most)
    assert min(waits) < 1


def test_reset() -> None:
    """A registration that was answered and held for 30 s makes everything short again."""
    pace = ReconnectPolicy(Random(1))
    now = max(dials(pace, 0.0, Cause.UNREGISTERED, 6_000.0)) + 1.0
    pace.dialling(now)
    pace.answered(now)
    assert pace.lost(now + 30) <= P.blip
    assert pace.dialling(now + 31) == Deadlines(P.connect_first, P.acknowledge, P.patience)
    assert pace.failed(now + 31, Cause.SHED) <= P.window


# --- patience ---------------------------------------------------------------------------------------------------------


def test_patience() -> None:
    """The answer is waited for a minute, doubled by each time-out up to twenty; in a storm from four on."""
    assert patiences(ReconnectPolicy(Random(1))) == [60, 120, 240, 480, 960, 1200]
    stormy = ReconnectPolicy(Random(1))
    assert patiences(stormy, dial(stormy, 0.0, Cause.REFUSED)) == [240, 480, 960, 1200, 1200, 1200]


def patiences(pace: ReconnectPolicy, now: float = 0.0) -> list[float]:
    found = []
    for _ in range(6):
        found.append(pace.dialling(now).register)
        now += found[-1]
        now += pace.failed(now, Cause.UNANSWERED)
    return found


@pytest.mark.parametrize("cause", [Cause.REFUSED, Cause.NO_ANSWER, Cause.UNACKNOWLEDGED, Cause.SHED])
def test_patience_in_a_storm(cause: Cause) -> None:
    """Whoever has seen that the server was away or full waits four minutes: he is not the only one."""
    pace = ReconnectPolicy(Random(1))
    assert pace.dialling(dial(pace, 0.0, cause)).register == P.patience_in_storm


@pytest.mark.parametrize("code", [1001, 1012, 1013])
def test_patience_when_told(code: int) -> None:
    """So does who was told with all others."""
    pace = registered()
    pace.lost(100.0, code=code)
    assert pace.dialling(101.0).register == P.patience_in_storm


@pytest.mark.parametrize("cause", [Cause.UNREACHABLE, Cause.TLS, Cause.CLOSED, Cause.REJECTED, Cause.GARBAGE])
def test_patience_alone(cause: Cause) -> None:
    """Other trouble may be this worker's own."""
    pace = ReconnectPolicy(Random(1))
    assert pace.dialling(dial(pace, 0.0, cause)).register == P.patience


def test_deadlines() -> None:
    """The kernels' own repetitions are given their time, and nothing beyond."""
    assert ReconnectPolicy(Random(1)).dialling(0.0) == Deadlines(connect=20.0, acknowledge=14.0, register=60.0)


# --- hints ------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(), hint=st.floats(min_value=0.0, max_value=280.0), cause=st.sampled_from(Cause))
def test_hint(seed: int, hint: float, cause: Cause) -> None:
    """A hint is waited for, and a little longer, for others have got the same."""
    pace = ReconnectPolicy(Random(seed))
    pace.dialling(0.0)
    assert max(hint, P.shortest) <= pace.failed(0.0, cause, hint) <= hint + max(1.0, 0.05 * hint)


def test_hint_of_a_close() -> None:
    """A link that had lived and ends with a number in its reason is followed when that is over."""
    assert 20 <= registered().lost(100.0, code=1013, hint=20.0) <= 21


@given(seed=st.integers(), hint=st.floats(min_value=320.0, max_value=1e9))
def test_long_hint(seed: int, hint: float) -> None:
    """A very long hint is not slept through: the worker looks after it within five minutes."""
    pace = ReconnectPolicy(Random(seed))
    pace.dialling(0.0)
    assert 150 <= pace.failed(0.0, Cause.SHED, hint) <= 300


def test_ticket() -> None:
    """The first promise is kept when a look on the way brings a later one."""
    pace = ReconnectPolicy(Random(1))
    now = dial(pace, 0.0, Cause.SHED, 700.0)
    while now < 700:
        assert now <= 699.9 or now >= 700
        now = dial(pace, now, Cause.SHED, 5_000.0)
    assert 700 <= now <= 700 + 0.05 * 700


def test_second_ticket() -> None:
    """When a promise was not kept, the next one counts."""
    pace = ReconnectPolicy(Random(1))
    now = dial(pace, 0.0, Cause.SHED, 20.0)
    assert 35 <= dial(pace, now, Cause.SHED, 35.0) - now <= 36.75


def test_same_to_everybody() -> None:
    """Whoever is told the same again goes by his own pace: it was no ticket."""
    waits = []
    for seed in SEEDS:
        pace = ReconnectPolicy(Random(seed))
        now = dial(pace, 0.0, Cause.SHED, 30.0)
        waits.append(dial(pace, now, Cause.SHED, 30.0) - now)
    assert max(waits) <= 0.5 * 33
    assert min(waits) < 2


def test_same_pause_asked_for_twice() -> None:
    """What is no 503 means what it says, however often."""
    pace = ReconnectPolicy(Random(1))
    now = dial(pace, 0.0, Cause.CLOSED, 60.0)
    assert dial(pace, now, Cause.CLOSED, 60.0) - now >= 60


@pytest.mark.parametrize("nonsense", [-1.0, math.nan, math.inf, -math.inf])
def test_nonsense(nonsense: float) -> None:
    """A hint that is no time is none."""
    pace, plain = ReconnectPolicy(Random(1)), ReconnectPolicy(Random(1))
    assert dial(pace, 0.0, Cause.SHED, nonsense) == dial(plain, 0.0, Cause.SHED)


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [each.name for each in fields(ReconnectParameters)])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "1", None, True])
def test_parameters(name: str, value: Any) -> None:
    """Each parameter must be a positive number; the error names it."""
    with pytest.raises(ValueError, match=rf"^{name} must be a positive number$"):
        ReconnectParameters(**{name: value})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"most": 1}, "most must be a whole number"),
        ({"most": 2.5}, "most must be a whole number"),
        ({"growth": 1}, "growth must be more than"),
        ({"shortest": 1}, "shortest must not exceed blip"),
        ({"poll_least": 13}, "poll_least must not exceed poll_most"),
        ({"window": 21}, "window must not exceed full_most"),
        ({"full_most": 76}, "full_most must not exceed busy_most"),
        ({"connect_first": 21}, "connect_first must not exceed connect"),
        ({"patience": 241}, "patience must not exceed patience_in_storm"),
        ({"patience_in_storm": 1_201}, "patience_in_storm must not exceed patience_most"),
    ],
)
def test_parameters_that_contradict(changes: dict[str, Any], words: str) -> None:
    """Parameters that do not fit together are refused with the names of both."""
    with pytest.raises(ValueError, match=words):
        ReconnectParameters(**changes)


def test_other_parameters() -> None:
    """Every number of the rule can be given."""
    pace = registered(parameters=ReconnectParameters(most=2, blip=100, lived=1))
    pace.dialling(1.0)
    pace.answered(1.0)
    assert 58 <= pace.lost(2.0) <= 100


@pytest.mark.parametrize("seconds", [5.0, 60.0, 3_000.0, 10_000.0])
def test_patient(seconds: float) -> None:
    """The patience can be given alone; what is waited in a storm follows."""
    pace = ReconnectPolicy(Random(1), ReconnectParameters.patient(seconds))
    assert pace.dialling(0.0).register == seconds
    assert pace.dialling(1.0 + pace.failed(1.0, Cause.REFUSED)).register == 4 * seconds


def test_repr() -> None:
    """The repr says how things stand."""
    pace = ReconnectPolicy(Random(1))
    assert repr(pace) == "<ReconnectPolicy: nothing yet>"
    dial(pace, 5.0, Cause.REFUSED)
    assert repr(pace) == "<ReconnectPolicy: in trouble since 5.0, in a storm>"
    dial(pace, 6.0, Cause.SHED)
    assert repr(pace) == "<ReconnectPolicy: in trouble since 5.0, nobody able since 6.0, in a storm>"
    pace.dialling(7.0)
    pace.answered(7.5)
    assert repr(pace) == "<ReconnectPolicy: answered at 7.5>"
