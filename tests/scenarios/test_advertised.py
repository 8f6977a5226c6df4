"""What workers in the field say beside their status: chosen ids, admins, keys with a room, capabilities that change."""

import json
from functools import partial
from typing import Any

import pytest
import trio

from tests.support.right import assert_right
from tests.support.worlds import World, given_room, scenario
from worker_state import ConfigError, ManagerEnded
from worker_state.devserver.identities import ApiKey

MOUNTS = [{"path": "/data", "label": "the lab's disk"}, {"path": "/scratch", "label": None}]
ACCOUNT_KEY = "slp_acct_lab"


@scenario
async def test_capabilities_that_change(world: World) -> None:
    """A changed capability is found by clients' searches, the others stay, and a later status change keeps both."""
    manager = await world.start(capabilities={"gpu_memory_mb": 24576, "gpu_model": "A5000"})
    manager.set_capabilities({"gpu_memory_mb": 12288, "worker_name": None, "mounts": MOUNTS})
    assert manager.state.capabilities["gpu_memory_mb"] == 12288
    assert not manager.state.confirmed
    await manager.synced()
    async with world.client(manager) as client:
        assert await client.find(gpu_memory_mb={"$gte": 20000}) == []
        manager.set_busy("job-1")
        await manager.synced()
        (found,) = await client.find(gpu_model="A5000", status="busy")
    properties = found["metadata"]["properties"]
    assert {name: properties[name] for name in ("gpu_memory_mb", "worker_name", "mounts")} == {
        "gpu_memory_mb": 12288,
        "worker_name": None,
        "mounts": MOUNTS,
    }


@scenario
async def test_capabilities_that_change_during_an_outage(world: World) -> None:
    """The next registration carries what is true then: nothing is replayed."""
    manager = await world.start()
    world.go_down()
    await manager.wait_for(lambda state: not state.connected)
    for memory in (1, 2, 3):
        manager.set_capabilities({"gpu_memory_mb": memory})
    world.come_back()
    await manager.synced()
    assert world.record(manager)["properties"]["gpu_memory_mb"] == 3
    assert world.sent("register")[-1]["metadata"]["properties"]["gpu_memory_mb"] == 3


@scenario
async def test_a_forged_capability(world: World) -> None:
    """A capability that somebody else has overwritten is repaired like a status."""
    manager = await world.start()
    manager.set_capabilities({"mounts": MOUNTS})
    await manager.synced()
    async with world.client(manager) as client:
        forged = {"tags": ["sleap-rtc"], "properties": {"mounts": []}}
        await client.send({"type": "update_metadata", "peer_id": manager.state.peer_id, "metadata": forged})
        await client.receive("metadata_updated")
    manager.set_busy("job-1")
    await world.until(lambda: world.record(manager)["properties"]["mounts"] == MOUNTS)


@scenario
async def test_tags_that_change(world: World) -> None:
    """A new tag is found; one that is gone is not, for which it takes a full `register`: a server unites tags."""
    manager = await world.start(tags=("sleap-rtc", "training-worker"))
    manager.set_tags(["sleap-rtc", "inference-worker"])
    await manager.synced()
    assert sorted(world.record(manager)["tags"]) == ["inference-worker", "sleap-rtc"]
    assert len(world.sent("register")) == 2
    manager.set_tags(["sleap-rtc", "inference-worker", "extra"])
    await manager.synced()
    assert "extra" in world.record(manager)["tags"]
    assert len(world.sent("register")) == 2


@scenario
async def test_what_cannot_be_advertised(world: World) -> None:
    """A change is checked as strictly as `Config` is, and one that is refused changes nothing."""
    manager = await world.start()
    before = manager.state
    for change in (
        partial(manager.set_capabilities, {"gpu_memory_mb": "24576"}),
        partial(manager.set_capabilities, {"status": "busy"}),
        partial(manager.set_tags, []),
    ):
        with pytest.raises(ConfigError):
            change()
    with pytest.raises(TypeError, match="admin must be True or False"):
        manager.set_admin(1)  # type: ignore[arg-type]
    assert manager.state is before


@scenario
async def test_admin(world: World) -> None:
    """A worker is the room's admin from its first `register`, and another that offers itself learns who is."""
    room = given_room(world.rooms, world.now())
    first = await world.start(admin=True, **room)
    assert first.state.admin_peer_id == first.state.peer_id
    second = await world.start(**room)
    assert "is_admin" not in world.sent("register")[-1]
    assert (second.state.admin, second.state.admin_peer_id) == (False, first.state.peer_id)
    second.set_admin(True)
    await second.synced()
    assert world.sent("register")[-1]["is_admin"] is True
    assert (await second.signals.receive())["type"] == "admin_conflict"
    second.set_admin(False)
    await second.synced()
    assert world.sent("register")[-1]["is_admin"] is False


@scenario
async def test_the_others_in_the_room(world: World) -> None:
    """The state has the others' records of the last registration."""
    room = given_room(world.rooms, world.now())
    first = await world.start(capabilities={"gpu_model": "A5000"}, **room)
    second = await world.start(**room)
    others = second.state.peer_metadata
    assert list(others) == [first.state.peer_id]
    assert others[first.state.peer_id or ""]["properties"]["gpu_model"] == "A5000"


@scenario(generation="v3", api_keys={"slp_lab": ApiKey("0badcafe")})
async def test_the_others_keys(world: World) -> None:
    """The server shows every peer the API keys of the others (protocol.md, 8); the state does not."""
    await world.start(api_key="slp_lab")
    second = await world.start(api_key="slp_lab")
    assert "_worker_name" in next(iter(second.state.peer_metadata.values()))
    assert "slp_lab" not in json.dumps(dict(second.state.peer_metadata))


@scenario
async def test_a_chosen_peer_id(world: World) -> None:
    """A worker is found, and its session string leads to it, under the peer id that it was given; all is deleted."""
    manager = await world.start(peer_id="worker-lab-gpu-07-1a2b")
    (user,) = world.rooms.users
    assert manager.state.peer_id == "worker-lab-gpu-07-1a2b"
    await assert_right(world, manager)
    world.cut()
    await manager.wait_for(lambda state: not state.registered)
    await assert_right(world, manager)
    await world.stop(manager)
    await world.until(lambda: user not in world.rooms.users and not world.rooms.rooms)


@scenario
async def test_a_chosen_peer_id_in_a_given_room(world: World) -> None:
    """A given room outlives a worker with a chosen peer id, and its identity is deleted."""
    room = given_room(world.rooms, world.now())
    manager = await world.start(peer_id="worker-1", **room)
    await world.stop(manager)
    await world.until(lambda: not world.rooms.users)
    assert list(world.rooms.rooms) == [room["room_id"]]


@scenario(generation="v3", api_keys={ACCOUNT_KEY: ApiKey(None)})
async def test_an_account_key(world: World) -> None:
    """An account key is sent together with the room that the worker is for."""
    lab = given_room(world.rooms, world.now())["room_id"]
    manager = await world.start(api_key=ACCOUNT_KEY, room_id=lab, peer_id="worker-1")
    sent = world.sent("register")[-1]
    assert (sent["api_key"], sent["room_id"], sent["peer_id"]) == (ACCOUNT_KEY, lab, "worker-1")
    assert "token" not in sent
    assert manager.state.room_id == lab
    assert world.record(manager)["properties"]["status"] == "available"
    await world.stop(manager)
    assert lab in world.rooms.rooms


@scenario
async def test_reserved_without_a_job(world: World) -> None:
    """A worker may be promised before there is a job; a job that begins fulfils the promise."""
    manager = await world.start()
    manager.set_reserved()
    await manager.synced()
    assert world.shown(manager) == ("reserved", None, None)
    assert (manager.job_id, manager.state.in_use) == (None, True)
    with manager.busy("job-1"):
        await manager.synced()
        assert world.shown(manager) == ("busy", "job-1", None)
    assert manager.status == "available"


@scenario
async def test_draining_while_reserved_without_a_job(world: World) -> None:
    """Draining waits for the end of a reservation that has no job id, too."""
    manager = await world.start()
    manager.set_reserved()
    with trio.move_on_after(0.2) as waited:
        await manager.draining()
    assert waited.cancelled_caught
    assert manager.status == "reserved"
    manager.set_available()
    await manager.draining()
    assert manager.status == "maintenance"


@scenario
async def test_waiting_for_a_state(world: World) -> None:
    """`wait_for` gives the state that was waited for, and says when it will never come."""
    manager = await world.start()
    results: list[Any] = []

    async def wait() -> None:
        results.append(await manager.wait_for(lambda state: state.status == "busy"))
        with pytest.raises(ManagerEnded):
            await manager.wait_for(lambda state: state.status == "maintenance")
        results.append("ended")

    for wrong, named in ((5, "not int"), (wait, "not an async function")):
        with pytest.raises(TypeError, match=r"takes a plain function of the state, as in wait_for\(.*" + named):
            await manager.wait_for(wrong)  # type: ignore[arg-type]
    world.nursery.start_soon(wait)
    manager.set_busy("job-1")
    await world.until(lambda: results)
    assert results[0].job_id == "job-1"
    assert manager.config.http_url == world.kit.http_url
    await world.stop(manager)
    await world.until(lambda: len(results) == 2)
