"""The two HTTP calls that bring something into being, run beside the registration actor's loop, one at a time.

Whatever they bring is told (`IdentityCreated`, `RoomCreated`), also when the worker has begun to leave meanwhile: what
exists on the server has to reach the ledger. What failed is told too, with the reason, and said by who hears it.
"""

import math
from typing import TYPE_CHECKING

import trio

from worker_state.core import answers
from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core.errors import RoomCreationFailed, SignInFailed

if TYPE_CHECKING:
    from worker_state.web import Http

CUT_SHORT = answers.HttpFailure("it was cut short")
"""The worker leaves, and the exit is bounded."""


class Errands:
    """Those of one worker. They are shielded: what they create is owed, whoever is cancelled meanwhile."""

    __slots__ = ("_http", "_nursery", "_over_at", "_scope", "_tell", "_waits")

    def __init__(self, http: "Http", nursery: trio.Nursery, tell: m.Tell, *, waits: bool) -> None:
        self._http = http
        self._nursery = nursery
        self._tell = tell
        self._waits = waits
        """A start waits for its server, whatever is in its place meanwhile: some proxies say 404."""
        self._over_at = math.inf
        self._scope = trio.CancelScope()

    def sign_in(self, *, starting: bool) -> None:
        """Go and get an identity; `IdentityCreated` or `IdentityRefused` follows. While starting, a failure ends the
        start, unless the worker waits for its server."""
        self._tell(m.IdentityRequested())
        self._nursery.start_soon(self._sign_in, starting)

    def create_room(self, id_token: str, *, starting: bool) -> None:
        """Go and get a room; `RoomCreated` or `RoomRefused` follows. While starting, a failure ends the
        start, unless the worker waits for its server."""
        self._nursery.start_soon(self._create_room, id_token, starting)

    def end_by(self, deadline: float) -> None:
        """No longer than until then, in seconds of trio's clock."""
        self._over_at = self._scope.deadline = deadline

    @trio.lowlevel.enable_ki_protection
    async def _sign_in(self, starting: bool) -> None:
        answer = await self._post("/anonymous-signin", None)
        identity = answers.read_identity(answer)
        if not isinstance(identity, answers.HttpFailure):
            self._tell(m.IdentityCreated(identity))
            return
        self._tell(m.IdentityRefused(identity.why, v.hint(identity.retry_after)))
        if starting and not self._waits:
            self._tell(m.StartupAborted(SignInFailed(f"the server gave this worker no identity: {identity.why}")))

    @trio.lowlevel.enable_ki_protection
    async def _create_room(self, id_token: str, starting: bool) -> None:
        answer = await self._post("/create-room", id_token)
        room = answers.read_room(answer, id_token)
        if not isinstance(room, answers.HttpFailure):
            self._tell(m.RoomCreated(room))
            return
        self._tell(m.RoomRefused(room.why, room.status == 401, v.hint(room.retry_after)))
        if starting and not self._waits:
            self._tell(m.StartupAborted(RoomCreationFailed(f"the server created no room: {room.why}", room.status)))

    async def _post(self, path: str, bearer: str | None) -> answers.HttpAnswer | answers.HttpFailure:
        with trio.CancelScope(shield=True, deadline=self._over_at) as self._scope:
            return await self._http.post(path, bearer=bearer)
        return CUT_SHORT
