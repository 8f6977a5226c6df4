"""One open link, over a socket whose both directions the test holds in its hands."""

import dataclasses
import itertools
import json
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.support.peers import TEXT, Peer, frame
from worker_state.actors import log_lines
from worker_state.actors.link import DELAYS, ServedLink, _Outgoing
from worker_state.config import Timing
from worker_state.logs import About
from worker_state.net.dial import WebSocketDial
from worker_state.protocol import events as m
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.reconnect import Deadlines
from worker_state.redact import Secrets

DEADLINES = Deadlines(connect=1.0, acknowledge=1.0, upgrade=60.0, register=60.0)
LEAVES = Closed(reason="the worker leaves", cause=Cause.DROPPED)


class Held:
    """What the server sends is put in, what it gets is listed; while `stuck` no frame goes out."""

    heard_at = 0.0
    in_message = False

    def __init__(self) -> None:
        self.put, self._come = trio.open_memory_channel[str | bytes | Closed](math.inf)
        self.sent: list[str | bytes] = []
        self.flowing = trio.Event()
        self.flowing.set()
        self.pings: list[float] = []
        self.ping_answer: Closed | None = None
        self.over_at = math.inf

    async def _take(self, frame: str | bytes) -> None:
        await self.flowing.wait()
        self.sent.append(frame)

    async def send(self, text: str) -> None:
        await self._take(text)

    async def ping(self) -> Closed | None:
        self.pings.append(trio.current_time())
        if self.ping_answer is None:
            await trio.sleep_forever()
        return self.ping_answer

    async def close(self) -> None:
        await self._take("Close")

    async def receive(self) -> str | bytes | Closed:
        return await self._come.receive()

    async def abort(self) -> None:
        raise AssertionError("that is the connection actor's to do")


@asynccontextmanager
async def served(socket: Held) -> AsyncIterator[tuple[ServedLink, m.Link]]:
    links: list[m.Link] = []

    def publish(event: m.Event) -> None:
        if isinstance(event, m.LinkOpened):
            links.append(event.link)

    async with trio.open_nursery() as nursery:
        link = ServedLink(1, socket, Timing(), log_lines.Dials(), Secrets())

        async def serve() -> None:
            await link.serve(DEADLINES, publish)
            socket.over_at = trio.current_time()

        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        yield link, links[0]
        link.end(LEAVES)


def test_a_frame_that_waits_shows_no_secret() -> None:
    """The `repr` of what is to be sent names its type and not its text."""
    frame = _Outgoing("register", '{"type": "register", "token": "a1b2c3"}')
    assert "register" in repr(frame)
    assert "a1b2c3" not in repr(frame)


async def test_bytes_are_signs_of_life(autojump_clock: MockClock) -> None:
    """A link over which a long message trickles in is neither pinged nor silent; without a byte it is (G21)."""
    socket, timing = Held(), Timing()
    async with served(socket) as (link, _):
        for _ in range(60):
            await trio.sleep(timing.ping_every * 0.75)
            socket.heard_at = trio.current_time()
        last = socket.heard_at
        assert link.over is None
        assert socket.pings == []
        await trio.sleep(timing.ping_every + timing.silence + 0.1)
        assert socket.pings == [last + timing.ping_every]
        assert socket.over_at == last + timing.ping_every + timing.silence
        assert link.over == Closed(reason=f"no pong in {timing.silence:g} s", cause=Cause.SILENT)


async def test_a_long_message_over_a_slow_line(autojump_clock: MockClock) -> None:
    """1.2 MB at 25 kB/s take 48 s, arrive whole, and are no silence although no pong comes meanwhile (G21)."""
    ours, theirs = memory_stream_pair()
    text = "x" * 1_200_000
    received: list[m.Event] = []

    async def open_stream(host: str, port: int, within: float) -> trio.abc.Stream:
        return ours

    async def serve() -> None:
        await Peer(theirs).upgrade()
        answer = {"type": "registered_auth", "peer_id": "me", "room_id": "r", "token": None, "peer_list": [text]}
        data = frame(TEXT, json.dumps(answer).encode())
        for start in range(0, len(data), 25_000):
            await trio.sleep(1.0)
            await theirs.send_all(data[start : start + 25_000])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        socket = await WebSocketDial("ws://h/", open_stream=open_stream)(DEADLINES, nursery)
        assert not isinstance(socket, DialFailure)
        link = ServedLink(1, socket, Timing(), log_lines.Dials(), Secrets())
        with trio.move_on_at(49.5):
            await link.serve(DEADLINES, received.append)
        assert trio.current_time() == 49.5
        await socket.abort()
    assert [type(event) for event in received] == [m.LinkOpened, *[m.AnswersDelayed] * 6, m.FrameReceived]
    assert isinstance(received[-1], m.FrameReceived)
    assert isinstance(received[-1].frame, frames.RegistrationAccepted)


async def test_bytes_that_come_in_place_of_a_pong(autojump_clock: MockClock) -> None:
    """A ping that waits behind a long message for its pong costs no link as long as that comes in (faults.md, G21)."""
    socket, timing = Held(), Timing()
    async with served(socket) as (link, _):
        await trio.sleep(timing.ping_every + timing.silence - 1.0)
        socket.heard_at = trio.current_time()
        await trio.sleep(timing.silence)
        assert link.over is None
        assert len(socket.pings) == 2


async def test_a_stall_is_no_silence(autojump_clock: MockClock) -> None:
    """A pong's deadline that is noticed late says that we were stopped: another ping decides (faults.md, T15)."""
    socket, timing = Held(), Timing()
    async with served(socket) as (link, _):
        await trio.sleep(timing.ping_every + 1.0)
        autojump_clock.jump(timing.silence + 1.0)
        await wait_all_tasks_blocked()
        assert len(socket.pings) == 2
        await trio.sleep(timing.silence - 1.0)
        assert link.over is None
        await trio.sleep(1.1)
        assert link.over is not None


async def test_bytes_that_come_with_the_deadline(autojump_clock: MockClock) -> None:
    """Bytes that wait to be read when the pong's deadline is noticed are a sign of life (faults.md, T15)."""
    socket, timing = Held(), Timing()
    async with served(socket) as (link, _):
        for _ in range(20):  # trio wakes tasks in any order
            await trio.sleep(timing.ping_every + 1.0)
            await trio.sleep_until(socket.pings[-1] + timing.silence)
            socket.heard_at = trio.current_time()
        assert link.over is None


async def test_a_ping_that_cannot_be_sent(autojump_clock: MockClock) -> None:
    """It is not tried again and again: the end is received, or found by the next frame."""
    socket = Held()
    socket.ping_answer = Closed(1006, "nothing can be sent any more")
    async with served(socket) as (link, _):
        await trio.sleep(100)
        assert len(socket.pings) == 1
        assert link.over is None


async def test_nothing_goes_out_behind_a_close_frame(autojump_clock: MockClock) -> None:
    """Nothing can be posted behind our Close frame, and the answer to it ends the link."""
    socket = Held()
    async with served(socket) as (link, _):
        link.end_within(LEAVES, 0.5)
        link.send_close()
        await wait_all_tasks_blocked()
        link.post({"type": "late"})
        socket.put.send_nowait(Closed(1000))
        await wait_all_tasks_blocked()
        assert link.over == dataclasses.replace(LEAVES, code=1000)
        assert socket.over_at == 0.0
    assert socket.sent == ["Close"]


async def test_a_close_without_an_answer_is_bounded(autojump_clock: MockClock) -> None:
    """The link is over when its time for that is, although nobody has answered."""
    socket = Held()
    async with served(socket) as (link, _):
        link.end_within(LEAVES, 0.5)
        link.send_close()
        await trio.sleep(0.6)
        assert socket.over_at == 0.5
    assert socket.sent == ["Close"]


async def test_g21_a_long_message_over_a_slow_line(autojump_clock: MockClock) -> None:
    """While bytes of one message come the link lives and says that answers are delayed, for some minutes at most."""
    socket, delays = Held(), list[float]()

    def publish(event: m.Event) -> None:
        if isinstance(event, m.AnswersDelayed):
            delays.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        link = ServedLink(1, socket, Timing(), log_lines.Dials(), Secrets())
        nursery.start_soon(link.serve, DEADLINES, publish)
        for second in range(600):
            socket.heard_at = trio.current_time()
            socket.in_message = second >= 100
            await trio.sleep(1)
        assert link.over is None
        link.end(LEAVES)
    assert delays[0] == pytest.approx(104, abs=8)
    assert all(after - before <= 9 for before, after in itertools.pairwise(delays))
    assert len(delays) == DELAYS


SECRET = "a1b2c3"


@asynccontextmanager
async def published(socket: Held) -> AsyncIterator[tuple[ServedLink, list[m.Event]]]:
    """A link with all that it publishes."""
    events: list[m.Event] = []
    async with trio.open_nursery() as nursery:
        link = ServedLink(7, socket, Timing(), log_lines.Dials(), Secrets(SECRET))
        nursery.start_soon(link.serve, DEADLINES, events.append)
        await wait_all_tasks_blocked()
        yield link, events
        link.end(LEAVES)


async def test_what_comes_is_published(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A link says how long the first `register` may go unanswered, and hands each frame on with its own epoch."""
    caplog.set_level(logging.DEBUG, logger="worker_state")
    socket = Held()
    await trio.sleep(100.0)
    async with published(socket) as (_, events):
        (opened,) = events
        assert isinstance(opened, m.LinkOpened)
        assert (opened.link.epoch, opened.link.answer_by) == (7, 160.0)
        socket.put.send_nowait('{"type":"ping"}')
        await wait_all_tasks_blocked()
        size = frames.footprint('{"type":"ping"}')
        assert events[1:] == [m.FrameReceived(7, frames.Ping(), others_spoke=False, size=size)]
        assert [About.of(line) for line in caplog.records] == [About("frame", {"direction": "received", "epoch": 7})]


async def test_an_error_does_not_repeat_what_was_sent(autojump_clock: MockClock) -> None:
    """Credentials that the server repeats, in an error or at the end, are hidden before anybody sees them."""
    socket = Held()
    async with published(socket) as (link, events):
        socket.put.send_nowait('{"type":"error","reason":"bad a1b2c3"}')
        await wait_all_tasks_blocked()
        (received,) = events[1:]
        assert isinstance(received, m.FrameReceived)
        assert isinstance(received.frame, frames.RegisterError)
        assert received.frame.reason == "bad [secret]"
        socket.put.send_nowait(Closed(1008, "a1b2c3?"))
        await wait_all_tasks_blocked()
        assert link.over == Closed(1008, "[secret]?")


async def test_an_error_may_answer_another_part(autojump_clock: MockClock) -> None:
    """Once a message of the worker's other parts has gone out, every frame says so, also behind frames of ours."""
    socket = Held()
    async with published(socket) as (link, events):
        assert isinstance(events[0], m.LinkOpened)
        link.post({"type": "update_metadata"})
        socket.put.send_nowait('{"type":"ping"}')
        await wait_all_tasks_blocked()
        assert await events[0].link.send("offer", '{"type":"offer"}')
        link.post({"type": "update_metadata"})
        await wait_all_tasks_blocked()
        socket.put.send_nowait('{"type":"ping"}')
        await wait_all_tasks_blocked()
        assert [event.others_spoke for event in events if isinstance(event, m.FrameReceived)] == [False, True]
    assert socket.sent == ['{"type":"update_metadata"}', '{"type":"offer"}', '{"type":"update_metadata"}']


async def test_a_register_that_has_not_gone_out_is_withdrawn(autojump_clock: MockClock) -> None:
    """Every `register` that waits is dropped and counted, and nothing else is."""
    socket = Held()
    async with published(socket) as (link, _):
        socket.flowing = trio.Event()
        for kind in ("register", "update_metadata", "register", "peer_message", "register"):
            link.post({"type": kind})
            await wait_all_tasks_blocked()
        assert link.withdraw_registers() == 2
        socket.flowing.set()
        await wait_all_tasks_blocked()
        assert socket.sent == ['{"type":"register"}', '{"type":"update_metadata"}', '{"type":"peer_message"}']
        assert link.withdraw_registers() == 0


async def test_a_message_that_nobody_waits_for(autojump_clock: MockClock) -> None:
    """A message whose sender was cancelled before it went out is not sent; the ones around it are."""
    socket = Held()
    async with published(socket) as (link, events):
        assert isinstance(events[0], m.LinkOpened)
        socket.flowing = trio.Event()
        link.post({"type": "ours"})
        with trio.move_on_after(1.0):
            await events[0].link.send("offer", "offer")
        link.post({"type": "later"})
        socket.flowing.set()
        await wait_all_tasks_blocked()
    assert socket.sent == ['{"type":"ours"}', '{"type":"later"}']


async def test_a_message_that_cannot_be_sent_is_said(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A message of the worker's other parts that breaks the link is one line, with its type and why; one of ours has
    no line, for it is sent again. Each frame that goes out is there at DEBUG, with its link."""
    caplog.set_level(logging.DEBUG, logger="worker_state")

    async def lines(kind: str, *, ours: bool) -> list[tuple[str, About]]:
        class Broken(Held):
            async def send(self, text: str) -> Closed:  # type: ignore[override]
                return Closed(1009, "too long")

        caplog.clear()
        async with published(Broken()) as (link, events):
            assert isinstance(events[0], m.LinkOpened)
            if ours:
                link.post({"type": kind})
            else:
                assert not await events[0].link.send(kind, f'{{"type":"{kind}"}}')
            await wait_all_tasks_blocked()
        return [(record.getMessage(), About.of(record)) for record in caplog.records]

    sent = About("frame", {"direction": "sent", "epoch": 7})
    assert await lines("offer", ours=False) == [
        ('sent {"type": "offer"}', sent),
        ("could not send offer: closed with 1009 (too long)", About("send_failed", {"epoch": 7, "frame": "offer"})),
    ]
    assert await lines("update_metadata", ours=True) == [('sent {"type": "update_metadata"}', sent)]


async def test_a_message_over_a_link_that_ends(autojump_clock: MockClock) -> None:
    """A message that waits when the link ends, or comes after that, was not sent, and its sender is told at once."""
    socket = Held()
    sent: list[bool] = []
    async with published(socket) as (link, events), trio.open_nursery() as nursery:
        assert isinstance(events[0], m.LinkOpened)
        send = events[0].link.send
        socket.flowing = trio.Event()
        link.post({"type": "ours"})
        await wait_all_tasks_blocked()

        async def told() -> None:
            sent.append(await send("offer", "offer"))

        nursery.start_soon(told)
        await wait_all_tasks_blocked()
        link.end(Closed(1001, "going away"))
        await wait_all_tasks_blocked()
        assert sent == [False]
        assert not await send("offer", "offer")
        link.post({"type": "late"})
        assert link.over == Closed(1001, "going away")
    assert socket.sent == []


async def test_a_frame_that_is_not_taken(autojump_clock: MockClock) -> None:
    """A socket that takes a frame for longer than `timing.send` is stuck, and its link over."""
    socket, timing = Held(), Timing()
    async with published(socket) as (link, _):
        socket.flowing = trio.Event()
        socket.heard_at = 1e9  # bytes come all the time
        link.post({"type": "ours"})
        await trio.sleep(timing.send - 0.1)
        assert link.over is None
        await trio.sleep(0.2)
        assert link.over == Closed(reason=f"a frame took {timing.send:g} s", cause=Cause.STUCK)


async def test_an_end_that_comes_twice(autojump_clock: MockClock) -> None:
    """The first reason is the one; only the code of the answer to our own Close frame is added to it."""
    socket = Held()
    async with published(socket) as (link, _):
        link.end(Closed(cause=Cause.SILENT))
        link.end(Closed(1001, "late"))
        assert link.over == Closed(cause=Cause.SILENT)
    socket = Held()
    async with published(socket) as (link, _):
        link.end_within(LEAVES, 0.5)
        link.send_close()
        link.end_within(Closed(reason="once more"), 0.5)
        assert link.over == LEAVES
