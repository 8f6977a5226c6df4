"""The status actor by plain calls: no clock, no trio."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from worker_state.actors.status import StatusActor
from worker_state.config import Config
from worker_state.protocol import events as m
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Closed
from worker_state.protocol.record import build_record
from worker_state.protocol.status import Available, Busy, Maintenance, Reserved

CONFIG = Config("ws://fake", "http://fake", reservation_limit=60.0)


async def send(kind: str, text: str) -> bool:
    raise NotImplementedError


OPENED = m.LinkOpened(m.Link(1, 60.0, send))
REGISTERED = m.WorkerRegistered(1, 0, "me", "room", None, 0, settled=True, at=0.0)


@pytest.fixture
def actor() -> StatusActor:
    nonces: Iterator[str] = (str(number) for number in itertools.count())
    return StatusActor(CONFIG, random=Random(1), nonce=lambda: next(nonces), awake=lambda: 0.0)


def given(actor: StatusActor, *events: m.Event, now: float = 0.0) -> list[m.Event]:
    """All that the actor publishes on these events, and then on being woken."""
    published = [each for event in events for each in actor.handle(event, now)]
    return published + (actor.wake(now) if actor.next_deadline() <= now else [])


def sent(published: list[m.Event]) -> list[str]:
    return [event.message["type"] for event in published if isinstance(event, m.SendFrame)]


def test_it_is_silent_until_registered(actor: StatusActor) -> None:
    """A change before the registration is sent with the first update after it, and not before."""
    assert sent(given(actor, OPENED, m.ChangeStatus(1, Busy("job-1")))) == []
    assert sent(given(actor, REGISTERED)) == ["peer_message", "update_metadata"]


def test_all_that_has_come_is_handled_before_anything_is_sent(actor: StatusActor) -> None:
    """Of several changes that come together only the newest is sent."""
    given(actor, OPENED, REGISTERED)
    published = given(actor, m.ChangeStatus(1, Busy("job-1")), m.ChangeStatus(2, Maintenance()))
    (update,) = [event.message for event in published if isinstance(event, m.SendFrame)]
    assert update["metadata"]["properties"]["status"] == "maintenance"


def test_the_end_of_a_reservation(actor: StatusActor) -> None:
    """A reservation ends when its time is over, and no earlier; a draining worker is then in maintenance."""
    given(actor, OPENED, REGISTERED, m.ChangeStatus(1, Reserved("job-1")), now=10.0)
    assert m.ChangeStatus(2, Available()) not in given(actor, now=69.9)
    assert m.ChangeStatus(2, Available()) in actor.wake(70.0)
    given(actor, m.StartDraining(), m.ChangeStatus(3, Reserved("job-2")), now=80.0)
    assert m.ChangeStatus(4, Maintenance()) in actor.wake(140.0)


def test_leaving_without_a_signal(actor: StatusActor) -> None:
    """A worker that has sent no signal has nothing to flush."""
    given(actor, OPENED, REGISTERED)
    assert given(actor, m.StartLeaving()) == [m.SignalsFlushed()]


@pytest.mark.parametrize(
    "ending", [m.FrameReceived(1, frames.Echo("me", "1")), m.LinkLost(1, Closed(), None), m.CloseLink(0.5)]
)
def test_leaving_behind_a_signal(actor: StatusActor, ending: m.Event) -> None:
    """The last signal is flushed by an echo; its return, the end of the link or of the time says so, once."""
    given(actor, OPENED, REGISTERED, m.SignalSent(1, 5.0), now=5.0)
    assert sent(given(actor, m.StartLeaving(), now=6.0)) == ["peer_message"]
    assert given(actor, m.FrameReceived(1, frames.Echo("me", "0")), now=6.1) == []
    assert given(actor, ending, now=6.2) == [m.SignalsFlushed()]


def test_the_end_that_comes_together_with_the_leave(actor: StatusActor) -> None:
    """An actor that is told in one breath to leave and to close (something blocked the loop) waits for nothing."""
    given(actor, OPENED, REGISTERED, m.SignalSent(1, 5.0), now=5.0)
    assert m.SignalsFlushed() in given(actor, m.StartLeaving(), m.CloseLink(0.5), now=6.0)
    assert actor.next_deadline() > 6.0


def answers(published: list[m.Event]) -> list[m.Event]:
    """What a server answers to these updates, at once."""
    records = [
        event.message["metadata"]
        for event in published
        if isinstance(event, m.SendFrame) and event.message["type"] == "update_metadata"
    ]
    return [m.FrameReceived(1, frames.MetadataUpdated("me", record)) for record in records]


def test_g16_a_worker_that_flips_all_the_time(actor: StatusActor) -> None:
    """The first change goes at once, then at most ten a second, always the newest; the last one is confirmed."""
    given(actor, OPENED, REGISTERED)
    updates: list[tuple[float, str]] = []
    confirmed: list[int] = []
    for step in range(1, 3001):
        now, last = 1.0 + step / 1000, f"job-{min(step, 2000)}"
        published = given(actor, *([m.ChangeStatus(step, Busy(last))] if step <= 2000 else []), now=now)
        for event in published:
            if isinstance(event, m.SendFrame) and event.message["type"] == "update_metadata":
                job = event.message["metadata"]["properties"].get("current_job_id")
                updates += [(now, job)] if job is not None else []
                assert job in (None, last)  # None: a look
        confirmed += [
            event.revision
            for event in given(actor, *answers(published), now=now)
            if isinstance(event, m.StatusConfirmed)
        ]
    times = [at for at, _ in updates]
    assert times[0] == 1.001
    assert all(after - before > 0.0999 for before, after in itertools.pairwise(times))
    assert 15 <= len(updates) <= 22
    assert updates[-1][1] == "job-2000"
    assert times[-1] <= 3.0 + 0.11
    assert confirmed[-1] == 2000


def test_g05_the_answer_to_a_look_behind_a_register(actor: StatusActor) -> None:
    """It shows what the `register` said, confirms nothing and disproves nothing; the update behind it is then
    answered."""
    late = build_record(CONFIG.advertised.tags, CONFIG.advertised.capabilities, Available())
    given(actor, OPENED, replace(REGISTERED, late=(late,)))
    published = given(actor, m.ChangeStatus(1, Busy("job-1")), now=1.0)
    assert given(actor, m.FrameReceived(1, frames.MetadataUpdated("me", late)), now=1.1) == []
    assert m.StatusConfirmed(1, 1.2) in given(actor, *answers(published), now=1.2)


def test_g16_a_change_after_a_pause_goes_at_once(actor: StatusActor) -> None:
    """A worker that changes now and then never waits."""
    given(actor, OPENED, REGISTERED)
    for second in range(1, 4):
        published = given(actor, m.ChangeStatus(second, Busy(f"job-{second}")), now=second)
        assert "update_metadata" in sent(published)
        given(actor, *answers(published), now=second)


def test_g16_leaving_sends_what_was_held_back(actor: StatusActor) -> None:
    """A change that waits for its turn, or for the answer to the last one, goes out when the worker leaves."""
    given(actor, OPENED, REGISTERED)
    given(actor, m.ChangeStatus(1, Busy("job-1")), now=1.0)
    assert sent(given(actor, m.ChangeStatus(2, Busy("job-2")), now=1.01)) == []
    published = given(actor, m.StartLeaving(), now=1.02)
    (update,) = [event.message for event in published if isinstance(event, m.SendFrame)]
    assert update["metadata"]["properties"]["current_job_id"] == "job-2"
    assert m.SignalsFlushed() in published


def test_g21_answers_behind_a_long_message(actor: StatusActor) -> None:
    """While a long message is coming in, what is unanswered has all its time again; after it it has not."""
    given(actor, OPENED, REGISTERED)
    given(actor, m.ChangeStatus(1, Busy("job-1")), now=0.5)
    failed_at = math.inf
    for at in range(1, 100):
        published = given(actor, *([m.AnswersDelayed(1)] if at % 8 == 0 and at <= 72 else []), now=float(at))
        if m.UpdateFailed(drifted=False) in published:
            failed_at = min(failed_at, at)
    assert failed_at == 72.0 + CONFIG.timing.answer
    assert given(actor, OPENED, m.AnswersDelayed(1), now=100.0) == []
