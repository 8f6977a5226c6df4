"""The how-to pages as tests: their programs run word for word, their files can be read, and their names exist."""

import re
import tomllib
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

import worker_state
from worker_state import Config, Manager, aio, blocking, open_state_manager, serve_jobs
from worker_state.settings import resolve
from worker_state.testing import in_memory

PAGES = Path(__file__).parents[1] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_handler_of_the_page() -> None:
    """It answers the offer, sends its progress, and its job is done."""
    (source,) = blocks("run.md", "python")
    program: dict[str, Any] = {}
    exec(source, program)

    async def worker(config: Config) -> None:
        async with open_state_manager(config) as manager:
            await serve_jobs(manager, program["handle"])

    async def main() -> None:
        async with in_memory() as kit, trio.open_nursery() as nursery:
            nursery.start_soon(worker, kit.config())
            await kit.until(kit.rooms.occupied)
            async with kit.client() as client:
                (found,) = await client.find()
                await client.offer(found["peer_id"], epochs=2)
                assert (await client.receive("answer"))["sdp"] == "v=0"
                told = [await client.told("progress"), await client.told("progress")]
                assert told == [{"type": "progress", "epoch": 1}, {"type": "progress", "epoch": 2}]
                await client.told("done")
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_the_settings_of_the_page() -> None:
    """The file names a server, and no key that is unknown."""
    (file,) = blocks("run.md", "toml")
    settings = resolve({}, {}, {"sleap-rtc.toml": tomllib.loads(file)})
    assert settings.warnings == ()
    assert settings.config().capabilities == {"gpu_memory_mb": 24576}
    assert settings.config().timing.http == 20.0


def test_the_names_of_the_page_exist() -> None:
    """Each name in the table is the manager's in all three worlds, or the package's."""
    page = (PAGES / "own-program.md").read_text("utf-8")
    (table,) = re.findall(r"^\| name \| what it is \|\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    rows = [line.strip("| ").split(" | ")[0] for line in table.splitlines()[1:]]
    assert len(rows) > 15
    managers = (Manager, aio.Manager, blocking.BlockingManager)
    text = re.sub(r"\(.*?\)|manager\.|SessionString\.", "", " ".join(rows))
    names = set(re.findall(r"\w+", text)) - {"async", "await", "for", "in", "parse"}
    assert {"busy", "synced", "states", "send_signal", "serve_jobs"} <= names
    for name in names:
        of_managers = all(hasattr(each, name) for each in managers)
        assert of_managers or hasattr(worker_state, name) or hasattr(worker_state.State, name), name
