"""JSON lines between the parent and its processes: how a process hears and speaks, and how the parent holds it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

PATIENCE = 120.0
"""Seconds for an answer. Processes answer at once; this only ends a hang."""


def say(line: object) -> None:
    """One line to the parent. A parent that has gone is noticed by the end of standard input."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def kept_waiting() -> float:
    """Seconds for which this process wanted to run and the machine had no core for it, where that is known."""
    try:
        return int(Path("/proc/self/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def first_line() -> dict[str, Any]:
    """The order that a process gets before its loop runs. Unbuffered: what follows is for the loop to read."""
    line = bytearray()
    while not line.endswith(b"\n"):
        line += os.read(sys.stdin.fileno(), 1) or b"\n"
    order: dict[str, Any] = json.loads(line)
    return order


async def commands() -> AsyncIterator[tuple[str, Any]]:
    """What the parent says, until it has gone."""
    received = bytearray()
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        async for chunk in stream:
            received += chunk
            while b"\n" in received:
                line, _, received = received.partition(b"\n")
                command, argument = json.loads(line)
                yield command, argument


class Process:
    """One of the parent's processes. `hear` gets each line that answers nothing."""

    def __init__(self, process: trio.Process, hear: Callable[[dict[str, Any]], None]) -> None:
        self._process = process
        self._hear = hear
        self._ending = False
        self._answers, self._answered = trio.open_memory_channel[dict[str, Any]](16)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def tell(self, line: object) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(line).encode() + b"\n")

    async def answer(self, key: str) -> dict[str, Any]:
        """The next line that has this key."""
        with trio.fail_after(PATIENCE):
            while key not in (line := await self._answered.receive()):
                pass
        return line

    async def ask(self, command: str, argument: object = None, *, key: str) -> dict[str, Any]:
        await self.tell([command, argument])
        return await self.answer(key)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and it is over."""
        self._ending = True
        self._process.kill()
        await self._process.wait()

    async def listen(self) -> None:
        """Take what it says until it has ended. Raises `RuntimeError` when it does so by itself."""
        received = bytearray()
        assert self._process.stdout is not None
        with self._answers:
            async for chunk in self._process.stdout:
                received += chunk
                while b"\n" in received:
                    line, _, received = received.partition(b"\n")
                    message = json.loads(line)
                    if "at" in message:
                        self._hear(message)
                    else:
                        await self._answers.send(message)
        if not self._ending:
            raise RuntimeError("a process of the benchmark has ended by itself")


@asynccontextmanager
async def process(module: str, order: dict[str, Any], hear: Callable[[dict[str, Any]], None]) -> AsyncIterator[Process]:
    """Run a module for as long as the context lasts; it is killed at the end, however that comes."""
    opened = await trio.lowlevel.open_process(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    running = Process(opened, hear)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.listen)
            await running.tell(order)
            await running.answer("ready")
            yield running
            nursery.cancel_scope.cancel()
    finally:
        opened.kill()
        with trio.CancelScope(shield=True):
            await opened.wait()
