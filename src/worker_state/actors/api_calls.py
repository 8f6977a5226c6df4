"""The two HTTP calls that create something, sign-in and room creation: made when an actor asks for them.

Their outcome is published, also when the worker has begun to leave meanwhile: what exists on the server has to reach
the cleanup actor. A call of which nothing has been sent yet has made nothing: leaving ends it at once (G58).
"""

import math
from typing import TYPE_CHECKING

import trio

from worker_state.protocol import error_policy, events
from worker_state.protocol.http_api import HttpFailure, Identity, Room

if TYPE_CHECKING:
    from worker_state.net.http_client import ServerApi


class ApiCalls:
    """The calls of one worker, one at a time. Once sent they are shielded: what they create has to be deleted."""

    def __init__(self, api: "ServerApi", nursery: trio.Nursery, publish: events.Publish, exit_within: float) -> None:
        """`exit_within`: seconds that a call may still take once the worker leaves."""
        self._api = api
        self._nursery = nursery
        self._publish = publish
        self._exit_within = exit_within
        self._unsent = trio.CancelScope(shield=True)  # reaches a call until it is sent
        self._sent = trio.CancelScope()
        self._end_by = math.inf

    def handle(self, event: events.Event) -> None:
        """Start the call that is asked for, without waiting."""
        match event:
            case events.RequestIdentity() | events.RequestRoom():
                self._nursery.start_soon(self._call, event)
            case events.StartLeaving():
                self._sent.deadline = self._end_by = trio.current_time() + self._exit_within
                self._unsent.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _call(self, request: events.RequestIdentity | events.RequestRoom) -> None:
        answer: Identity | Room | HttpFailure | None = None
        with trio.CancelScope(shield=True) as self._unsent, trio.CancelScope(deadline=self._end_by) as self._sent:
            if self._end_by < math.inf:
                self._unsent.cancel()
            if isinstance(request, events.RequestRoom):
                answer = await self._api.create_room(request.id_token, self._sending)
            else:
                answer = await self._api.sign_in(self._sending)
        if self._unsent.cancelled_caught:
            answer = HttpFailure("the worker leaves")
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

    def _sending(self) -> None:
        self._sent.shield = True
