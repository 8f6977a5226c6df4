"""One seed, one run: chance inside trio and wsproto is taken over for the time of a run.

Everything else that draws gets its `Random` as an argument. Private names of the libraries are touched in this file
and nowhere else.
"""

import random
import types
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import trio
import wsproto.frame_protocol
import wsproto.utilities

_trio_run: Any = trio._core._run


@contextmanager
def determined(seed: str) -> Iterator[None]:
    """Inside, the order in which trio runs tasks, and the masks and keys of WebSocket frames, depend on the seed."""
    chance = Random(seed)
    urandom = types.SimpleNamespace(urandom=chance.randbytes)
    replaced: list[tuple[Any, str, Any]] = [
        (wsproto.frame_protocol, "os", urandom),
        (wsproto.utilities, "os", urandom),
        (_trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    scheduling = _trio_run._r.getstate()
    everybody = random.getstate()
    for owner, name, value in replaced:
        setattr(owner, name, value)
    _trio_run._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        _trio_run._r.setstate(scheduling)
        random.setstate(everybody)
