"""The development server in a process of its own, so that only the client's cost is measured.

`Server` starts it, on another core where the system allows that, and talks to it over its standard input and output:
one JSON command a line, one JSON answer a line. It ends with its standard input, so it cannot outlive its parent.
Started by the benchmarks, not by hand.
"""

import argparse
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from worker_state.devserver import DevServer, serve


def end(process: subprocess.Popen[bytes]) -> None:
    """Close a process's pipes, which tells it to go, and wait; kill it when it does not."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Seat:
    """An identity and a room, made on the server beforehand."""

    username: str
    id_token: str = field(repr=False)
    room_id: str
    token: str = field(repr=False)


class Server:
    """The other process, for as long as the context lasts."""

    def __init__(self, certificate: Path | None = None) -> None:
        """With a certificate (and its key, in one file) the server can be reached under TLS as well."""
        cores = _cores()
        arguments = [sys.executable, "-m", "benchmarks.server"]
        if len(cores) > 1:
            arguments += ["--core", str(cores[-1])]
        if certificate is not None:
            arguments += ["--certificate", str(certificate)]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        addresses = self._answer()
        self.ws_url: str = addresses["ws_url"]
        self.http_url: str = addresses["http_url"]
        self.wss_url: str | None = addresses["wss_url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process: from then on its ports refuse."""
        end(self._process)

    def seats(self, count: int) -> list[Seat]:
        """So many identities, each with a room of its own."""
        return [Seat(**seat) for seat in self._ask("seats", count)]

    def frames(self, peer_id: str) -> list[dict[str, Any]]:
        """What this peer has sent, in order."""
        frames: list[dict[str, Any]] = self._ask("frames", peer_id)
        return frames

    def freeze(self, peer_id: str) -> None:
        """Read and write nothing more on this peer's connection."""
        self._ask("freeze", peer_id)

    def cut(self, peer_id: str) -> None:
        """Reset this peer's connection."""
        self._ask("cut", peer_id)

    def _ask(self, command: str, argument: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, argument]).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server process has ended")
        return json.loads(line)


def pin_client() -> None:
    """Keep this process, and what it starts, off the server's core."""
    cores = _cores()
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[:-1]))
        # The server is started later and inherits that; it moves itself to the core that it is told.
        _PINNED.append(cores)


_PINNED: list[list[int]] = []


def _cores() -> list[int]:
    if _PINNED:
        return _PINNED[0]
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


# --- the process itself -----------------------------------------------------------------------------------------------


async def _main(certificate: Path | None) -> None:
    async with trio.open_nursery() as nursery:
        server: DevServer = await nursery.start(serve)
        wss_url = None if certificate is None else await _serve_tls(nursery, server.ws_port, certificate)
        _say({"ws_url": server.ws_url, "http_url": server.http_url, "wss_url": wss_url})
        received = bytearray()
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands:
            async for chunk in commands:
                received += chunk
                while b"\n" in received:
                    line, _, received = received.partition(b"\n")
                    command, argument = json.loads(line)
                    _say(COMMANDS[command](server, argument))
        nursery.cancel_scope.cancel()


async def _serve_tls(nursery: trio.Nursery, ws_port: int, certificate: Path) -> str:
    """Take TLS off in front of the WebSocket port, as a proxy would."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    relay = partial(_relay, ws_port)
    listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, relay, 0, context, host="127.0.0.1"))
    return f"wss://127.0.0.1:{listeners[0].transport_listener.socket.getsockname()[1]}"


async def _relay(ws_port: int, client: trio.abc.Stream) -> None:
    server = await trio.open_tcp_stream("127.0.0.1", ws_port)
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(_pass_on, client, server, nursery.cancel_scope)
        nursery.start_soon(_pass_on, server, client, nursery.cancel_scope)


async def _pass_on(source: trio.abc.Stream, sink: trio.abc.Stream, both: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError):
        async for data in source:
            await sink.send_all(data)
    both.cancel()


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def _make_seats(server: DevServer, count: int) -> list[dict[str, Any]]:
    seats = []
    for _ in range(count):
        identity: Any = server.rooms.sign_in(time.time()).body
        room: Any = server.rooms.create_room(f"Bearer {identity['id_token']}", time.time()).body
        seats.append(asdict(Seat(identity["username"], identity["id_token"], room["room_id"], room["token"])))
    return seats


def _frames_of(server: DevServer, peer_id: str) -> list[dict[str, Any]]:
    return [frame for sender, frame in server.frames if sender == peer_id]


COMMANDS: dict[str, Callable[[DevServer, Any], object]] = {
    "seats": _make_seats,
    "frames": _frames_of,
    "freeze": DevServer.freeze,
    "cut": DevServer.cut,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="the core to run on")
    parser.add_argument("--certificate", type=Path, help="for a port under TLS: certificate and key in one file")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    trio.run(_main, options.certificate)
