"""What a world is made of beside the worker and its server: clock, chance, settings, and how copies are made."""

import copyreg
import pickle
from dataclasses import replace

from worker_state.advertised import Advertised
from worker_state.config import Config
from worker_state.protocol.status import Available, Busy, Reserved, Truth

BEGAN = 1_000_000.0  # the worker's clock at the start, so that no duration is as large as a time
TRUTHS: dict[str, Truth] = {"available": Available(), "busy": Busy("j1"), "reserved": Reserved("j2")}
_OWN = Config("ws://127.0.0.1:1", "http://127.0.0.1:1", capabilities={"gpu_memory_mb": 24576}, wait_for_server=True)
CONFIGS = {"own": _OWN, "given": replace(_OWN, room_id="0f0000", room_token="0e0000")}
"""By whose the room is. Identifiers begin with a 0 (`canonical.py`)."""


class Clock:
    """The worker's."""

    def __init__(self) -> None:
        self.now = BEGAN

    def awake(self) -> float:
        """The machine never sleeps here."""
        return self.now


class Ids:
    """In place of `Random`: identifiers are counted, and every draw gives the middle."""

    def __init__(self) -> None:
        self._count = 0

    def nonce(self) -> str:
        return f"{self._next():06x}"

    def getrandbits(self, bits: int) -> int:
        return self._next() << (bits - 24)  # 24 bits: the first six hexadecimal digits

    def randbytes(self, count: int) -> bytes:
        return self._next().to_bytes(count, "big")

    def uniform(self, least: float, most: float) -> float:
        return (least + most) / 2

    def _next(self) -> int:
        self._count += 1
        return self._count


def _config(room: str) -> Config:
    return CONFIGS[room]


def _advertised() -> Advertised:
    return ADVERTISED


ADVERTISED = CONFIGS["own"].advertised


class Pickler(pickle.Pickler):
    """What never changes is not copied."""

    dispatch_table = {  # noqa: RUF012 - the library reads it from the class
        **copyreg.dispatch_table,
        Config: lambda config: (_config, ("own" if config.room_id is None else "given",)),
        Advertised: lambda advertised: (_advertised, ()),
    }
