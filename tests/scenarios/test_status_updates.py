"""Status updates: what the worker says of itself, and what the server shows of it."""

import logging

import trio

from tests.support.worlds import World, scenario
from worker_state import WorkerStatus
from worker_state.advertised import TAGS


@scenario
async def test_busy(world: World) -> None:
    """Busy is true at once, and the server shows it with the current job id."""
    manager = await world.start()

    manager.set_busy("job-1")

    assert manager.status == "busy"
    assert manager.status is WorkerStatus.BUSY
    assert manager.job_id == "job-1"
    await manager.synced()
    assert world.shown(manager) == ("busy", "job-1", None)


@scenario
async def test_available(world: World) -> None:
    """Available again clears the job id on the server, which would keep it otherwise."""
    manager = await world.start()
    manager.set_busy("job-1")
    await manager.synced()

    manager.set_available()

    assert manager.status == "available"
    await manager.synced()
    assert world.shown(manager) == ("available", None, None)


@scenario
async def test_reserved(world: World) -> None:
    """Reserved is shown with the pending job id, and becoming busy clears that."""
    manager = await world.start()

    manager.set_reserved("job-2")
    await manager.synced()
    assert world.shown(manager) == ("reserved", None, "job-2")

    manager.set_busy("job-2")
    await manager.synced()
    assert world.shown(manager) == ("busy", "job-2", None)


@scenario
async def test_maintenance(world: World) -> None:
    """Maintenance is shown without a job."""
    manager = await world.start()

    manager.set_maintenance()

    await manager.synced()
    assert world.shown(manager) == ("maintenance", None, None)


@scenario
async def test_every_update_carries_the_tags(world: World) -> None:
    """Every update carries the tags, so the worker is still found by tag after each change."""
    manager = await world.start()
    async with world.client(manager) as client:
        for change, *job in (manager.set_busy, "job-1"), (manager.set_available,), (manager.set_reserved, "job-2"):
            change(*job)
            await manager.synced()
            assert [peer["peer_id"] for peer in await client.find(status=manager.status)] == [manager.state.peer_id]

    updates = world.sent("update_metadata")
    assert len(updates) >= 3
    assert all(sorted(update["metadata"]["tags"]) == sorted(TAGS) for update in updates)


@scenario
async def test_busy_block(world: World) -> None:
    """The block is busy inside and available after, also when it raises."""
    manager = await world.start()

    try:
        with manager.busy("job-1"):
            await manager.synced()
            assert world.shown(manager) == ("busy", "job-1", None)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass

    assert manager.status == "available"
    await manager.synced()
    assert world.shown(manager) == ("available", None, None)


@scenario
async def test_busy_block_cancelled(world: World) -> None:
    """The block is available after a cancel too."""
    manager = await world.start()

    with trio.CancelScope() as scope, manager.busy("job-1"):
        scope.cancel()
        await trio.sleep_forever()

    assert manager.status == "available"


@scenario
async def test_busy_block_leaves_another_status_alone(world: World) -> None:
    """A status that was set inside the block stays after it: the worker drains."""
    manager = await world.start()

    with manager.busy("job-1"):
        manager.set_maintenance()

    assert manager.status == "maintenance"


@scenario
async def test_send_fails(world: World) -> None:
    """A change that cannot be sent is logged as an error, raises nothing, stays true here, and is told later."""
    manager = await world.start()
    world.go_down()
    await world.until(lambda: not manager.state.connected)

    manager.set_busy("job-1")
    await world.until(lambda: world.logged(logging.ERROR, "busy", "cannot be sent"))

    assert manager.status == "busy"
    world.come_back()
    await manager.synced()
    assert world.shown(manager) == ("busy", "job-1", None)


@scenario
async def test_three_changes_during_an_outage(world: World) -> None:
    """Three changes during an outage are not replayed: the registration after it carries the newest one."""
    manager = await world.start()
    await manager.synced()
    world.go_down()
    await world.until(lambda: not manager.state.connected)
    registers, updates = len(world.sent("register")), len(world.sent("update_metadata"))

    manager.set_reserved("job-1")
    manager.set_busy("job-1")
    manager.set_maintenance()
    world.come_back()
    await manager.synced()

    assert world.shown(manager) == ("maintenance", None, None)
    assert len(world.sent("register")) == registers + 1
    assert len(world.sent("update_metadata")) == updates


@scenario
async def test_changes_while_an_update_is_under_way(world: World) -> None:
    """Many changes at once reach the server as the newest one only."""
    manager = await world.start()
    await manager.synced()

    for number in range(100):
        manager.set_busy(f"job-{number}")
    await manager.synced()

    assert world.shown(manager) == ("busy", "job-99", None)
    assert len(world.sent("update_metadata")) <= 2


@scenario
async def test_a_status_change_never_registers(world: World) -> None:
    """A status change alone sends no `register`."""
    manager = await world.start()

    manager.set_busy("job-1")
    await manager.synced()
    manager.set_available()
    await manager.synced()

    assert len(world.sent("register")) == 1


@scenario
async def test_a_change_while_a_registration_is_unanswered(world: World) -> None:
    """A change behind a `register` is sent as soon as that is answered, and only then is the worker in sync."""
    manager = await world.start()
    await manager.synced()
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers)
    manager.set_busy("job-1")
    await trio.sleep(0.1)
    world.server.release_registers()
    await manager.synced()
    assert world.shown(manager) == ("busy", "job-1", None)
    assert not world.logged(logging.WARNING, "record")
