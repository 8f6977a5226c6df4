"""JSON that others wrote, read so that nothing in it can hurt later: every level and digit is one that Python can take.

Python's own limits are met late, in a comparison or in the program's own `json.dumps`, so ours are lower and met here.
"""

import json
import re
import sys
from typing import Any

LEVELS = 100  # to which arrays and objects may nest. Real messages have ten; from some hundred on Python's code fails.
DIGITS = sys.int_info.str_digits_check_threshold  # of an integer, which every setting of Python's own limit allows
TOKENS = 2**20  # strings and brackets that `read_cut` looks through, a third of a second: no real message has as many

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)  # an unclosed string is one, too: no way back


class Excessive(ValueError):
    """It is JSON, perhaps, but nested too deeply, or with a number of too many digits."""


def read(text: str | bytes) -> Any:
    """What the text says. Raises `ValueError` for what is no JSON, and `Excessive`, and nothing else.

    NaN and the infinities are no JSON, but the server passes on what any peer wrote (faults.md, T16): one in a
    neighbour's record must not keep us from reading that we are registered. So they are null, as in browsers.
    """
    try:
        value = _READER.decode(text) if isinstance(text, str) else json.loads(text, parse_constant=_nothing)
        if _cut(text, value):
            raise Excessive("nested too deeply")
    except (json.JSONDecodeError, UnicodeDecodeError, Excessive):
        raise
    except RecursionError:
        raise Excessive("nested too deeply") from None
    except ValueError:
        raise Excessive("with a number of too many digits") from None
    except Exception as error:  # noqa: BLE001 - MemoryError: whatever it is, the text is to blame
        raise ValueError(type(error).__name__) from None
    return value


def read_cut(text: str) -> Any:
    """The same, but what is excessive in the text is null. Raises `ValueError`."""
    try:
        value = json.loads(_shallow(text), parse_constant=_nothing, parse_int=_short)
        _cut(text, value)
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ValueError(type(error).__name__) from None
    return value


def _nothing(constant: str) -> None:
    """NaN or an infinity."""


_READER = json.JSONDecoder(parse_constant=_nothing)  # `json.loads` would make one for each text


def _short(digits: str) -> int | None:
    return int(digits) if len(digits) <= DIGITS else None


def _cut(text: str | bytes, value: Any) -> bool:
    """Make null what is nested too deeply in this value; returns whether there was anything."""
    opening = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opening <= LEVELS:
        return False
    level: list[Any] = [[value]]
    for _ in range(LEVELS):
        level = [inner for each in level for inner in _inside(each) if type(inner) is dict or type(inner) is list]
    places = [(each, at) for each in level for at in (each if type(each) is dict else range(len(each)))]
    excessive = [(each, at) for each, at in places if isinstance(each[at], dict | list)]
    for each, at in excessive:
        each[at] = None
    return bool(excessive)


def _inside(container: Any) -> Any:
    return container.values() if type(container) is dict else container


def _shallow(text: str) -> str:
    """The text without what is nested too deeply, which may be too deep for a parser. Each character is seen once."""
    depth, kept_from, kept = 0, 0, list[str]()
    for count, token in enumerate(_TOKEN.finditer(text)):
        if count >= TOKENS:
            raise Excessive("nested too deeply, and too long to be cut")
        if text[token.start()] in "[{":
            depth += 1
            if depth == LEVELS + 1:
                kept += text[kept_from : token.start()], "null"
        elif text[token.start()] in "]}":
            if depth == LEVELS + 1:
                kept_from = token.end()
            depth -= 1
    return "".join((*kept, text[kept_from:] if depth <= LEVELS else ""))
