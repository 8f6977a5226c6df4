"""The tutorial as a test, which does what its pages say, in their order, and no more.

Prose names the terminal that the next block is about, and presses Ctrl-C. A block of `sh` is typed there, a block of
`text` is what comes out there next, another block is a file. Ids, times and numbers of seconds are those of somebody
else's run; an id that stands on the page twice is twice the same one here. `…` alone in a line stands for any lines.
"""

import random
import re
import shlex
import signal
import socket
import sys
import tomllib
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.processes import DEADLINE, PROGRAM, Running, Spawn, spawning

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "tutorial"
FIRST = (PAGES / "first-worker.md").read_text("utf-8")
TRY = re.findall(r"^## Try a whole one\n(.*?)^## ", (PAGES / "add-it.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)[
    0
]
BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TERMINAL = re.compile(
    r"(Ctrl-C )?in the (first|second|third|fourth) terminal|[Tt]he (first|second|third|fourth) terminal"
)
FILE = re.compile(r"[Tt]he file `([\w.-]+)`")
PROGRAMS = {  # the second one's log is on stderr, which a window shows, too
    "worker-state": (PROGRAM,),
    "python3": ("sh", "-c", 'exec "$0" "$@" 2>&1', sys.executable),
}
INSTALLATION = ("python3 -m venv ", "pip install ")  # which the environment of the tests has behind it
IDS = r"sleap-session:\S+|[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{8}\b"
VARYING = {
    r"\d\d:\d\d:\d\d(?:,\d{3})?": r"\d\d:\d\d:\d\d(?:,\d{3})?",
    r"\d{4}-\d\d-\d\d": r"\d{4}-\d\d-\d\d",
    r"[\d.]+ s\b": r"[\d.]+ s",
    r"\b(?:downtime|pause|epoch|attempt)=[\d.]+": r"\w+=[\d.]+",
    "─+": "─+",
    "available → busy": "(?:available|reserved) → busy",  # reserved for a moment, which a search may hit
}
TOKENS = re.compile(f"({IDS})|" + "|".join(f"({page})" for page in VARYING))
REDRAWN = re.compile(r"\r|\x1b\[\d*A")
COLOURS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
A_MOMENT = re.compile(
    "registered, not yet proved$|not confirmed by the server yet$|connected, not registered yet$|reserved for job"
)
"""States that may be over before they are printed."""


def lines_of(text: str) -> list[str]:
    """Lines without colours, empty ones and the width of the white space."""
    lines = (re.sub(r"\s+", " ", COLOURS.sub("", line)).strip() for line in REDRAWN.sub("\n", text).split("\n"))
    return [line for line in lines if line and not A_MOMENT.search(line)]


class Terminal:
    """One window: the command that runs in it, and how far its output is compared."""

    def __init__(self) -> None:
        self.running: Running | None = None
        self.lines: list[str] = []
        self.at = 0

    def begin(self, running: Running) -> None:
        assert self.running is None or self.running.process.wait(DEADLINE) == 0
        self.running, self.lines, self.at = running, [], 0

    def line(self, index: int) -> str:
        assert self.running is not None
        while len(self.lines) <= index:
            self.lines += lines_of(self.running.until(""))
        return self.lines[index]

    def press_ctrl_c(self) -> None:
        assert self.running is not None
        self.running.process.send_signal(signal.SIGINT)
        assert self.running.process.wait(DEADLINE) == 0


class Reader:
    """Follows the page."""

    def __init__(self, spawn: Spawn) -> None:
        self.spawn = spawn
        self.terminals: dict[str, Terminal] = {}
        self.ids: dict[str, str] = {}  # as on the page: as here
        self.terminal = Terminal()
        self.file = ""

    def read(self, prose: str) -> None:
        for found in TERMINAL.finditer(prose):
            self.terminal = self.terminals.setdefault(found[2] or found[3], Terminal())
            if found[1]:
                self.terminal.press_ctrl_c()
        self.file = (FILE.findall(prose) or [""])[-1]

    def meet(self, language: str, text: str) -> None:
        match language:
            case "sh":
                for command in text.splitlines():
                    if not command.startswith(INSTALLATION):
                        program, *words = [self.ids.get(word, word) for word in shlex.split(command)]
                        if program == "python3":
                            words[0] = words[0].replace("path/to/worker_state", str(ROOT))
                        self.terminal.begin(self.spawn(*words, program=PROGRAMS[program], terminal=True))
                        if words[:1] == ["serve"]:
                            self.terminal.line(0)  # nobody asks a server that has said nothing yet
            case "text":
                self.see(lines_of(text))
            case _:
                Path(self.file).write_text(text, "utf-8")

    def see(self, expected: list[str]) -> None:
        """These lines come next; those of the live screen stand together in one of its pictures."""
        screen = expected[0].startswith("Room ")
        for start in count(self.terminal.at) if screen else [self.terminal.at]:
            ids, at = dict(self.ids), self.match(expected, start, insist=not screen)
            if at is not None:
                self.terminal.at = at
                return
            self.ids = ids

    def match(self, expected: list[str], at: int, *, insist: bool) -> int | None:
        """Where the output goes on behind these lines, if they are there."""
        anything = False
        for line in expected:
            if line == "…":
                anything = True
                continue
            while not self.same(line, self.terminal.line(at)):
                assert anything or not insist, f"the page: {line}\nhere: {self.terminal.line(at)}"
                if not anything:
                    return None
                at += 1
            at, anything = at + 1, False
        return at

    def same(self, on_page: str, here: str) -> bool:
        names: list[str] = []
        pattern, end = "", 0
        for token in TOKENS.finditer(on_page):
            pattern += re.escape(on_page[end : token.start()])
            end = token.end()
            if token[1] is None:
                pattern += [*VARYING.values()][(token.lastindex or 0) - 2]
            elif token[1] in self.ids:
                pattern += re.escape(self.ids[token[1]])
            elif token[1] in names:
                pattern += f"(?P=id{names.index(token[1])})"
            else:
                pattern += f"(?P<id{len(names)}>{'sleap-session:[A-Za-z0-9_=-]+' if '…' in token[1] else '[0-9a-f-]+'})"
                names.append(token[1])
        found = re.fullmatch(pattern + re.escape(on_page[end:]), here)
        if found:
            self.ids |= {name: found[f"id{index}"] for index, name in enumerate(names)}
        return found is not None


def free_ports() -> tuple[str, str]:
    """Two ports that no process takes by chance while the server is away: below those that the kernel hands out."""
    found: list[str] = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(str(port))
    return found[0], found[1]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    with spawning() as spawn:
        yield Reader(spawn)


@pytest.mark.parametrize("page", [FIRST, TRY], ids=["first-worker", "add-it"])
def test_a_page(reader: Reader, page: str) -> None:
    """Every command of the page works, and prints what stands there; each command leaves in order at Ctrl-C."""
    ws, http = free_ports()  # named as the pages say
    page = page.replace("worker-state serve\n", f"worker-state serve --ws-port {ws} --http-port {http}\n")
    page = page.replace("--steps 40\n", "--steps 40 --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001\n")
    page = page.replace(":8080", f":{ws}").replace(":8001", f":{http}")
    settings = re.findall(r"^```toml\n(.*?)^```$", FIRST, re.MULTILINE | re.DOTALL)[0]
    Path("sleap-rtc.toml").write_text(settings.replace("8080", ws).replace("8001", http), "utf-8")
    end = 0
    for block in BLOCKS.finditer(page):
        reader.read(page[end : block.start()])
        reader.meet(block[1], block[2])
        end = block.end()
    reader.read(page[end:])
    assert [*reader.terminals] == ["first", "second", "third", "fourth"]
    for terminal in reader.terminals.values():
        assert terminal.running is not None
        assert terminal.running.end() == 0


def test_what_the_page_installs() -> None:
    """The page installs this package, with an extra that exists."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    installed = re.findall(r"pip install '(?:path/to/)?([\w-]+)\[(\w+)\]'", FIRST)
    assert {name.replace("_", "-") for name, _ in installed} == {project["name"]}
    assert {extra for _, extra in installed} <= set(project["optional-dependencies"])
    assert f"worker-state {project['version']}" in FIRST
    assert project["requires-python"].removeprefix(">=") in FIRST
