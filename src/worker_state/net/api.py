"""The client of the server's HTTP API: its three calls, as worker, `watch` and `doctor` make them."""

from typing import TYPE_CHECKING

from worker_state.protocol import http_api
from worker_state.protocol.http_api import HttpAnswer, HttpFailure, HttpRequest, Identity, Room

if TYPE_CHECKING:
    from worker_state.net.http_client import Http


class ServerApi:
    """The three calls, over any `Http`. A failure is a value; nothing is raised."""

    def __init__(self, http: "Http") -> None:
        self._http = http

    async def sign_in(self) -> Identity | HttpFailure:
        """Create an identity. Each one needs its own `delete_peer`."""
        return http_api.read_identity(await self.post(http_api.sign_in()))

    async def create_room(self, id_token: str) -> Room | HttpFailure:
        """Create a room, as the identity that this token belongs to."""
        return http_api.read_room(await self.post(http_api.create_room(id_token)), id_token)

    async def delete_peer(self, peer_id: str) -> str | HttpFailure:
        """Ask for the deletion of an identity; gives the server's report, which proves nothing (faults.md, F34)."""
        return http_api.read_deletion(await self.post(http_api.delete_peer(peer_id)))

    async def post(self, request: HttpRequest) -> HttpAnswer | HttpFailure:
        """Any of the three, as it is answered."""
        return await self._http.post(request.path, bearer=request.bearer, body=request.body)
