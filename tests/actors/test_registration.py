"""The registration actor by plain calls: no clock, no trio."""

from random import Random

import pytest

from worker_state.actors.registration import RegistrationActor
from worker_state.config import Config
from worker_state.protocol import events as m
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed

CONFIG = Config("ws://fake", "http://fake", api_key="slp_x")
BUSY = m.FrameReceived(1, frames.RegisterError("DynamoDB error", True))
UNKNOWN = m.FrameReceived(1, frames.RegisterError("out of order", True))


async def send(kind: str, text: str) -> bool:
    raise NotImplementedError


@pytest.fixture
def actor() -> RegistrationActor:
    return RegistrationActor(CONFIG, random=Random(1), nonce=lambda: "n", awake=lambda: 0.0)


def given(actor: RegistrationActor, *events: m.Event, now: float = 0.0) -> list[m.Event]:
    """All that the actor publishes on these events, and then on being woken."""
    published = [each for event in events for each in actor.handle(event, now)]
    return published + (actor.wake(now) if actor.next_deadline() <= now else [])


def registering(actor: RegistrationActor) -> m.FrameReceived:
    """A link is open and a `register` was sent over it; returns its acceptance."""
    published = given(actor, m.LinkOpened(m.Link(1, 60.0, send)))
    (register,) = [event.message for event in published if isinstance(event, m.SendFrame)]
    assert register["type"] == "register"
    return m.FrameReceived(1, frames.RegistrationAccepted(register["peer_id"], "room", None, 0))


CLOSE, LEAVE = m.CloseLink(0.5), m.StartLeaving()


def test_a_close_frame_at_once(actor: RegistrationActor) -> None:
    """With every `register` answered the link is closed politely at once."""
    given(actor, registering(actor))
    assert given(actor, LEAVE, CLOSE) == [m.SendClose(1)]


@pytest.mark.parametrize("answer", ["accepted", BUSY, m.RegisterWithdrawn(1)])
def test_a_close_frame_behind_the_answer(actor: RegistrationActor, answer: "m.Event | str") -> None:
    """A link with an unanswered `register` is closed politely when that is answered, or was never sent (F31)."""
    accepted = registering(actor)
    assert given(actor, LEAVE, CLOSE) == []
    assert given(actor, UNKNOWN) == []
    assert given(actor, accepted if isinstance(answer, str) else answer) == [m.SendClose(1)]


def test_no_close_frame_behind_an_answer_that_may_be_another_one(actor: RegistrationActor) -> None:
    """After an error that may have answered another frame there is no polite close until all of ours are answered."""
    registering(actor)
    assert actor.unanswered
    given(actor, UNKNOWN)
    assert actor.unanswered
    accepted = registering_again(actor)
    given(actor, accepted)
    assert given(actor, LEAVE, CLOSE) == []


def registering_again(actor: RegistrationActor) -> m.FrameReceived:
    (register,) = [event.message for event in actor.wake(100.0) if isinstance(event, m.SendFrame)]
    return m.FrameReceived(1, frames.RegistrationAccepted(register["peer_id"], "room", None, 0))


def test_an_unanswered_register_is_of_its_own_link(actor: RegistrationActor) -> None:
    """What was unanswered on a link that is lost does not count on the next one."""
    registering(actor)
    given(actor, m.LinkLost(1, Closed(), 1.0), now=5.0)
    actor.handle(m.LinkOpened(m.Link(2, 60.0, send)), 6.0)
    assert not actor.unanswered


@pytest.mark.parametrize(
    ("events", "released"),
    [
        ([], m.LinkReleased(by_server=False, registered=True, unanswered=True)),
        (["accepted"], m.LinkReleased(by_server=False, registered=True, unanswered=False)),
        ([LEAVE], m.LinkReleased(by_server=False, registered=True, unanswered=True)),
        ([m.RegisterWithdrawn(1)], m.LinkReleased(by_server=False, registered=True, unanswered=False)),
    ],
)
def test_what_a_lost_link_leaves(
    actor: RegistrationActor, events: "list[m.Event | str]", released: m.LinkReleased
) -> None:
    """The cleanup actor is told what the server may still make of a lost link, also while leaving."""
    accepted = registering(actor)
    given(actor, *[accepted if isinstance(event, str) else event for event in events])
    assert released in given(actor, m.LinkLost(1, Closed(), None))


def test_a_link_over_which_nobody_has_registered(actor: RegistrationActor) -> None:
    """A link without a `register` leaves nothing on the server, whatever an earlier one has left."""
    registering(actor)
    given(actor, m.LinkLost(1, Closed(), 1.0), now=5.0)
    actor.handle(m.LinkOpened(m.Link(2, 60.0, send)), 6.0)
    released = m.LinkReleased(by_server=True, registered=False, unanswered=False)
    assert released in actor.handle(m.LinkLost(2, Closed(1001), 1.0), 6.0)


def test_nothing_registers_while_leaving(actor: RegistrationActor) -> None:
    """Once the worker leaves, nothing that comes makes it register, sign in or dial (F32)."""
    accepted = registering(actor)
    given(actor, accepted, LEAVE)
    late: list[m.Event] = [
        m.Reregister(),
        m.RegistrationLost(1, "why"),
        m.FrameReceived(1, frames.NotInRoom("NOT_IN_ROOM")),
        UNKNOWN,
        BUSY,
        accepted,
        m.IdentityFailed("why"),
    ]
    assert given(actor, *late, now=3600.0) == []
    assert actor.next_deadline() > 1e9


def test_a_register_without_an_answer(actor: RegistrationActor) -> None:
    """The link is dropped when the answer does not come in time, without a Close frame."""
    registering(actor)
    while actor.next_deadline() < 60.0:
        assert all(isinstance(event, m.SendFrame) for event in actor.wake(actor.next_deadline()))
    dropped = [event for event in actor.wake(60.0) if isinstance(event, m.DropLink)]
    assert dropped == [m.DropLink(1, "no answer to a register", Cause.UNREGISTERED, polite=False)]


def test_g16_a_worker_that_asks_all_the_time(actor: RegistrationActor) -> None:
    """A registration that is asked for goes at once; asked for all the time it goes at most ten times a second."""
    given(actor, registering(actor))
    registers = list[float]()
    for step in range(2000):
        now = 1.0 + step / 1000
        for event in given(actor, m.Reregister(), now=now):
            if isinstance(event, m.SendFrame):
                registers.append(now)
                accepted = frames.RegistrationAccepted(event.message["peer_id"], "room", None, 0)
                given(actor, m.FrameReceived(1, accepted), now=now)
    assert registers[0] == 1.0
    assert 18 <= len(registers) <= 20


def test_g21_an_answer_behind_a_long_message(actor: RegistrationActor) -> None:
    """A register is not given up while a long message, which may be its answer, is coming in."""
    registering(actor)
    dropped = [
        at
        for at in range(1, 100)
        for event in given(actor, *([m.AnswersDelayed(1)] if at in (56, 64) else []), now=float(at))
        if isinstance(event, m.DropLink)
    ]
    assert dropped == [64 + 12]
