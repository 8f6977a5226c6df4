"""A worker under floods: how many frames it takes, what becomes of its loop, its memory and its exit.

    python -m benchmarks.flood [--kinds KIND ...] [--seconds S] [--json FILE]

For each kind of flood a worker starts in a process of its own, registers at a server in another, and gets nothing but
that kind of frame, as fast as it takes them, until it is told to leave; the flood goes on while it leaves. Nobody reads
its signals. Frames a second are what its sockets have received, less what is unread in them, on Linux. The loop's lag
is how late a task wakes that sleeps for 5 ms at a time. Memory is the resident memory at the end of the flood, less
that before. The exit begins with the cancel and ends when nothing of the worker runs any more; a deletion has arrived
when the server has answered `/delete-peer` by then.
"""

import argparse
import fcntl
import json
import logging
import math
import select
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage

from benchmarks.held import memory
from benchmarks.report import Table, percentile, write_json
from benchmarks.server import end, pin_client
from benchmarks.storm.lines import commands, say
from worker_state import Config, open_state_manager
from worker_state.devserver import DevServer, serve
from worker_state.devserver.model import Send
from worker_state.net.dial import WebSocketDial
from worker_state.net.tcp import open_tcp_stream
from worker_state.protocol.frames import MOST_CONTAINERS, encode
from worker_state.world import World, replaced

ROOT = Path(__file__).parents[1]
PIECE = 2**14  # bytes that the server sends at a time, at least
LONG = 2**20 - 2**10  # characters of a long offer's SDP: the longest that servers hand on
LONGEST = 5.0  # seconds of a flood: all of them together stay below a minute
PATIENCE = 30.0  # seconds for whatever is waited for
TEXT, PING, PONG, CONTINUATION, END = 1, 9, 10, 0, 0x80
"""Opcodes, and the bit of a message's last frame."""


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """One frame of a server."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    return (
        bytes((opcode, 126)) + size.to_bytes(2) + payload
        if size < 2**16
        else (bytes((opcode, 127)) + size.to_bytes(8) + payload)
    )


def message(**fields: object) -> Callable[[dict[str, Any]], tuple[bytes, bytes]]:
    """A flood of one message."""
    return lambda _: (b"", frame(TEXT | END, encode(fields).encode()))


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels > 1 else []


def offer(sdp: str) -> Callable[[dict[str, Any]], tuple[bytes, bytes]]:
    return message(type="offer", sender="client", sdp=sdp)


def registered(register: dict[str, Any]) -> tuple[bytes, bytes]:
    """The answer to the worker's own `register`, again and again."""
    names = ("room_id", "token", "peer_id")
    answer = {"type": "registered_auth", **{name: register[name] for name in names}, "peer_list": []}
    return b"", frame(TEXT | END, encode(answer).encode())


FLOODS: dict[str, Callable[[dict[str, Any]], tuple[bytes, bytes]]] = {
    "pings": lambda _: (b"", frame(PING | END)),
    "pongs": lambda _: (b"", frame(PONG | END)),
    "empty fragments": lambda _: (frame(TEXT), frame(CONTINUATION)),
    "{}": message(),
    "errors": message(type="error", code="UNKNOWN_MESSAGE_TYPE", message=""),
    "offers": offer("v=0"),
    "registered_auth": registered,
    "long offers": offer("v" * LONG),
    "offers of lists": message(type="offer", sender="client", lists=[nested(90)] * (MOST_CONTAINERS // 91)),
}
"""By name: from the worker's `register` to the frame that begins the flood, and the one that it consists of."""


# --- the server's process ---------------------------------------------------------------------------------------------


class Flooding:
    """A WebSocket server that behaves until it is told to flood every worker that has registered."""

    def __init__(self, server: DevServer, kind: str) -> None:
        self.frame_bytes = 0  # of each frame of the flood
        self.begun = trio.Event()
        self._server = server
        self._kind = kind

    async def serve(self, stream: trio.SocketStream) -> None:
        connection, sending = WSConnection(ConnectionType.SERVER), trio.Lock()
        try:
            async with trio.open_nursery() as nursery:
                async for data in stream:
                    connection.receive_data(bytes(data))
                    for event in connection.events():
                        async with sending:
                            await stream.send_all(b"".join(map(connection.send, self._answers(stream, event))))
                        if isinstance(event, TextMessage) and '"register"' in event.data:
                            nursery.start_soon(self._flood, stream, sending, json.loads(event.data))
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass
        finally:
            self._server.rooms.gone(stream)

    def _answers(self, stream: trio.SocketStream, event: object) -> list[Any]:
        match event:
            case Request():
                return [AcceptConnection()]
            case TextMessage(data=text):
                effects = self._server.rooms.receive(stream, text, time.time())
                return [TextMessage(json.dumps(effect.message)) for effect in effects if isinstance(effect, Send)]
            case Ping():
                return [event.response()]
            case _:
                return []

    async def _flood(self, stream: trio.SocketStream, sending: trio.Lock, register: dict[str, Any]) -> None:
        await self.begun.wait()
        first, each = FLOODS[self._kind](register)
        self.frame_bytes = len(each)
        piece = each * max(1, PIECE // len(each))
        async with sending:
            await stream.send_all(first)
        while True:
            async with sending:
                await stream.send_all(piece)


async def run_server(kind: str) -> None:
    """Serve until the input ends. A line on the input begins the flood, each further one asks what was seen."""
    async with trio.open_nursery() as nursery:
        server: DevServer = await nursery.start(serve)
        flooding = Flooding(server, kind)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, flooding.serve, [listener])
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        say({"ws_url": url, "http_url": server.http_url})
        async for _ in commands():
            flooding.begun.set()
            say({"frame_bytes": flooding.frame_bytes, "deleted": not server.rooms.users})
        nursery.cancel_scope.cancel()


# --- the worker's process ---------------------------------------------------------------------------------------------


def taken(sockets: list[trio.SocketStream]) -> int | None:
    """Bytes that the worker has read from its sockets, where the system tells them; of closed ones nothing is known."""
    found = 0
    for each in sockets:
        if not hasattr(socket, "TCP_INFO"):
            return None
        if each.socket.fileno() >= 0:
            unread = fcntl.ioctl(each.socket.fileno(), termios.FIONREAD, bytes(4))
            info = each.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
            found += int.from_bytes(info[128:136], sys.byteorder) - int.from_bytes(unread, sys.byteorder)
    return found


async def run_worker(ws_url: str, http_url: str) -> None:
    """One worker. The first line on its input begins the measurement, the second has it leave."""
    logging.getLogger("worker_state").addHandler(logging.NullHandler())
    lags, sockets = list[float](), list[trio.SocketStream]()

    async def open_stream(host: str, port: int, within: float) -> trio.SocketStream:
        sockets.append(await open_tcp_stream(host, port, within))
        return sockets[-1]

    def around(config: Config) -> World:
        return replace(World.real(config), dial=WebSocketDial(config.websocket_url, open_stream=open_stream))

    async def measure() -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            lags.append(trio.current_time() - due)

    def resident() -> float | None:
        found = memory()
        return None if found is None else found["now"] / 1024

    async with trio.open_nursery() as nursery:
        config = Config(ws_url, http_url, show_session_string=False)
        with replaced(around):
            manager_to_come = open_state_manager(config)
        async with manager_to_come as manager:
            await manager.synced()
            before = resident()
            say({"ready": True})
            orders = commands()
            await anext(orders)
            nursery.start_soon(measure)
            measured, before_bytes = time.monotonic(), taken(sockets)
            await anext(orders)
            after_bytes, seconds = taken(sockets), time.monotonic() - measured
            grown = None if before is None else (resident() or 0.0) - before
            lost = manager.state.epoch > 1 or not manager.state.connected
            began = time.monotonic()
        exit_seconds = time.monotonic() - began
        nursery.cancel_scope.cancel()
    rate = None if before_bytes is None or after_bytes is None else (after_bytes - before_bytes) / seconds
    figures = {"bytes_per_second": rate, "grown_mib": grown, "dropped": manager.state.signals_dropped}
    say({"lags": lags, "lost": lost, "exit_seconds": exit_seconds, **figures})


# --- the one that measures --------------------------------------------------------------------------------------------


class Process:
    """One of the two, for as long as the context lasts: a line in, an answer out."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "benchmarks.flood", *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ready: dict[str, Any] = self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b'["go", null]\n')
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Raises `RuntimeError` when none comes in `PATIENCE` seconds."""
        assert self._process.stdout is not None
        line = b""
        if select.select([self._process.stdout], [], [], PATIENCE)[0]:
            line = self._process.stdout.readline()
        if not line:
            self._process.kill()
            raise RuntimeError("a measured process does not answer")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self) -> dict[str, Any]:
        self.tell()
        return self.answer()


def measure(kind: str, seconds: float) -> dict[str, Any]:
    """One flood."""
    with (
        Process("--serve", kind) as server,
        Process("--work", server.ready["ws_url"], server.ready["http_url"]) as worker,
    ):
        worker.tell()
        server.ask()
        time.sleep(seconds)
        found = worker.ask()
        seen = server.ask()
    lags, taken = found.pop("lags"), found.pop("bytes_per_second")
    return {
        # Of a link that was lost nobody knows how much it took.
        "frames_per_second": None if taken is None or found["lost"] else taken / seen["frame_bytes"],
        "lag_ms": {"median": 1e3 * percentile(lags, 0.5), "max": 1e3 * max(lags, default=math.nan)},
        **found,
        "deleted": seen["deleted"],
    }


def table(floods: dict[str, dict[str, Any]], seconds: float) -> Table:
    columns = ["flood", "frames/s", "lag ms, median", "max", "MiB grown", "dropped", "exit s", "deletion", "link"]
    rows = [
        [
            kind,
            "?" if found["frames_per_second"] is None else f"{found['frames_per_second']:,.0f}",
            f"{found['lag_ms']['median']:.1f}",
            f"{found['lag_ms']['max']:.1f}",
            "?" if found["grown_mib"] is None else f"{found['grown_mib']:.1f}",
            f"{found['dropped']:,}",
            f"{found['exit_seconds']:.2f}",
            "arrived" if found["deleted"] else "MISSING",
            "lost" if found["lost"] else "kept",
        ]
        for kind, found in floods.items()
    ]
    return Table(f"A worker under floods of {seconds:g} s each", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flood", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=FLOODS, default=list(FLOODS), metavar="KIND", help="which floods")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each flood (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--serve", metavar="KIND", help=argparse.SUPPRESS)  # the two processes
    parser.add_argument("--work", nargs=2, metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(run_server, options.serve)
    elif options.work:
        trio.run(run_worker, *options.work)
    elif not 0 < options.seconds <= LONGEST:
        parser.error(f"--seconds must be at least a little, and at most {LONGEST:g}")
    else:
        pin_client()
        floods = {kind: measure(kind, options.seconds) for kind in options.kinds}
        table(floods, options.seconds).show()
        write_json(options.json, "flood", {"seconds": options.seconds, "floods": floods})


if __name__ == "__main__":
    main()
