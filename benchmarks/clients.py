"""The clients that are compared: the real worker_state, and the least that a person could write by hand, in two ways.

Both dial, register, wait for the acknowledgement, send an echo and a full status update, wait for both answers, and are
then held open until the context ends, which closes them. The bare clients have no deadlines, no retries, no proof that
an answer is their own: they are the floor, not an alternative.
"""

import json
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import trio
from trio_websocket import open_websocket_url

from benchmarks.server import Seat
from worker_state import Config, Manager, open_state_manager
from worker_state.manager import run_in_world
from worker_state.net.dial import WebSocketDial
from worker_state.protocol.http_api import HttpAnswer, Sending
from worker_state.world import World

JOB = "job-of-the-benchmark"
TAGS = ["sleap-rtc", "training-worker", "inference-worker"]
CAPABILITIES = {
    "gpu_memory_mb": 24576,
    "gpu_model": "NVIDIA RTX A5000",
    "cuda_version": "12.4",
    "hostname": "gpu-07",
    "sleap_version": "1.4.1",
    "max_concurrent_jobs": 1,
    "supported_models": ["base", "centroid", "topdown"],
    "supported_job_types": ["training", "inference"],
}


# --- worker_state -----------------------------------------------------------------------------------------------------


class SeatedHttp:
    """`Http` without a network: the sign-in gives the identity of a seat, and deleting it costs nothing."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    async def post(self, path: str, *, sending: Sending | None = None, **_: object) -> HttpAnswer:
        if sending is not None:
            sending()
        await trio.lowlevel.checkpoint()
        if path == "/anonymous-signin":
            answer = {"username": self._seat.username, "id_token": self._seat.id_token}
        else:
            answer = {"status": "peer deleted successfully"}
        return HttpAnswer(200, "application/json", json.dumps(answer).encode())


@asynccontextmanager
async def seated_worker(
    ws_url: str, http_url: str, seat: Seat, context: ssl.SSLContext | None = None, **changes: Any
) -> AsyncIterator[Manager]:
    """A registered worker over real sockets, but without HTTP: the whole manager with its four actors. `context` is
    for a server under TLS."""
    config = Config(
        ws_url,
        http_url,
        **{"room_id": seat.room_id, "room_token": seat.token, "capabilities": CAPABILITIES, **changes},
    )
    world = replace(World.real(config), http=SeatedHttp(seat))
    if context is not None:
        world = replace(world, dial=WebSocketDial(ws_url, ssl_context=context))
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(run_in_world, config, world))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def hold_worker(
    ws_url: str, http_url: str, seat: Seat, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """worker_state, held open after one status update."""
    async with seated_worker(ws_url, http_url, seat, context) as manager:
        manager.set_busy(JOB)
        await manager.synced()
        yield


async def whole_worker_cycle(ws_url: str, http_url: str) -> None:
    """worker_state as users run it, with sign-in, room and deletion over HTTP."""
    async with open_state_manager(Config(ws_url, http_url, capabilities=CAPABILITIES)) as manager:
        manager.set_busy(JOB)
        await manager.synced()


# --- by hand ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def hold_bare(
    ws_url: str, http_url: str, seat: Seat, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """A plain trio-websocket connection, held open after the same frames."""
    async with open_websocket_url(ws_url, context) as socket:
        await converse(seat, socket.send_message, socket.get_message)
        yield


@asynccontextmanager
async def hold_asyncio(
    ws_url: str, http_url: str, seat: Seat, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """The same with asyncio's `websockets`, which nothing else needs: imported here, and used in asyncio only."""
    from websockets.asyncio.client import connect

    async with connect(ws_url, ssl=context, compression=None) as socket:
        await converse(seat, socket.send, socket.recv)
        yield


async def converse(
    seat: Seat, send: Callable[[str], Awaitable[None]], receive: Callable[[], Awaitable[str | bytes]]
) -> None:
    """Register, echo, full update: send the frames that worker_state sends, and wait for the answers."""
    peer_id = seat.username
    register = {
        "type": "register",
        "peer_id": peer_id,
        "room_id": seat.room_id,
        "token": seat.token,
        "id_token": seat.id_token,
        "role": "worker",
        "metadata": _record("available", None),
    }
    echo = {
        "type": "peer_message",
        "from_peer_id": peer_id,
        "to_peer_id": peer_id,
        "payload": {"worker_state_echo": secrets.token_hex(16)},
    }
    update = {"type": "update_metadata", "peer_id": peer_id, "metadata": _record("busy", JOB)}
    await send(_text(register))
    _expect(await receive(), "registered_auth")
    await send(_text(echo))
    await send(_text(update))
    _expect(await receive(), "peer_message")
    _expect(await receive(), "metadata_updated")


def _record(status: str, job_id: str | None) -> dict[str, Any]:
    return {
        "tags": TAGS,
        "properties": {**CAPABILITIES, "status": status, "current_job_id": job_id, "pending_job_id": None},
    }


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


def _expect(text: str | bytes, kind: str) -> None:
    answer = json.loads(text)
    if answer.get("type") != kind:
        raise RuntimeError(f"the server answered {answer.get('type')!r}, not {kind!r}")


Post = Callable[..., Awaitable[httpx.Response]]


async def whole_bare_cycle(ws_url: str, http_url: str, post: Post) -> None:
    """The bare client with the same three HTTP calls in the same places."""
    identity = (await post(f"{http_url}/anonymous-signin")).raise_for_status().json()
    bearer = {"Authorization": f"Bearer {identity['id_token']}"}
    room = (await post(f"{http_url}/create-room", headers=bearer)).raise_for_status().json()
    seat = Seat(identity["username"], identity["id_token"], room["room_id"], room["token"])
    async with hold_bare(ws_url, http_url, seat):
        deletion = await post(f"{http_url}/delete-peer", json={"peer_id": seat.username})
        deletion.raise_for_status()


async def post_by_new_client(url: str, **arguments: Any) -> httpx.Response:
    """A client for each call, the way its manual begins: each loads the certificates of the system anew."""
    async with httpx.AsyncClient() as client:
        return await client.post(url, **arguments)


_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def post_by_light_client(url: str, **arguments: Any) -> httpx.Response:
    """A client for each call, without the certificates."""
    async with httpx.AsyncClient(verify=_context, trust_env=False) as client:
        return await client.post(url, **arguments)
