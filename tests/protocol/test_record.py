"""The record: what is advertised, and what the server has stored against what is true."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.protocol.test_frames import json_values, near_misses
from worker_state.protocol import frames
from worker_state.protocol.record import build_record, differences
from worker_state.protocol.status import Available, Busy


def test_record() -> None:
    """A record has the tags, the capabilities and all three status properties, nulls included."""
    assert build_record(("a", "b"), {"gpu_memory_mb": 24576}, Available()) == {
        "tags": ["a", "b"],
        "properties": {
            "gpu_memory_mb": 24576,
            "status": "available",
            "current_job_id": None,
            "pending_job_id": None,
        },
    }


def test_record_prefers_the_truth() -> None:
    """A capability cannot hide what the worker is doing."""
    record = build_record(("a",), {"status": "available"}, Busy("job"))
    assert record["properties"]["status"] == "busy"


WANTED: frames.Message = {
    "tags": ["a", "b"],
    "properties": {"status": "busy", "current_job_id": "j", "pending_job_id": None, "models": ("x", "y")},
}
STORED: frames.Message = {
    "tags": ["a", "b"],
    "properties": {"status": "busy", "current_job_id": "j", "pending_job_id": None, "models": ["x", "y"]},
}


def stored(**properties: Any) -> frames.Message:
    return {"tags": STORED["tags"], "properties": {**STORED["properties"], **properties}}


def without(name: str) -> frames.Message:
    kept = {key: value for key, value in STORED["properties"].items() if key != name}
    return {"tags": STORED["tags"], "properties": kept}


DIFFERENCES: list[tuple[str, frames.Message, tuple[str, ...]]] = [
    ("the same", STORED, ()),
    ("a tuple that is stored as a list", stored(models=["x", "y"]), ()),
    ("tags in another order", {**STORED, "tags": ["b", "a"]}, ()),
    ("tags of others", {**STORED, "tags": ["z", "b", "a", "a"]}, ()),
    ("properties of others", stored(owner="somebody"), ()),
    ("a tag lost", {**STORED, "tags": ["a"]}, ("tags",)),
    ("no tags", {"properties": STORED["properties"]}, ("tags",)),
    ("tags that are null", {**STORED, "tags": None}, ("tags",)),
    ("tags that are text", {**STORED, "tags": "ab"}, ("tags",)),
    ("another status", stored(status="available"), ("status",)),
    ("a job id that should be null", stored(pending_job_id="old"), ("pending_job_id",)),
    ("a null that is not stored", without("pending_job_id"), ("pending_job_id",)),
    ("a list in another order", stored(models=["y", "x"]), ("models",)),
    ("a list that is text", stored(models="xy"), ("models",)),
    ("several", stored(status="available", current_job_id=None), ("status", "current_job_id")),
    ("no properties", {"tags": ["a", "b"]}, ("status", "current_job_id", "pending_job_id", "models")),
    ("properties that are a list", {"tags": ["a"], "properties": []}, ("tags", *WANTED["properties"])),
    ("nothing", {}, ("tags", *WANTED["properties"])),
]


@pytest.mark.parametrize(("record", "names"), [row[1:] for row in DIFFERENCES], ids=[row[0] for row in DIFFERENCES])
def test_differences(record: frames.Message, names: tuple[str, ...]) -> None:
    """What is ours and stored otherwise is named; what others have added is not."""
    assert differences(record, WANTED) == names


@pytest.mark.parametrize(
    ("stored", "wanted", "same"),
    [
        (True, 1, False),
        (1, True, False),
        (0, False, False),
        (1.0, 1, True),
        ([True, 2], (1, 2), False),
        ({"a": {"b": 1}}, {"a": {"b": True}}, False),
        ({"a": {"b": 1}, "c": 2}, {"a": {"b": 1}}, False),
        ({"a": [1, {"b": None}]}, {"a": (1.0, {"b": None})}, True),
        ([1, 2, 3], (1, 2), False),
    ],
)
def test_what_python_finds_equal_is_not_the_same(stored: Any, wanted: Any, same: bool) -> None:
    """A client that filters for 1 does not find `true`; 1 and 1.0 are one number, whatever a store makes of it."""
    known = {"tags": [], "properties": {"x": stored}}
    assert differences(known, {"tags": [], "properties": {"x": wanted}}) == (() if same else ("x",))


@given(json_values.map(lambda value: {"tags": value, "properties": value}) | near_misses)
def test_differences_is_total(record: frames.Message) -> None:
    """Whatever a server has stored can be compared."""
    assert set(differences(record, WANTED)) <= {"tags", *WANTED["properties"]}


def test_nothing_differs_from_what_was_sent() -> None:
    """A record that the server stores as it was sent differs in nothing."""
    record = build_record(("a",), {"models": ("x",), "memory": 1.5}, Busy("job"))
    assert differences(json.loads(frames.encode(record)), record) == ()
