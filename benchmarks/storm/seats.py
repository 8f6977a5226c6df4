"""The identities and rooms of a storm, made alike in every process, so that they outlive a server that is killed.

A real server keeps them in a store. Here the same seed makes the same ones, which needs neither a store nor HTTP.
"""

from random import Random
from typing import Any

from benchmarks.server import Seat
from worker_state.devserver import Rooms

LIFE = 86400.0
"""Seconds. Nothing is to run out in a storm."""


def furnish(rooms: Rooms, count: int, now: float) -> list[Seat]:
    """So many identities, each with a room of its own, in these rooms."""
    seats = []
    for _ in range(count):
        identity: Any = rooms.sign_in(now).body
        room: Any = rooms.create_room(f"Bearer {identity['id_token']}", now).body
        seats.append(Seat(identity["username"], identity["id_token"], room["room_id"], room["token"]))
    return seats


def make_seats(count: int, *, seed: int, now: float) -> list[Seat]:
    """The seats alone, for the clients."""
    return furnish(Rooms(random=Random(seed), token_life=LIFE, room_life=LIFE), count, now)
