"""Whom a search finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from worker_state.devserver.model import Close

if TYPE_CHECKING:
    from tests.devserver.conftest import Someone, World


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, True),
        ({"role": "worker"}, True),
        ({"role": "client"}, False),
        ({"tags": ["other", "sleap-rtc"]}, True),
        ({"tags": ["other"]}, False),
        ({"properties": {"gpu_memory_mb": {"$gte": 24576}}}, True),
        ({"properties": {"gpu_memory_mb": {"$gte": 24577}}}, False),
        ({"properties": {"gpu_memory_mb": {"$lte": 24576}}}, True),
        ({"properties": {"gpu_memory_mb": {"$lte": 24575}}}, False),
        ({"properties": {"gpu_memory_mb": {"$gte": 1, "$lte": 2}}}, False),
        ({"properties": {"missing": {"$gte": 0}}}, False),
        ({"properties": {"missing": {"$lte": 0}}}, False),
        ({"properties": {"status": {"$eq": "available"}}}, True),
        ({"properties": {"status": {"$eq": "busy"}}}, False),
        ({"properties": {"status": "available"}}, True),
        ({"properties": {"status": "busy"}}, False),
        ({"properties": {"missing": None}}, True),
    ],
)
def test_filters_decide(worker: Someone, client: Someone, filters: Any, found: bool) -> None:
    assert (worker.peer_id in client.find("client", **filters)) is found


def test_nobody_finds_himself(worker: Someone) -> None:
    assert worker.find("worker") == []


def test_other_rooms_are_out_of_sight(world: World, client: Someone) -> None:
    stranger = world.someone()
    stranger.register("stranger")
    assert stranger.find("stranger") == []


def test_comparing_a_number_with_text_closes_the_searching_connection(worker: Someone, client: Someone) -> None:
    worker.update("worker", properties={"gpu_memory_mb": "much"})
    filters = {"properties": {"gpu_memory_mb": {"$gte": 1}}}
    search = {"type": "discover_peers", "from_peer_id": client.peer_id, "filters": filters}
    assert client.say("client", search) == [Close("client", 1000, "")]
