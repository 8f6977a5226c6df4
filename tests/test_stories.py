"""The page of what happens when something goes wrong: its logs are those of real runs, and of this version."""

import re
from pathlib import Path

import trio

from benchmarks.stories import PAGE, STORIES, put, tell

EVENT = re.compile(r" event=(\w+)")
SOURCES = Path(__file__).parents[1] / "src" / "worker_state"
PASSING = {"dial_failed", "connected"}
"""Events that depend on how fast a dial follows."""


def shown(name: str) -> str:
    """The log that the page shows for a story."""
    return PAGE.read_text("utf-8").partition(f"<!-- {name} -->\n```\n")[2].partition("\n```\n<!-- end -->")[0]


def test_every_story_is_told() -> None:
    """Each story has its place in the page, with a log that begins with a registration and ends with the deletion,
    unless the server is not there at the start."""
    for name, story in STORIES.items():
        events = EVENT.findall(shown(name))
        first, last = "http_failed" if story.absent else "registered", "identity_deleted"
        assert (events[0], events[-1]) == (first, first if name == "fails" else last), name


def test_the_page_knows_no_other_events_than_the_code() -> None:
    """An event that was renamed is found in the page."""
    code = "".join(path.read_text("utf-8") for path in SOURCES.rglob("*.py"))
    for event in set(EVENT.findall(PAGE.read_text("utf-8"))):
        assert f'"{event}"' in code, event


def test_a_log_replaces_the_one_before() -> None:
    """Telling a story again changes what stands between its marks and nothing else."""
    page = "before\n<!-- a -->\n```\nold\n```\n<!-- end -->\nafter\n"
    assert put(page, "a", "new") == page.replace("old", "new")


async def test_a_real_run_shows_what_the_page_shows() -> None:
    """When the room is gone, a worker in a process of its own logs the events of the page, and no secret."""
    with trio.fail_after(60):
        told = await tell(STORIES["room"])
    events = set(EVENT.findall(told)) - PASSING
    assert events == set(EVENT.findall(shown("room"))) - PASSING
    assert "sleap-session:…" in told
