"""Messages of the worker's other parts: handed on in order and untouched, and never a reason to wait."""

import json
import logging

import pytest
import trio

from tests.support.worlds import FakeWorld, World, scenario
from worker_state import Disconnected

OTHERS = [
    {"type": "offer", "sender": "client-1", "sdp": "v=0"},
    {"type": "answer", "sender": "client-1", "sdp": "v=0"},
    {"type": "candidate", "sender": "client-1", "candidate": {"sdpMid": None, "n": 0.5, "deep": [[[{}]]]}},
    {"type": "peer_message", "from_peer_id": "client-1", "to_peer_id": "me", "payload": {"job_id": "job-3"}},
    {"type": "mesh_offer", "from_peer_id": "a"},
    {"type": "ice_candidate", "from_peer_id": "a"},
    {"type": "quit"},
    {"type": "admin_conflict", "room_id": "r", "current_admin": "x"},
    {"type": "something_new", "ünïcode": "\u2028 \x00"},
    {"type": "error", "code": "PEER_NOT_IN_ROOM", "message": "Target peer nobody not in same room"},
]


@scenario
async def test_handed_on(world: World) -> None:
    """Offers, answers, candidates, peer messages, mesh and unknown types arrive in order and untouched."""
    manager = await world.start()

    for message in OTHERS:
        await world.deliver(manager, json.dumps(message))

    received = [await manager.signals.receive() for _ in OTHERS]
    assert received == OTHERS


@scenario
async def test_a_client_reaches_the_worker_and_is_answered(world: World) -> None:
    """A peer message of a client arrives, and the answer sent with `send_signal` reaches the client."""
    manager = await world.start()
    assert manager.state.peer_id is not None
    async with world.client(manager) as client:
        await client.message(manager.state.peer_id, {"app_message_type": "job_request"})
        request = await manager.signals.receive()

        await manager.send_signal(
            {
                "type": "peer_message",
                "from_peer_id": manager.state.peer_id,
                "to_peer_id": request["from_peer_id"],
                "payload": {"accepted": True},
            }
        )

        assert (await client.receive("peer_message"))["payload"] == {"accepted": True}


@scenario
async def test_pings_are_not_handed_on(world: World) -> None:
    """A `ping` of the server is a sign of life and nothing else: not handed on, not answered."""
    manager = await world.start()
    await manager.synced()
    frames = len(world.frames("ping", "pong"))

    await world.deliver(manager, '{"type": "ping"}')
    await world.deliver(manager, '{"type": "quit"}')

    assert (await manager.signals.receive())["type"] == "quit"
    assert len(world.frames("ping", "pong")) == frames


@scenario
async def test_nobody_reads(world: World) -> None:
    """Unread signals are bounded: what comes beyond is counted and logged, and the status still follows."""
    manager = await world.start(signal_buffer=4)
    for number in range(10):
        await world.deliver(manager, json.dumps({"type": "candidate", "n": number}))

    manager.set_busy("job-1")
    await manager.synced()

    await world.until(lambda: manager.state.signals_dropped == 6)
    assert [(await manager.signals.receive())["n"] for _ in range(4)] == [0, 1, 2, 3]
    assert world.logged(logging.WARNING, "dropped")


@scenario
async def test_sending_without_a_link(world: World) -> None:
    """Sending without a link raises `Disconnected`: signals are not kept for later."""
    manager = await world.start()
    world.go_down()
    await world.until(lambda: not manager.state.connected)

    with pytest.raises(Disconnected):
        await manager.send_signal({"type": "candidate"})

    world.come_back()
    await manager.synced()
    assert not world.sent("candidate")


@scenario(only="fake")  # a full socket takes megabytes and half a minute
async def test_sending_while_the_link_breaks(world: World) -> None:
    """Whoever waits for a signal to be sent is told when the link breaks in the middle of it, or before its turn."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    world.server.stuck = True
    told: list[int] = []

    async def send(number: int) -> None:
        with pytest.raises(Disconnected):
            await manager.send_signal({"type": "candidate", "n": number})
        told.append(number)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(send, number)
    world.server.stuck = False
    assert sorted(told) == [0, 1]


@scenario
async def test_signals_go_on_after_an_outage(world: World) -> None:
    """The same stream goes on after an outage."""
    manager = await world.start()
    world.cut()
    await world.until(lambda: len(world.sent("register")) == 2)
    await manager.synced()

    await world.deliver(manager, '{"type": "quit"}')

    assert (await manager.signals.receive())["type"] == "quit"


@pytest.mark.parametrize(
    "message",
    [
        *({}, {"type": 7}, {"type": "register"}, {"type": "update_metadata"}, {"type": "x", "n": float("nan")}),
        # The server's NOT_IN_ROOM for these would be taken for the worker's own.
        *({"type": "discover_peers"}, {"type": "peer_message", "from_peer_id": "another", "payload": 1}),
        {"type": "answer", "sender": "another", "target": "x"},  # the server drops it without a word
    ],
)
def test_what_is_no_signal(message: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    """What is no message, or is worker_state's own to send, is refused where it is sent."""

    @scenario
    async def sends(world: World) -> None:
        manager = await world.start()
        with pytest.raises(ValueError, match=r"type|sent by|JSON|from_peer_id|'sender'"):
            await manager.send_signal(message)

    sends("fake", caplog)
    sends("real", caplog)


@scenario
async def test_leaving_while_a_signal_is_read(world: World) -> None:
    """A reader of the signals is released when the manager ends."""
    manager = await world.start()
    ended = trio.Event()

    async def read() -> None:
        async for _ in manager.signals:
            pass
        ended.set()

    world.nursery.start_soon(read)
    await world.stop(manager)

    await ended.wait()


@scenario
async def test_signals_asked_for_after_the_end(world: World) -> None:
    """Who asks for the signals when the manager has ended, and not before, sees them end at once."""
    manager = await world.start()
    await world.stop(manager)
    assert [message async for message in manager.signals] == []


@scenario
async def test_g10_unread_signals_are_bounded_in_bytes(world: World) -> None:
    """Long signals that nobody reads are dropped before many are kept; short ones find their place beside them."""
    manager = await world.start(signal_buffer_bytes=11_000)
    for number in range(10):
        await world.deliver(manager, json.dumps({"type": "offer", "n": number, "sdp": "v" * 4000}))
    await world.deliver(manager, json.dumps({"type": "candidate", "n": 10}))

    await world.until(lambda: manager.state.signals_dropped == 8)
    assert world.logged(logging.WARNING, "dropped")
    assert [(await manager.signals.receive())["n"] for _ in range(3)] == [0, 1, 10]

    await world.deliver(manager, json.dumps({"type": "offer", "n": 11, "sdp": "v" * 4000}))
    assert (await manager.signals.receive())["n"] == 11


@scenario
async def test_g10_a_message_that_is_too_long_costs_that_message(world: World) -> None:
    """A signal of more than 1 MiB is ignored, in words; the link stays, and what comes behind it is handed on."""
    manager = await world.start()
    await manager.synced()
    await world.deliver(manager, json.dumps({"type": "offer", "sdp": "v" * 2**20}))
    await world.deliver(manager, json.dumps({"type": "offer", "sdp": "v=0"}))

    assert (await manager.signals.receive())["sdp"] == "v=0"
    assert manager.state.frames_ignored == 1
    assert world.logged(logging.WARNING, "ignored frame", "too long")
    assert manager.state.epoch == 1
