"""The life of one WebSocket connection, from the accepted TCP stream to the last byte.

The rules are in `rooms`, the faults that can be asked for in `server`; what escapes from here is contained by `app`.
"""

from __future__ import annotations

import json
import logging

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from worker_state.devserver.cable import Cable
from worker_state.devserver.connection import Connection
from worker_state.devserver.effects import Close, Effect
from worker_state.devserver.server import DevServer
from worker_state.logs import event

HANDSHAKE_SECONDS = 10.0
MAX_MESSAGE = 2**20  # the real server's limit; more is answered with 1009

log = logging.getLogger("worker_state.devserver")


async def serve_socket(server: DevServer, cable: Cable) -> None:
    async with trio.open_nursery() as nursery:
        websocket = await _shake_hands(server, nursery, cable)
        if websocket is not None:
            await _converse(server, nursery, Connection(websocket, cable))
        nursery.cancel_scope.cancel()


async def _shake_hands(server: DevServer, nursery: trio.Nursery, cable: Cable) -> WebSocketConnection | None:
    with trio.move_on_after(HANDSHAKE_SECONDS) as scope:
        # A peer that goes away before its request is complete would be waited for until the deadline.
        nursery.start_soon(_cancel_at_end, cable, scope)
        request = await wrap_server_stream(nursery, cable, max_message_size=MAX_MESSAGE)
        refusal = server.next_refusal(cable)
        if refusal is None:
            return await request.accept()
        await request.reject(refusal.status, extra_headers=refusal.encoded_headers, body=refusal.body)
        await cable.drain()
    return None


async def _cancel_at_end(cable: Cable, scope: trio.CancelScope) -> None:
    await cable.ended.wait()
    scope.cancel()


async def _converse(server: DevServer, nursery: trio.Nursery, connection: Connection) -> None:
    server.connections.add(connection)
    nursery.start_soon(connection.write)
    try:
        await _take_frames(server, connection)
    finally:
        server.lose(connection)
    await connection.say_goodbye()


async def _take_frames(server: DevServer, connection: Connection) -> None:
    """One frame at a time, in order, until the connection is over."""
    while not connection.closing:
        try:
            text = await connection.websocket.get_message()
        except ConnectionClosed:
            return
        if connection not in server.connections:
            return  # it was cut, and what it had sent before counts no more
        message = _parsed(text)
        server.note_frame(connection, message)
        is_register = message.get("type") == "register"
        if is_register:
            await server.register_may_proceed(connection)
        server.perform(_effects(server, connection, text))
        if is_register and connection.closed_politely:
            server.rooms.unanswered(connection)
        server.note_change()


def _effects(server: DevServer, connection: Connection, text: str | bytes) -> list[Effect]:
    if not server.handling:
        return []
    try:
        return server.rooms.receive(connection, text, server.clock())
    except Exception as failure:  # noqa: BLE001 - the real server closes with 1000 after any internal error
        log.error("internal error: %s", type(failure).__name__, extra=event("server_error"))
        return [Close(connection, 1000, "")]


def _parsed(text: str | bytes) -> dict[str, object]:
    """The frame for whoever watches; the rules parse it for themselves."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
