"""Credentials: what a `register` takes, and when the next of it has to be fetched."""

import math
from random import Random

import pytest

from worker_state.config import Config
from worker_state.protocol import events as m
from worker_state.protocol.credentials import MISSING, RENEWING, Credentials
from worker_state.protocol.error_policy import Lease
from worker_state.protocol.http_api import Room
from worker_state.protocol.record import build_record
from worker_state.protocol.status import Available

RECORD = build_record(["t"], {}, Available())
REGISTER = {"type": "register", "peer_id": "p", "role": "worker", "metadata": RECORD}


def credentials(**config: str) -> Credentials:
    return Credentials(Config("ws://127.0.0.1", "http://127.0.0.1", **config), Random(1))  # type: ignore[arg-type]


def test_of_our_own() -> None:
    """A worker with a room of its own needs a token first, then the room, then nothing until one of them runs out."""
    ours = credentials()
    assert ours.due(idle=False) == -math.inf
    assert ours.next_call(0.0) == m.RequestIdentity()
    ours.signed_in("token", 100.0)
    assert not ours.complete
    assert ours.due(idle=False) == -math.inf
    assert ours.next_call(100.0) == m.RequestRoom("token")
    ours.room_created(Room("r", "secret"), 200.0)
    assert ours.move(in_use=True)
    assert ours.complete
    assert 100 + 2880 <= ours.due(idle=False) <= 100 + 3060
    assert ours.next_call(100 + 3060) == m.RequestIdentity()


def test_the_room_waits_until_the_worker_is_idle() -> None:
    """A room that runs out is replaced only when the worker is idle, for its session string changes."""
    ours = credentials()
    ours.room_created(Room("r", "secret"), 0.0)
    assert ours.move(in_use=True)
    ours.signed_in("token", 6000.0)
    assert 6480 <= ours.due(idle=True) <= 6630
    assert ours.due(idle=False) > 8000


def test_given() -> None:
    """A given room is never replaced; its ID token is."""
    given = credentials(room_id="r", room_token="secret")
    assert not given.complete
    given.signed_in("token", 0.0)
    given.accept()
    assert given.complete
    assert given.due(idle=True) == given.id_token.due
    of_id_token = {"room_id": "r", "token": "secret", "id_token": "token"}
    assert given.register("p", RECORD) == REGISTER | of_id_token
    assert given.register("p", RECORD, admin=False) == REGISTER | of_id_token | {"is_admin": False}
    assert given.names("r")
    assert not given.names("other")


def test_by_key() -> None:
    """With an API key nothing is fetched, ever, and any room may be the answer's."""
    by_key = credentials(api_key="slp_secret")
    assert by_key.complete
    assert by_key.due(idle=True) == math.inf
    assert by_key.register("p", RECORD) == REGISTER | {"api_key": "slp_secret"}
    assert by_key.register("p", RECORD, admin=True) == REGISTER | {"api_key": "slp_secret", "is_admin": True}
    assert by_key.names("whatever")
    assert credentials(api_key="slp_secret", room_id="r", room_token="t").names("whatever")


def test_a_move_waits_for_the_job() -> None:
    """The next room is not moved into while somebody counts on the worker in the present one, and not created twice."""
    ours = credentials()
    ours.signed_in("token", 6000.0)
    ours.room_created(Room("first", "secret"), 0.0)
    assert ours.move(in_use=False)
    ours.room_created(Room("second", "secret"), 7000.0)
    assert not ours.move(in_use=True)
    assert ours.due(idle=True) == ours.id_token.due
    assert ours.names("first")
    assert ours.move(in_use=False)
    assert ours.names("second")
    assert not ours.move(in_use=False)


def test_a_machine_that_slept() -> None:
    """What grew older without our clock is due so much sooner; what was granted after that is not."""
    ours = credentials()
    ours.look_at_the_clock(50.0)
    ours.signed_in("token", 0.0)
    token = ours.id_token.due
    ours.look_at_the_clock(650.0)
    assert ours.id_token.due == token - 600
    ours.room_created(Room("r", "secret"), 0.0)
    assert ours.move(in_use=False)
    room = ours.room.due
    ours.look_at_the_clock(650.5)  # the clocks' own doing
    assert (ours.id_token.due, ours.room.due) == (token - 600, room)
    ours.look_at_the_clock(20.0)  # set back
    ours.look_at_the_clock(22.0)
    assert (ours.id_token.due, ours.room.due) == (token - 602, room - 2)


def test_a_missing_room_comes_before_the_renewal() -> None:
    """A token that is only due for renewal still works, and its renewal may fail for long."""
    ours = credentials()
    ours.signed_in("token", 0.0)
    assert ours.next_call(3500.0) == m.RequestRoom("token")
    ours.room_created(Room("r", "secret"), 3500.0)
    assert ours.move(in_use=False)
    assert ours.next_call(ours.due(idle=False)) == m.RequestIdentity()


def pauses(ours: Credentials, count: int, hint: float | None = None) -> list[float]:
    """The pauses after so many calls that failed, one behind the other."""
    found = []
    for _ in range(count):
        ours.next_call(0.0)
        ours.call_failed(0.0, hint)
        found.append(ours.due(idle=True))
    return found


def test_http_calls_that_fail() -> None:
    """What is missing is asked for soon, what is only due for renewal later, and both ever more slowly."""
    missing, renewing = credentials(), credentials()
    renewing.signed_in("token", -4000.0)
    renewing.room_created(Room("r", "secret"), -4000.0)
    assert renewing.move(in_use=False)
    for ours, (first, longest) in ((missing, MISSING), (renewing, RENEWING)):
        found = pauses(ours, 100)
        for pause, most in zip(found, (first, 2 * first, 4 * first), strict=False):
            assert most / 2 <= pause <= most
        assert longest / 2 <= found[-1] <= longest
        ours.signed_in("token", -4000.0)
        assert pauses(ours, 1)[0] <= first


def test_one_http_call_at_a_time() -> None:
    """A call is under way until it has succeeded or brought nothing."""
    ours = credentials()
    ours.next_call(0.0)
    assert ours.due(idle=True) == math.inf
    ours.call_failed(0.0, None)
    assert ours.due(idle=True) < math.inf
    ours.next_call(9.0)
    assert ours.due(idle=True) == math.inf
    ours.signed_in("token", 9.0)
    assert ours.due(idle=True) < math.inf


def test_a_hint_for_an_http_call() -> None:
    """What the server asks for is waited for, but no long hint is slept through."""
    assert pauses(credentials(), 1, hint=50.0)[0] >= 50.0
    assert pauses(credentials(), 1, hint=1000.0)[0] < 65.0


def complete() -> Credentials:
    """All was granted at 1000 s."""
    ours = credentials()
    ours.signed_in("token", 1000.0)
    ours.room_created(Room("r", "secret"), 1000.0)
    assert ours.move(in_use=False)
    return ours


@pytest.mark.parametrize(
    ("what", "call"), [(Lease.IDENTITY, m.RequestIdentity()), (Lease.ROOM, m.RequestRoom("token"))]
)
def test_what_is_refused_is_fetched_anew(what: Lease, call: m.Command) -> None:
    """The one that was refused is missing from then on, and fetched after a short pause that is said."""
    ours = complete()
    pause = ours.refuse(what, 1001.0)
    assert pause is not None
    assert 0.1 <= pause <= 0.2
    assert ours.due(idle=False) == pytest.approx(1001.0 + pause)
    assert not ours.complete
    assert ours.next_call(1002.0) == call


def test_a_third_fresh_one_is_not_fetched() -> None:
    """After two fresh tokens were refused the third is kept: each new one leaves a user on the server (F21)."""
    ours = complete()
    for now in (1001.0, 1002.0):
        assert ours.refuse(Lease.IDENTITY, now) is not None
        ours.signed_in("token", now)
    assert ours.refuse(Lease.IDENTITY, 1003.0) is None
    assert ours.complete


def test_what_was_renewed_meanwhile() -> None:
    """A refusal of what was sent before the renewal does not concern the new one; each of the two has its own time."""
    ours = complete()
    ours.signed_in("token", 2000.0)
    assert ours.renewed_since(1500.0, Lease.IDENTITY)
    assert not ours.renewed_since(1500.0, Lease.ROOM)
    assert ours.renewed_since(500.0, Lease.ROOM)
    assert not ours.renewed_since(2000.0, Lease.IDENTITY)


def test_a_token_that_gets_no_room() -> None:
    """Where the room creation refuses the ID token, a new sign-in follows soon; any other failure keeps it."""
    ours = credentials()
    ours.signed_in("token", 1000.0)
    ours.next_call(1000.0)
    ours.call_failed(1000.0, None)
    assert ours.next_call(1000.0) == m.RequestRoom("token")
    ours.call_failed(1001.0, None, token_refused=True)
    assert 1001.1 <= ours.due(idle=False) <= 1001.2
    assert ours.next_call(1002.0) == m.RequestIdentity()
