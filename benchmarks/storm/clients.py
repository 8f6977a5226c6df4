"""The clients' process: many of one kind, and the figures that they make. It obeys, and ends with its parent.

The kinds: `light`, the same small client for every rule; `managers`, the real worker_state; `library`, the package
`websockets` on asyncio; and `cold`, managers that sign in first.
"""

import asyncio
import gc
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
from benchmarks.storm.light import LightClient
from benchmarks.storm.lines import commands, first_line, say
from benchmarks.storm.managers import run_alone, run_seated
from benchmarks.storm.seats import make_seats
from benchmarks.storm.tally import EVERY, LAG_EVERY, Tally, settle
from worker_state import Manager


async def run_light(order: dict[str, Any], tally: Tally) -> None:
    """The rule that is asked for, in every client."""
    at = (order["host"], order["ws_port"])
    make_rule, resets = RULES[order["rule"]], order["rule"] in RESETS
    clients = [LightClient(seat, make_rule(SystemRandom()), at, tally, resets=resets) for seat in seats_of(order)]
    together = trio.CapacityLimiter(order["together"])
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        for client in clients:
            nursery.start_soon(client.run, together)
        async for command, argument in commands():
            if command == "settle":
                settle()
            elif command == "status":
                job, who = argument
                for client in clients if who is None else [clients[who]]:
                    client.truth.job = job
                    nursery.start_soon(client.update)
        nursery.cancel_scope.cancel()


async def run_managers(order: dict[str, Any], tally: Tally) -> None:
    """The real thing."""
    managers: dict[int, Manager] = {}

    async def start(number: int, seat: Seat) -> None:
        async with together:
            managers[number] = await nursery.start(run_seated, order["ws_url"], order["http_url"], seat, tally)

    together = trio.CapacityLimiter(order["together"])
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        for number, seat in enumerate(seats_of(order)):
            nursery.start_soon(start, number, seat)
        async for command, argument in commands():
            if command == "settle":
                settle()
            elif command == "status":
                job, who = argument
                for manager in managers.values() if who is None else [managers[who]]:
                    manager.set_busy(job)
        # Nobody takes his leave: the server is killed next, and two thousand deletions would be measured by nobody.
        os._exit(0)


async def run_cold(order: dict[str, Any], tally: Tally) -> None:
    """The real thing, all started in one moment, and each with a sign-in and a room of its own."""
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        async for command, _ in commands():
            if command == "go":
                for _ in range(order["workers"]):
                    nursery.start_soon(run_alone, order["ws_url"], order["http_url"], tally)
        os._exit(0)


def seats_of(order: dict[str, Any]) -> list[Seat]:
    return make_seats(order["workers"], seed=order["seed"], now=order["now"])


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
    tally = Tally()
    gc.disable()
    if order["kind"] == "library":
        asyncio.run(library.run(order, seats_of(order), tally))
    else:
        run = {"light": run_light, "managers": run_managers, "cold": run_cold}[order["kind"]]
        trio.run(partial(run, order, tally))


if __name__ == "__main__":
    main()
