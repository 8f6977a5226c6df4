"""The reference as tests: it is what the code says, and complete."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import worker_state
from docs.generator import commands, contents, filled, log_events
from docs.generator.settings import field_docstrings
from worker_state import aio, blocking, testing

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
API = (REFERENCE / "api.md").read_text("utf-8")
EVENTS = (REFERENCE / "log-events.md").read_text("utf-8")
PUBLIC: dict[str, Any] = {each.__name__: each for each in (worker_state, aio, blocking, testing)}


def test_what_is_generated_is_current() -> None:
    """The tables and the pictures are those that the code gives: else run `.venv/bin/python -m docs.generator`."""
    for path, text in contents().items():
        assert path.read_text("utf-8") == text, f"run `.venv/bin/python -m docs.generator`: {path.name} is another now"


def test_a_block_without_a_place_is_noticed() -> None:
    """What is generated and stands nowhere is an error, and nothing that is left out in silence."""
    assert filled("a\n<!-- x -->\nold\n<!-- end -->\nb", {"x": "new"}) == "a\n<!-- x -->\n\nnew\n\n<!-- end -->\nb"
    with pytest.raises(ValueError, match="no place for y"):
        filled("a\n<!-- x -->\nold\n<!-- end -->\nb", {"y": "new"})


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """Each has a docstring, a directive, and a row that says when it is needed; nothing else has."""
    names = set(PUBLIC[module].__all__)
    assert all(inspect.getdoc(getattr(PUBLIC[module], name)) for name in names)
    section = _section(module)
    assert set(re.findall(r"^\.\. (?:auto)?(?:function|class|exception):: (\w+)", section, re.MULTILINE)) == names
    rows = re.findall(r"^\| (?!name |---)(.*?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == names


def _section(module: str) -> str:
    """Of the page of the API; the first module's is all before the second's."""
    first, *others = re.split(r"^## `(worker_state\.\w+)`$", API, flags=re.MULTILINE)
    return {"worker_state": first, **dict(zip(others[::2], others[1::2], strict=True))}[module]


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_method_says_what_it_does(module: str) -> None:
    """Each public method and property of each public class has a docstring, be it that of a class above."""
    public = PUBLIC[module]
    classes = [getattr(public, name) for name in public.__all__ if inspect.isclass(getattr(public, name))]
    silent = [
        f"{each.__name__}.{name}"
        for each in classes
        for name, member in vars(each).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
        if not inspect.getdoc(getattr(each, name))
    ]
    assert silent == []


@pytest.mark.parametrize("of", [worker_state.Config, worker_state.Timing, worker_state.State, testing.ApiKey])
def test_every_field_says_what_it_means(of: Any) -> None:
    """Each field of a public dataclass has a docstring, which the reference and the tables of the settings show."""
    assert set(field_docstrings(of)) == set(of.__dataclass_fields__)


def test_every_field_of_the_log_is_explained() -> None:
    """The table of the fields names those that the library's events have, and no others."""
    fields = {field for event in log_events.events(log_events.WORKER).values() for field in event.fields}
    assert set(_first_column("Fields")) == fields


def test_every_event_of_run_is_explained() -> None:
    """The table of what `run` says names each event that is no log line, and no others."""
    assert set(_first_column("Events of `run`")) == set(log_events.events(log_events.COMMANDS))


def _first_column(heading: str) -> list[str]:
    section = re.split(r"^## ", EVENTS.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_event_has_a_level_and_a_sentence() -> None:
    """What the generator cannot read in a call it does not leave out in silence."""
    for part in (log_events.WORKER, log_events.SERVER):
        for event in log_events.events(part).values():
            assert event.levels, event.name
            assert event.sentences, event.name


def test_every_command_has_its_section() -> None:
    """Each command of the program stands in the page, with the options that its help names."""
    text = commands.blocks()["commands"]
    assert set(re.findall(r"^## `([\w ]+)`$", text, re.MULTILINE)) >= {"run", "watch", "session decode", "storm"}
    assert "| `--drain-timeout` | `SECONDS` | `20` |" in text
