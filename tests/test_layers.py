"""The picture in the design as a test: who may import whom, read from the sources, not at run time.

Every file of the package belongs to one place: its folder, or itself where the picture names it. A place names the
other places that it may import and the third-party packages that it may use; whatever is not named here is an arrow
that runs upwards or sideways.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "worker_state"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE
FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
LONGEST_FILE = 330


@dataclass(frozen=True)
class Place:
    """What the files of one place may import at run time, and what only for the type checker."""

    inside: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()
    for_types_only: frozenset[str] = frozenset()


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def place(inside: str = "", outside: str = "", for_types_only: str = "") -> Place:
    return Place(names(inside), names(outside), names(for_types_only))


PLACES = {
    # The leaves: what everything may use.
    "advertised": place("errors"),
    "config": place("errors advertised redact"),
    "errors": place("redact"),
    "foreign_json": place(),
    "session_string": place("errors foreign_json"),
    "redact": place("foreign_json"),
    "logs": place(),  # only the standard library: every caller may say what the line is about
    "extras": place("errors"),
    "forked": place(outside="trio"),
    "watched": place(outside="trio"),
    "signal_buffer": place("protocol", "trio"),
    "background": place(outside="trio"),
    # The component, from the bottom up.
    "protocol": place("protocol advertised config errors session_string redact foreign_json"),
    "net/http_client": place("net protocol redact", "trio httpx"),
    "net": place("net forked protocol redact", "trio trio_websocket"),
    "actors/runner": place("protocol", "trio"),
    "actors/log_lines": place("protocol logs redact session_string"),
    "actors/link": place("protocol config redact actors/log_lines", "trio", for_types_only="net"),
    # An actor's siblings are absent on purpose: actors know each other's events, not each other.
    "actors": place(
        "actors/runner actors/link actors/log_lines protocol config errors session_string redact logs",
        "trio",
        for_types_only="net net/http_client",
    ),
    "world": place("config protocol redact net net/http_client", "trio"),
    "supervisor": place("actors actors/runner protocol config errors redact logs signal_buffer watched world", "trio"),
    "refusals": place("config errors", "trio"),
    "views": place("refusals supervisor protocol watched", "trio"),
    "manager_base": place("refusals supervisor protocol advertised config redact watched", "trio"),
    "manager": place(
        "manager_base refusals views supervisor protocol config errors logs watched background world", "trio"
    ),
    # What is built on it.
    "jobs": place("manager protocol errors logs", "trio"),
    "bridge": place("refusals manager_base manager protocol config errors", "trio anyio"),
    "aio": place("bridge integrations protocol config config_files errors"),
    "blocking": place("aio bridge integrations protocol config config_files errors"),
    "integrations": place(
        "integrations refusals manager protocol config errors session_string redact logs extras forked",
        "trio h11 prometheus_client",
    ),
    "settings": place("config advertised errors protocol redact session_string"),
    "config_files": place("config errors logs settings"),
    "tools/checks": place("protocol config redact"),
    "tools/roster": place("protocol redact"),
    "tools": place(
        "tools tools/checks tools/roster net net/http_client protocol config errors redact session_string logs watched "
        "background world",
        "trio",
    ),
    "devserver": place(
        "devserver tools/roster integrations protocol extras forked logs foreign_json", "trio trio_websocket"
    ),
    # Only tests import it: those of whoever embeds the component, and ours.
    "testing": place(
        "testing devserver net world protocol config errors background foreign_json", "trio trio_websocket"
    ),
    # Everything comes in when it is asked for.
    "__init__": place(
        for_types_only="config config_files errors session_string protocol integrations jobs manager",
    ),
    # It looks for what the command line needs, once a Ctrl-C is no traceback any more.
    "__main__": place("cli", "rich"),
    "cli": place(
        "__init__ cli config config_files devserver errors foreign_json integrations jobs logs manager protocol redact "
        "session_string settings tools tools/checks tools/roster watched",
        "trio typer rich",
    ),
}

PURE = names("protocol settings tools/checks tools/roster")
# Beyond third-party packages, what is pure knows no clock, no log, no chance and no operating system.
IMPURE = names(
    "asyncio datetime logging multiprocessing os queue secrets select selectors signal socket ssl subprocess "
    "tempfile threading time uuid"
)


@dataclass(frozen=True)
class Import:
    """One imported name, absolute: `from ..core import wire` in an actor is `worker_state.protocol.frames`."""

    name: str
    line: int
    for_types_only: bool


def place_of(file: str) -> str:
    path = file.removesuffix(".py")
    return path if path in PLACES else path.partition("/")[0]


def imports(file: str, text: str) -> Iterator[Import]:
    package = [PACKAGE, *file.split("/")[:-1]]
    tree = ast.parse(text)
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            found = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in found:
            yield Import(name, node.lineno, id(node) in typing_only)


def target_place(name: str) -> str:
    """The place that an absolute name inside the package belongs to; a public name is `__init__`'s."""
    _, first, second, *_ = *name.split("."), "", ""
    return next((place for place in (f"{first}/{second}", first) if place in PLACES), "__init__")


def global_chance(text: str) -> Iterator[int]:
    """The lines that use the module `random` for more than the name of its class.

    Without `import random` the name is a parameter of type Random, and exactly what is wanted.
    """
    tree = ast.parse(text)
    module_names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "random"
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in module_names:
                if attribute != "Random":
                    yield node.lineno


def complaints(file: str, text: str) -> list[str]:
    """Everything in one file that the picture does not allow; pure, so that it can be tested itself."""
    rule = PLACES.get(place_of(file))
    if rule is None:
        return [f"{file}: no place in the picture; give it one in {Path(__file__).name}"]
    found = []
    for item in imports(file, text):
        top = item.name.partition(".")[0]
        if top == PACKAGE:
            target = target_place(item.name)
            allowed = target in rule.inside or (item.for_types_only and target in rule.for_types_only)
            if not allowed:
                found.append(f"{file}:{item.line}: {place_of(file)} may not import {item.name}")
        elif top not in sys.stdlib_module_names:
            if top not in rule.outside:
                found.append(f"{file}:{item.line}: {place_of(file)} may not use {top}")
        elif place_of(file) in PURE and top in IMPURE:
            found.append(f"{file}:{item.line}: what is pure may not use {top}")
        elif place_of(file) in PURE and top == "random" and item.name not in ("random", "random.Random"):
            found.append(f"{file}:{item.line}: what is pure takes its Random as an argument, not {item.name}")
    if place_of(file) in PURE:
        found += [f"{file}:{line}: what is pure takes its Random as an argument" for line in global_chance(text)]
    return found


@pytest.mark.parametrize("file", FILES)
def test_every_import_follows_an_arrow_of_the_picture(file: str) -> None:
    assert complaints(file, (SOURCE / file).read_text("utf-8")) == []


@pytest.mark.parametrize("file", FILES)
def test_no_file_is_too_long_to_be_read_in_one_go(file: str) -> None:
    assert len((SOURCE / file).read_text("utf-8").splitlines()) <= LONGEST_FILE


def test_an_extra_of_the_integrations_is_imported_by_one_file() -> None:
    """h11 by the one HTTP server, which is all that the development server takes from there, beside its accepting."""
    found = {
        (item.name.partition(".")[0], file)
        for file in FILES
        for item in imports(file, (SOURCE / file).read_text("utf-8"))
        if item.name.startswith(("h11", "prometheus_client"))
    }
    assert found == {("h11", "integrations/http_server.py"), ("prometheus_client", "integrations/metrics.py")}
    taken = {
        item.name.rpartition(".")[0]
        for file in FILES
        if place_of(file) == "devserver"
        for item in imports(file, (SOURCE / file).read_text("utf-8"))
        if item.name.startswith(f"{PACKAGE}.integrations")
    }
    assert taken == {f"{PACKAGE}.integrations.http_server", f"{PACKAGE}.integrations.accepting"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("protocol/reconnect.py", "import trio"),
        ("protocol/reconnect.py", "from time import monotonic"),
        ("protocol/reconnect.py", "import logging.handlers"),
        ("settings.py", "import os"),
        ("protocol/reconnect.py", "from random import uniform"),
        ("protocol/reconnect.py", "import random\nx = random.random()"),
        ("protocol/reconnect.py", "from ..watched import Watched"),
        ("protocol/reconnect.py", "from worker_state import Config"),
        ("protocol/reconnect.py", "def late():\n    import httpx"),
        ("tools/roster.py", "import trio"),
        ("tools/checks.py", "import time"),
        ("tools/checks.py", "from worker_state.tools import observer"),
        ("devserver/page.py", "from worker_state.tools.observer import open_roster"),
        ("watched.py", "from worker_state.protocol import state"),
        ("actors/status.py", "from .connection import run"),
        ("actors/status.py", "from worker_state.actors import connection"),
        ("actors/status.py", "from worker_state.net.http_client import Http"),
        ("actors/status.py", "import wsproto"),
        ("net/websocket.py", "from .. import manager"),
        ("net/websocket.py", "import httpx"),
        ("manager.py", "import httpx"),
        ("manager.py", "from .devserver import serve"),
        ("devserver/app.py", "from ..manager import Manager"),
        ("devserver/app.py", "import worker_state"),
        ("__init__.py", "from .net.websocket import Dial"),
        ("__init__.py", "from .config import Config"),
        ("cli.py", "from .actors import status"),
        ("cli.py", "import httpx"),
        ("testing/kit.py", "from ..manager import Manager"),
        ("testing/kit.py", "from worker_state.integrations import http_server"),
        ("testing/kit.py", "import h11"),
        ("world.py", "from .testing.memory_kit import MemoryKit"),
        ("manager.py", "from worker_state import testing"),
        ("devserver/app.py", "from worker_state.testing import in_memory"),
        ("cli.py", "from .testing import on_sockets"),
        ("surprise.py", ""),
    ],
)
def test_the_checker_objects_to_an_arrow_that_is_not_in_the_picture(file: str, text: str) -> None:
    assert len(complaints(file, text)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("protocol/reconnect.py", "from random import Random"),
        ("protocol/reconnect.py", "import random\nx: random.Random"),
        ("protocol/reconnect.py", "from random import Random\ndef wait(random: Random): random.uniform(0, 1)"),
        ("protocol/frames.py", "import json\nfrom . import status\nfrom worker_state.protocol import state"),
        ("watched.py", "import trio"),
        ("actors/status.py", "import logging\nimport trio\nfrom ..protocol import frames\nfrom .runner import Inbox"),
        ("actors/status.py", "if TYPE_CHECKING:\n    from ..net.websocket import Dial"),
        ("net/websocket.py", "import trio\nfrom trio_websocket import wrap_client_stream"),
        ("supervisor.py", "from .actors import connection, status\nfrom . import world"),
        ("testing/kit.py", "import trio\nfrom worker_state.devserver import serve\nfrom ..world import World"),
        ("devserver/routes.py", "import trio\nfrom .rules import Rooms\nfrom worker_state.protocol import frames"),
        (
            "__init__.py",
            "if TYPE_CHECKING:\n    from .config import Config\n    from .manager import open_state_manager",
        ),
        ("cli.py", "import worker_state\nfrom worker_state import Config, devserver"),
    ],
)
def test_the_checker_accepts_an_arrow_of_the_picture(file: str, text: str) -> None:
    assert complaints(file, text) == []
