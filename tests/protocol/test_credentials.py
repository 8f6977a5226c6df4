"""Credentials: what a `register` takes, and when the next of it has to be fetched."""

import math
from random import Random

from worker_state.config import Config
from worker_state.protocol.credentials import Credentials
from worker_state.protocol.frames import metadata
from worker_state.protocol.http_api import Room
from worker_state.protocol.status import Available

RECORD = metadata(["t"], {}, Available())


def credentials(**config: str) -> Credentials:
    return Credentials(Config("ws://127.0.0.1", "http://127.0.0.1", **config))  # type: ignore[arg-type]


def test_of_our_own() -> None:
    """A worker with a room of its own needs a token first, then the room, then nothing until one of them runs out."""
    ours = credentials()
    assert ours.due(idle=False) == -math.inf
    assert ours.token_is_due(0.0)
    ours.grant_token("token", 100.0, Random(1))
    assert not ours.complete
    assert ours.due(idle=False) == -math.inf
    assert not ours.token_is_due(100.0)
    ours.offer_room(Room("r", "secret"), 200.0)
    assert ours.move(Random(1), engaged=True)
    assert ours.complete
    assert 100 + 2880 <= ours.due(idle=False) <= 100 + 3060
    assert ours.token_is_due(100 + 3060)


def test_the_room_waits_until_the_worker_is_idle() -> None:
    """A room that runs out is replaced only when the worker is idle, for its session string changes."""
    ours = credentials()
    ours.offer_room(Room("r", "secret"), 0.0)
    assert ours.move(Random(1), engaged=True)
    ours.grant_token("token", 6000.0, Random(1))
    assert 6480 <= ours.due(idle=True) <= 6630
    assert ours.due(idle=False) > 8000


def test_given() -> None:
    """A given room is never replaced; its ID token is."""
    given = credentials(room_id="r", room_token="secret")
    assert not given.complete
    given.grant_token("token", 0.0, Random(1))
    given.accept()
    assert given.complete
    assert given.due(idle=True) == given.id_token.due
    assert given.register("p", RECORD)["token"] == "secret"
    assert given.names("r")
    assert not given.names("other")


def test_by_key() -> None:
    """With an API key nothing is fetched, ever, and any room may be the answer's."""
    by_key = credentials(api_key="slp_secret")
    assert by_key.complete
    assert by_key.due(idle=True) == math.inf
    assert by_key.register("p", RECORD)["api_key"] == "slp_secret"
    assert by_key.names("whatever")


def test_a_move_waits_for_the_job() -> None:
    """The next room is not moved into while somebody counts on the worker in the present one, and not created twice."""
    ours = credentials()
    ours.grant_token("token", 6000.0, Random(1))
    ours.offer_room(Room("first", "secret"), 0.0)
    assert ours.move(Random(1), engaged=False)
    ours.offer_room(Room("second", "secret"), 7000.0)
    assert not ours.move(Random(1), engaged=True)
    assert ours.due(idle=True) == ours.id_token.due
    assert ours.names("first")
    assert ours.move(Random(1), engaged=False)
    assert ours.names("second")
    assert not ours.move(Random(1), engaged=False)


def test_a_machine_that_slept() -> None:
    """What grew older without our clock is due so much sooner; what was granted after that is not."""
    ours = credentials()
    ours.look_at_the_clock(50.0)
    ours.grant_token("token", 0.0, Random(1))
    token = ours.id_token.due
    ours.look_at_the_clock(650.0)
    assert ours.id_token.due == token - 600
    ours.offer_room(Room("r", "secret"), 0.0)
    assert ours.move(Random(1), engaged=False)
    room = ours.room.due
    ours.look_at_the_clock(650.5)  # the clocks' own doing
    assert (ours.id_token.due, ours.room.due) == (token - 600, room)
    ours.look_at_the_clock(20.0)  # set back
    ours.look_at_the_clock(30.0)
    assert (ours.id_token.due, ours.room.due) == (token - 610, room - 10)


def test_a_missing_room_comes_before_the_renewal() -> None:
    """A token that is only due for renewal still works, and its renewal may fail for long."""
    ours = credentials()
    ours.grant_token("token", 0.0, Random(1))
    assert not ours.token_is_due(3500.0)
    ours.offer_room(Room("r", "secret"), 3500.0)
    assert ours.move(Random(1), engaged=False)
    assert ours.token_is_due(3500.0)
