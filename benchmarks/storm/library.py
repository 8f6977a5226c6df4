"""A peer as its real library: the reconnecting iterator of `websockets` on asyncio, used as its manual shows it.

Needs the package `websockets`, which nothing else does; it is imported when the clients run.
"""

import asyncio
import json
import sys
import time
from importlib import import_module
from typing import Any

from benchmarks.server import Seat
from benchmarks.storm.frames import Truth, echo, register
from benchmarks.storm.lines import say
from benchmarks.storm.tally import EVERY, LAG_EVERY, Tally, meant, settle


class LibraryClient:
    """One client; all of the library's options are as they come."""

    def __init__(self, seat: Seat, ws_url: str, tally: Tally) -> None:
        self._seat = seat
        self._ws_url = ws_url
        self.truth = Truth()
        self._tally = tally

    async def run(self, together: asyncio.Semaphore) -> None:
        """Register with a few others at the beginning; then as the library says, for ever."""
        started = False
        client = import_module("websockets.asyncio.client")
        closed = import_module("websockets.exceptions").ConnectionClosed

        class Counted(client.connect):  # type: ignore[misc, name-defined]
            async def connect(this) -> Any:  # noqa: N805
                self._tally.dials += started
                return await super().connect()

        def note(error: Exception) -> Exception | None:
            self._tally.outcomes[type(error).__name__] += 1
            verdict: Exception | None = client.process_exception(error)
            return verdict

        await together.acquire()
        async for connection in Counted(self._ws_url, process_exception=note):
            try:
                await connection.send(json.dumps(register(self._seat, self.truth)))
                while json.loads(await connection.recv()).get("type") != "registered_auth":
                    pass
            except closed:
                self._tally.outcomes["CLOSED"] += 1
                continue
            if not started:
                together.release()
            self._tally.outcomes["REGISTERED"] += started
            started = True
            self._tally.registered += 1
            try:
                await connection.send(json.dumps(echo(self._seat)))
                async for _ in connection:
                    pass
            except closed:
                pass
            finally:
                self._tally.registered -= 1


async def run(order: dict[str, Any], seats: dict[int, Seat], tally: Tally) -> None:
    """All clients, until the parent has gone."""
    together = asyncio.Semaphore(order["together"])
    said = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), sys.stdin)
    say({"ready": True})
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_measure_lag(tally)), group.create_task(_speak(tally))]
        clients = {number: LibraryClient(seat, order["ws_url"], tally) for number, seat in seats.items()}
        tasks += [group.create_task(client.run(together)) for client in clients.values()]
        while line := await said.readline():
            command, argument = json.loads(line)
            if command == "settle":
                settle()
            elif command == "status":
                job, who = argument
                for client in meant(clients, who):
                    client.truth.job = job
        for task in tasks:
            task.cancel()


async def _measure_lag(tally: Tally) -> None:
    while True:
        due = time.monotonic() + LAG_EVERY
        await asyncio.sleep(LAG_EVERY)
        tally.lags.append(max(0.0, time.monotonic() - due))


async def _speak(tally: Tally) -> None:
    while True:
        tally.speak()
        await asyncio.sleep(EVERY)
