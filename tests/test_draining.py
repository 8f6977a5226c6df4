"""Draining: no further job, time for the one that runs, then the end."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
from typer.testing import CliRunner

from tests.cli.test_run_worker import Kept, worker_run
from tests.support.worlds import World, scenario
from worker_state import Config, Manager, ManagerEnded, open_state_manager
from worker_state.cli import run_worker
from worker_state.cli.app import app
from worker_state.cli.signals import REPEATED, TERMINATED_AGAIN
from worker_state.devserver import serve


@scenario
async def test_a_worker_without_a_job_is_in_maintenance_at_once(world: World) -> None:
    """Draining an idle worker takes no time, and no client finds it available any more."""
    manager = await world.start()
    await manager.draining()

    assert manager.state.draining
    assert manager.status == "maintenance"
    await manager.synced()
    assert world.shown(manager) == ("maintenance", None, None)


@scenario
async def test_the_running_job_finishes(world: World) -> None:
    """A busy worker stays truthfully busy until its job ends; then it is in maintenance, and never available."""
    manager = await world.start()
    finished, drained, statuses = trio.Event(), trio.Event(), list[str]()

    async def job() -> None:
        with manager.busy("job-1"):
            await finished.wait()

    async def drain() -> None:
        await manager.draining()
        drained.set()

    async def watch() -> None:
        async for state in manager.states:
            statuses.append(state.status)

    world.nursery.start_soon(job)
    await world.until(lambda: manager.status == "busy")
    world.nursery.start_soon(watch)
    world.nursery.start_soon(drain)
    await manager.states.wait_for(lambda state: state.draining)
    await manager.synced()
    assert world.shown(manager) == ("busy", "job-1", None)
    assert not drained.is_set()

    finished.set()
    await drained.wait()
    await manager.synced()
    assert world.shown(manager) == ("maintenance", None, None)
    assert "available" not in statuses


@scenario(only="fake")  # the clock decides
async def test_the_waiting_is_bounded_by_the_caller(world: World) -> None:
    """The caller's limit ends the waiting and not the draining: the job that ends later makes room for none."""
    manager = await world.start()
    manager.set_reserved("job-1")
    with trio.move_on_after(10.0) as limit:
        await manager.draining()

    assert limit.cancelled_caught
    assert (manager.status, manager.job_id) == ("reserved", "job-1")
    manager.set_busy("job-1")
    manager.set_available()
    assert manager.status == "maintenance"
    await manager.draining()


@scenario(only="fake")  # the clock decides
async def test_a_reservation_that_nobody_keeps_ends_the_draining(world: World) -> None:
    """A reservation that is over by its limit leaves a draining worker in maintenance, not available."""
    manager = await world.start(reservation_limit=30.0)
    manager.set_reserved("job-1")
    await manager.draining()
    assert manager.status == "maintenance"


@scenario
async def test_the_end_ends_the_waiting(world: World) -> None:
    """Whoever still waits for a job when the manager ends is told."""
    manager = await world.start()
    manager.set_busy("job-1")
    told = trio.Event()

    async def drain() -> None:
        with pytest.raises(ManagerEnded):
            await manager.draining()
        told.set()

    world.nursery.start_soon(drain)
    await manager.states.wait_for(lambda state: state.draining)
    await world.stop(manager)
    await told.wait()


# `worker-state run`, in this process, with real signals


@contextmanager
def unharmed() -> Iterator[None]:
    """A signal that comes when nobody listens would end the tests."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def managers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Manager]]:
    """The managers of the commands in this process: each has taken a job, for the commands never do."""
    opened: list[Manager] = []

    @asynccontextmanager
    async def busy(config: Config, early: Callable[[Manager], None]) -> AsyncIterator[Manager]:
        async with open_state_manager(config, early=early) as manager:
            manager.set_busy("job-1")
            opened.append(manager)
            yield manager

    monkeypatch.setattr(run_worker, "open_state_manager", busy)
    with unharmed():
        yield opened


async def running(
    managers: list[Manager],
    screen: Kept,
    limit: float,
    then: Callable[[Manager], None],
    *,
    before: int = signal.SIGTERM,
) -> None:
    """A command with a job, sent a signal, and what happens `then`; returns when the command has ended in order."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        async with trio.open_nursery() as command:
            command.start_soon(worker_run(screen, server, drain_timeout=limit).run)
            await screen.until("busy with job job-1")
            signal.raise_signal(before)
            if before == signal.SIGTERM:
                await screen.until("Draining: busy with job job-1")
            then(managers[0])
        assert screen.lines.count("Leaving (once more to force it).") == 1
        assert not server.rooms.users
        nursery.cancel_scope.cancel()


async def test_sigterm_drains_before_it_leaves(managers: list[Manager]) -> None:
    """At SIGTERM the running job may finish; then the command leaves in order."""
    screen = Kept()
    await running(managers, screen, 60.0, Manager.set_available)
    assert managers[0].status == "maintenance"
    assert not any("not over" in line for line in screen.lines)


async def test_a_job_that_does_not_end_is_left(managers: list[Manager]) -> None:
    """When the time for the job is over the command says so and leaves."""
    screen = Kept()
    await running(managers, screen, 0.05, lambda _: None)
    assert "The job is not over after 0.05 s." in screen.lines


async def test_a_second_signal_ends_the_draining(managers: list[Manager], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the command drains, the next signal leaves at once, in order."""
    monkeypatch.setattr("worker_state.cli.signals.TERMINATED_AGAIN", 0.0)
    screen = Kept()
    await running(managers, screen, 3600.0, lambda _: signal.raise_signal(signal.SIGTERM))
    assert managers[0].status == "busy"


async def test_the_echo_of_a_signal_does_not_end_the_draining(managers: list[Manager]) -> None:
    """A SIGTERM that is handed on twice drains all the same."""
    screen = Kept()

    def again(manager: Manager) -> None:
        signal.raise_signal(signal.SIGTERM)
        trio.lowlevel.current_trio_token().run_sync_soon(manager.set_available)

    await running(managers, screen, 60.0, again)
    assert managers[0].status == "maintenance"
    assert TERMINATED_AGAIN > REPEATED > 0


async def test_the_echo_of_sigterm_may_come_late(managers: list[Manager], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every core computes, a shell hands SIGTERM on long after SLURM has sent it; Ctrl-C then is another one."""
    monkeypatch.setattr("worker_state.cli.signals.REPEATED", 0.0)
    monkeypatch.setattr("worker_state.cli.signals.TERMINATED_AGAIN", 30.0)
    screen = Kept()
    await running(managers, screen, 0.5, lambda _: signal.raise_signal(signal.SIGTERM))
    assert "The job is not over after 0.5 s." in screen.lines

    managers.clear()
    await running(managers, Kept(), 3600.0, lambda _: signal.raise_signal(signal.SIGINT))


async def test_ctrl_c_does_not_drain(managers: list[Manager]) -> None:
    """A person at a terminal does not wait for the job."""
    screen = Kept()
    await running(managers, screen, 3600.0, lambda _: None, before=signal.SIGINT)
    assert not managers[0].state.draining


async def test_a_worker_that_is_only_starting_has_nothing_to_drain(managers: list[Manager]) -> None:
    """SIGTERM during the start leaves at once."""
    screen = Kept()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        server.mute()
        async with trio.open_nursery() as command:
            command.start_soon(worker_run(screen, server).run)
            while not server.rooms.users:
                await trio.sleep(0.005)
            signal.raise_signal(signal.SIGTERM)
        assert (managers, server.rooms.users) == ([], {})
        nursery.cancel_scope.cancel()


async def test_a_drain_that_is_overtaken_by_the_end_is_quiet() -> None:
    """When the screen's reader goes away while the worker drains, nothing is raised."""
    screen = Kept()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        async with open_state_manager(Config(server.ws_url, server.http_url)) as manager:
            manager.set_busy("job-1")
            running = worker_run(screen, server, drain_timeout=3600.0, manager=manager)
            nursery.start_soon(running.drain)
            await screen.until("Draining")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_a_limit_of_no_sense_is_refused(seconds: str) -> None:
    """A limit that is no number of seconds is refused by its option's name."""
    result = CliRunner().invoke(app, ["run", "--drain-timeout", seconds])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--drain-timeout must be" in result.stderr
