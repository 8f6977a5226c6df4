"""JSON that others wrote: what Python could not take is found when it is read, and costs no more than itself."""

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.foreign_json import DIGITS, LEVELS, Excessive, read, read_cut

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int, innermost: str = "1") -> str:
    return '[{"\\"[": ' * (levels // 2) + "[" * (levels % 2) + innermost + "]" * (levels % 2) + "}]" * (levels // 2)


@given(values)
def test_json_is_read_as_it_is(value: object) -> None:
    """What is not excessive comes as any parser gives it, whole or to be cut."""
    text = json.dumps(value)
    assert read(text) == read(text.encode()) == read_cut(text) == value


@given(st.text() | st.text(alphabet='[]{}",:\\1e-'))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever is no JSON is a ValueError."""
    for reader in (read, read_cut):
        with suppress(ValueError):
            reader(text)


@pytest.mark.parametrize("levels", [LEVELS + 1, 500, 1500, 100_000])
def test_g11_levels(levels: int) -> None:
    """What is nested too deeply is refused, or cut where the levels end; in a string brackets are none."""
    assert read(nested(LEVELS)) == read_cut(nested(LEVELS))
    with pytest.raises(Excessive):
        read(nested(levels))
    cut = read_cut(f'[{nested(levels)}, "]}}[", {{"a": 1}}]')
    assert cut[1:] == ["]}[", {"a": 1}]
    assert json.dumps(cut) == json.dumps(read(f'[{nested(LEVELS - 1, "null")}, "]}}[", {{"a": 1}}]'))


def test_g11_digits() -> None:
    """An integer that Python may refuse to read or to write is refused, or null; a float is what it is."""
    assert read("9" * DIGITS) == int("9" * DIGITS)
    long = "9" * 5_000
    with pytest.raises(Excessive, match="digits"):
        read(long)
    assert read_cut(f'{{"a": [-{long}, 1], "b": 1e999}}') == {"a": [None, 1], "b": math.inf}


@pytest.mark.parametrize("error", [MemoryError, RecursionError, RuntimeError])
def test_g11_whatever_the_parser_raises(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a parser raises is a ValueError: the text is to blame."""

    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(json.JSONDecoder, "decode", raising)
    for reader in (read, read_cut):
        with pytest.raises(ValueError, match=r"Error|nested"):
            reader("[]")


@pytest.mark.parametrize("text", ['"\\' * 200_000, '["' * 200_000, "[]" * 2**20], ids=["quotes", "strings", "pairs"])
def test_g11_cutting_takes_no_longer_than_the_text(text: str) -> None:
    """A hostile text is gone through once; with far too many brackets it is given up."""
    with pytest.raises(ValueError, match=r"char|deep"):
        read_cut(text)
