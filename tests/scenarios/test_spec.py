"""The 17 scenarios of the specification of a worker's state management, each over every kind of manager.

The order and the names are its own. Where the specification speaks of a return value, a driver's `identity` and `room`
are what the manager has or what the adapter's methods return.
"""

import base64
import json
import logging

import pytest

from tests.support.drivers import Driver, spec
from tests.support.worlds import CAPABILITIES
from worker_state import RoomCreationFailed, SessionString, SignInFailed
from worker_state.advertised import TAGS

REREGISTERED = "Worker re-registered with signaling server"
FREE = {**CAPABILITIES, "status": "available", "current_job_id": None, "pending_job_id": None}

# Worker status updates


@spec
async def test_update_status_to_busy(worker: Driver) -> None:
    """WHEN a job begins THEN `update_metadata` carries "busy" and the current job id, and the local status is busy."""
    await worker.start()

    await worker.update_status("busy", current_job_id="job-1")

    assert worker.status == "busy"
    await worker.synced()
    assert worker.server.sent("update_metadata")[-1]["metadata"]["properties"].items() >= {
        ("status", "busy"),
        ("current_job_id", "job-1"),
    }
    assert worker.server.properties(worker.peer_id) == FREE | {"status": "busy", "current_job_id": "job-1"}


@spec
async def test_update_status_to_available(worker: Driver) -> None:
    """WHEN a job is over THEN `update_metadata` carries "available", and the job id is cleared on the server."""
    await worker.start()
    await worker.update_status("busy", current_job_id="job-1")
    await worker.synced()

    await worker.update_status("available")

    assert worker.status == "available"
    await worker.synced()
    assert worker.server.sent("update_metadata")[-1]["metadata"]["properties"]["status"] == "available"
    assert worker.server.properties(worker.peer_id) == FREE


@spec
async def test_update_status_to_reserved(worker: Driver) -> None:
    """WHEN a job is accepted and has not begun THEN "reserved" is sent with the pending job id."""
    await worker.start()

    await worker.update_status("reserved", pending_job_id="job-2")

    assert worker.status == "reserved"
    await worker.synced()
    assert worker.server.sent("update_metadata")[-1]["metadata"]["properties"].items() >= {
        ("status", "reserved"),
        ("pending_job_id", "job-2"),
    }
    assert worker.server.properties(worker.peer_id) == FREE | {"status": "reserved", "pending_job_id": "job-2"}


@spec
async def test_status_update_failure(worker: Driver) -> None:
    """WHEN the send of a status fails THEN an error is logged, nothing is raised, and the local status stays."""
    await worker.start()
    await worker.lose_the_server()

    await worker.update_status("busy", current_job_id="job-1")

    await worker.until(lambda: worker.server.logged(logging.ERROR, "busy", "cannot be sent"))
    assert worker.status == "busy"
    worker.server.come_back()
    await worker.synced()
    assert worker.server.properties(worker.peer_id) == FREE | {"status": "busy", "current_job_id": "job-1"}


# Worker re-registration


@spec
async def test_reregister_after_client_disconnect(worker: Driver) -> None:
    """WHEN a client has gone THEN a full `register` is sent with the stored room, token and ID token, and logged."""
    await worker.start()
    (first,) = worker.server.sent("register")
    await worker.synced()
    assert not worker.server.logged(logging.INFO, REREGISTERED)

    await worker.reregister()
    await worker.synced()

    _, again = worker.server.sent("register")
    assert again == first
    assert (again["role"], again["peer_id"]) == ("worker", worker.peer_id)
    assert set(again["metadata"]["tags"]) == set(TAGS)
    assert again["metadata"]["properties"] == FREE
    assert {"room_id": again["room_id"], "token": again["token"]} == worker.room
    assert worker.identity == {"id_token": again["id_token"], "username": worker.peer_id}
    assert worker.server.logged(logging.INFO, REREGISTERED) == [REREGISTERED]


@spec
async def test_reregistration_failure(worker: Driver) -> None:
    """WHEN the send of a re-registration fails THEN that is logged as an error; until it is made up for, nobody finds
    the worker."""
    await worker.start()
    await worker.lose_the_server()

    await worker.reregister()

    await worker.until(lambda: worker.server.logged(logging.ERROR, "register again"))
    assert not worker.server.properties(worker.peer_id)
    assert not worker.server.logged(logging.INFO, REREGISTERED)
    worker.server.come_back()
    await worker.synced()
    assert worker.server.logged(logging.INFO, REREGISTERED)
    assert await worker.server.found(worker.room_id) == [worker.peer_id]


# Room creation


@spec
async def test_create_room_with_authentication(worker: Driver) -> None:
    """WHEN a worker has no room THEN it creates one with its ID token, and has the answer's room id and token."""
    assert not worker.server.rooms()

    await worker.start()

    # The server creates no room without a valid ID token.
    assert worker.server.rooms() == {worker.room["room_id"]: worker.room["token"]}
    (register,) = worker.server.sent("register")
    assert {"room_id": register["room_id"], "token": register["token"]} == worker.room


@spec
async def test_room_creation_failure(worker: Driver) -> None:
    """WHEN the room is refused THEN status and text are logged as an error, and an exception prevents the start."""
    worker.server.fail_http("/create-room", 503, "table is being moved")

    with pytest.raises(RoomCreationFailed, match="503"):
        await worker.start()

    assert worker.server.logged(logging.ERROR, "503", "table is being moved")
    assert not worker.server.sent("register")
    assert not worker.server.identities()


# Anonymous sign-in


@spec
async def test_request_anonymous_token(worker: Driver) -> None:
    """WHEN a worker starts THEN it signs in, and has the answer's ID token and username, which is its peer id."""
    await worker.start()

    (register,) = worker.server.sent("register")
    assert worker.server.identities() == [register["peer_id"]]
    assert worker.identity == {"id_token": register["id_token"], "username": register["peer_id"]}


@spec
async def test_sign_in_failure(worker: Driver) -> None:
    """WHEN the sign-in fails THEN that is logged as an error, there is no identity, and the worker does not start."""
    worker.server.fail_http("/anonymous-signin", 500, "quota")

    with pytest.raises(SignInFailed, match="500"):
        await worker.start()

    assert worker.identity is None
    assert worker.server.logged(logging.ERROR, "sign-in failed", "500", "quota")
    assert not worker.server.sent("register")
    assert not worker.server.rooms()


# Room deletion


@spec
async def test_delete_peer_and_room_on_exit(worker: Driver) -> None:
    """WHEN the worker exits THEN its identity is deleted by its peer id, and the room with it."""
    await worker.start()
    assert worker.server.identities() == [worker.peer_id]

    await worker.leave()

    assert not worker.server.identities()
    assert not worker.server.rooms()


@spec
async def test_deletion_failure(worker: Driver) -> None:
    """WHEN the deletion is refused THEN that is logged as an error, and the worker exits all the same."""
    await worker.start()
    worker.server.fail_http("/delete-peer", 403, "not today")

    await worker.leave()

    assert worker.manager.state.ended
    assert worker.server.logged(logging.ERROR, "could not be deleted", "403", "not today")
    assert worker.server.identities() == [worker.peer_id]


# Session string


@spec
async def test_generate_session_string(worker: Driver) -> None:
    """WHEN the worker is registered THEN its session string is the prefix and base64 of JSON with "r", "t" and "p"."""
    await worker.start()

    assert worker.session_string is not None
    prefix, _, encoded = worker.session_string.partition(":")
    assert prefix == "sleap-session"
    assert json.loads(base64.urlsafe_b64decode(encoded)) == {
        "r": worker.room["room_id"],
        "t": worker.room["token"],
        "p": worker.peer_id,
    }


@spec
async def test_use_session_string_for_client_connection(worker: Driver) -> None:
    """WHEN a client has the session string THEN it gets the room's credentials from it, and reaches this worker."""
    await worker.start()
    await worker.synced()
    assert worker.session_string is not None

    await worker.server.reach(worker.session_string, {"job": "job-1"})

    session = SessionString.parse(worker.session_string)
    assert worker.server.rooms() == {session.room_id: session.token}
    signal = await worker.manager.signals.receive()
    assert (signal["type"], signal["payload"]) == ("peer_message", {"job": "job-1"})


# Registration lifecycle


@spec
async def test_initial_registration_on_startup(worker: Driver) -> None:
    """WHEN the worker starts THEN it signs in, creates a room, registers as a worker, and logs its session string."""
    await worker.start()

    assert worker.server.identities() == [worker.peer_id]
    assert list(worker.server.rooms()) == [worker.room_id]
    (register,) = worker.server.sent("register")
    assert register["role"] == "worker"
    assert register["metadata"] == {"tags": list(TAGS), "properties": FREE}
    assert worker.session_string is not None
    assert len(worker.server.logged(logging.INFO, "registered", worker.session_string)) == 1
    assert await worker.server.found(worker.room_id, status="available") == [worker.peer_id]


@spec
async def test_periodic_status_updates_during_operation(worker: Driver) -> None:
    """WHEN the worker works through jobs THEN each change is an `update_metadata`, and no `register` is sent."""
    await worker.start()
    for number in range(2):
        for status, job in (
            ("reserved", {"pending_job_id": f"job-{number}"}),
            ("busy", {"current_job_id": f"job-{number}"}),
            ("available", {}),
        ):
            await worker.update_status(status, **job)
            await worker.synced()
            assert worker.server.properties(worker.peer_id) == FREE | {"status": status} | job

    told = [update["metadata"]["properties"]["status"] for update in worker.server.sent("update_metadata")]
    assert told == ["reserved", "busy", "available"] * 2
    assert len(worker.server.sent("register")) == 1


@spec
async def test_reregistration_after_connection_reset(worker: Driver) -> None:
    """WHEN the peer connection was reset in a job THEN a full `register` is sent, and searches find the worker free."""
    await worker.start()
    await worker.update_status("busy", current_job_id="job-1")
    await worker.synced()
    assert not await worker.server.found(worker.room_id, status="available")

    await worker.update_status("available")
    await worker.reregister()
    await worker.synced()

    assert await worker.server.found(worker.room_id, status="available") == [worker.peer_id]
    _, again = worker.server.sent("register")
    assert again["metadata"]["properties"] == FREE
