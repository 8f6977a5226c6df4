"""The worker's WebSocket against the client cases of the Autobahn test suite.

Its fuzzing server has to run already (`wstest -m fuzzingserver`, Python 2.7 or a container). Each case is one
connection that echoes what comes; the server judges. Prints how many cases ended in which way, and those that are
neither OK nor INFORMATIONAL.

    python -m benchmarks.autobahn ws://127.0.0.1:9001
"""

import json
from collections import Counter
from typing import Annotated

import trio
import typer

from worker_state.net import websocket
from worker_state.net.dial import WebSocketDial
from worker_state.protocol.error_policy import Closed, DialFailure
from worker_state.protocol.reconnect import Deadlines

AGENT = "worker_state"
LARGEST = 32 * 2**20
"""Bytes: the suite sends 16 MiB, a worker takes half of that."""
PATIENCE = 120.0
"""Seconds for one case."""


async def connect(url: str, nursery: trio.Nursery) -> websocket.Socket:
    """A connection as a worker opens it."""
    deadlines = Deadlines(connect=10.0, acknowledge=10.0, upgrade=30.0, register=30.0)
    socket = await WebSocketDial(url)(deadlines, nursery)
    if isinstance(socket, DialFailure):
        raise SystemExit(f"no connection to {url}: {socket}")
    return socket


async def asked(url: str) -> str:
    """The one message that the server sends at this address."""
    async with trio.open_nursery() as nursery:
        socket = await connect(url, nursery)
        answer = await socket.receive()
        await socket.abort()
    assert isinstance(answer, str)
    return answer


async def echo(url: str) -> None:
    """Send back what comes, until the connection ends."""
    async with trio.open_nursery() as nursery:
        socket = await connect(url, nursery)
        with trio.move_on_after(PATIENCE):
            while not isinstance(message := await socket.receive(), Closed):
                if isinstance(message, str):
                    await socket.send(message)
                else:  # a worker never sends one
                    await getattr(socket, "_connection").send_message(message)  # noqa: B009
        await socket.abort()


async def run(server: str) -> Counter[str]:
    """All cases; how many ended in which way."""
    count = int(await asked(f"{server}/getCaseCount"))
    behaviours: Counter[str] = Counter()
    for case in range(1, count + 1):
        await echo(f"{server}/runCase?case={case}&agent={AGENT}")
        status = json.loads(await asked(f"{server}/getCaseStatus?case={case}&agent={AGENT}"))
        behaviours[status["behavior"]] += 1
        if status["behavior"] not in ("OK", "INFORMATIONAL"):
            print(case, json.loads(await asked(f"{server}/getCaseInfo?case={case}"))["id"], status["behavior"])
    await echo(f"{server}/updateReports?agent={AGENT}")
    return behaviours


def main(server: Annotated[str, typer.Argument(help="Where the fuzzing server listens.")]) -> None:
    """Run all client cases."""
    websocket.MAX_MESSAGE = LARGEST
    for behaviour, number in trio.run(run, server.rstrip("/")).most_common():
        print(number, behaviour)


if __name__ == "__main__":
    typer.run(main)
