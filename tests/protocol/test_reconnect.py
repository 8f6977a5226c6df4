"""When to dial again: never at once, often only while nobody is there, and spread evenly when everybody comes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from random import Random
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.config import Timing
from worker_state.protocol.error_policy import Cause
from worker_state.protocol.reconnect import Deadlines, ReconnectParameters, ReconnectPolicy, overrun

P = ReconnectParameters()
SEEDS = range(200)
TOLD = [1001, 1012, 1013]
HEARD = [Cause.REFUSED, Cause.UNACKNOWLEDGED]
ABSENT = [Cause.REFUSED, Cause.UNREACHABLE, Cause.CLOSED, Cause.REJECTED, Cause.GARBAGE, Cause.TLS]
MAYBE_ABSENT = [Cause.NO_ANSWER, Cause.SHED]
FULL = [Cause.NO_ANSWER, Cause.UNACKNOWLEDGED]
BUSY = [Cause.SHED, Cause.UNREGISTERED, Cause.SILENT, Cause.STUCK, Cause.DROPPED]
LONGEST = max(P.hint_most, P.busy_most)
EVERY = 60 / P.most  # a poll, once they are evenly spread
LONGEST_POLL = 4.0  # from dial to dial; while the first minute lasts, for its first dials have come faster


def fresh(seed: int = 1) -> ReconnectPolicy:
    """A pace at a first start."""
    return ReconnectPolicy(Random(seed))


def registered(seed: int = 1, since: float = 0.0, parameters: ReconnectParameters | None = None) -> ReconnectPolicy:
    """A pace whose worker has been registered since then."""
    pace = ReconnectPolicy(Random(seed), parameters)
    pace.dialling(since)
    pace.answered(since)
    return pace


def lost(seed: int = 1, parameters: ReconnectParameters | None = None) -> ReconnectPolicy:
    """A pace whose link had lived, and was lost at 0 without a word."""
    pace = registered(seed, -100.0, parameters)
    pace.lost(0.0)
    return pace


def heard(seed: int = 1, how: Cause | int = Cause.REFUSED) -> ReconnectPolicy:
    """A pace that has heard the server at 0, by a dial or by a close code."""
    if not isinstance(how, Cause):
        pace = registered(seed, -100.0)
        pace.lost(0.0, code=how)
        return pace
    pace = ReconnectPolicy(Random(seed))
    dial(pace, 0.0, how)
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


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


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


turn = st.builds(
    Turn,
    lasts=st.sampled_from([0.0, 0.001, 0.4, 2.0, 12.0, 240.0]) | st.floats(0.0, 1_200.0),
    cause=st.sampled_from(Cause),
    hint=st.none() | st.sampled_from([0.0, 1.0, 30.0, 1e4, -1.0, math.nan, math.inf, -math.inf]),
    outcome=st.sampled_from(["failed", "failed", "failed", "lost", "moved", "closed at once"]),
    held=st.sampled_from([0.0, 1.0, 29.9, 30.0, 3600.0]) | st.floats(0.0, 60.0),
    code=st.sampled_from([1000, 1001, 1006, 1012, 1013]),
)
turns = st.lists(turn, min_size=1, max_size=120) | st.lists(turn, min_size=1, max_size=2).map(lambda few: few * 60)


def live(pace: ReconnectPolicy, history: list[Turn], now: float) -> tuple[list[float], list[float], list[Deadlines]]:
    """Let it all happen, one dial after the other; when the dials began, the pauses behind them, their deadlines."""
    times, pauses, deadlines = [], [], []
    for turn in history:
        times.append(now)
        deadlines.append(pace.dialling(now))
        now += turn.lasts
        if turn.outcome == "failed":
            pause = pace.failed(now, turn.cause, turn.hint)
        elif turn.outcome == "closed at once":
            pause = pace.lost(now, turn.cause, turn.code, turn.hint)
        else:
            pace.answered(now)
            now += turn.held
            pause = pace.moved(now) if turn.outcome == "moved" else pace.lost(now, turn.cause, turn.code, turn.hint)
        pauses.append(pause)
        now += pause
    return times, pauses, deadlines


@given(seed=st.integers(), history=turns, begin=st.sampled_from([-1e6, 0.0, 1e6]))
def test_bounds(seed: int, history: list[Turn], begin: float) -> None:
    """No pause is shorter than 0.05 s or longer than 75 s, and none is no number."""
    _, pauses, _ = live(ReconnectPolicy(Random(seed)), history, begin)
    assert all(P.shortest <= pause <= LONGEST for pause in pauses)


@given(seed=st.integers(), history=turns)
def test_polite(seed: int, history: list[Turn]) -> None:
    """There are at most 30 dials in any minute, whatever the server and the worker do."""
    times, _, _ = live(ReconnectPolicy(Random(seed)), history, 0.0)
    assert all(later - earlier > 60 - 1e-6 for earlier, later in zip(times, times[30:], strict=False))


def test_polite_when_we_leave() -> None:
    """There are no more when we leave one link after the other, nor when a SYN is lost behind them."""
    pace, now = fresh(), 0.0
    for _ in range(28):
        pace.dialling(now)
        now += pace.moved(now)
    pace.dialling(now)
    pace.answered(now)
    now += 30 + pace.lost(now + 30)
    pace.dialling(now)
    assert now + pace.failed(now, Cause.NO_ANSWER) >= 60
    pace, now, links = fresh(), 0.0, 0
    while now < 600:
        pace.dialling(now)
        now += pace.moved(now)
        links += 1
    assert links == 10 * P.most


@given(seed=st.integers(), history=turns)
def test_deadlines_whatever_happens(seed: int, history: list[Turn]) -> None:
    """An upgrade is waited for 2 to 10 s, 20 s or a minute, and a registration for twenty minutes, always."""
    for deadlines in live(ReconnectPolicy(Random(seed)), history, 0.0)[2]:
        assert deadlines.connect in (P.connect_first, P.connect, P.connect_heard)
        assert deadlines.acknowledge == P.acknowledge
        assert P.held_first <= deadlines.upgrade <= P.held_most or deadlines.upgrade in (P.held_silent, P.patience)
        assert deadlines.register == P.longest


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


@pytest.mark.parametrize("pace", [fresh, heard])
def test_two_seeds(pace: Callable[[int], ReconnectPolicy]) -> None:
    """Two workers with different seeds do not dial together."""
    one, other = (dials(pace(seed), 0.0, Cause.SHED, 3_600.0) for seed in (1, 2))
    assert set(one) & set(other) == {0.0}


# --- one worker, and a server that is fine ----------------------------------------------------------------------------


def test_blip() -> None:
    """After a link that had lived, the first dial comes within 0.3 s, spread over all of it."""
    drawn = sorted(registered(seed).lost(30.0, Cause.SILENT) for seed in SEEDS)
    assert drawn[-1] <= P.blip
    assert drawn[0] < 0.06
    assert drawn[-1] > 0.28
    assert drawn[len(drawn) // 2] < 0.2


@pytest.mark.parametrize("code", TOLD)
def test_told(code: int) -> None:
    """When the server has said to everybody that it goes, the first dials are spread over five seconds."""
    drawn = [registered(seed).lost(100.0, code=code) for seed in SEEDS]
    assert max(drawn) <= P.announced
    assert max(drawn) - min(drawn) > 0.9 * P.announced


def test_lost_syn() -> None:
    """The first dial after a blip waits 0.4 s for its SYN-ACK and is repeated at once, once."""
    pace = registered()
    pace.lost(100.0)
    assert pace.dialling(100.2).connect == P.connect_first == 0.4
    assert pace.failed(100.6, Cause.NO_ANSWER) == P.shortest
    assert pace.dialling(100.65).connect == P.connect
    assert pace.failed(100.65 + P.connect, Cause.NO_ANSWER) > P.shortest


@pytest.mark.parametrize("cause", [each for each in Cause if each is not Cause.NO_ANSWER])
def test_no_lost_syn(cause: Cause) -> None:
    """Nothing but a lost SYN is worth a quick second dial."""
    pace = lost()
    pace.dialling(0.2)
    assert pace.failed(0.2, cause) > P.shortest
    assert pace.dialling(10.0).connect > P.connect_first


def test_first_start() -> None:
    """The very first dial has all the time: nobody misses this worker yet."""
    assert ReconnectPolicy(Random(1)).dialling(0.0).connect == P.connect


def test_deadlines() -> None:
    """At a first start the kernels' own repetitions are given their time, and an upgrade that is late is in a queue."""
    first = ReconnectPolicy(Random(1)).dialling(0.0)
    assert first == Deadlines(connect=5.3, acknowledge=6.5, upgrade=60.0, register=1_200.0)


def test_moved() -> None:
    """A link that we left for another is followed by a quick dial, and what failed before is not forgotten."""
    pace = fresh()
    for now in (0.0, 100.0, 300.0):
        dial(pace, now, Cause.CLOSED)
    before = repr(pace)
    assert pace.moved(500.0) <= P.blip
    assert repr(pace) == before


def test_moved_together() -> None:
    """Workers that leave together dial spread over 0.3 s."""
    drawn = [registered(seed).moved(100.0) for seed in SEEDS]
    assert min(drawn) < 0.06
    assert 0.28 < max(drawn) <= P.blip


@pytest.mark.parametrize(("held", "over"), [(29.9, False), (30.0, True)])
def test_moved_after_it_lived(held: float, over: bool) -> None:
    """What failed before a link that had lived is over when we leave it."""
    pace = heard()
    now = max(dials(pace, 0.0, Cause.SHED, 600.0)) + 100.0
    pace.dialling(now)
    pace.answered(now)
    assert pace.moved(now + held) <= P.blip
    assert pace.dialling(now + held + 1).connect == (P.connect if over else P.connect_heard)
    assert (pace.failed(now + held + 1, Cause.SHED) < 1) == over


# --- nobody there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [*ABSENT, *MAYBE_ABSENT])
def test_polls(cause: Cause) -> None:
    """While nobody is there, the first polls come every half second; a minute has 30 of them, and no long gap."""
    for seed in SEEDS[:40]:
        times = dials(fresh(seed), 0.0, cause, 90.0)
        assert gaps(times)[:5] == pytest.approx([P.poll_first] * 5, rel=P.poll_jitter)
        assert sum(each < 60 for each in times) == P.most
        assert max(gaps(times)) < LONGEST_POLL


@pytest.mark.parametrize("cause", [*ABSENT, *MAYBE_ABSENT])
def test_polls_evenly(cause: Cause) -> None:
    """After a minute they are spread evenly: one every two seconds, and no two workers keep step."""
    everybody = []
    for seed in SEEDS[:10]:
        times = dials(fresh(seed), 0.0, cause, 600.0)
        late = [later - earlier for earlier, later in pairwise(times) if earlier > 66]
        assert min(late) >= EVERY * (1 - P.poll_jitter)
        assert mean(late) == pytest.approx(EVERY, rel=0.02)
        assert max(late) < 1.35 * EVERY
        everybody.append(times[-1] - times[100])
    assert max(everybody) - min(everybody) > 1


@pytest.mark.parametrize("cause", [*ABSENT, *MAYBE_ABSENT])
@pytest.mark.parametrize(("outage", "within"), [(1.0, 0.3), (5.0, 0.6), (60.0, 1.6), (600.0, 1.3)])
def test_found_again(cause: Cause, outage: float, within: float) -> None:
    """A server that was away for a moment is found after a moment, and after a second or two however long it was."""
    lengths = Random(outage)
    after = [first_dial_after(registered(seed), outage * lengths.uniform(0.7, 1.3), cause) for seed in SEEDS[:40]]
    assert mean(after) <= within
    assert max(after) <= LONGEST_POLL


def first_dial_after(pace: ReconnectPolicy, outage: float, cause: Cause) -> float:
    """How long after the end of an outage that began at 100 s the next dial comes."""
    now = 100.0 + pace.lost(100.0)
    while now < 100 + outage:
        now = dial(pace, now, cause)
    return now - 100 - outage


def test_accept_then_close() -> None:
    """A link that opens and is closed at once is a poll like any other, thirty a minute."""
    pace, now, links = registered(), 100.0, 0
    now += pace.lost(now)
    while now < 3_700:
        pace.dialling(now)
        now += 0.01 + pace.lost(now + 0.01)
        links += 1
    assert 1_780 <= links <= 1_800


def test_poll_that_takes_a_while() -> None:
    """Polls are counted from dial to dial: what one takes is part of its pause."""
    for seed in SEEDS:
        times = dials(fresh(seed), 0.0, Cause.UNREACHABLE, 3.0, after=0.4)
        assert gaps(times)[:5] == pytest.approx([P.poll_first] * 5, rel=P.poll_jitter)
        times = dials(fresh(seed), 0.0, Cause.UNREACHABLE, 120.0, after=1.0)
        assert sum(each >= 60 for each in times) in (P.most, P.most - 1)


@pytest.mark.parametrize(("cause", "lasts"), [(Cause.UNREACHABLE, 3.2), (Cause.NO_ANSWER, P.connect)])
def test_poll_that_takes_long(cause: Cause, lasts: float) -> None:
    """A poll that lasts longer than its pause is followed by another within 0.4 s, and not always as soon."""
    rests = [gap - lasts for seed in SEEDS for gap in gaps(dials(fresh(seed), 0.0, cause, 40.0, after=lasts))]
    assert 0.2 * P.rest - 1e-6 <= min(rests) < 0.25 * P.rest
    assert 0.95 * P.rest < max(rests) <= P.rest + 1e-6


@pytest.mark.parametrize("cause", ABSENT)
def test_absence_of_a_server_that_was_heard(cause: Cause) -> None:
    """Whoever is away is polled, also when the server has been heard before."""
    times = dials(heard(), 0.0, cause, 600.0)
    assert max(gaps(times)) < LONGEST_POLL


# --- somebody there, or nobody ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", MAYBE_ABSENT)
@pytest.mark.parametrize("how", [*HEARD, *TOLD])
def test_spreading_once_heard(cause: Cause, how: Cause | int) -> None:
    """What looks like a dead path or a front means a full server once that was heard: the dials spread out."""
    assert gaps(dials(heard(1, how), 0.0, cause, 600.0))[-1] >= 0.8 * P.full_most


@pytest.mark.parametrize("cause", MAYBE_ABSENT)
@pytest.mark.parametrize("before", [each for each in Cause if each not in HEARD])
def test_polling_until_heard(cause: Cause, before: Cause) -> None:
    """Whatever else a box in between may say does not make it the server."""
    pace = fresh()
    now = dial(pace, 0.0, before)
    assert max(gaps(dials(pace, now, cause, now + 300))) < LONGEST_POLL


@pytest.mark.parametrize("cause", MAYBE_ABSENT)
@pytest.mark.parametrize("code", [1000, 1006, 1011])
def test_other_close_codes(cause: Cause, code: int) -> None:
    """A server that does not say that it goes may have died, and what is found in its place may be a front."""
    pace = registered()
    now = 100.0 + pace.lost(100.0, code=code)
    assert max(gaps(dials(pace, now, cause, 400.0))) < LONGEST_POLL


@pytest.mark.parametrize("how", HEARD)
def test_still_heard_after_a_short_link(how: Cause) -> None:
    """A link that did not live, and says nothing at its end, does not take back that the server was heard."""
    pace = heard(1, how)
    pace.dialling(5.0)
    pace.answered(5.0)
    pace.lost(6.0)
    assert pace.dialling(20.0).connect == P.connect_heard


@pytest.mark.parametrize("cause", MAYBE_ABSENT)
@pytest.mark.parametrize("how", [*HEARD, *TOLD])
def test_unheard_after_it_lived(cause: Cause, how: Cause | int) -> None:
    """A link that has lived ends it all: who was heard before it may be away now."""
    pace = heard(1, how)
    dial(pace, 0.0, cause)
    pace.dialling(100.0)
    pace.answered(100.0)
    now = 200.0 + pace.lost(200.0)
    assert max(gaps(dials(pace, now, cause, 500.0))) < LONGEST_POLL


@pytest.mark.parametrize("cause", Cause)
def test_connect(cause: Cause) -> None:
    """A SYN-ACK is waited for as long as tries are cheap, and twice as long once the server was heard."""
    pace = fresh()
    now = dial(pace, 0.0, cause)
    assert pace.dialling(now).connect == (P.connect_heard if cause in HEARD else P.connect)
    now = dial(pace, now, Cause.UNREACHABLE)
    assert pace.dialling(now).connect == (P.connect_heard if cause in HEARD else P.connect)


@pytest.mark.parametrize("code", TOLD)
@pytest.mark.parametrize("hint", [None, 20.0])
def test_connect_when_told(code: int, hint: float | None) -> None:
    """Whoever was told that the server goes has heard it; the first dial is quick all the same."""
    pace = registered()
    now = 100.0 + pace.lost(100.0, code=code, hint=hint)
    assert pace.dialling(now).connect == P.connect_first
    now += P.connect_first
    assert pace.failed(now, Cause.NO_ANSWER) == P.shortest
    assert pace.dialling(now + P.shortest).connect == P.connect_heard


# --- held in vain -----------------------------------------------------------------------------------------------------


def test_held() -> None:
    """While nothing but waiting was met, a further dial is made beside the one that is kept: first after 2 s, then
    after a twentieth of the time that it has lasted, and after 10 s at most."""
    for seed in SEEDS[:20]:
        pace, now, most = lost(seed), 0.0, 0.0
        while now < 400:
            most = pace.dialling(now).upgrade
            assert most == pytest.approx(min(10.0, max(2.0, 0.05 * now)))
            now += most
            pause = pace.failed(now, Cause.UNANSWERED)
            assert P.shortest < pause <= P.rest
            now += pause
        assert most == P.held_most


@pytest.mark.parametrize("cause", [each for each in Cause if each is not Cause.UNANSWERED])
def test_patience(cause: Cause) -> None:
    """Once anything but waiting was met, an upgrade that is late is in a queue, and keeps its place for a minute."""
    pace = lost()
    now = dial(pace, 0.0, Cause.UNANSWERED, after=pace.dialling(0.0).upgrade)
    assert pace.dialling(now).upgrade == P.held_first
    now = dial(pace, now, cause)
    assert pace.dialling(now).upgrade == P.patience
    now = dial(pace, now, Cause.UNANSWERED, after=P.patience)
    assert pace.dialling(now).upgrade == P.patience


def test_patience_at_a_first_start() -> None:
    """Nobody has seen yet what a worker that starts may meet: it keeps its place too, every time."""
    pace, now = fresh(), 0.0
    for _ in range(5):
        assert pace.dialling(now).upgrade == P.patience
        now += P.patience
        now += pace.failed(now, Cause.UNANSWERED)


@pytest.mark.parametrize("cause", [Cause.CLOSED, Cause.SILENT])
def test_patience_after_a_short_link(cause: Cause) -> None:
    """A registration that was answered was no waiting in vain, however it ended."""
    pace = lost()
    pace.dialling(0.0)
    pace.answered(20.0)
    pace.lost(29.0, cause)
    assert pace.dialling(40.0).upgrade == P.patience


@pytest.mark.parametrize(("after", "upgrade"), [(0.0, P.patience), (4.9, P.patience), (5.1, P.held_first)])
def test_closed_after_it_was_held(after: float, upgrade: float) -> None:
    """A dial that is closed without a word after more than five seconds was held; one that is closed sooner was not."""
    pace = lost()
    now = dial(pace, 0.0, Cause.CLOSED, after=after)
    assert pace.dialling(now).upgrade == upgrade
    pace = lost()
    pace.dialling(0.0)
    now = after + pace.lost(after)
    assert pace.dialling(now).upgrade == upgrade


def test_held_after_silence() -> None:
    """After a link that had gone silent nobody asks again within a ping's period, but for the usual reasons."""
    pace = registered()
    now = 100.0 + pace.lost(100.0, Cause.SILENT)
    for _ in range(3):
        assert pace.dialling(now).upgrade == P.held_silent > Timing().ping_every
        now += P.held_silent + pace.failed(now + P.held_silent, Cause.UNANSWERED)
    now = dial(pace, now, Cause.REFUSED)
    assert pace.dialling(now).upgrade == P.patience
    pace.answered(now)
    now += 40.0 + pace.lost(now + 40.0)
    assert pace.dialling(now).upgrade == P.held_first


def test_rejected_after_it_was_held() -> None:
    """A dial that is rejected after a while was answered: that is more than waiting."""
    pace = lost()
    now = dial(pace, 0.0, Cause.REJECTED, after=6.0)
    assert pace.dialling(now).upgrade == P.patience


@pytest.mark.parametrize("cause", [Cause.UNANSWERED, Cause.REFUSED])
def test_held_anew(cause: Cause) -> None:
    """After a link that lived, new trouble starts over."""
    pace = lost()
    now = max(dials(pace, 0.0, cause, 300.0, after=2.0))
    assert pace.dialling(now + 2).upgrade > P.held_first
    pace.answered(now + 2)
    now += 32.0
    now += pace.lost(now)
    assert pace.dialling(now).upgrade == P.held_first
    assert pace.failed(now + P.held_first, Cause.UNANSWERED) <= P.rest


@pytest.mark.parametrize("hint", [1.0, 20.0, 600.0])
def test_hint_is_a_word(hint: float) -> None:
    """Who is told when to come was not only kept waiting."""
    pace = lost()
    now = dial(pace, 0.0, Cause.SHED, hint)
    assert pace.dialling(now).upgrade == P.patience


def test_waited_in_a_queue() -> None:
    """Whoever has waited a minute in vain comes back within fifteen seconds, and not with all others."""
    drawn = [dial(heard(seed), 0.0, Cause.UNANSWERED, after=P.patience) - P.patience for seed in SEEDS]
    assert max(drawn) <= P.busy_most - P.patience
    assert min(drawn) >= 0.8 * (P.busy_most - P.patience)
    assert max(drawn) - min(drawn) > 2.8


# --- somebody there who cannot serve ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "most"), [*((each, P.full_most) for each in FULL), *((each, P.busy_most) for each in BUSY)]
)
def test_growth(cause: Cause, most: float) -> None:
    """Each dial comes when two fifths of the time have passed again, up to the longest pause."""
    times = dials(heard(3), 0.0, cause, 3_600.0)
    assert 0 < times[1] <= max(P.window, P.connect_heard)
    for earlier, later in pairwise(times[2:]):
        assert later - earlier == pytest.approx((P.growth - 1) * earlier) or 0.8 * most <= later - earlier <= most
    longest = gaps(times)[-20:]
    assert 0.8 * most <= min(longest) < 0.9 * most < max(longest) <= most


def test_even() -> None:
    """In every window that ends at 1.4 times its beginning each worker dials once, and all are evenly spread."""
    windows = [(P.window * P.growth**k, P.window * P.growth ** (k + 1)) for k in range(6)]
    everybody = [dials(heard(seed), 0.0, Cause.SHED, 60.0) for seed in range(1_000)]
    for begin, end in windows:
        inside = [[math.log(t / begin, P.growth) for t in times if begin <= t < end] for times in everybody]
        assert all(len(places) <= 1 for places in inside)
        places = sorted(place for each in inside for place in each)
        assert len(places) >= 990
        assert all(abs(place - n / len(places)) < 0.06 for n, place in enumerate(places))


@pytest.mark.parametrize(
    ("cause", "absence", "window"),
    [
        (Cause.SHED, 1.0, P.window),
        (Cause.SHED, 6.0, 6.0),
        (Cause.SHED, 300.0, P.window_most),
        *((each, 1.0, P.connect_heard) for each in FULL),
        *((each, 300.0, max(P.window_most, P.connect_heard)) for each in FULL),
    ],
)
def test_first_window(cause: Cause, absence: float, window: float) -> None:
    """The first dials of all are evenly spread over the first window, which is as long as the absence was but three
    to twelve seconds, and at a full queue at least as long as a dial may take."""
    drawn = sorted(dial(heard(seed), absence, cause) - absence for seed in SEEDS)
    assert all(abs(each - window * n / len(drawn)) < 0.12 * window for n, each in enumerate(drawn))


def test_not_acknowledged() -> None:
    """Only a server's kernel drops bytes behind its SYN-ACK: the dials spread out at once."""
    drawn = sorted(dial(fresh(seed), 0.0, Cause.UNACKNOWLEDGED) for seed in SEEDS)
    assert drawn[len(drawn) // 2] > 0.4 * P.connect_heard
    assert gaps(dials(fresh(), 0.0, Cause.UNACKNOWLEDGED, 300.0))[-1] >= 0.8 * P.full_most


def test_long_dial() -> None:
    """A dial that took longer than its window is followed in the next one, at the same place."""
    for seed in SEEDS:
        pace = heard(seed)
        second = dial(pace, 0.0, Cause.NO_ANSWER, after=P.connect_heard)
        third = dial(pace, second, Cause.NO_ANSWER, after=P.connect)
        assert P.connect_heard < second <= P.connect_heard * 1.05 * P.growth
        rows = [math.log(each / P.connect_heard, P.growth) for each in (second, third)]
        assert rows[1] - rows[0] == pytest.approx(round(rows[1] - rows[0]))


def test_clock_error() -> None:
    """A worker that wakes up a little before its time does not dial twice in one window."""
    for seed in SEEDS:
        pace, now = heard(seed), 0.0
        for _ in range(8):
            now, before = dial(pace, now, Cause.SHED), now
            now -= 0.04 if now < P.window else 0.04 * now
            assert now >= 1.3 * before


def test_wide_window() -> None:
    """After a long absence everybody comes back over twelve seconds, and the first window is not shorter than that."""
    pace = registered()
    now = max(dials(pace, 100.0 + pace.lost(100.0), Cause.REFUSED, 400.0))
    spread = [dial(heard(seed), 0.0, Cause.SHED) for seed in SEEDS]
    assert max(spread) < P.window + 0.1
    times = dials(pace, now + 10, Cause.SHED, now + 100)
    assert times[2] - times[0] > P.window_most


def test_refusal_forgets() -> None:
    """A refusal ends the overload: the server has gone, and what comes back will be another one."""
    pace = heard()
    now = max(dials(pace, 0.0, Cause.SHED, 1_000.0))
    now = dial(pace, now, Cause.REFUSED)
    assert dial(pace, now, Cause.SHED) - now <= P.window_most * P.growth


@pytest.mark.parametrize("cause", [each for each in ABSENT if each is not Cause.REFUSED])
def test_absence_forgets_nothing(cause: Cause) -> None:
    """A network or a front that is gone for a moment says nothing about the server."""
    pace = heard()
    now = max(dials(pace, 0.0, Cause.SHED, 1_000.0))
    now = dial(pace, now, cause)
    assert dial(pace, now, Cause.SHED) - now >= 0.8 * P.busy_most


@pytest.mark.parametrize("held", [0.0, 0.1, 29.9])
@pytest.mark.parametrize(("cause", "most"), [(Cause.CLOSED, P.full_most), (Cause.SILENT, P.busy_most)])
def test_short_link(held: float, cause: Cause, most: float) -> None:
    """A registration that was answered and lost within 30 s never came back: the pauses grow."""
    pace, now, pauses = fresh(), 0.0, []
    while now < 1_200:
        pace.dialling(now)
        pace.answered(now)
        pace.answered(now + held)
        pauses.append(pace.lost(now + held, cause))
        now += held + pauses[-1]
    assert pauses[0] <= max(P.window, P.growth * 1.05 * held)
    assert all(0.8 * most <= pause <= most for pause in pauses[-5:])


@pytest.mark.parametrize(
    ("cause", "held", "least", "most"),
    [
        (Cause.CLOSED, 6.0, 0.8 * (P.full_most - 6), P.full_most - 6),
        (Cause.UNANSWERED, 60.0, 0.8 * (P.busy_most - 60), P.busy_most - 60),
        (Cause.UNREGISTERED, 50.0, 0.8 * (P.busy_most - 50), P.busy_most - 50),
        (Cause.CLOSED, 60.0, P.shortest, P.announced),
        (Cause.UNANSWERED, 240.0, P.shortest, P.announced),
        (Cause.UNREGISTERED, 1_200.0, P.shortest, P.announced),
    ],
)
def test_held_in_vain(cause: Cause, held: float, least: float, most: float) -> None:
    """Who was held without an answer has paused for it, and comes back within five seconds after a long time."""
    drawn = []
    for seed in SEEDS:
        pace = heard(seed)
        now = max(dials(pace, 0.0, Cause.SHED, 1_000.0)) + P.busy_most
        drawn.append(dial(pace, now, cause, after=held) - now - held)
    assert least - 1e-6 <= min(drawn)
    assert max(drawn) <= most + 1e-6
    assert max(drawn) - min(drawn) > 0.15 * most


def test_held_drift_apart() -> None:
    """Who is held for a minute again and again pauses for as long each time, everybody for another while: after ten
    minutes those who began together are spread evenly over most of the minute."""
    begun = [dials(fresh(seed), 0.0, Cause.CLOSED, 600.0, after=60.0) for seed in SEEDS]
    for times in begun:
        pauses = [gap - 60 for gap in gaps(times)]
        assert max(pauses) - min(pauses) < 1e-6
    tenth = sorted(times[9] for times in begun)
    quarters = [tenth[len(tenth) * n // 4] for n in range(4)] + [tenth[-1]]
    assert tenth[-1] - tenth[0] > 42
    assert all(8 < each < 15 for each in gaps(quarters))


def test_held_when_full() -> None:
    """A dial that a full kernel has dropped is no pause: it holds nothing of ours, and is followed by a whole one."""
    pace = heard()
    now = max(dials(pace, 0.0, Cause.NO_ANSWER, 1_000.0)) + P.full_most
    assert dial(pace, now, Cause.NO_ANSWER, after=P.connect_heard) - now - P.connect_heard >= 0.8 * P.full_most


@pytest.mark.parametrize("cause", [*FULL, Cause.SHED])
def test_back_behind_a_front(cause: Cause) -> None:
    """When a front that had held us for long says that it is full, the windows begin anew, once."""
    waits = []
    for seed in SEEDS:
        pace = heard(seed)
        now = max(dials(pace, 0.0, Cause.CLOSED, 600.0, after=6.0)) + P.full_most
        then = dial(pace, now, cause)
        waits.append(then - now)
        then = max(dials(pace, then, Cause.CLOSED, then + 600, after=6.0)) + P.full_most
        assert dial(pace, then, cause) - then >= 0.8 * P.full_most
    assert max(waits) <= P.growth * P.window_most
    assert min(waits) < 1


@pytest.mark.parametrize("lived", [False, True])
def test_back_behind_a_front_again(lived: bool) -> None:
    """They begin anew once more in the next storm, be it after a refusal or after a link that lived."""
    waits = []
    for seed in SEEDS:
        pace = heard(seed)
        now = dial(pace, 0.0, Cause.SHED)
        if lived:
            pace.dialling(now)
            pace.answered(now)
            now += 100.0 + pace.lost(now + 100, code=1012)
        else:
            now = dial(pace, now, Cause.REFUSED)
        now = max(dials(pace, now, Cause.UNREGISTERED, now + 600)) + P.busy_most
        waits.append(dial(pace, now, Cause.SHED) - now)
    assert max(waits) <= P.growth * P.window_most
    assert min(waits) < 1


@pytest.mark.parametrize(
    ("cause", "lasts", "most"),
    [(Cause.NO_ANSWER, P.connect_heard, P.full_most), (Cause.SHED, 3.0, P.busy_most - 3.0)],
)
def test_longest_pause(cause: Cause, lasts: float, most: float) -> None:
    """No pause is longer than the longest, wherever in the windows a dial ends."""
    rests = [gap - lasts for seed in SEEDS for gap in gaps(dials(heard(seed), 0.0, cause, 400.0, after=lasts))]
    assert 0.99 * most < max(rests) <= most + 1e-6


def test_short_pauses() -> None:
    """Longest pauses that are set shorter than five seconds are kept to."""
    for seed in SEEDS:
        pace = ReconnectPolicy(Random(seed), ReconnectParameters(full_most=3.5, busy_most=4.0))
        times = dials(pace, dial(pace, 0.0, Cause.REFUSED), Cause.SHED, 60.0)
        assert all(0.8 * 4 <= gap <= 4 for gap in gaps(times)[-5:])


def test_answered_again() -> None:
    """A second acknowledgement of a registration takes nothing away from the first."""
    pace = registered()
    pace.answered(29.0)
    assert pace.lost(30.0) <= P.blip


def test_reset() -> None:
    """A registration that was answered and held for 30 s makes everything short again."""
    pace = fresh()
    now = max(dials(pace, 0.0, Cause.UNREGISTERED, 6_000.0)) + 1.0
    pace.dialling(now)
    pace.answered(now)
    assert pace.lost(now + 30) <= P.blip
    assert pace.dialling(now + 31) == Deadlines(P.connect_first, P.acknowledge, P.held_first, P.longest)
    assert pace.failed(now + 31, Cause.SHED) <= 1.1 * P.poll_first


# --- hints ------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(), hint=st.floats(min_value=0.0, max_value=57.0), cause=st.sampled_from(Cause))
def test_hint(seed: int, hint: float, cause: Cause) -> None:
    """A hint is waited for, and a little longer, for others have got the same."""
    pace = ReconnectPolicy(Random(seed))
    pace.dialling(0.0)
    assert max(hint, P.shortest) <= pace.failed(0.0, cause, hint) <= hint + max(1.0, 0.05 * hint)


@pytest.mark.parametrize(("hint", "by"), [(0.0, 1.0), (10.0, 1.0), (20.0, 1.0), (50.0, 2.5), (600.0, 30.0)])
def test_overrun(hint: float, by: float) -> None:
    """Those who have got the same hint come spread over a twentieth of it, and over a second at least."""
    drawn = sorted(overrun(hint, Random(seed)) - hint for seed in SEEDS)
    assert all(abs(each - by * n / len(drawn)) < 0.12 * by for n, each in enumerate(drawn))
    assert max(overrun(hint, Random(seed), ReconnectParameters(hint_least=99.0)) for seed in SEEDS) > hint + 95


def test_after_a_hint() -> None:
    """A hint is obeyed once: what fails then without one is polled as before."""
    pace = lost()
    now = dial(pace, 0.0, Cause.SHED, 3.0)
    assert 3 <= now <= 4
    assert dial(pace, now, Cause.REFUSED) - now < 1.0


def test_hint_to_come_at_once() -> None:
    """Nobody is made to dial more often than thirty times a minute."""
    pace, now, links = fresh(), 0.0, 0
    while now < 600:
        now = dial(pace, now, Cause.CLOSED, 0.0)
        links += 1
    assert links == 10 * P.most


def test_hint_of_a_close() -> None:
    """A link that had lived and ends with a number in its reason is followed when that is over."""
    assert 20 <= registered().lost(100.0, code=1013, hint=20.0) <= 21


def test_hint_of_a_short_link() -> None:
    """A link that had not lived and ends with a number in its reason is followed when that is over, too."""
    assert 20 <= registered().lost(10.0, code=1013, hint=20.0) <= 21


@given(seed=st.integers(), hint=st.floats(min_value=61.0, max_value=1e9))
def test_long_hint(seed: int, hint: float) -> None:
    """A very long hint is not slept through: the worker looks after it within a minute."""
    pace = ReconnectPolicy(Random(seed))
    pace.dialling(0.0)
    assert 30 <= pace.failed(0.0, Cause.SHED, hint) <= 60


def test_looks_on_the_way() -> None:
    """Those who have got the same long hint do not look together."""
    drawn = [dial(fresh(seed), 0.0, Cause.SHED, 600.0) for seed in SEEDS]
    assert min(drawn) < 32
    assert max(drawn) > 58


def test_ticket() -> None:
    """The first promise is kept when a look on the way brings a later one."""
    for seed in SEEDS:
        pace = fresh(seed)
        now = dial(pace, 0.0, Cause.SHED, 700.0)
        while now < 700:
            assert now <= 699.9 or now >= 700
            now = dial(pace, now, Cause.SHED, 5_000.0)
        assert 700 <= now <= 700 + 0.05 * 700


def test_second_ticket() -> None:
    """When a promise was not kept, the next one counts."""
    pace = fresh()
    now = dial(pace, 0.0, Cause.SHED, 20.0)
    assert 35 <= dial(pace, now, Cause.SHED, 35.0) - now <= 36.75


def test_same_to_everybody() -> None:
    """Whoever is told the same again goes by his own pace: it was no ticket."""
    waits = []
    for seed in SEEDS:
        pace = heard(seed)
        now = dial(pace, 0.0, Cause.SHED, 30.0)
        waits.append(dial(pace, now, Cause.SHED, 30.0) - now)
    assert max(waits) <= 0.5 * 33
    assert min(waits) < 2


def test_same_from_a_front() -> None:
    """A front that says the same each time keeps nobody from finding the server as soon as any other."""
    pace = fresh()
    now, waits = dial(pace, 0.0, Cause.SHED, 30.0), []
    while now < 300:
        now, before = dial(pace, now, Cause.SHED, 30.0), now
        waits.append(now - before)
    assert max(waits) < LONGEST_POLL


def test_same_after_it_lived() -> None:
    """After a link that lived, the same hint is another one."""
    pace = fresh()
    dial(pace, 0.0, Cause.SHED, 30.0)
    pace.dialling(40.0)
    pace.answered(40.0)
    now = 70.0 + pace.lost(70.0)
    assert dial(pace, now, Cause.SHED, 30.0) - now >= 30


def test_promise_before_it_lived() -> None:
    """After a link that lived, what was promised before is over."""
    pace = fresh()
    dial(pace, 0.0, Cause.SHED, 600.0)
    pace.dialling(40.0)
    pace.answered(40.0)
    now = 70.0 + pace.lost(70.0)
    assert dial(pace, now, Cause.SHED, 5.0) - now <= 6


def test_same_pause_asked_for_twice() -> None:
    """What is no 503 means what it says, however often."""
    pace = fresh()
    now = dial(pace, 0.0, Cause.CLOSED, 50.0)
    assert dial(pace, now, Cause.CLOSED, 50.0) - now >= 50


@pytest.mark.parametrize("nonsense", [-1.0, math.nan, math.inf, -math.inf])
def test_nonsense(nonsense: float) -> None:
    """A hint that is no time is none."""
    pace, plain = ReconnectPolicy(Random(1)), fresh()
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
        ({"growth": 1.01}, "growth must be more than"),
        ({"shortest": 1}, "shortest must not exceed blip"),
        ({"window": 13}, "window must not exceed window_most"),
        ({"window": 21, "window_most": 21}, "window must not exceed full_most"),
        ({"full_most": 76}, "full_most must not exceed busy_most"),
        ({"connect_first": 6}, "connect_first must not exceed connect"),
        ({"connect": 13}, "connect must not exceed connect_heard"),
        ({"held_first": 11}, "held_first must not exceed held_most"),
        ({"patience": 1_201}, "patience must not exceed longest"),
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


@pytest.mark.parametrize("seconds", [0.5, 5.0, 60.0, 3_000.0, 10_000.0])
def test_patient(seconds: float) -> None:
    """The patience can be given alone; the longest follows, and no dial waits longer before another is made."""
    parameters = ReconnectParameters.patient(seconds)
    deadlines = ReconnectPolicy(Random(1), parameters).dialling(0.0)
    assert (deadlines.upgrade, deadlines.register) == (seconds, 20 * seconds)
    assert lost(1, parameters).dialling(0.0).upgrade == min(P.held_first, seconds)


def test_repr() -> None:
    """The repr says how things stand."""
    pace = fresh()
    assert repr(pace) == "<ReconnectPolicy: nothing yet>"
    dial(pace, 5.0, Cause.UNREACHABLE)
    assert repr(pace) == "<ReconnectPolicy: in trouble since 5.0>"
    dial(pace, 6.0, Cause.REFUSED)
    assert repr(pace) == "<ReconnectPolicy: in trouble since 5.0, the server was heard>"
    dial(pace, 7.0, Cause.SHED)
    assert repr(pace) == "<ReconnectPolicy: in trouble since 5.0, spreading since 7.0, the server was heard>"
    pace.dialling(8.0)
    pace.answered(8.5)
    assert repr(pace) == "<ReconnectPolicy: answered at 8.5>"
