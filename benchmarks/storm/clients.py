"""The clients' process: many of one kind, and the figures that they make. Obeys `status`, and ends with its parent.

Three kinds: `light`, the same small client for every rule; `managers`, the real worker_state; `library`, the package
`websockets` on asyncio.
"""

import asyncio
import logging
import os
import resource
from functools import partial
from random import SystemRandom
from typing import Any

import trio

from benchmarks.rules import RESETS, RULES
from benchmarks.server import Seat
from benchmarks.storm import library
from benchmarks.storm.frames import Truth
from benchmarks.storm.light import LightClient
from benchmarks.storm.lines import commands, first_line, say
from benchmarks.storm.managers import run_manager
from benchmarks.storm.seats import make_seats
from benchmarks.storm.tally import EVERY, LAG_EVERY, Tally
from worker_state import Manager


async def run_light(order: dict[str, Any], seats: list[Seat], truth: Truth, tally: Tally) -> None:
    """The rule that is asked for, in every client."""
    at = (order["host"], order["ws_port"])
    make_rule = RULES[order["rule"]]
    clients = [
        LightClient(seat, make_rule(SystemRandom()), at, truth, tally, resets=order["rule"] in RESETS) for seat in seats
    ]
    together = trio.CapacityLimiter(order["together"])
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        for client in clients:
            nursery.start_soon(client.run, together)
        async for command, argument in commands():
            if command == "status":
                truth.job = argument
                for client in clients:
                    nursery.start_soon(client.update)
        nursery.cancel_scope.cancel()


async def run_managers(order: dict[str, Any], seats: list[Seat], truth: Truth, tally: Tally) -> None:
    """The real thing."""
    managers: list[Manager] = []

    async def start(seat: Seat) -> None:
        async with together:
            manager = await nursery.start(run_manager, order["ws_url"], order["http_url"], seat, tally)
            managers.append(manager)

    together = trio.CapacityLimiter(order["together"])
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        for seat in seats:
            nursery.start_soon(start, seat)
        async for command, argument in commands():
            if command == "status":
                for manager in managers:
                    manager.set_busy(argument)
        # Nobody takes his leave: the server is killed next, and two thousand deletions would be measured by nobody.
        os._exit(0)


def _measure(nursery: trio.Nursery, tally: Tally) -> None:
    nursery.start_soon(_speak, tally)
    nursery.start_soon(_measure_lag, tally)
    say({"ready": True})


async def _speak(tally: Tally) -> None:
    while True:
        await trio.sleep(EVERY)
        tally.speak()


async def _measure_lag(tally: Tally) -> None:
    while True:
        due = trio.current_time() + LAG_EVERY
        await trio.sleep_until(due)
        tally.lags.append(max(0.0, trio.current_time() - due))


def main() -> None:
    order = first_line()
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    # The log is written by the workers, and read by nobody here.
    logging.getLogger("worker_state").handlers = [logging.NullHandler()]
    logging.getLogger("worker_state").propagate = False
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seats = make_seats(order["workers"], seed=order["seed"], now=order["now"])
    truth, tally = Truth(), Tally()
    if order["kind"] == "library":
        asyncio.run(library.run(order, seats, truth, tally))
    else:
        run = {"light": run_light, "managers": run_managers}[order["kind"]]
        trio.run(partial(run, order, seats, truth, tally))


if __name__ == "__main__":
    main()
