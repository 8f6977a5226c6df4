"""A dial as tests call it: with deadlines of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from worker_state.net.dial import Dial
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import DialFailure
from worker_state.protocol.reconnect import Deadlines

PATIENT = 20.0
"""Seconds: long enough on any machine."""


class Dialled:
    """`async with Dialled(dial)() as made`, any number of times."""

    def __init__(
        self, dial: Dial, *, connect: float = PATIENT, acknowledge: float = PATIENT, register: float = PATIENT
    ) -> None:
        self._dial = dial
        self._deadlines = Deadlines(connect=connect, acknowledge=acknowledge, upgrade=register, register=register)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Socket | DialFailure]:
        async with trio.open_nursery() as nursery:
            made = await self._dial(self._deadlines, nursery)
            try:
                yield made
            finally:
                if not isinstance(made, DialFailure):
                    await made.abort()
                for _ in range(2):  # the handshake's task ends in the round after the call; its order there is drawn
                    await trio.lowlevel.cancel_shielded_checkpoint()
                assert not nursery.child_tasks
