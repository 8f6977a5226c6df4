"""The dial that is kept: beside it the next one is made, whichever is answered first wins, and nothing else stays."""

import math
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.net import test_tls
from tests.support.dialled import PATIENT
from tests.support.peers import PING, PONG, TEXT, Peer, Script, frame, serving, switching
from worker_state.actors.connection import ConnectionActor
from worker_state.config import Config
from worker_state.net import tcp
from worker_state.net.dial import WebSocketDial
from worker_state.net.websocket import Socket
from worker_state.protocol import events
from worker_state.protocol.error_policy import Cause, DialFailure
from worker_state.protocol.reconnect import Deadlines, ReconnectPolicy
from worker_state.redact import Secrets

DEADLINES = Deadlines(connect=1.0, acknowledge=1.0, upgrade=2.0, register=60.0)
NOTHING = DialFailure(Cause.UNANSWERED, "nothing in 2 s")
MOMENTS = 20
"""More rounds of the scheduler than a dial takes that is answered at once."""

Pair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]
"""The client's and the server's end of a connection."""

certificate = test_tls.certificate


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    near, far = trio.socket.socketpair()
    return trio.SocketStream(near), trio.SocketStream(far)


PAIRS = pytest.mark.parametrize("pair", [memory_stream_pair, socket_pair])  # an abort takes more rounds in memory


def is_open(stream: trio.abc.Stream) -> bool:
    if isinstance(stream, trio.SocketStream):
        return stream.socket.fileno() != -1
    assert isinstance(stream, trio.StapledStream)
    try:
        return bool(stream.send_stream.get_data_nowait())
    except trio.WouldBlock:
        return True


async def silent(peer: Peer) -> None:
    await trio.sleep_forever()


def answering(after: float) -> Script:
    async def script(peer: Peer) -> None:
        await trio.sleep(after)
        await peer.upgrade()

    return script


class Network:
    """A dial, the nursery of its connections, and the server's end of each, which follows the next of the scripts."""

    nursery: trio.Nursery
    servers: trio.Nursery

    def __init__(self, scripts: tuple[Script, ...], pair: Pair, certificate: Path | None) -> None:
        self.near: list[trio.abc.Stream] = []
        self.peers: list[Peer] = []
        self.made: list[Socket] = []
        self.dialled_at: list[float] = []
        self.told_at: list[float] = []  # that a kept dial is answered
        self.connect_takes = 0.0
        self._scripts = scripts
        self._pair = pair
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(certificate)
        self.dial = WebSocketDial(
            "ws://127.0.0.1/" if certificate is None else "wss://127.0.0.1/",
            open_stream=self.open_stream,
            ssl_context=None if certificate is None else test_tls.trusting(certificate),
        )

    async def call(self, deadlines: Deadlines = DEADLINES) -> Socket | DialFailure:
        made = await self.dial(deadlines, self.nursery, self._tell)
        if not isinstance(made, DialFailure):
            self.made.append(made)
        return made

    @property
    def open(self) -> list[int]:
        """Which connections the client has not ended."""
        return [number for number, each in enumerate(self.near) if is_open(each)]

    async def answer(self, number: int, after: int = 0) -> None:
        """The upgrade of this connection, in so many rounds of the scheduler."""
        await rounds(after)
        with suppress(trio.BrokenResourceError):  # the client may leave in the middle
            await self.peers[number].upgrade()

    async def open_stream(self, host: str, port: int, within: float) -> trio.abc.Stream:
        self.dialled_at.append(trio.current_time())
        await trio.sleep(self.connect_takes)
        near, far = self._pair()
        script = self._scripts[len(self.peers)] if len(self.peers) < len(self._scripts) else silent
        peer = Peer(far if self._context is None else trio.SSLStream(far, self._context, server_side=True))
        self.near.append(near)
        self.peers.append(peer)
        self.servers.start_soon(self._serve, script, peer, far)
        return near

    async def _serve(self, script: Script, peer: Peer, far: trio.abc.Stream) -> None:
        try:
            with suppress(trio.BrokenResourceError):
                await script(peer)
            await trio.sleep_forever()
        finally:
            await tcp.abort(far)

    def _tell(self) -> None:
        self.told_at.append(trio.current_time())


@asynccontextmanager
async def network(
    *scripts: Script, pair: Pair = memory_stream_pair, certificate: Path | None = None
) -> AsyncIterator[Network]:
    """In the end the sockets are aborted and the nursery is cancelled, and nothing may be left."""
    net = Network(scripts, pair, certificate)
    with trio.fail_after(1000):
        async with trio.open_nursery() as net.servers, trio.open_nursery() as net.nursery:
            try:
                yield net
            finally:
                for each in net.made:
                    await each.abort()
                net.nursery.cancel_scope.cancel()
                net.servers.cancel_scope.cancel()
    assert net.open == []


async def echo(peer: Peer) -> None:
    for answer in (TEXT, PONG):
        opcode, payload = await peer.frame()
        assert opcode == (PING if answer == PONG else TEXT)
        await peer.send(frame(answer, payload))


async def check(made: Socket | DialFailure, peer: Peer) -> None:
    """Text goes to this peer and back, and a ping is answered."""
    assert not isinstance(made, DialFailure), made
    with trio.fail_after(PATIENT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, peer)
            assert await made.send("hello") is None
            assert await made.receive() == "hello"
            assert await made.ping() is None


async def rounds(count: int) -> None:
    """So many rounds of the scheduler: everybody who can run does so in each."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


# --- one dial is kept -------------------------------------------------------------------------------------------------


@PAIRS
async def test_an_unanswered_dial_is_kept(pair: Pair, autojump_clock: MockClock) -> None:
    """A dial whose upgrade is not answered fails after exactly its time, stays open, and the next is made beside it."""
    async with network(pair=pair) as net:
        assert await net.call() == NOTHING
        assert trio.current_time() == 2
        await net.peers[0].head()
        with trio.move_on_after(5) as scope:
            await net.peers[0].end()
        assert scope.cancelled_caught
        assert await net.call() == NOTHING
        assert net.dialled_at == [0, 7]
        assert net.open == [0]
        assert net.told_at == []


@PAIRS
async def test_answered_in_the_next_upgrade(pair: Pair, autojump_clock: MockClock) -> None:
    """A kept dial that is answered while the next one waits for its upgrade wins, and the other is aborted."""
    async with network(answering(3), pair=pair) as net:
        assert await net.call() == NOTHING
        made = await net.call()
        assert trio.current_time() == 3
        assert net.open == [0]
        await net.peers[1].head()
        assert await net.peers[1].end() == "EOF"
        await check(made, net.peers[0])


async def test_answered_in_the_next_connect(autojump_clock: MockClock) -> None:
    """A kept dial that is answered while the next one waits for TCP wins, and there is no other."""
    async with network(answering(3)) as net:
        assert await net.call() == NOTHING
        net.connect_takes = math.inf
        made = await net.call()
        assert trio.current_time() == 3
        assert net.dialled_at == [0, 2]
        assert net.open == [0]
        await check(made, net.peers[0])


async def test_nobody_is_told_within_a_call(autojump_clock: MockClock) -> None:
    """An answer that a call returns is not told besides: who cuts a pause by it would cut the call."""
    async with network(answering(3)) as net:
        assert await net.call() == NOTHING
        assert not isinstance(await net.call(), DialFailure)
        assert net.told_at == []


async def test_answered_between_two_calls(autojump_clock: MockClock) -> None:
    """A kept dial that is answered between two calls is told once, and the next call returns it at once."""
    async with network(answering(5)) as net:
        assert await net.call() == NOTHING
        await trio.sleep(10)
        assert net.told_at == [5]
        made = await net.call()
        assert trio.current_time() == 12
        assert net.dialled_at == [0]
        await check(made, net.peers[0])
        assert net.told_at == [5]


async def test_what_came_between_two_calls(autojump_clock: MockClock) -> None:
    """What the server has sent before anybody asked for the kept socket is received, and the end is, too."""

    async def script(peer: Peer) -> None:
        await trio.sleep(5)
        await peer.upgrade(behind=frame(TEXT, b"early"))
        await trio.sleep(1)
        await peer.stream.aclose()

    async with network(script) as net:
        assert await net.call() == NOTHING
        await trio.sleep(10)
        made = await net.call()
        assert not isinstance(made, DialFailure)
        assert await made.receive() == "early"
        assert not isinstance(await made.receive(), str)
        await made.abort()
        assert net.dialled_at == [0]
        assert not net.nursery.child_tasks


async def test_a_dial_after_the_kept_one_was_taken(autojump_clock: MockClock) -> None:
    """Once the kept dial was returned a call dials again, and keeps its own."""
    async with network(answering(5)) as net:
        assert await net.call() == NOTHING
        await trio.sleep(10)
        made = await net.call()
        assert not isinstance(made, DialFailure)
        await made.abort()
        assert await net.call() == NOTHING
        assert net.open == [1]


@PAIRS
async def test_the_next_is_answered_first(pair: Pair, autojump_clock: MockClock) -> None:
    """A dial that is answered before the kept one is returned, and the kept one is aborted: one link is enough."""
    async with network(answering(10), answering(1), pair=pair) as net:
        assert await net.call() == NOTHING
        made = await net.call()
        assert trio.current_time() == 3
        await check(made, net.peers[1])
        await trio.testing.wait_all_tasks_blocked()
        assert net.open == [1]
        await trio.sleep(60)
        assert net.told_at == []
        assert net.open == [1]
        assert await net.call() == NOTHING
        assert net.dialled_at == [0, 2, 63]


async def test_only_the_oldest_is_kept(autojump_clock: MockClock) -> None:
    """Of several unanswered dials the first is kept, and each of the others is aborted after its time."""
    async with network() as net:
        for number in range(4):
            assert await net.call() == NOTHING
            assert trio.current_time() == 2 * (number + 1)
            assert net.open == [0]
        assert net.told_at == []
        kept = len(net.nursery.child_tasks)
        assert await net.call() == NOTHING
        assert len(net.nursery.child_tasks) == kept


@PAIRS
async def test_nothing_to_be_kept_for(pair: Pair, autojump_clock: MockClock) -> None:
    """A dial that has no longer for its registration than for its upgrade is aborted before the call returns."""
    async with network(pair=pair) as net:
        assert await net.call(replace(DEADLINES, register=2.0)) == NOTHING
        assert trio.current_time() == 2
        assert net.open == []
        assert not net.nursery.child_tasks


@PAIRS
@pytest.mark.parametrize("register", [2.0, 60.0])
async def test_no_tls_in_time(pair: Pair, register: float, autojump_clock: MockClock) -> None:
    """What had not come yet is said whether the dial is kept or not, and whichever task the scheduler takes first."""
    for _ in range(10):
        async with network(pair=pair) as net:
            dial = WebSocketDial("wss://127.0.0.1/", open_stream=net.open_stream)
            made = await dial(replace(DEADLINES, register=register), net.nursery)
            assert made == DialFailure(Cause.UNANSWERED, "no TLS in 2 s")


# --- a kept dial that fails -------------------------------------------------------------------------------------------


async def closed(peer: Peer) -> None:
    await trio.sleep(5)
    await peer.stream.aclose()


async def refused(peer: Peer) -> None:
    await trio.sleep(5)
    await peer.head()
    await peer.send(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n")
    await trio.sleep_forever()


async def no_websocket(peer: Peer) -> None:
    await trio.sleep(5)
    await peer.send(b"220 mail.example.org ESMTP\r\n\r\n")
    await trio.sleep_forever()


FAILURES = pytest.mark.parametrize(
    ("script", "register"),
    [
        pytest.param(closed, 60.0, id="closed"),
        pytest.param(refused, 60.0, id="HTTP 503"),
        pytest.param(no_websocket, 60.0, id="garbage"),
        pytest.param(silent, 5.0, id="time is up"),
    ],
)


@FAILURES
async def test_failed_between_two_calls(script: Script, register: float, autojump_clock: MockClock) -> None:
    """A kept dial that fails between two calls is forgotten: nobody is told, and the next unanswered one is kept."""
    deadlines = replace(DEADLINES, register=register)
    async with network(script, answering(3)) as net:
        assert await net.call(deadlines) == NOTHING
        await trio.sleep(2.9)
        assert net.open == [0]
        await trio.sleep(0.2)
        assert net.open == []
        assert not net.nursery.child_tasks
        assert await net.call(deadlines) == NOTHING
        assert net.open == [1]
        assert net.told_at == []
        await check(await net.call(deadlines), net.peers[1])
        assert net.open == [1]


@FAILURES
async def test_failed_within_the_next_call(script: Script, register: float, autojump_clock: MockClock) -> None:
    """A kept dial that fails within the next call does not touch that one, which is kept in its place."""
    deadlines = replace(DEADLINES, register=register)
    async with network(script, answering(2.5)) as net:
        assert await net.call(deadlines) == NOTHING
        await trio.sleep(2)
        assert await net.call(deadlines) == NOTHING
        assert trio.current_time() == 6
        assert net.open == [1]
        await trio.sleep(2)
        assert net.told_at == [6.5]
        await check(await net.call(deadlines), net.peers[1])


async def test_no_deadline_after_the_answer(autojump_clock: MockClock) -> None:
    """The time for the upgrade is no concern of a socket that has been answered, taken or not."""
    async with network(answering(50)) as net:
        assert await net.call() == NOTHING
        await trio.sleep(100)
        made = await net.call()
        await trio.sleep(100)
        await check(made, net.peers[0])


# --- the end of it all ------------------------------------------------------------------------------------------------


@PAIRS
@pytest.mark.parametrize("script", [silent, answering(5)])
async def test_the_end_of_the_nursery(script: Script, pair: Pair, autojump_clock: MockClock) -> None:
    """With its nursery a kept dial is cancelled, answered or not: the peer sees the end, and no task is left."""
    async with network(script, pair=pair) as net:
        assert await net.call() == NOTHING
        await trio.sleep(10)
        assert net.open == [0]
        net.nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
            assert net.open == []
            assert not net.nursery.child_tasks
            assert await net.peers[0].end() == "EOF"


async def test_a_nursery_after_another(autojump_clock: MockClock) -> None:
    """A dial that was kept in a nursery that is over is forgotten, and the dial object is as good as new."""
    async with network(answering(5)) as net:
        async with trio.open_nursery() as other:
            assert await net.dial(DEADLINES, other) == NOTHING
            await trio.sleep(10)
            other.cancel_scope.cancel()
        assert net.open == []
        assert await net.call() == NOTHING
        assert net.open == [1]


@PAIRS
async def test_cancelled_from_outside(pair: Pair, autojump_clock: MockClock) -> None:
    """A call that is cancelled leaves the kept dial, which the next call returns, and nothing of its own."""
    async with network(answering(10), pair=pair) as net:
        with trio.move_on_after(1) as scope:
            await net.call()
        assert scope.cancelled_caught
        assert net.open == []
        assert not net.nursery.child_tasks

    async with network(answering(7), pair=pair) as net:
        assert await net.call() == NOTHING
        kept = net.nursery.child_tasks
        for connect_takes in (0, 10):
            net.connect_takes = connect_takes
            with trio.move_on_after(1) as scope:
                await net.call()
            assert scope.cancelled_caught
            assert net.open == [0]
            assert net.nursery.child_tasks == kept
        net.connect_takes = 0
        assert await net.call() == NOTHING
        await check(await net.call(), net.peers[0])
        assert net.open == [0]


# --- in the same moment -----------------------------------------------------------------------------------------------


@PAIRS
@pytest.mark.parametrize("first", [0, 1])
async def test_both_answered_in_the_same_moment(pair: Pair, first: int, autojump_clock: MockClock) -> None:
    """However close two answers are, one socket is returned, and the other connection is aborted."""
    for moment in range(MOMENTS):
        async with network(pair=pair) as net:
            assert await net.call() == NOTHING
            async with trio.open_nursery() as nursery:
                nursery.start_soon(net.call)
                await trio.sleep(1)
                nursery.start_soon(net.answer, first)
                nursery.start_soon(net.answer, 1 - first, moment)
            await trio.testing.wait_all_tasks_blocked()
            (made,), (winner,) = net.made, net.open
            await check(made, net.peers[winner])
            await made.abort()
            await trio.testing.wait_all_tasks_blocked()
            assert not net.nursery.child_tasks
            assert net.told_at == []


@PAIRS
@pytest.mark.parametrize("register", [2.0, 60.0])
async def test_answered_when_time_is_up(pair: Pair, register: float, mock_clock: MockClock) -> None:
    """A dial that is answered in the moment of its deadline is returned, kept and told, or aborted, but never lost."""
    seen = set[tuple[int, int]]()
    for moment in range(MOMENTS):
        async with network(answering(0), pair=pair) as net:
            mock_clock.autojump_threshold = math.inf
            async with trio.open_nursery() as nursery:
                nursery.start_soon(net.call, replace(DEADLINES, register=register))
                await rounds(moment)
                mock_clock.jump(2)
                await rounds(MOMENTS)
                mock_clock.autojump_threshold = 0
            seen.add((len(net.made), len(net.told_at)))
            if net.told_at:
                await net.call()
            if net.open:
                await check(net.made[-1], net.peers[net.open[-1]])
                await net.made[-1].abort()
            await trio.testing.wait_all_tasks_blocked()
            assert net.open == []
            assert not net.nursery.child_tasks
    assert seen == {(1, 0), (0, 0 if register == 2 else 1)}


@PAIRS
async def test_the_kept_one_is_answered_when_its_time_is_up(pair: Pair, mock_clock: MockClock) -> None:
    """A kept dial that is answered in the moment of its deadline wins, or the call goes on as if nothing had been."""
    seen = set[int]()
    for moment in range(MOMENTS):
        async with network(pair=pair) as net:
            mock_clock.autojump_threshold = 0
            assert await net.call() == NOTHING
            await trio.sleep(57.5)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(net.call)
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.autojump_threshold = math.inf
                nursery.start_soon(net.answer, 0)
                await rounds(moment)
                mock_clock.jump(0.5)
                await rounds(MOMENTS)
                mock_clock.autojump_threshold = 0
                if not net.made:
                    await net.answer(1)
            (made,), (winner,) = net.made, net.open
            seen.add(winner)
            await check(made, net.peers[winner])
    assert seen == {0, 1}


@PAIRS
@pytest.mark.parametrize("script", [None, silent, answering(2.5)])
@pytest.mark.parametrize("whole", [False, True])
async def test_cancelled_at_any_moment(
    pair: Pair, script: Script | None, whole: bool, autojump_clock: MockClock
) -> None:
    """Whenever a call or the whole nursery is cancelled, the call leaves nothing but what was and may be kept."""
    kept = [0] if script is not None else []
    for moment in range(MOMENTS):
        async with network(*[script or answering(0), answering(0)], pair=pair) as net:
            if kept:
                assert await net.call() == NOTHING
            if script is not silent:
                await trio.sleep(0.5)  # after this the kept one is answered, or is about to be
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(net.call)
                    await rounds(moment)
                    (net.nursery.cancel_scope if whole else scope).cancel()
            with trio.CancelScope(shield=True):
                for made in net.made:
                    await made.abort()
                await trio.testing.wait_all_tasks_blocked()
                if whole or net.made:
                    assert net.open == []
                assert set(net.open) <= set(kept)
                assert bool(net.nursery.child_tasks) == bool(net.open)
            if net.open and script is not silent:
                await check(await net.call(), net.peers[0])


@PAIRS
@pytest.mark.parametrize("script", [None, silent, answering(2.5)])
def test_interrupted_at_any_moment(pair: Pair, script: Script | None) -> None:
    """Whenever Ctrl-C comes out of a call, the end of the nursery leaves nothing."""
    nets = list[Network]()

    @trio.lowlevel.enable_ki_protection
    async def interrupt(after: int) -> None:
        await rounds(after)
        signal.raise_signal(signal.SIGINT)  # trio raises it in the main task, which is in the call or behind it

    async def main(moment: int) -> None:
        async with network(*[script or answering(0), answering(0)], pair=pair) as net:
            nets.append(net)
            if script is not None:
                assert await net.call() == NOTHING
            async with trio.open_nursery() as nursery:
                nursery.start_soon(interrupt, moment)
                await net.call()
                await trio.sleep_forever()

    for moment in range(MOMENTS):
        with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
            trio.run(main, moment, clock=MockClock(autojump_threshold=0))
        assert nets[moment].open == []


# --- TLS, sockets, and who calls --------------------------------------------------------------------------------------


@PAIRS
async def test_under_tls(pair: Pair, certificate: Path, autojump_clock: MockClock) -> None:
    """Under TLS a dial without its handshake is kept, and wins when it is answered; so does the next one."""
    async with network(answering(3), pair=pair, certificate=certificate) as net:
        assert await net.call() == DialFailure(Cause.UNANSWERED, "no TLS in 2 s")
        made = await net.call()
        assert trio.current_time() == 3
        assert net.open == [0]
        await check(made, net.peers[0])

    async with network(silent, answering(1), pair=pair, certificate=certificate) as net:
        assert await net.call() == DialFailure(Cause.UNANSWERED, "no TLS in 2 s")
        await check(await net.call(), net.peers[1])
        assert net.open == [1]


async def test_over_real_sockets() -> None:
    """Over TCP the kept dial is answered while the next is not, works, and the other's peer sees the end."""
    heads, ends = list[bytes](), list[str]()
    answer, ended = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        if len(heads) == 1:
            await answer.wait()
            await peer.send(switching(heads[0]))
            await echo(peer)
            await trio.sleep_forever()
        answer.set()
        ends.append(await peer.end())
        ended.set()

    deadlines = Deadlines(connect=PATIENT, acknowledge=PATIENT, upgrade=0.1, register=PATIENT)
    async with serving(script) as port, trio.open_nursery() as nursery:
        dial = WebSocketDial(f"ws://127.0.0.1:{port}/")
        assert await dial(deadlines, nursery) == DialFailure(Cause.UNANSWERED, "nothing in 0.1 s")
        made = await dial(replace(deadlines, upgrade=PATIENT / 2), nursery)
        assert not isinstance(made, DialFailure), made
        assert await made.send("hello") is None
        assert await made.receive() == "hello"
        assert await made.ping() is None
        await ended.wait()
        await made.abort()
        assert not nursery.child_tasks
    assert len(heads) == 2
    assert ends == ["RST"]


@pytest.mark.parametrize("in_the_pause", [True, False])
async def test_the_connection_actor(in_the_pause: bool, autojump_clock: MockClock) -> None:
    """The connection actor serves the kept socket at once when it is answered in the pause, or in the next dial."""
    inbox, receive = trio.open_memory_channel[events.Event](math.inf)
    answer, opened = trio.Event(), trio.Event()
    answered_at, opened_at = list[float](), list[float]()

    def publish(event: events.Event) -> None:
        if isinstance(event, events.DialFailed) and in_the_pause:
            answer.set()
        if isinstance(event, events.LinkOpened):
            opened_at.append(trio.current_time())
            opened.set()

    async def first(peer: Peer) -> None:
        await answer.wait()
        answered_at.append(trio.current_time())
        await peer.upgrade()

    async def second(peer: Peer) -> None:
        await peer.head()
        answer.set()

    inbox.send_nowait(events.StartDialing())
    async with network(first, second) as net:
        policy, config = ReconnectPolicy(Random(1)), Config("ws://h", "http://h", wait_for_server=True)
        actor = ConnectionActor(net.dial, policy, config, Secrets(), publish=publish, is_stale=lambda event: False)
        net.servers.start_soon(actor.run, receive)
        with trio.move_on_after(300):
            await opened.wait()
        inbox.send_nowait(events.StartLeaving())
        inbox.send_nowait(events.CloseLink(0.5))
        await trio.sleep(5)
        assert opened_at == answered_at
        assert len(net.dialled_at) == (1 if in_the_pause else 2)
        assert net.open == []
