"""The adapter for a worker that has a state manager of its own: what is different from one that is written by hand."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import examples.state_manager_adapter
from examples.state_manager_adapter import StateManagerAdapter
from tests.support.served import PATIENCE, Served
from tests.support.worlds import given_room
from worker_state import ConfigError, RegistrationRefused, SignInFailed


def played(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE))


def properties(served: Served, adapter: StateManagerAdapter) -> dict[str, Any]:
    peer = served.server.rooms.peer(adapter.manager.state.peer_id or "")
    return {} if peer is None else dict(peer.metadata["properties"])


def test_one_manager_serves_every_call(served: Served) -> None:
    """However often identity and room are asked for, they are the same, and the server has one of each."""

    async def life() -> None:
        async with StateManagerAdapter(served.config) as adapter:
            signed_in = [adapter.request_anonymous_signin() for _ in range(2)]
            room = [adapter.request_create_room("any") for _ in range(2)]
            assert signed_in[0] == signed_in[1]
            assert room[0] == room[1]
            assert len(served.server.rooms.users) == len(served.server.rooms.rooms) == 1

    played(life())
    assert not served.server.rooms.users


def test_a_given_room(served: Served) -> None:
    """A room that is named before the block is joined; inside it, the manager's own is accepted and no other."""
    given = given_room(served.server.rooms, served.server.clock())

    async def life() -> None:
        adapter = StateManagerAdapter(served.config)
        adapter.set_room_credentials(given["room_id"], given["room_token"])
        async with adapter:
            adapter.set_room_credentials(given["room_id"], given["room_token"], "its ID token")
            assert adapter.request_create_room(None) == {"room_id": given["room_id"], "token": given["room_token"]}
            with pytest.raises(ValueError, match="in a room already"):
                adapter.set_room_credentials("another", "token")

    played(life())
    assert list(served.server.rooms.rooms) == [given["room_id"]]


def test_a_room_that_does_not_exist(served: Served) -> None:
    """What the server refuses for good is raised on entering."""

    async def life() -> None:
        async with StateManagerAdapter(replace(served.config, room_id="nowhere", room_token="token")):
            raise AssertionError

    with pytest.raises(RegistrationRefused):
        played(life())


def test_properties(served: Served) -> None:
    """A property that is no job id changes a capability; a job id of another status is cleared; busy always has one."""

    async def life() -> None:
        async with StateManagerAdapter(served.config) as adapter:
            for status, given, shown in (
                ("reserved", {"pending_job_id": "job-1", "gpu_memory_mb": 1}, (None, "job-1", 1)),
                ("busy", {}, ("job-1", None, 1)),
                ("available", {"current_job_id": "job-1"}, (None, None, 1)),
                ("busy", {"gpu_memory_mb": 2}, ("unnamed", None, 2)),
                ("maintenance", {"worker_name": None}, (None, None, 2)),
                ("reserved", {"current_job_id": "job-2"}, (None, None, 2)),
            ):
                await adapter.update_status(status, **given)
                assert adapter.get_status() == status
                await adapter.manager.synced()
                record = properties(served, adapter)
                assert record["status"] == status
                assert (record["current_job_id"], record["pending_job_id"], record["gpu_memory_mb"]) == shown
            assert properties(served, adapter)["worker_name"] is None

    played(life())


def test_what_is_no_status(served: Served) -> None:
    """A word or a property that clients do not understand is refused where it is said."""

    async def life() -> None:
        async with StateManagerAdapter(served.config) as adapter:
            with pytest.raises(ValueError, match="asleep"):
                await adapter.update_status("asleep")
            with pytest.raises(ConfigError, match="gpu_memory_mb"):
                await adapter.update_status("busy", gpu_memory_mb="much")
            with pytest.raises(ValueError, match="own identity"):
                adapter.request_peer_room_deletion("somebody else")
            assert served.server.rooms.users

    played(life())


@pytest.mark.parametrize("begun", [False, True])
def test_the_deletion_is_a_plain_call(served: Served, begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The deletion needs no `await`, may be asked for twice, and changes after it are logged and raise nothing."""

    async def life() -> None:
        async with StateManagerAdapter(served.config) as adapter:
            await adapter.update_status("busy", current_job_id="job-1")
            deletion = adapter.request_peer_room_deletion(adapter.manager.state.peer_id)
            assert adapter.request_peer_room_deletion(adapter.manager.state.peer_id) is deletion
            if begun:
                await asyncio.sleep(0)
        assert deletion.done()
        assert not served.server.rooms.users
        await adapter.update_status("available")
        await adapter.reregister_worker()
        assert adapter.get_status() == "busy"

    played(life())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [error.partition(":")[0] for error in errors] == [
        "status available is told to nobody",
        "the worker is not registered again",
    ]


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("awaited", [False, True])
def test_a_cancelled_exit(served: Served, asked: bool, awaited: bool) -> None:
    """However often the exit is cancelled, and whoever waits for the deletion, the identity is deleted."""

    async def life(entered: asyncio.Event) -> None:
        async with StateManagerAdapter(served.config) as adapter:
            entered.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                if asked:
                    deletion = adapter.request_peer_room_deletion(adapter.manager.state.peer_id)
                    if awaited:
                        await deletion

    async def cancelled() -> None:
        task = asyncio.create_task(life(entered := asyncio.Event()))
        await entered.wait()
        for _ in range(20):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not served.server.rooms.users

    played(cancelled())


def test_a_failed_sign_in(served: Served) -> None:
    """Without an identity every call says why, and leaving the block is no further failure."""

    async def life() -> None:
        async with StateManagerAdapter(served.config) as adapter:
            assert adapter.request_anonymous_signin() is None
            for call in adapter.get_status, lambda: adapter.request_create_room(None):
                with pytest.raises(SignInFailed):
                    call()
            for wait in adapter.update_status("busy"), adapter.reregister_worker():
                with pytest.raises(SignInFailed):
                    await wait

    served.fail_sign_in()
    played(life())


def test_before_the_block(served: Served) -> None:
    """Whoever calls it before its block is told about that."""
    with pytest.raises(RuntimeError, match="async with"):
        StateManagerAdapter(served.config).get_status()


def test_the_adapter_is_short() -> None:
    """The adapter has under 120 lines."""
    assert len(Path(examples.state_manager_adapter.__file__).read_text("utf-8").splitlines()) < 120
