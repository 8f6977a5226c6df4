"""`worker-state run --health`: from before the first registration to after the last, and what is refused."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio
import typer

from tests.cli.test_run_worker import Kept, worker_run, working
from worker_state.cli import status
from worker_state.cli.run_health import serve_health, take_port
from worker_state.devserver import serve


@pytest.fixture(autouse=True)
def _a_runtime_directory_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_from_start_to_exit(nursery: trio.Nursery) -> None:
    """While it starts it is alive and not ready; then it is ready; while it leaves it is not, and then it is gone."""
    server, screen = await nursery.start(serve), Kept()
    server.hang_http("/anonymous-signin")
    with trio.fail_after(60):
        async with httpx.AsyncClient(trust_env=False) as client:
            async with working(worker_run(screen, server, health=(0, None))):
                url = (await screen.until("health: ")).removeprefix("health: ").partition("/health")[0]
                assert status.found_workers() == {os.getpid(): url}
                assert (await client.get(f"{url}/health")).status_code == 200
                answer = await client.get(f"{url}/ready")
                assert (answer.status_code, "starting" in answer.json()["reason"]) == (503, True)
                server.release_http()
                while (await client.get(f"{url}/ready")).status_code != 200:
                    await trio.sleep(0.01)
                server.hang_http("/delete-peer")
                screen.on_gone()
                answer = await client.get(f"{url}/ready")
                assert (answer.status_code, answer.json()["reason"]) == (503, "the worker is leaving")
                server.release_http()
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{url}/health")
    assert status.found_workers() == {}


async def test_g36_no_place_for_temporary_files(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only file system without a temporary directory there is a warning, and worker and health live."""

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    server, screen = await nursery.start(serve), Kept()
    with trio.fail_after(60):
        async with httpx.AsyncClient(trust_env=False) as client, working(worker_run(screen, server, health=(0, None))):
            url = (await screen.until("health: ")).removeprefix("health: ").partition("/health")[0]
            await screen.until("warning: `worker-state status` will not find this worker")
            while (await client.get(f"{url}/ready")).status_code != 200:
                await trio.sleep(0.01)


async def test_a_taken_port_is_refused_before_anything_is_done(
    nursery: trio.Nursery, taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 2, and the server has heard nothing."""
    server = await nursery.start(serve)
    with pytest.raises(typer.Exit) as left:
        await worker_run(Kept(), server, health=(taken, None)).run()
    assert left.value.exit_code == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert f"--health {taken}: this port of 127.0.0.1 is in use already" in shown.err
    assert not server.rooms.users


@pytest.mark.parametrize("host", ["", "nowhere.invalid", "192.0.2.1", "a" * 300, "\udcff"])
async def test_an_address_that_cannot_be_had(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is none, or not this machine's, is refused in one sentence that names the option."""
    with pytest.raises(typer.Exit) as left:
        await take_port(0, host)
    assert left.value.exit_code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: --health-host: cannot listen on port 0 of ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
async def test_beyond_loopback_there_is_a_warning(nursery: trio.Nursery, host: str, warned: bool) -> None:
    """Whoever lets others ask is told that they can."""
    screen = Kept()
    await nursery.start(serve_health, await take_port(0, host), lambda: "the worker is starting", screen)
    assert any(line.startswith("warning: everybody who reaches 0.0.0.0") for line in screen.lines) is warned
    (url,) = status.found_workers().values()
    assert url.startswith("http://127.0.0.1:")
