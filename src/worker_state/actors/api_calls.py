"""The two HTTP calls that create something, sign-in and room creation: made when an actor asks for them.

What a call brings is published (`IdentityCreated`, `RoomCreated`), also when the worker has begun to leave meanwhile:
what exists on the server has to reach the cleanup actor. What failed is published, too, with the reason.
"""

import math
from typing import TYPE_CHECKING

import trio

from worker_state.protocol import error_policy as v
from worker_state.protocol import events as m
from worker_state.protocol.http_api import HttpFailure, Identity, Room

if TYPE_CHECKING:
    from worker_state.net.api import ServerApi

CUT_SHORT = HttpFailure("it was cut short")  # the worker leaves, and the exit is bounded


class ApiCalls:
    """The calls of one worker, one at a time. They are shielded: what they create is owed, whatever is cancelled."""

    def __init__(self, api: "ServerApi", nursery: trio.Nursery, publish: m.Publish, exit_within: float) -> None:
        """`exit_within`: seconds that a call may still take once the worker leaves."""
        self._api = api
        self._nursery = nursery
        self._publish = publish
        self._exit_within = exit_within
        self._scope = trio.CancelScope(shield=True)
        self._end_by = math.inf

    def handle(self, event: m.Event) -> None:
        """Begin the call that is asked for, without waiting."""
        match event:
            case m.RequestIdentity():
                self._nursery.start_soon(self._sign_in)
            case m.RequestRoom(id_token):
                self._nursery.start_soon(self._create_room, id_token)
            case m.StartLeaving():
                self._scope.deadline = self._end_by = trio.current_time() + self._exit_within

    @trio.lowlevel.enable_ki_protection
    async def _sign_in(self) -> None:
        identity: Identity | HttpFailure = CUT_SHORT
        with trio.CancelScope(shield=True, deadline=self._end_by) as self._scope:
            identity = await self._api.sign_in()
        if isinstance(identity, HttpFailure):
            self._publish(m.IdentityFailed(identity.why, v.hint(identity.retry_after)))
        else:
            self._publish(m.IdentityCreated(identity))

    @trio.lowlevel.enable_ki_protection
    async def _create_room(self, id_token: str) -> None:
        room: Room | HttpFailure = CUT_SHORT
        with trio.CancelScope(shield=True, deadline=self._end_by) as self._scope:
            room = await self._api.create_room(id_token)
        if isinstance(room, HttpFailure):
            self._publish(m.RoomFailed(room.why, room.status, v.hint(room.retry_after)))
        else:
            self._publish(m.RoomCreated(room))
