"""Servers that are none: what else may answer at the worker's address, played to every connection."""

import json
from collections.abc import Callable

import trio

from tests.support.peers import BINARY, TEXT, Peer, Script, close_frame, frame

HEAD_OF_101 = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


async def _quiet(peer: Peer) -> None:
    """Reads, says nothing."""
    while await peer.stream.receive_some():
        pass


async def another_protocol(peer: Peer) -> None:
    await peer.send(b"220 mail.example.org ESMTP\r\n")
    await _quiet(peer)


async def tls(peer: Peer) -> None:
    await peer.send(b"\x15\x03\x03\x00\x02\x02\x28" + bytes(range(256)))
    await _quiet(peer)


async def endless_headers(peer: Peer) -> None:
    await peer.send(HEAD_OF_101)
    while True:
        await peer.send(b"X-More: " + b"y" * 1000 + b"\r\n")


async def closes_at_once(peer: Peer) -> None:
    pass


async def resets_at_once(peer: Peer) -> None:
    await peer.reset()


async def says_nothing(peer: Peer) -> None:
    await _quiet(peer)


async def one_byte_a_second(peer: Peer) -> None:
    for byte in HEAD_OF_101:
        await peer.send(bytes([byte]))
        await trio.sleep(1)


def answers(status: str, headers: str, body: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body)
        await _quiet(peer)

    return script


async def endless_503(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"1000\r\n" + b"z" * 4096 + b"\r\n")


async def switches_and_is_silent(peer: Peer) -> None:
    await peer.upgrade()
    await _quiet(peer)


def switches_and_says(said: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.upgrade(behind=said)
        await _quiet(peer)

    return script


async def switches_and_answers_pings_only(peer: Peer) -> None:
    """A proxy before a dead backend (faults.md, F13)."""
    await peer.upgrade()
    while True:
        opcode, payload = await peer.frame()
        if opcode == 9:
            await peer.send(frame(10, payload))


async def switches_and_closes(peer: Peer) -> None:
    await peer.upgrade(behind=close_frame(1000))
    await _quiet(peer)


def _text(message: object) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


GARBAGE: dict[str, Script] = {
    "another protocol": another_protocol,
    "TLS": tls,
    "endless headers": endless_headers,
    "closes at once": closes_at_once,
    "resets at once": resets_at_once,
    "says nothing": says_nothing,
    "one byte a second": one_byte_a_second,
    "503 for ever": answers("503 Service Unavailable", "Content-Length: 4\r\n", b"busy"),
    "503, truncated": answers("503 Service Unavailable", "Content-Length: 4000\r\n", b"busy"),
    "503, endless": endless_503,
    "429, come back in a second": answers("429 Too Many Requests", "Retry-After: 1\r\nContent-Length: 0\r\n", b""),
    "a captive portal": answers("200 OK", "Content-Type: text/html\r\nContent-Length: 13\r\n", b"<html></html>"),
    "moved": answers("302 Found", "Location: http://127.0.0.1:1/\r\nContent-Length: 0\r\n", b""),
    "101 and silence": switches_and_is_silent,
    "101 and pongs only": switches_and_answers_pings_only,
    "101 and a Close frame": switches_and_closes,
    "101 and a reserved opcode": switches_and_says(frame(5, b"?")),
    "101 and a text that is no UTF-8": switches_and_says(frame(TEXT, b"\xff\xfe")),
    "101 and a frame without end": switches_and_says(b"\x81\x7f\x7f" + b"\xff" * 7 + b"x" * 1000),
    "101 and frames that mean nothing": switches_and_says(
        b"".join((frame(BINARY, b"\x00" * 9), frame(TEXT, b"[" * 5000), frame(TEXT, b"null"), _text({"type": None})))
    ),
    "101 and another one's acceptance": switches_and_says(
        _text({"type": "registered_auth", "room_id": "elsewhere", "peer_id": "somebody", "peer_list": []})
    ),
}

ERRORS: dict[str, object] = {
    "a field is missing": {"type": "error", "reason": "Missing required fields during registration."},
    "the identity": {"error": "Invalid token"},
    "the room token": {"type": "error", "reason": "Invalid token"},
    "the room is gone": {"type": "error", "reason": "Room not found"},
    "the room is old": {"type": "error", "reason": "Room expired"},
    "the store": {"type": "error", "reason": "DynamoDB error"},
    "the key is wrong": {"type": "error", "reason": "Invalid API key"},
    "the key is revoked": {"type": "error", "reason": "Token revoked"},
    "the key is old": {"type": "error", "reason": "Token expired"},
    "the key cannot be checked": {"type": "error", "reason": "API key validation failed"},
    "no key": {"type": "error", "reason": "No authentication provided. Use api_key, jwt, or id_token."},
    "no room": {"type": "error", "code": "NOT_IN_ROOM", "message": "Peer not in any room"},
    "unknown": {"type": "error", "reason": "Out of cheese"},
}
"""What a `register` may be answered with other than an acceptance (protocol.md, C)."""


def refuses(answer: object, count: Callable[[], None]) -> Script:
    """Answer every `register` with this, and nothing else at all but pings."""

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        while True:
            opcode, payload = await peer.frame()
            if opcode == 9:
                await peer.send(frame(10, payload))
            elif opcode == TEXT and json.loads(payload).get("type") == "register":
                count()
                await peer.send(_text(answer))

    return script
