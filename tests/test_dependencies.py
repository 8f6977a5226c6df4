"""The library needs four packages; what needs more says so in `pyproject.toml`, as an extra."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import trio
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.processes import DEADLINE, environment
from worker_state.devserver import DevServer, serve

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "worker_state"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FOUR = {"anyio", "httpx", "trio", "trio-websocket"}
EXTRAS = {"cli": {"h11", "rich", "typer"}, "health": {"h11", "prometheus-client"}}
EXTRA_OF = {
    "__main__.py": "cli",
    "cli": "cli",
    "devserver": "cli",
    "health": "health",
    "http_server.py": "health",
    "metrics.py": "health",
}
"""The extra that the files in or under this name may use."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def test_the_library_names_four_packages_and_the_rest_is_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    assert names(PROJECT["dependencies"]) == FOUR
    assert {name: names(extras[name]) for name in extras if name != "all"} == EXTRAS
    assert extras["all"] == ["worker-state[cli,health]"]


def test_the_matrix_runs_what_is_promised() -> None:
    """`make matrix` reads Pythons and lowest versions here; the page on systems says the same."""
    extras = PROJECT["optional-dependencies"]
    wanted = {*PROJECT["dependencies"], *(each for name in EXTRAS for each in extras[name])}
    assert all([bound.operator for bound in Requirement(each).specifier] == [">="] for each in wanted)
    pythons = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    page = (ROOT / "docs" / "how-to" / "platforms.md").read_text("utf-8")
    assert f"CPython {', '.join(pythons[:-1])} and {pythons[-1]}," in page
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=")


def imported(file: Path) -> set[str]:
    """The packages that a file imports, as they are installed, at run time or for types."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return {name.replace("_", "-") for name in found - sys.stdlib_module_names - {"worker_state"}}


@pytest.mark.parametrize("file", sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")))
def test_a_file_imports_what_its_extra_names(file: str) -> None:
    """h11 and wsproto come with two of the four, so a missing requirement would be noticed nowhere else."""
    extras = {EXTRA_OF[part] for part in Path(file).parts if part in EXTRA_OF}
    assert imported(SOURCE / file) <= FOUR.union(*(EXTRAS[extra] for extra in extras))


def closure(requirements: set[str]) -> dict[str, metadata.Distribution]:
    """These packages and all that they require here, by name, as they are installed."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [Requirement(each) for each in requirements]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        found[name] = distribution = metadata.distribution(name)
        for each in map(Requirement, distribution.requires or []):
            extras = requirement.extras or {""}
            needed = each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
            if needed and canonicalize_name(each.name) not in found:
                wanted.append(each)
    return found


def files(distribution: metadata.Distribution) -> Iterator[Path]:
    """What the distribution has put beside others: packages, modules and its metadata."""
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        yield Path(str(distribution.locate_file(top)))


@pytest.fixture(scope="module")
def four_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four, what they require, and the library."""
    folder = tmp_path_factory.mktemp("four")
    for distribution in closure(FOUR).values():
        for file in files(distribution):
            (folder / file.name).symlink_to(file)
    (folder / "worker_state").symlink_to(SOURCE)
    return folder


BEGIN = """
import importlib.util, sys
assert not [name for name in ("typer", "rich", "prometheus_client", "pytest") if importlib.util.find_spec(name)]
import worker_state
from worker_state import Config
config = Config(*sys.argv[1:])
"""
IN_TRIO = f"""{BEGIN}
import trio
async def main():
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(worker_state.run_state_manager, config)
        with manager.busy("job-1"):
            await manager.synced()
        await manager.synced()
        await manager.send_signal({{"type": "offer", "target": "nobody"}})
        nursery.cancel_scope.cancel()
    async with worker_state.open_state_manager(config) as manager:
        await manager.synced()
trio.run(main)
"""
BLOCKING = f"""{BEGIN}
from worker_state.blocking import start_state_manager
with start_state_manager(config) as manager:
    with manager.busy("job-1"):
        manager.synced(10)
    manager.synced(10)
"""


IN_MEMORY = """
import trio, trio.testing, worker_state
from worker_state.testing import in_memory
async def main():
    async with in_memory() as kit, worker_state.open_state_manager(kit.config()) as manager:
        kit.go_away()
        await trio.sleep(3600)
        kit.come_back()
        await kit.until(kit.rooms.occupied)
        await manager.synced()
trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
"""


def test_the_kit_in_memory_with_the_four_alone(four_alone: Path) -> None:
    """Tests in memory need nothing else, no extra and no pytest."""
    command = [sys.executable, "-S", "-W", "error", "-c", IN_MEMORY]
    done = subprocess.run(
        command,
        cwd=four_alone,
        env=environment(PYTHONPATH=str(four_alone)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("program", [IN_TRIO, BLOCKING], ids=["in trio", "blocking"])
async def test_a_managers_whole_life_with_the_four_alone(four_alone: Path, program: str) -> None:
    """It registers, says what it does, and leaves nothing on the server; and without a word."""
    # -S: no site-packages, be they this environment's or the system's.
    command = [sys.executable, "-S", "-W", "error", "-c", program]
    async with trio.open_nursery() as nursery:
        server: DevServer = await nursery.start(serve)
        with trio.fail_after(DEADLINE):
            done = await trio.run_process(
                [*command, server.ws_url, server.http_url],
                cwd=four_alone,
                env=environment(PYTHONPATH=str(four_alone)),
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        assert (done.returncode, done.stdout.decode()) == (0, "")
        assert any(frame["type"] == "update_metadata" for _, frame in server.frames)
        assert not server.rooms.rooms
        nursery.cancel_scope.cancel()
