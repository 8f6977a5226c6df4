"""The log's events: how they stand on a line, for people and for programs."""

import ast
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import worker_state
from tests.support.worlds import World, scenario
from worker_state import Config
from worker_state.devserver import serve
from worker_state.logs import JsonFormatter, Logger, PairsFormatter, event


def record(message: str = "back", extra: dict[str, Any] | None = None, *, broken: bool = False) -> logging.LogRecord:
    """A record as the package makes them."""
    info = None
    if broken:
        try:
            raise ValueError("no")
        except ValueError:
            info = sys.exc_info()
    return logging.getLogger("worker_state.test").makeRecord(
        "worker_state.test", logging.WARNING, "file.py", 1, message, (), info, extra=extra
    )


def test_the_fields_stand_behind_the_sentence() -> None:
    """A formatted record is the sentence and then the event with its fields, floats short."""
    line = PairsFormatter("%(levelname)s %(message)s").format(
        record(extra=event("registered", epoch=3, downtime=4.100049))
    )
    assert line == "WARNING back event=registered epoch=3 downtime=4.1"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ('a"b', '"a\\"b"'),
        ("a=b", '"a=b"'),
        ("a\nb", '"a\\nb"'),
        (None, "null"),
        (True, "true"),
        ("ü", "ü"),
    ],
)
def test_a_value_that_is_no_word_is_quoted(value: Any, shown: str) -> None:
    """A value with blanks, quotes, an equals sign or line ends cannot be taken for two fields or two lines."""
    assert PairsFormatter("%(message)s").format(record(extra=event("x", why=value))) == f"back event=x why={shown}"


def test_a_record_without_an_event_is_its_sentence() -> None:
    """What others log through the same handler is left as it is."""
    assert PairsFormatter("%(message)s").format(record()) == "back"


def test_json_has_everything_on_one_line() -> None:
    """A JSON line has time, level, logger, event, fields and sentence, also when the sentence has line ends."""
    line = JsonFormatter().format(record("a\nb", extra=event("registered", epoch=3)))
    assert "\n" not in line
    read = json.loads(line)
    assert read.pop("time").endswith("+00:00")
    assert read == {
        "level": "warning",
        "logger": "worker_state.test",
        "event": "registered",
        "epoch": 3,
        "message": "a\nb",
    }


def test_json_keeps_the_traceback() -> None:
    """An exception that is logged comes as one field."""
    assert "ValueError: no" in json.loads(JsonFormatter().format(record(broken=True)))["traceback"]


class Raising(logging.Handler):
    """A handler of a program's that raises in its own way, as on a full disk."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(f"{record.levelname} {record.getMessage()} {record.filename}")
        raise OSError(28, "No space left on device")


@contextmanager
def handling(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("worker_state")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_g36_a_handler_that_raises_fails_no_caller(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program's log handler raises stays with the log, and is said on stderr once."""
    monkeypatch.setattr(Logger, "_complained", False)
    log, handler = Logger("worker_state.test"), Raising()
    with handling(handler):
        log.warning("one %d", 1, extra=event("x"))
        log.error("two", extra=event("x"))
        log.error("three %d", "no number", extra=event("x"))
    assert handler.seen == ["WARNING one 1 test_logs.py", "ERROR two test_logs.py"]
    assert capsys.readouterr().err.count("Traceback") == 1


@scenario
async def test_g36_a_worker_whose_log_handler_raises(world: World) -> None:
    """A handler that raises at every line costs the lines: the worker starts, comes back, and leaves nothing behind."""
    with handling(Raising()):
        manager = await world.start()
        await manager.synced()
        manager.set_busy("job-1")
        await manager.synced()
        world.cut()
        await manager.wait_for(lambda state: not state.registered)
        await manager.synced()
        assert world.shown(manager) == ("busy", "job-1", None)
        await world.deliver(manager, "no JSON")
        await manager.wait_for(lambda state: state.frames_ignored == 1)
        await world.stop(manager)
    assert not world.rooms.users


def test_a_field_hides_nothing() -> None:
    """A field that is called like what every line has does not replace it."""
    read = json.loads(JsonFormatter().format(record(extra=event("x", level="9", message="z"))))
    assert (read["level"], read["message"]) == ("warning", "back")


def test_every_line_of_the_package_names_its_event() -> None:
    """No call of a logger forgets it: a program that reads the log goes by nothing else."""
    nameless = [
        f"{file.name}:{node.lineno}"
        for file in Path(worker_state.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).startswith("log.")
        and ast.unparse(node.func) != "log.isEnabledFor"
        and not any(keyword.arg == "extra" for keyword in node.keywords)
    ]
    assert nameless == []


def test_g55_attributes_that_collide_with_nobodys() -> None:
    """What the package adds to a record is no attribute of `logging`, and no key of structlog or of OpenTelemetry."""
    taken = {*vars(record()), "message", "asctime", "event", "level", "logger", "timestamp", "exception", "fields"}
    added = set(event("registered", epoch=3))
    assert added == {"worker_state_event", "worker_state_fields"}
    assert not added & taken


async def test_the_loggers_of_others_are_their_own(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    """httpx prints its requests where a program asks for INFO, as it would without this library."""
    caplog.set_level(logging.INFO)
    server = await nursery.start(serve)
    async with worker_state.open_state_manager(Config(server.ws_url, server.http_url)):
        pass
    assert [record for record in caplog.records if record.name == "httpx"]
    others = ("httpx", "httpcore", "trio", "trio-websocket", "anyio", "asyncio")
    changed = [name for name in others if logging.getLogger(name).level or logging.getLogger(name).filters]
    assert changed == []
