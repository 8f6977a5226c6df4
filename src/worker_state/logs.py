"""The log, for people and for programs: every line is one event, with a name and with fields.

The package logs through the standard `logging` and sets nothing up. Its calls pass `extra=event(…)`; the two formatters
put the fields on the line. No secret may come in. What handlers do is the program's, and ends no worker (G36).
"""

import json
import logging
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

EVENT, FIELDS = "worker_state_event", "worker_state_fields"
"""The attributes of a log record. structlog has an `event` of its own, which ours must not overwrite (G55)."""
Field = str | int | float | bool | None


def event(name: str, /, **fields: Field) -> dict[str, Any]:
    """For `extra=` of a log call: the event's name in words_with_underscores, and its fields."""
    return {EVENT: name, FIELDS: fields}


def ever_more_rarely(count: int) -> bool:
    """Whether the occurrence of this number still has a line: each power of two. No flood becomes one of lines."""
    return count & (count - 1) == 0


class Logger(logging.LoggerAdapter[logging.Logger]):
    """The logger of this name. A handler, filter or formatter that raises fails no caller: the first time that is said
    on stderr, as `logging` itself does (unless `logging.raiseExceptions` is off)."""

    _complained = False

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """As it is: each call has an `extra` of its own."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As `logging.Logger.log`; every other method comes here."""
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})
        except Exception:  # noqa: BLE001 - a full disk, a broken formatter: the log is not what the worker is for
            if logging.raiseExceptions and not Logger._complained:
                Logger._complained = True
                with suppress(Exception):
                    traceback.print_exc(file=sys.stderr)


@dataclass(frozen=True, slots=True)
class About:
    """The event that a line is about: its name (None if it has none) and its fields."""

    event: str | None
    fields: dict[str, Field]

    @classmethod
    def of(cls, record: logging.LogRecord) -> "About":
        """Of this record. Numbers are rounded to three places."""
        fields = getattr(record, FIELDS, None) or {}
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()}
        return cls(getattr(record, EVENT, None), rounded)


NOTHING = About(None, {})


def pairs(about: About) -> str:
    """`event=registered epoch=3 downtime=4.1`; a value that is no single word is quoted. Empty for no event."""
    if about.event is None:
        return ""
    return " ".join(f"{key}={_word(value)}" for key, value in ({"event": about.event} | about.fields).items())


def _word(value: Field) -> str:
    if isinstance(value, str) and value and value.isprintable() and not set(value) & set(' "='):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


class PairsFormatter(logging.Formatter):
    """The usual line, and the event behind it: `… proving at once event=woken stopped=257.0`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        line, tail = super().formatMessage(record), pairs(About.of(record))
        return f"{line} {tail}" if tail else line


class JsonFormatter(logging.Formatter):
    """A JSON object a line: `time` (UTC, ISO 8601), `level`, `logger`, `event`, the fields, `message`, `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        line = json_line(record.created, record.levelno, text, About.of(record), logger=record.name)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def json_line(at: float, level: int, message: str, about: About, **more: str) -> dict[str, object]:
    """What stands in one line. `at`: seconds since 1970. A field cannot hide what every line has."""
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    always = {"time": time, "level": logging.getLevelName(level).lower(), **more, "event": about.event}
    fields = {key: value for key, value in about.fields.items() if key not in always and key != "message"}
    return {**always, **fields, "message": message}
