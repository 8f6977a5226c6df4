"""The two HTTP calls that bring something into being, run beside the registration actor's loop.

Whatever they bring is told (`IdentityCreated`, `RoomCreated`), also when the worker has begun to leave meanwhile: what
exists on the server has to reach the ledger. What failed is told too, with the reason, and said by who hears it.
"""

from typing import TYPE_CHECKING

import trio

from worker_state.core import answers
from worker_state.core import messages as m
from worker_state.core.errors import RoomCreationFailed, SignInFailed

if TYPE_CHECKING:
    from worker_state.web import Http

CUT_SHORT = answers.HttpFailure("it was cut short")
"""By the scope: the worker leaves, and the exit is bounded."""


async def sign_in_and_tell(scope: trio.CancelScope, http: "Http", starting: bool, tell: m.Tell) -> None:
    """`POST /anonymous-signin`: a new identity, to be deleted at the end. While starting, a failure ends the start."""
    answer: answers.HttpAnswer | answers.HttpFailure = CUT_SHORT
    with scope:
        answer = await http.post("/anonymous-signin")
    identity = answer if isinstance(answer, answers.HttpFailure) else answers.read_identity(answer)
    if not isinstance(identity, answers.HttpFailure):
        tell(m.IdentityCreated(identity))
        return
    tell(m.IdentityRefused(identity.why))
    if starting:
        tell(m.StartupAborted(SignInFailed("the server gave this worker no identity (the log says why)")))


async def create_room_and_tell(
    scope: trio.CancelScope, http: "Http", id_token: str, starting: bool, tell: m.Tell
) -> None:
    """`POST /create-room`: a new room. While starting, a failure ends the start, with the HTTP status."""
    answer: answers.HttpAnswer | answers.HttpFailure = CUT_SHORT
    with scope:
        answer = await http.post("/create-room", bearer=id_token)
    room = answer if isinstance(answer, answers.HttpFailure) else answers.read_room(answer, id_token)
    if not isinstance(room, answers.HttpFailure):
        tell(m.RoomCreated(room))
        return
    tell(m.RoomRefused(room.why, token_refused=room.status == 401))
    if starting:
        tell(m.StartupAborted(RoomCreationFailed(f"the server created no room: {room.why}", room.status)))
