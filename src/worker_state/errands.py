"""The two HTTP calls that bring something into being, run beside the registration actor's loop.

Whatever they bring is told (`IdentityCreated`, `RoomCreated`), also when the worker has begun to leave meanwhile: what
exists on the server has to reach the ledger.
"""

import logging
from typing import TYPE_CHECKING

from worker_state.core import answers
from worker_state.core import messages as m
from worker_state.core.errors import RoomCreationFailed, SignInFailed

if TYPE_CHECKING:
    from worker_state.web import Http

log = logging.getLogger(__name__)


async def sign_in(http: "Http") -> answers.Identity | None:
    """`POST /anonymous-signin`: a new identity, or None with an error logged. Each one has to be deleted at the end."""
    answer = await http.post("/anonymous-signin")
    identity = answer if isinstance(answer, answers.HttpFailure) else answers.read_identity(answer)
    if isinstance(identity, answers.HttpFailure):
        log.error("sign-in failed: %s", identity.why)
        return None
    return identity


async def create_room(http: "Http", id_token: str) -> answers.Room:
    """`POST /create-room`: a new room. Raises `RoomCreationFailed` with the HTTP status and text, which it logs."""
    answer = await http.post("/create-room", bearer=id_token)
    room = answer if isinstance(answer, answers.HttpFailure) else answers.read_room(answer, id_token)
    if isinstance(room, answers.HttpFailure):
        log.error("room creation failed: %s", room.why)
        raise RoomCreationFailed(f"the server created no room: {room.why}", room.status)
    return room


async def sign_in_and_tell(http: "Http", starting: bool, tell: m.Tell) -> None:
    """Sign in; when the worker is only starting, a failure ends the start."""
    identity = await sign_in(http)
    if identity is not None:
        tell(m.IdentityCreated(identity))
        return
    tell(m.IdentityRefused())
    if starting:
        tell(m.StartupAborted(SignInFailed("the server gave this worker no identity (the log says why)")))


async def create_room_and_tell(http: "Http", id_token: str, starting: bool, tell: m.Tell) -> None:
    """Create a room; when the worker is only starting, a failure ends the start."""
    try:
        room = await create_room(http, id_token)
    except RoomCreationFailed as error:
        tell(m.RoomRefused(str(error), token_refused=error.status == 401))
        if starting:
            tell(m.StartupAborted(error))
        return
    tell(m.RoomCreated(room))
