"""Whatever the machine and its libraries raise costs a dial, a call or a link, never the worker."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.support.dialled import Dialled
from tests.support.peers import TEXT, Peer, frame, serving
from tests.support.resolving import Resolver
from tests.support.worlds import RealWorld, World, scenario
from worker_state import Config, ServerUnreachable, SignInFailed, open_state_manager
from worker_state.errors import ObservationFailed
from worker_state.net import http_client, tcp, tls
from worker_state.net.dial import WebSocketDial
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.tools.observer import open_roster


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), LookupError("unknown encoding: idna")])
def test_g28_a_worker_that_cannot_look_up_names(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A look-up that raises costs dials; once names are found again, so is the worker."""

    @scenario
    async def comes_back(world: World) -> None:
        assert isinstance(world, RealWorld)
        resolver = Resolver("127.0.0.1")
        trio.socket.set_custom_hostname_resolver(resolver)
        config = world.config()
        config = replace(
            config,
            websocket_url=config.websocket_url.replace("127.0.0.1", "localhost"),
            http_url=config.http_url.replace("127.0.0.1", "localhost"),
        )
        async with open_state_manager(config) as manager:
            await manager.synced()
            resolver.error = error
            world.cut()
            await manager.wait_for(lambda state: state.trouble is not None and str(error) in state.trouble)
            await world.until(lambda: resolver.raised >= 2)
            resolver.error = None
            await manager.synced()
            assert world.shown(manager)[0] == "available"

        resolver.error = error
        with pytest.raises(SignInFailed, match=str(error)):
            async with open_state_manager(config):
                pass
        with pytest.raises(ServerUnreachable, match=str(error)):
            async with open_state_manager(replace(config, api_key="slp_key")):
                pass

    comes_back("real", caplog)


async def test_g23_a_start_and_a_watch_name_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key log that cannot be opened fails a start, and a watch, in words."""
    for module, name in ((tls, "TRUST"), (http_client, "_TRUST")):  # as in a process that has not used TLS yet
        monkeypatch.setattr(module, name, tls.Trust())
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    addresses = "wss://localhost:1", "https://localhost:1"
    with pytest.raises(SignInFailed, match="SSLKEYLOGFILE names a file that cannot be opened"):
        async with open_state_manager(Config(*addresses)):
            pass
    with pytest.raises(ObservationFailed, match="SSLKEYLOGFILE names a file that cannot be opened"):
        async with open_roster(Config(*addresses, room_id="r", room_token="t")):
            pass


async def test_g28_what_the_library_raises_is_a_failed_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is what the WebSocket library raises before it has begun."""

    async def raising(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise MemoryError("none")

    monkeypatch.setattr("worker_state.net.websocket.wrap_client_stream", raising)

    async def script(peer: Peer) -> None:
        await peer.end()

    async with serving(script) as port, Dialled(WebSocketDial(f"ws://127.0.0.1:{port}/"))() as made:
        assert made == DialFailure(Cause.CLOSED, "MemoryError: none")


class Breaking(trio.abc.Stream):
    """A stream in which something raises what no stream should, once it is told to."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.sending: Exception | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.sending is not None:
            raise self.sending
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


@pytest.mark.parametrize("error", [RuntimeError("how odd"), MemoryError("none"), LookupError("nowhere")])
async def test_g28_what_a_stream_raises_is_the_end_of_its_link(error: Exception) -> None:
    """An error of a kind that nobody foresaw is a failed dial before the link is open, and its end after."""
    streams = list[Breaking]()
    before: Exception | None = None

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        streams.append(Breaking(await tcp.open_tcp_stream(host, port, within)))
        streams[-1].sending = before
        return streams[-1]

    async def script(peer: Peer) -> None:
        await peer.upgrade(frame(TEXT, b"hello"))
        await peer.end()

    async with serving(script) as port:
        dial = Dialled(WebSocketDial(f"ws://127.0.0.1:{port}/", open_stream=open_stream))
        async with dial() as made:
            assert not isinstance(made, DialFailure), made
            assert await made.receive() == "hello"
            streams[-1].sending = error
            closed = await made.send("hello")
            assert isinstance(closed, Closed)
            assert type(error).__name__ in closed.reason
            assert isinstance(await made.ping(), Closed)
        before = error
        async with dial() as made:
            assert isinstance(made, DialFailure)
