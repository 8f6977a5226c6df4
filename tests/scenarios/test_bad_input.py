"""Whatever the network says: logged without its secrets, and at worst it costs that one link."""

import json
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support.worlds import RealWorld, World, scenario
from worker_state.devserver.sockets import Connection
from worker_state.testing.memory_socket import MemorySocket

SECRET = "s3cr3t-t0ken"
FRAMES: dict[str, str | bytes] = {
    "no JSON": f"{{nope {SECRET}",
    "no object": f'["{SECRET}"]',
    "a number": "7",
    "nothing": "",
    "not a number": '{"type": NaN}',
    "no type": f'{{"a": "{SECRET}"}}',
    "a type that is no text": f'{{"type": ["{SECRET}"]}}',
    "deep nesting": "[" * 100_000 + "]" * 100_000,
    "deep nesting inside": '{"type": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "binary": SECRET.encode(),
    "an acceptance without anything": '{"type": "registered_auth"}',
    "an acceptance of other types": f'{{"type": "registered_auth", "peer_id": 7, "room_id": [], "token": "{SECRET}"}}',
    "an acceptance for somebody else": json.dumps(
        {"type": "registered_auth", "peer_id": "x", "room_id": "y", "token": SECRET, "peer_list": []}
    ),
    "an acknowledgement without anything": '{"type": "metadata_updated"}',
    "an acknowledgement for somebody else": json.dumps(
        {"type": "metadata_updated", "peer_id": "x", "metadata": {"tags": [], "properties": {"k": SECRET}}}
    ),
    "an echo of somebody else's": json.dumps(
        {"type": "peer_message", "from_peer_id": "x", "to_peer_id": "y", "payload": {"worker_state_echo": SECRET}}
    ),
    "an echo of other types": '{"type": "peer_message", "from_peer_id": 7, "payload": {"worker_state_echo": {}}}',
}
ERRORS = {
    "of other types": {"type": "error", "reason": [SECRET]},
    "with a code": {"type": "error", "code": "PEER_NOT_FOUND", "reason": "peer_not_found"},
    "that answers nothing of ours": {"type": "error", "reason": "Room not found"},
    "without a type": {"error": "Invalid token"},
    "with control characters": {"type": "error", "reason": "\x1b[2J\u202e hidden"},
}


@pytest.mark.parametrize("text", FRAMES.values(), ids=FRAMES.keys())
def test_frame(text: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A frame that no conforming server sends is logged without its content, and the worker goes on as before."""

    @scenario
    async def survives(world: World) -> None:
        manager = await world.start()
        await manager.synced()
        epoch = manager.state.epoch

        await world.deliver(manager, text)
        manager.set_busy("job-1")
        await manager.synced()

        assert world.shown(manager) == ("busy", "job-1", None)
        assert manager.state.epoch == epoch
        assert SECRET not in world.log.text
        assert "\x1b" not in world.log.text
        with pytest.raises(trio.WouldBlock):
            manager.signals.receive_nowait()
        assert len(world.logged(logging.WARNING, "ignored")) == 1
        assert manager.state.frames_ignored == 1

    survives("fake", caplog)
    survives("real", caplog)


@pytest.mark.parametrize("message", ERRORS.values(), ids=ERRORS.keys())
def test_error_of_another_part(message: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    """An error that answers no frame of ours reaches `signals` as it came, and the worker goes on as before."""

    @scenario
    async def hands_on(world: World) -> None:
        manager = await world.start()
        await manager.synced()
        await world.deliver(manager, json.dumps(message))
        manager.set_busy("job-1")
        await manager.synced()
        assert manager.signals.receive_nowait() == message
        assert manager.state.epoch == 1
        assert len(world.sent("register")) == 1
        assert SECRET not in world.log.text

    hands_on("fake", caplog)
    hands_on("real", caplog)


@scenario
async def test_neighbour_with_a_number_that_is_none(world: World) -> None:
    """NaN in the record of another peer of the room, or written into our own, keeps nobody from being registered."""
    manager = await world.start()
    await manager.synced()
    async with world.client(manager) as client:
        for peer_id in (client.peer_id, manager.state.peer_id):
            metadata = {"tags": [], "properties": {"load": math.nan, "peak": math.inf}}
            await client.send({"type": "update_metadata", "peer_id": peer_id, "metadata": metadata})
            await client.receive("metadata_updated")
        manager.set_busy("job-1")
        await manager.synced()
        manager.reregister()
        await manager.synced()

        assert world.shown(manager) == ("busy", "job-1", None)
        assert len(world.sent("register")) == 2
        assert manager.state.frames_ignored == 0


RECORDS = {"levels": "[" * 1500 + "]" * 1500, "digits": "9" * 5_000, "both": "[" * 500 + "9" * 5_000 + "]" * 500}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_g11_neighbour_with_what_no_parser_takes(
    record: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """1,500 levels or 5,000 digits in a neighbour's record, or in our own, cost neither worker nor registration."""

    def sent_with_it(send: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        return lambda end, text: send(end, text.replace('"MARK"', record) if isinstance(text, str) else text)

    for end, send in ((MemorySocket, "deliver"), (Connection, "send")):
        monkeypatch.setattr(end, send, sent_with_it(getattr(end, send)))

    @scenario
    async def stays(world: World) -> None:
        manager = await world.start()
        await manager.synced()
        async with world.client(manager) as client:
            for peer_id in (client.peer_id, manager.state.peer_id):
                metadata = {"tags": [], "properties": {"load": "MARK", "peak": 1}}
                await client.send({"type": "update_metadata", "peer_id": peer_id, "metadata": metadata})
            await world.until(lambda: world.record(manager).get("properties", {}).get("load") == "MARK")
            manager.set_busy("job-1")
            manager.reregister()
            await manager.synced()

            assert world.shown(manager) == ("busy", "job-1", None)
            assert len(world.sent("register")) == 2
            assert manager.state.frames_ignored == 0
            neighbour = manager.state.peer_metadata[client.peer_id]
            assert neighbour["properties"]["peak"] == 1
            json.dumps(neighbour)

    stays("fake", caplog)
    stays("real", caplog)


RAW = {
    "invalid UTF-8": b"\x81\x02\xff\xfe",
    "a reserved opcode": b"\x83\x00",
    "a redacted frame": b"\x81\x81\x00\x00\x00\x00a",
    "a continuation of nothing": b"\x80\x01a",
    "an oversized control frame": b"\x89\x7e\x01\x00" + b"x" * 256,
    "no WebSocket at all": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW.keys())
def test_raw_bytes(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that no WebSocket server sends cost that one link: the worker comes back with its status."""

    @scenario
    async def survives(world: World) -> None:
        assert isinstance(world, RealWorld)
        manager = await world.start()
        manager.set_busy("job-1")
        await manager.synced()

        await world.deliver_raw(manager, data)
        await world.until(lambda: manager.state.epoch == 2)
        await manager.synced()

        assert world.shown(manager) == ("busy", "job-1", None)
        assert len(world.logged(logging.WARNING, "connection lost")) == 1

    survives("real", caplog)


def test_oversized_frame(caplog: pytest.LogCaptureFixture) -> None:
    """A frame of 10 MiB costs that one link: the worker comes back with its status."""

    @scenario
    async def survives(world: World) -> None:
        manager = await world.start()
        manager.set_busy("job-1")
        await manager.synced()

        await world.deliver(manager, json.dumps({"type": "offer", "sdp": "x" * 10 * 2**20}))
        await world.until(lambda: manager.state.epoch == 2)
        await manager.synced()

        assert world.shown(manager) == ("busy", "job-1", None)
        assert world.logged(logging.WARNING, "connection lost", "1009")

    survives("real", caplog)


@scenario
async def test_error_frames(world: World) -> None:
    """No error frame ends the worker, or the link."""
    manager = await world.start()

    for code in ("PEER_NOT_IN_ROOM", "UNKNOWN_MESSAGE_TYPE", "INVALID_JSON", "INTERNAL", None, 7):
        await world.deliver(manager, json.dumps({"type": "error", "code": code, "message": "no"}))
    manager.set_busy("job-1")
    await manager.synced()

    assert manager.state.epoch == 1
    assert world.shown(manager) == ("busy", "job-1", None)
