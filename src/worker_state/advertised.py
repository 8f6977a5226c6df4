"""What a worker says of itself beside its status: tags and capabilities, checked, and never changed afterwards.

Types are strict because a wrong one breaks the searches of every client in the room (F27). Under a name that the field
does not define, any JSON value goes.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker_state.errors import ConfigError

TAGS = ("sleap-rtc", "training-worker", "inference-worker")  # that clients in the field search for (protocol.md, G)
LARGEST_NUMBER = 2**63  # what every JSON parser of the field can represent
LONGEST = 2**19  # bytes of both as JSON: a server takes 1 MiB in a frame, and closes at a longer one
DEEPEST = 32  # levels of a nested value: far more than anybody needs, far fewer than a JSON parser refuses

STATUS_KEYS = frozenset({"status", "current_job_id", "pending_job_id"})
# The capabilities that clients in the field know, by the type that they compare, and what they mean.
NUMBERS = {"gpu_memory_mb": "The memory of the GPU.", "max_concurrent_jobs": "How many jobs the worker runs at once."}
TEXTS = {
    "cuda_version": "The version of CUDA: `12.4`.",
    "gpu_model": "The GPU's name: `NVIDIA RTX A5000`.",
    "hostname": "The machine's name, as people know it.",
    "sleap_version": "The version of SLEAP: `1.4.1`.",
}
LISTS = {
    "supported_job_types": "What jobs the worker takes: `training`, `inference`.",
    "supported_models": "What models it can train or run: `base`, `centroid`, `topdown`.",
}


class ReadOnly(Mapping[str, Any]):
    """A mapping that nobody can change. A deep copy, as `dataclasses.asdict` makes one, is the caller's own dict."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        return dict(thawed(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnly, (self._values,)


@dataclass(frozen=True, slots=True)
class Advertised:
    """Tags and capabilities of one worker. Raises `ConfigError` with a sentence that names the field."""

    tags: tuple[str, ...] = TAGS
    capabilities: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", _checked_tags(self.tags))
        object.__setattr__(self, "capabilities", _checked_capabilities(self.capabilities))
        size = len(json.dumps([self.tags, thawed(self.capabilities)]))
        if size > LONGEST:
            raise ConfigError(f"tags and capabilities must not take more than {LONGEST} bytes, these take {size}")

    def with_tags(self, tags: object) -> "Advertised":
        """The same worker with these tags in place of the present ones."""
        return Advertised(tags, self.capabilities)  # type: ignore[arg-type] # it is checked, whatever it is

    def with_capabilities(self, changes: object) -> "Advertised":
        """The same worker with these capabilities changed, and the others as they are: a server never removes one."""
        return Advertised(self.tags, {**self.capabilities, **_checked_capabilities(changes)})


def thawed(value: Any) -> Any:
    """A checked value as `json` writes it: lists and dicts that belong to the caller."""
    if isinstance(value, Mapping):
        return {name: thawed(each) for name, each in value.items()}
    return [thawed(each) for each in value] if isinstance(value, tuple) else value


def check_text(where: str, text: str, error: type[ValueError] = ConfigError) -> None:
    """Python's own server would hand a lone surrogate on, and clients in other languages would not read the answer."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise error(f"{where} must be text that UTF-8 can say, without a lone surrogate") from None


def _kind(value: object) -> str:
    return "an empty one" if value == "" else type(value).__name__


def _checked_tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, tuple | list):
        raise ConfigError(f"tags must be a list of strings, not {type(tags).__name__}")
    if not tags:
        raise ConfigError("tags must not be empty: clients discover a worker by its tags")
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise ConfigError(f"tags must be non-empty strings, not {_kind(tag)}")
        check_text("tags", tag)
    return tuple(dict.fromkeys(tags))


def _checked_capabilities(capabilities: object) -> Mapping[str, Any]:
    if not isinstance(capabilities, Mapping):
        raise ConfigError(f"capabilities must be a mapping of names to values, not {type(capabilities).__name__}")
    return ReadOnly({name: _checked_capability(name, value) for name, value in capabilities.items()})


def _checked_capability(name: object, value: object) -> Any:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"capabilities must have non-empty strings as names, not {_kind(name)}")
    if name in STATUS_KEYS:
        raise ConfigError(f"capabilities must not contain {name!r}: the status belongs to the manager")
    where = f"capabilities[{name!r}]"
    check_text(where, name)
    if name in NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ConfigError(f"{where} must be a number, not {type(value).__name__}: clients compare it")
    if name in TEXTS and not isinstance(value, str):
        raise ConfigError(f"{where} must be a string, not {type(value).__name__}")
    if name in LISTS:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list of strings, not {type(value).__name__}")
        if not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{where} must contain strings only")
    return _frozen(where, value, DEEPEST)


def _frozen(where: str, value: object, levels: int) -> Any:
    """A copy of a JSON value that nobody can change."""
    if levels == 0:
        raise ConfigError(f"{where} must not be nested more than {DEEPEST} levels deep")
    match value:
        case None | bool():
            return value
        case str():
            check_text(where, value)
            return value
        case int() | float():
            if not abs(value) < LARGEST_NUMBER or math.isnan(value):
                raise ConfigError(f"{where} must be a finite number below 2**63")
            return value
        case list() | tuple():
            return tuple(_frozen(where, each, levels - 1) for each in value)
        case Mapping():
            for name in value:
                if not isinstance(name, str):
                    raise ConfigError(f"{where} must have strings as names, not {type(name).__name__}")
                check_text(where, name)
            return ReadOnly({name: _frozen(where, each, levels - 1) for name, each in value.items()})
    raise ConfigError(f"{where} must be what JSON can say, not {type(value).__name__}")
