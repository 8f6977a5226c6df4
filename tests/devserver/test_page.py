"""The page and its data as HTTP: what is in them, what must not be, and who may ask. How it looks: tests/browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from worker_state.devserver.page import page, workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.devserver.conftest import Join, Someone, World
    from worker_state.devserver import DevServer


@pytest.fixture
async def http(server: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http_url, trust_env=False) as client:
        yield client


def shown(world: World, after: float = 0.0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(workers(world.rooms, world.now + after, "").body)["workers"]
    return found


async def test_it_is_there_for_who_reads_and_for_nobody_else(http: httpx.AsyncClient) -> None:
    """GET and HEAD; anything else is told so, and a query changes nothing."""
    for path, kind in (("/", "text/html; charset=utf-8"), ("/workers.json?now", "application/json")):
        got, head, post = await http.get(path), await http.head(path), await http.post(path)
        assert (got.status_code, got.headers["content-type"]) == (200, kind)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(got.content)))
        assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")
        assert (got.headers["cache-control"], got.headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_nothing_runs_on_it_but_what_its_policy_names() -> None:
    """The policy has the hashes of the one script and the one style, and the page asks nobody but this server."""
    response = page()
    policy = dict(response.headers)["content-security-policy"]
    for element in ("script", "style"):
        (content,) = re.findall(rf"<{element}>(.*?)</{element}>", response.body.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert b"//" not in re.sub(rb"(?m)(^|\s)// .*$", b"", response.body)


async def test_the_data_have_every_worker_of_every_room_and_no_secret(
    http: httpx.AsyncClient, server: DevServer, join: Join
) -> None:
    """Clients are none, and neither a token nor an identity goes out."""
    one, two = await join(), await join()
    await one.register()
    await two.register()
    client = await join(beside=one)
    await client.client.ask(client.register_frame(role="client"))
    text = (await http.get("/workers.json")).text
    data = json.loads(text)
    found = data["workers"]
    assert (data["users"], data["rooms"]) == (3, 3)
    assert [each["peer_id"] for each in found] == [
        member.peer_id for member in sorted((one, two), key=lambda member: member.room_id)
    ]
    assert found[0].keys() == {
        *("room_id", "peer_id", "short", "status", "job_id", "gpu_model", "gpu_memory_mb"),
        *("hostname", "tags", "since_seconds"),
    }
    for secret in (one.token, one.id_token, two.token, two.id_token):
        assert secret not in text


@pytest.mark.parametrize("generation", ["v3"])
def test_an_api_key_that_stands_in_a_record_stays_there(world: World) -> None:
    """The newer server writes the key of every worker into its record."""
    frame = {"type": "register", "peer_id": "one", "role": "worker", "api_key": "slp_good", "metadata": {}}
    world.rooms.receive("socket", json.dumps(frame), world.now)
    assert b"slp_good" not in workers(world.rooms, world.now, "").body
    (found,) = shown(world)
    assert (found["peer_id"], found["status"], found["tags"]) == ("one", None, [])


def test_a_worker_has_its_status_since_it_changed(world: World, worker: Someone) -> None:
    """Another record, or another registration, with the same status and job leaves the time; another job does not."""
    worker.now = world.now + 10.0
    worker.update("worker", properties={"status": "available", "gpu_model": "new"})
    worker.register("again")
    assert shown(world, after=20.0)[0]["since_seconds"] == 20.0
    worker.update("worker", tags=["sleap-rtc"], properties={"status": "busy", "current_job_id": "1"})
    assert shown(world, after=20.0)[0]["since_seconds"] == 10.0
    worker.now = world.now + 15.0
    worker.update("worker", tags=["sleap-rtc"], properties={"current_job_id": "2"})
    assert (shown(world, after=20.0)[0]["job_id"], shown(world, after=20.0)[0]["since_seconds"]) == ("2", 5.0)
    world.gone("again")
    assert shown(world) == []
