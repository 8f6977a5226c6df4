"""The wiring: the tables name everything that can be said, and nothing else."""

from typing import get_args

from worker_state.core import messages as m
from worker_state.core import wire
from worker_state.manager import CLEANUP, CONNECTION, FRAME_ROUTES, REGISTRATION, ROUTES, STATUS


def test_every_note_has_a_route() -> None:
    """Every command and event stands in the table of routes, and every frame in that of frames."""
    assert set(ROUTES) | {m.FrameReceived} == set(get_args(m.Command)) | set(get_args(m.Event))
    assert set(FRAME_ROUTES) == set(get_args(wire.Frame))


def test_routes_lead_to_actors() -> None:
    """Every route leads to one of the four actors."""
    assert {name for names in (*ROUTES.values(), *FRAME_ROUTES.values()) for name in names} == {
        CONNECTION,
        REGISTRATION,
        STATUS,
        CLEANUP,
    }
