"""TLS in front of a server, as a load balancer has it: its certificate can be changed, and everything cut."""

import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

NOTHING = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Front:
    """Two ports, which are kept: one before the server's WebSocket, one before its HTTP."""

    def __init__(self, nursery: trio.Nursery, certificate: Path) -> None:
        self._nursery = nursery
        self._ports = [0, 0]
        self._open: list[tuple[trio.CancelScope, trio.Event]] = []
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.shows(certificate)

    def shows(self, certificate: Path) -> None:
        """The certificate for connections from now on."""
        self._context.load_cert_chain(certificate)

    async def opens(self, *behind: int) -> tuple[str, str]:
        """Lead to these ports of a server. Returns the two addresses."""
        for place, port in enumerate(behind):
            self._ports[place] = await self._nursery.start(self._serve, self._ports[place], port)
        return f"wss://127.0.0.1:{self._ports[0]}", f"https://127.0.0.1:{self._ports[1]}"

    async def closes(self) -> None:
        """Cut everything, and refuse what comes."""
        for scope, _ in self._open:
            scope.cancel()
        for _, gone in self._open:
            await gone.wait()
        self._open.clear()

    async def _serve(self, port: int, behind: int, *, task_status: "trio.TaskStatus[int]") -> None:
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        secured = trio.SSLListener(listener, self._context, https_compatible=True)
        with trio.CancelScope() as scope:
            self._open.append((scope, gone := trio.Event()))
            task_status.started(listener.socket.getsockname()[1])
            await trio.serve_listeners(partial(_forward, behind), [secured])
        gone.set()


async def _forward(behind: int, outside: trio.SSLStream[trio.SocketStream]) -> None:
    try:
        inside = await trio.open_tcp_stream("127.0.0.1", behind)
    except OSError:
        await trio.aclose_forcefully(outside)
        return
    async with inside, trio.open_nursery() as nursery:
        nursery.start_soon(_pump, inside, outside, nursery.cancel_scope)
        await _pump(outside, inside, nursery.cancel_scope)
    with trio.move_on_after(0.5), suppress(*NOTHING):
        await outside.aclose()


async def _pump(source: trio.abc.ReceiveStream, to: trio.abc.SendStream, both: trio.CancelScope) -> None:
    with suppress(*NOTHING):
        async for data in source:
            await to.send_all(data)
    both.cancel()
