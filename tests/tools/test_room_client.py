"""How long a tool waits for an answer: from the last byte, and not for ever (faults.md, G21)."""

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from worker_state import Config
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed
from worker_state.protocol.reconnect import Deadlines
from worker_state.redact import Secrets
from worker_state.tools.room_client import IN_ALL, GracefulCancel, RoomClient
from worker_state.tools.roster import read_answer
from worker_state.world import World

SECRETS = Secrets()
CONFIG = Config("ws://fake", "http://fake", room_id="r", room_token="t")
ANSWER = '{"type": "peer_list", "peers": [{"peer_id": "%s", "metadata": {}}]}'
WITHIN = 12.0


class Trickling:
    """A socket over a slow line: a byte every so often, and a message when so many have come."""

    def __init__(self, every: float, bytes_left: float, text: str) -> None:
        self.heard_at = trio.current_time()
        self._every = every
        self._left = bytes_left
        self._text = text

    async def send(self, text: str) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> str:
        while self._left > 0:
            await trio.sleep_until(self.heard_at + self._every)
            self.heard_at = trio.current_time()
            self._left -= 1
        self._left = 10**9
        return self._text


def picked(frame: frames.Frame) -> Any:
    return read_answer(frame.message, SECRETS) if isinstance(frame, frames.OtherMessage) else None


async def asked(socket: Trickling) -> Any:
    """What a search over this socket gives."""
    found: list[Any] = []

    async def dial(*_: object) -> Any:
        return socket

    async def ask() -> None:
        world = replace(World.real(CONFIG), dial=dial)  # type: ignore[arg-type]
        client = RoomClient(CONFIG, world, SECRETS, cancel, "me")
        await client.connect(Deadlines(1, 1, 1, 1))
        found.append(await client.ask(frames.discover_workers("me"), picked, WITHIN))

    async def nothing() -> None:
        pass

    cancel = GracefulCancel(1.0)
    await cancel.run(ask, nothing)
    return found[0]


@pytest.mark.parametrize("peer_id", ["one", "x" * 2**20], ids=["short", "more than a signal may have"])
async def test_g21_a_long_answer_over_a_slow_line_is_no_silence(peer_id: str, autojump_clock: MockClock) -> None:
    """While bytes flow the answer is waited for, much longer than without one."""
    (entry,) = await asked(Trickling(10.0, 12, ANSWER % peer_id))
    assert entry.peer_id == peer_id
    assert trio.current_time() == 120.0


async def test_g21_silence_is_given_up(autojump_clock: MockClock) -> None:
    """Without a byte the waiting is over in time, counted from the last one."""
    assert await asked(Trickling(12.5, 3, ANSWER)) == Closed(reason="no answer in 12 s", cause=Cause.SILENT)
    assert trio.current_time() == WITHIN


async def test_g21_nothing_is_waited_for_for_ever(autojump_clock: MockClock) -> None:
    """Bytes that never become an answer hold nobody for longer than the total bound."""
    assert await asked(Trickling(5.0, 10**9, ANSWER)) == Closed(reason="no answer in 12 s", cause=Cause.SILENT)
    assert trio.current_time() == IN_ALL * WITHIN
