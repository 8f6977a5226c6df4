"""A clients' process: many of one kind, and the figures that they make. It obeys, and ends with its parent.

There may be several of them, which deal the seats out among themselves: every one of so many.

The kinds: `light`, the same small client for every rule; `managers`, the real worker_state; `library`, the package
`websockets` on asyncio; and `cold`, managers that sign in first.
"""

import asyncio
import gc
import logging
import os
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
from benchmarks.storm.tally import EVERY, LAG_EVERY, Tally, meant, settle
from worker_state import Manager, Timing


async def run_light(order: dict[str, Any], tally: Tally) -> None:
    """The rule that is asked for, in every client."""
    at = (order["host"], order["ws_port"])
    make_rule, resets = RULES[order["rule"]], order["rule"] in RESETS
    clients = {
        number: LightClient(seat, make_rule(SystemRandom()), at, tally, resets=resets)
        for number, seat in seats_of(order).items()
    }
    together = trio.CapacityLimiter(order["together"])
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        for client in clients.values():
            nursery.start_soon(client.run, together)
        async for command, argument in commands():
            if command == "settle":
                settle()
            elif command == "status":
                job, who = argument
                for client in meant(clients, who):
                    client.truth.job = job
                    nursery.start_soon(client.update)
        nursery.cancel_scope.cancel()


async def run_managers(order: dict[str, Any], tally: Tally) -> None:
    """The real thing."""
    managers: dict[int, Manager] = {}
    timing = Timing(ping_every=order["ping_every"])

    async def start(number: int, seat: Seat) -> None:
        async with together:
            managers[number] = await nursery.start(run_seated, order["ws_url"], order["http_url"], timing, seat, tally)

    together = trio.CapacityLimiter(order["together"])
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        for number, seat in seats_of(order).items():
            nursery.start_soon(start, number, seat)
        async for command, argument in commands():
            if command == "settle":
                settle()
            elif command == "status":
                job, who = argument
                for manager in meant(managers, who):
                    manager.set_busy(job)
        # Nobody takes his leave: the server is killed next, and two thousand deletions would be measured by nobody.
        os._exit(0)


async def run_cold(order: dict[str, Any], tally: Tally) -> None:
    """The real thing, all started in one moment, and each with a sign-in and a room of its own."""
    async with trio.open_nursery() as nursery:
        _measure(nursery, tally)
        async for command, _ in commands():
            if command == "go":
                for _ in share(order):
                    nursery.start_soon(run_alone, order["ws_url"], order["http_url"], tally)
        os._exit(0)


def share(order: dict[str, Any]) -> range:
    """The numbers of this process's own clients."""
    return range(order["number"], order["workers"], order["processes"])


def seats_of(order: dict[str, Any]) -> dict[int, Seat]:
    """The seats of this process's own clients, by their numbers."""
    seats = make_seats(order["workers"], seed=order["seed"], now=order["now"])
    return {number: seats[number] for number in share(order)}


def _measure(nursery: trio.Nursery, tally: Tally) -> None:
    nursery.start_soon(_speak, tally)
    nursery.start_soon(_measure_lag, tally)
    say({"ready": True})


async def _speak(tally: Tally) -> None:
    while True:
        tally.speak()
        await trio.sleep(EVERY)


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
    tally = Tally()
    gc.disable()
    if order["kind"] == "library":
        asyncio.run(library.run(order, seats_of(order), tally))
    else:
        run = {"light": run_light, "managers": run_managers, "cold": run_cold}[order["kind"]]
        trio.run(partial(run, order, tally))


if __name__ == "__main__":
    main()
