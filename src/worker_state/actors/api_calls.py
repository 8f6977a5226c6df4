"""The two HTTP calls that create something, sign-in and room creation: made when an actor asks for them.

Their outcome is published, also when the worker has begun to leave meanwhile: what exists on the server has to reach
the cleanup actor.
"""

import math
from typing import TYPE_CHECKING

import trio

from worker_state.protocol import error_policy, events
from worker_state.protocol.http_api import HttpFailure, Identity, Room

if TYPE_CHECKING:
    from worker_state.net.http_client import ServerApi


class ApiCalls:
    """The calls of one worker, one at a time. They are shielded: what they create has to be deleted."""

    def __init__(self, api: "ServerApi", nursery: trio.Nursery, publish: events.Publish, exit_within: float) -> None:
        """`exit_within`: seconds that a call may still take once the worker leaves."""
        self._api = api
        self._nursery = nursery
        self._publish = publish
        self._exit_within = exit_within
        self._scope = trio.CancelScope(shield=True)
        self._end_by = math.inf

    def handle(self, event: events.Event) -> None:
        """Start the call that is asked for, without waiting."""
        match event:
            case events.RequestIdentity() | events.RequestRoom():
                self._nursery.start_soon(self._call, event)
            case events.StartLeaving():
                self._scope.deadline = self._end_by = trio.current_time() + self._exit_within

    @trio.lowlevel.enable_ki_protection
    async def _call(self, request: events.RequestIdentity | events.RequestRoom) -> None:
        answer: Identity | Room | HttpFailure | None = None
        with trio.CancelScope(shield=True, deadline=self._end_by) as self._scope:
            if isinstance(request, events.RequestRoom):
                answer = await self._api.create_room(request.id_token)
            else:
                answer = await self._api.sign_in()
        match answer:
            case Identity():
                self._publish(events.IdentityCreated(answer))
            case Room():
                self._publish(events.RoomCreated(answer))
            case HttpFailure(why, status, retry_after) if isinstance(request, events.RequestRoom):
                self._publish(events.RoomFailed(why, status, error_policy.hint(retry_after)))
            case HttpFailure(why, status, retry_after):
                self._publish(events.IdentityFailed(why, error_policy.hint(retry_after), status))
            case None:  # cut short, for the worker leaves. What it may have made stays awaited, and is told as left.
                pass
