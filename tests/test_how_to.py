"""The how-to pages as tests: their programs run word for word, their files can be read, and their names exist."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import trio
import typer
from trio.testing import MockClock

import worker_state
from worker_state import Config, Manager, aio, blocking, open_state_manager, serve_jobs
from worker_state.cli.app import app
from worker_state.settings import ENVIRONMENT_VARIABLE, KEYS, OTHER_VARIABLES, resolve
from worker_state.testing import in_memory

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "how-to"


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


def commands() -> list[tuple[str, list[str]]]:
    """Every `worker-state …` that a page says to type, with its page."""
    typed = re.compile(r"(?:^ *|[/(]|\| )worker-state( [^|>)#\n]*)", re.MULTILINE)
    return [
        (page.name, shlex.split(command))
        for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for block in re.findall(r"^ *```sh\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        for command in typed.findall(block.replace("\\\n", " "))
    ]


def test_the_commands_of_the_pages_exist() -> None:
    """Every command that a page says to type is one, and so is every option."""
    root = typer.main.get_command(app)
    found = commands()
    assert len(found) > 20
    for page, words in found:
        command: Any = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert {word.partition("=")[0] for word in words if len(word) > 1 and word[0] == "-"} <= options, (page, words)
        assert not getattr(command, "commands", {}) or words[0].startswith("--"), (page, words)


def test_the_variables_of_the_pages_exist() -> None:
    """Every variable that a page names is a setting's, or another one that is known."""
    known = {variable for key in KEYS.values() for variable in key.variables} | {ENVIRONMENT_VARIABLE, *OTHER_VARIABLES}
    known |= {"WORKER_STATE_DEVSERVER_EXPOSE", "SLEAP_RTC_"}
    for page in [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(PAGES.glob("*.md"))]:
        assert set(re.findall(r"(?:WORKER_STATE|SLEAP_RTC)_[A-Z_]+", page.read_text("utf-8"))) <= known, page.name
