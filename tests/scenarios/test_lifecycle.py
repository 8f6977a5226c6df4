"""Connections that are lost, and how the worker comes back and finally leaves."""

import logging
from functools import partial

import pytest
import trio

from tests.support.worlds import World, scenario
from worker_state import ManagerEnded, Timing
from worker_state.watched import SETTLED


@scenario
async def test_connection_lost(world: World) -> None:
    """A lost connection is logged once, dialled again, and registered with the true status; `states` tells of it."""
    manager = await world.start()
    manager.set_busy("job-1")
    await manager.synced()
    seen: list[bool] = []

    async def watch() -> None:
        async for state in manager.states:
            seen.append(state.connected)  # noqa: PERF401 - it is looked at before it ends

    world.nursery.start_soon(watch)
    await world.until(lambda: bool(seen))
    world.cut()
    await world.until(lambda: len(world.sent("register")) == 2)
    await manager.synced()

    assert world.shown(manager) == ("busy", "job-1", None)
    assert len(world.logged(logging.WARNING, "connection lost")) == 1
    assert seen[0] is True
    assert False in seen
    assert seen[-1] is True
    assert world.sent("register")[1]["metadata"]["properties"]["current_job_id"] == "job-1"


@scenario
async def test_identity_and_session_outlive_the_connection(world: World) -> None:
    """Peer id, room and session string are the same after a lost connection, and nobody signs in again."""
    manager = await world.start()
    before = (manager.state.peer_id, manager.state.room_id, manager.session_string)

    world.cut()
    await world.until(lambda: len(world.sent("register")) == 2)
    await manager.synced()

    assert (manager.state.peer_id, manager.state.room_id, manager.session_string) == before
    assert len(world.rooms.users) == 1


@scenario
async def test_server_restarts(world: World) -> None:
    """After a restart that forgets every registration the worker is found by a client again."""
    manager = await world.start()
    world.go_down()
    world.rooms.forget_peers()
    await world.until(lambda: not manager.state.connected)
    world.come_back()

    await manager.synced()

    async with world.client(manager) as client:
        assert len(await client.find(status="available")) == 1


@scenario
async def test_failed_dials(world: World) -> None:
    """While nobody is there, the first failure is logged, the others are counted, and the pauses are short."""
    manager = await world.start()
    world.go_down()

    await world.until(lambda: len(world.logged(logging.DEBUG, "no connection")) >= 1)
    world.come_back()
    await manager.synced()

    (lost,) = world.logged(logging.WARNING, "connection lost")
    (first,) = world.logged(logging.WARNING, "no connection")
    second = world.logged(logging.DEBUG, "no connection")[0]
    pauses = [float(line.split()[-2]) for line in (lost, first, second)]
    assert all(0 < pause <= 5 for pause in pauses)
    assert len(world.logged(logging.INFO, "connected again")) == 1


@scenario
async def test_server_closes_politely(world: World) -> None:
    """Any close that the worker did not ask for means coming back, also one with code 1000."""
    manager = await world.start()

    await world.deliver(manager, '{"type": "offer", "sender": "x"}')
    world.cut()
    await world.until(lambda: manager.state.epoch == 2)
    await manager.synced()

    assert manager.signals.receive_nowait()["type"] == "offer"


@scenario
async def test_clean_exit(world: World) -> None:
    """At the exit the identity is deleted while it is still registered, so that the server deletes the room too."""
    manager = await world.start()
    assert len(world.rooms.users) == 1
    assert len(world.rooms.rooms) == 1

    await world.stop(manager)

    assert len(world.rooms.users) == 0
    assert len(world.rooms.rooms) == 0
    assert manager.state.connected is False


@scenario
async def test_exit_waits_for_nothing_but_the_handshake(world: World) -> None:
    """When the server answers the closing handshake, the exit is over with that, and not with its deadline."""
    manager = await world.start(timing=Timing(close=1000.0))
    await manager.synced()
    with trio.fail_after(50.0):
        await world.stop(manager)


@scenario
async def test_exit_during_an_outage(world: World) -> None:
    """At the exit during an outage the identity is deleted all the same: the two ports do not gate each other."""
    manager = await world.start()
    world.go_down()
    await world.until(lambda: not manager.state.connected)

    await world.stop(manager)

    assert len(world.rooms.users) == 0


@scenario
async def test_exit_with_an_http_side_that_hangs(world: World) -> None:
    """A deletion that hangs is given up after its bound and logged; the exit goes on."""
    manager = await world.start(timing=Timing(exit=0.3))
    world.hang_http("/delete-peer")
    began = trio.current_time()

    await world.stop(manager)

    assert 0.3 <= trio.current_time() - began < world.patience / 2
    assert world.logged(
        logging.ERROR, "not everything could be deleted", "1 of its identities", manager.state.peer_id or ""
    )


@scenario
async def test_exit_with_an_http_side_that_fails(world: World) -> None:
    """A deletion that fails three times, or is refused once, is logged, and does not fail the exit."""
    for answers in ([(500, b"oops")] * 3, [(403, b"no")]):
        manager = await world.start()
        for answer in answers:
            world.fail_http("/delete-peer", *answer)
        await world.stop(manager)
        status, words = answers[0]
        assert world.logged(logging.ERROR, "could not be deleted", f"HTTP {status}", words.decode())
    assert len(world.rooms.users) == 2


@scenario
async def test_exit_with_an_http_side_that_fails_for_a_moment(world: World) -> None:
    """A deletion that fails twice is tried again, and nobody is left behind."""
    manager = await world.start()
    for _ in range(2):
        world.fail_http("/delete-peer", 502, b"bad gateway")

    await world.stop(manager)

    assert not world.rooms.users
    assert not world.logged(logging.ERROR, "could not be deleted")


@scenario
async def test_cancelled_while_starting(world: World) -> None:
    """Cancelled between sign-in and registration, the worker leaves no identity behind."""
    world.hang_http("/create-room")

    with trio.CancelScope() as scope:
        world.nursery.start_soon(_cancel_when, world, lambda: bool(world.rooms.users), scope)
        await world.start(timing=Timing(exit=0.5))

    await world.until(lambda: not world.rooms.users)


async def _cancel_when(world: World, condition: object, scope: trio.CancelScope) -> None:
    assert callable(condition)
    await world.until(condition)
    scope.cancel()


@scenario
async def test_cancelled_while_the_answer_to_register_is_missing(world: World) -> None:
    """Cancelled while a `register` is unanswered, the worker deletes its identity and is not listed afterwards."""
    world.mute()
    with trio.CancelScope() as scope:
        world.nursery.start_soon(_cancel_when, world, lambda: bool(world.sent("register")), scope)
        await world.start()
    world.unmute()

    await world.until(lambda: not world.rooms.users)
    await world.until(lambda: all(not world.rooms.peers(room) for room in world.rooms.rooms))


@scenario
async def test_after_the_exit(world: World) -> None:
    """What has ended says so (G54): whatever is asked of it is refused, and what can be read is the last known."""
    manager = await world.start()
    await world.stop(manager)

    assert manager.state.ended
    await trio.sleep(2 * SETTLED)  # until then tasks are being cancelled
    for change in (
        manager.set_available,
        manager.set_maintenance,
        manager.set_reserved,
        partial(manager.set_busy, "job-1"),
        partial(manager.set_tags, ["a"]),
        partial(manager.set_capabilities, {"gpu_memory_mb": 1}),
        partial(manager.set_admin, True),
        manager.reregister,
        partial(manager.busy("job-1").__enter__),
    ):
        with pytest.raises(ManagerEnded):
            change()
    for wait in manager.synced, manager.draining, partial(manager.send_signal, {"type": "candidate"}):
        with pytest.raises(ManagerEnded):
            await wait()
    with pytest.raises(ManagerEnded):
        await manager.wait_for(lambda state: state.status == "busy")
    assert (await manager.wait_for(lambda state: state.ended)).status == "available"
    assert "ended" in repr(manager)
    assert [message async for message in manager.signals] == []
    async for _ in manager.states:
        pass


@scenario
async def test_two_workers(world: World) -> None:
    """Two workers side by side do not touch each other."""
    first, second = await world.start(), await world.start()
    first.set_busy("job-1")
    await first.synced()

    await world.stop(second)

    assert world.shown(first) == ("busy", "job-1", None)
    assert len(world.rooms.users) == 1


@scenario
async def test_from_another_thread(world: World) -> None:
    """A call from another thread is refused and changes nothing, and through trio's own bridge it works."""
    manager = await world.start()
    await manager.synced()

    with pytest.raises(RuntimeError, match="from_thread"):
        await trio.to_thread.run_sync(manager.set_busy, "job-1")
    with pytest.raises(RuntimeError):
        await trio.to_thread.run_sync(manager.set_available)  # though nothing would change
    assert manager.status == "available"
    await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(manager.set_busy, "job-1"))

    await manager.synced()
    assert world.shown(manager) == ("busy", "job-1", None)


@scenario
async def test_new_session_string(world: World) -> None:
    """When the room was lost and a new one is created, the new session string is logged and shown by the state."""
    manager = await world.start()
    await manager.synced()
    before = manager.session_string
    world.rooms.delete_peer({"peer_id": manager.state.peer_id}, world.now())

    manager.set_busy("job-1")
    await world.until(lambda: manager.session_string != before)

    assert manager.session_string is not None
    assert len(world.logged(logging.WARNING, "old session string", manager.session_string)) == 1
