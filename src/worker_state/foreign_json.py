"""JSON that others wrote, read so that nothing in it can hurt later: every level and digit is one that Python can take.

Python's own limits are met late, in a comparison or in the program's own `json.dumps`, so ours are lower and met here.
"""

import json
import re
import sys
from collections.abc import Callable
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
    if isinstance(text, str):
        return _parsed(text, lambda: _READER.decode(text))
    return _parsed(text, lambda: json.loads(text, parse_constant=_nothing))


def read_cut(text: str) -> Any:
    """The same, but what is excessive in the text is null. Raises `ValueError`."""
    return _parsed(text, lambda: json.loads(_shallow(text), parse_constant=_nothing, parse_int=_short))


def containers(text: str | bytes) -> int:
    """How many arrays and objects are in the text, at most."""
    return text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")


def _parsed(text: str | bytes, parse: Callable[[], Any]) -> Any:
    try:
        value = parse()
        if containers(text) > LEVELS and _is_too_deep(value):
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


def _nothing(constant: str) -> None:
    """NaN or an infinity."""


_READER = json.JSONDecoder(parse_constant=_nothing)  # `json.loads` would make one for each text


def _short(digits: str) -> int | None:
    return int(digits) if len(digits) <= DIGITS else None


def _is_too_deep(value: Any) -> bool:
    level: list[Any] = [[value]]
    for _ in range(LEVELS + 1):
        insides = (each.values() if type(each) is dict else each for each in level)
        level = [inner for inside in insides for inner in inside if type(inner) is dict or type(inner) is list]
    return bool(level)


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
