"""Waiting for something to change on a server, without looking again and again."""

from collections.abc import Callable

import trio


class Changes:
    """A server that says when something has changed on it."""

    def __init__(self) -> None:
        self._changes = trio.lowlevel.ParkingLot()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return as soon as the condition, which may look at anything of this server, is true."""
        while not condition():
            await self._changes.park()

    def notify(self) -> None:
        """Something has changed that `until` may wait for."""
        self._changes.unpark_all()
