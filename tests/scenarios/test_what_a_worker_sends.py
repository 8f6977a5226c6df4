"""Every field of every frame that workers in the field send, said through this library, over real sockets.

One life says them all, and a client of the development server searches after each step. Each row is one field: what the
server was sent, and what the client's search found.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import pytest
import trio

from tests.support.worlds import Frame
from worker_state import Manager, open_state_manager
from worker_state.devserver.identities import ApiKey
from worker_state.testing import Kit, on_sockets

NAME = "worker-lab-gpu07-1a2b"
TAGS = ["sleap-rtc", "training-worker", "inference-worker"]
CAPABILITIES: dict[str, Any] = {
    "gpu_memory_mb": 24576,
    "gpu_model": "NVIDIA RTX A5000",
    "cuda_version": "12.4",
    "hostname": "gpu-07",
    "sleap_version": "1.4.1",
    "max_concurrent_jobs": 1,
    "supported_models": ["base", "centroid", "topdown"],
    "supported_job_types": ["training", "inference"],
    "worker_name": "the lab's",
    "sleap_nn_version": None,
    "mounts": [{"path": "/data", "label": "the lab's disk"}],
}
KEY, ACCOUNT_KEY, LAB = "slp_lab", "slp_acct_lab", "0badcafe"
KEYS = {KEY: ApiKey(LAB), ACCOUNT_KEY: ApiKey(None)}
PATIENCE = 30.0
"""Seconds after which the life hangs."""


pytestmark = pytest.mark.xdist_group("what a worker sends")  # they share what a fixture has made


@dataclass
class Step:
    """The last frame of each type that the worker has sent, what a search then found, and who the room's admin is."""

    sent: dict[str, Frame]
    found: Frame
    admin: str | None


async def look(kit: Kit, manager: Manager, tag: str = TAGS[0]) -> Step:
    """What the server and a client of it know of the worker, once it is confirmed."""
    await manager.synced()
    peer_id = manager.state.peer_id
    async with kit.client(manager.state.room_id) as client:
        found = {each["peer_id"]: each for each in await client.find(tag)}
    frames = [frame for frame in kit.frames("register", "update_metadata") if frame["peer_id"] == peer_id]
    whole = [frame for frame in frames if "status" in frame["metadata"]["properties"]]  # no mere looks
    return Step({frame["type"]: frame for frame in whole}, found[peer_id], manager.state.admin_peer_id)


async def lived() -> dict[str, Step]:
    """A worker says everything that it can."""
    steps: dict[str, Step] = {}
    with trio.fail_after(PATIENCE):
        async with on_sockets(generation="v2") as kit:
            config = kit.config(peer_id=NAME, capabilities=CAPABILITIES, **kit.given_room())
            async with open_state_manager(config) as manager:
                steps["registered"] = await look(kit, manager)
                manager.set_reserved()
                steps["promised"] = await look(kit, manager)
                manager.set_reserved("job-1")
                steps["reserved"] = await look(kit, manager)
                manager.set_busy("job-1")
                steps["busy"] = await look(kit, manager)
                manager.set_available()
                steps["available"] = await look(kit, manager)
                manager.set_maintenance()
                steps["maintenance"] = await look(kit, manager)
                manager.set_capabilities({"gpu_memory_mb": 12288, "sleap_nn_version": "0.1", "worker_name": None})
                steps["changed"] = await look(kit, manager)
                manager.set_tags([*TAGS, "a100"])
                steps["tagged"] = await look(kit, manager, "a100")
                for admin in (True, False):
                    manager.set_admin(admin)
                    await kit.until(lambda admin=admin: kit.frames("register")[-1].get("is_admin") is admin)  # type: ignore[misc]
                    steps[f"admin: {admin}"] = await look(kit, manager)
            async with open_state_manager(kit.config()) as manager:
                steps["a room of its own"] = await look(kit, manager)
        for step, named in (("key", {"api_key": KEY}), ("account key", {"api_key": ACCOUNT_KEY, "room_id": LAB})):
            async with (
                on_sockets(generation="v3", api_keys=KEYS) as kit,
                open_state_manager(kit.config(**named)) as worker,
            ):
                steps[step] = await look(kit, worker)
    return steps


@pytest.fixture(scope="module")
def steps() -> dict[str, Step]:
    return trio.run(lived)


REGISTER, UPDATE = "register", "update_metadata"
IN_METADATA = "metadata.properties."
SOME = object()
"""Any text: a secret, or a name that the server has made."""
ABSENT = object()

ROWS = [
    ("registered", REGISTER, "type", REGISTER),
    ("registered", REGISTER, "peer_id", NAME),
    ("registered", REGISTER, "room_id", SOME),
    ("registered", REGISTER, "token", SOME),
    ("registered", REGISTER, "id_token", SOME),
    ("registered", REGISTER, "role", "worker"),
    ("registered", REGISTER, "metadata.tags", TAGS),
    ("registered", REGISTER, IN_METADATA + "status", "available"),
    *(("registered", REGISTER, IN_METADATA + name, value) for name, value in CAPABILITIES.items()),
    ("a room of its own", REGISTER, "peer_id", SOME),
    ("a room of its own", REGISTER, "room_id", SOME),
    ("admin: True", REGISTER, "is_admin", True),
    ("admin: False", REGISTER, "is_admin", False),
    ("key", REGISTER, "api_key", KEY),
    ("key", REGISTER, "room_id", ABSENT),
    ("key", REGISTER, "token", ABSENT),
    ("key", REGISTER, "id_token", ABSENT),
    ("account key", REGISTER, "api_key", ACCOUNT_KEY),
    ("account key", REGISTER, "room_id", LAB),
    ("busy", UPDATE, "type", UPDATE),
    ("busy", UPDATE, "peer_id", NAME),
    ("busy", UPDATE, "metadata.tags", TAGS),
    ("busy", UPDATE, IN_METADATA + "status", "busy"),
    ("busy", UPDATE, IN_METADATA + "current_job_id", "job-1"),
    ("busy", UPDATE, IN_METADATA + "pending_job_id", None),
    ("promised", UPDATE, IN_METADATA + "status", "reserved"),
    ("promised", UPDATE, IN_METADATA + "pending_job_id", None),
    ("reserved", UPDATE, IN_METADATA + "pending_job_id", "job-1"),
    ("available", UPDATE, IN_METADATA + "status", "available"),
    ("available", UPDATE, IN_METADATA + "current_job_id", None),
    ("maintenance", UPDATE, IN_METADATA + "status", "maintenance"),
    ("changed", UPDATE, IN_METADATA + "gpu_memory_mb", 12288),
    ("changed", UPDATE, IN_METADATA + "gpu_model", "NVIDIA RTX A5000"),
    ("changed", UPDATE, IN_METADATA + "sleap_nn_version", "0.1"),
    ("changed", UPDATE, IN_METADATA + "worker_name", None),
    ("tagged", UPDATE, "metadata.tags", [*TAGS, "a100"]),
]
"""After which step, in which frame, which field has which value."""


def at(message: Frame, path: str) -> Any:
    """The value at this path, or `ABSENT`."""
    parts = path.split(".")
    return reduce(lambda inner, name: inner.get(name, ABSENT) if isinstance(inner, dict) else ABSENT, parts, message)


@pytest.mark.parametrize(
    ("step", "frame", "field", "value"), ROWS, ids=[f"{row[1]} {row[2]} ({row[0]})" for row in ROWS]
)
def test_what_a_worker_sends(steps: dict[str, Step], step: str, frame: str, field: str, value: Any) -> None:
    """The field has this value in the frame; a client's search, in that room, finds the worker, and the value on it."""
    seen = steps[step]
    sent, found = at(seen.sent[frame], field), at(seen.found, field)
    if value is SOME:
        assert isinstance(sent, str)
        assert len(sent) >= 4
    else:
        assert sent == value
    if field == "metadata.tags":
        assert sorted(found) == sorted(sent)  # the server keeps a set
    elif field.startswith("metadata.") or field == "peer_id":
        assert found == sent
    elif sent is True:  # is_admin: others learn of it from their registration's answer
        assert seen.admin == NAME
