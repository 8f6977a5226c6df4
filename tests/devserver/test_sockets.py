"""Clients that misbehave on the WebSocket port: each ruins its own connection, and the server goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.devserver.conftest import Connect, Dial, Join, Member, Until
    from worker_state.devserver import DevServer

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
async def witness(join: Join) -> AsyncIterator[Member]:
    """Somebody who was there before. After the test he is still served, and so is a newcomer."""
    witness = await join()
    await witness.register()
    yield witness
    assert await witness.echoes()
    await (await join()).register()


async def read_all(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass
    return received


@pytest.mark.parametrize("garbage", [b"\x00\xff" * 100, b"EHLO example.org\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
async def test_bytes_that_are_no_upgrade_are_refused(witness: Member, connect: Connect, garbage: bytes) -> None:
    stream = await connect()
    await stream.send_all(garbage)
    assert not (await read_all(stream)).startswith(b"HTTP/1.1 101")


async def test_an_endless_head_is_refused(witness: Member, connect: Connect) -> None:
    stream = await connect()
    await stream.send_all(b"GET / HTTP/1.1\r\n")
    with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - which of them fails is the kernel's choice
        while True:
            await stream.send_all(b"X-Pad: x\r\n" * 1000)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", UPGRADE[:-2]])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_may_leave_in_the_middle_of_the_handshake(
    witness: Member, server: DevServer, until: Until, connect: Connect, sent: bytes, reset: bool
) -> None:
    before = len(server.streams)
    stream = await connect()
    await stream.send_all(sent)
    if reset:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()
    await until(lambda: len(server.streams) == before)


async def test_a_client_may_reset_right_after_its_upgrade(
    witness: Member, server: DevServer, until: Until, connect: Connect
) -> None:
    before = len(server.streams)
    for _ in range(20):
        stream = await connect()
        await stream.send_all(UPGRADE)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()
    await until(lambda: len(server.streams) == before)


async def test_a_binary_frame_is_taken_like_text(witness: Member, dial: Dial) -> None:
    client = await dial()
    assert (await client.ask(b'{"type": "hello"}'))["code"] == "UNKNOWN_MESSAGE_TYPE"
    await client.send(b"\xff\xfe\xfd")
    assert await client.closed() == (1000, "")


async def test_text_that_is_no_utf_8_ends_the_connection(witness: Member, dial: Dial) -> None:
    client = await dial()
    await client.stream.send_all(b"\x81\x83\0\0\0\0\xff\xfe\xfd")  # a redacted text frame of three bytes
    assert (await client.closed())[0] in (1006, 1007)


async def test_a_frame_that_breaks_the_protocol_ends_the_connection(witness: Member, dial: Dial) -> None:
    client = await dial()
    await client.stream.send_all(b"\xff\xff" + b"\x00" * 20)
    assert (await client.closed())[0] in (1002, 1006)


async def test_a_frame_of_two_mebibytes_is_too_big(witness: Member, dial: Dial) -> None:
    client = await dial()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, json.dumps({"type": "x" * 2 * 2**20}))
        assert (await client.closed())[0] == 1009


async def test_who_does_not_read_is_dropped_and_blocks_nobody(witness: Member, server: DevServer, join: Join) -> None:
    deaf = await join()
    await deaf.register()
    talker = await join(beside=deaf)
    await talker.register()
    filling = talker.echo_frame(to=deaf.peer_id, payload="x" * 500_000)
    with trio.fail_after(20):
        # First the kernel's buffers fill, then the outbox. Meanwhile everybody else is served.
        while server.rooms.peer(deaf.peer_id) is not None:
            await talker.client.send(filling)
            await witness.echoes()
    assert (await talker.client.ask(talker.echo_frame(to=deaf.peer_id)))["code"] == "PEER_NOT_IN_ROOM"


async def test_many_connections_come_and_go(witness: Member, server: DevServer, until: Until, join: Join) -> None:
    members = [await join() for _ in range(100)]
    async with trio.open_nursery() as nursery:
        for member in members:
            nursery.start_soon(member.register)
    for member in members[:50]:
        member.client.reset()
    await until(lambda: len(server.connections) == 51)
    for member in members[50:]:
        assert await member.echoes()
