"""The server's three HTTP calls, over any `Http`: a value comes back, whatever the network does."""

from typing import TYPE_CHECKING

from worker_state.core import http_api
from worker_state.core.http_api import HttpAnswer, HttpFailure, HttpRequest, Identity, Room

if TYPE_CHECKING:
    from worker_state.web import Http


async def sign_in(http: "Http") -> Identity | HttpFailure:
    """Create an identity. Each one needs its own `delete_peer`."""
    return http_api.read_identity(await post(http, http_api.sign_in()))


async def create_room(http: "Http", id_token: str) -> Room | HttpFailure:
    """Create a room, as the identity that this token belongs to."""
    return http_api.read_room(await post(http, http_api.create_room(id_token)), id_token)


async def delete_peer(http: "Http", peer_id: str) -> str | HttpFailure:
    """Ask for the deletion of an identity; gives the server's report, which proves nothing (FAULTS F34)."""
    return http_api.read_deletion(await post(http, http_api.delete_peer(peer_id)))


async def post(http: "Http", request: HttpRequest) -> HttpAnswer | HttpFailure:
    """Any of the three, as it is answered."""
    return await http.post(request.path, bearer=request.bearer, body=request.body)
