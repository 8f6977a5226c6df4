"""Which HTTP call comes next, and when: what is missing or runs out is fetched, one call at a time.

Pure: time and chance are arguments. What a call brings stands in `credentials`; how the pauses between calls that fail
grow, in `holds`. The registration actor alone uses it.
"""

import math
from random import Random
from typing import Any

from worker_state.protocol import error_policy as v
from worker_state.protocol import events as m
from worker_state.protocol import http_api
from worker_state.protocol.backoff import CallBackoff, asked_for
from worker_state.protocol.credentials import Credentials
from worker_state.protocol.lease import Leased


class Renewals:
    """When one worker's credentials are fetched and renewed. Times are in seconds of the caller's clock."""

    __slots__ = ("_credentials", "_not_before", "_random", "_tries")

    def __init__(self, credentials: Credentials, random: Random) -> None:
        self._credentials = credentials
        self._random = random
        self._tries = CallBackoff()  # the call under way, and those in a row that failed
        self._not_before = 0.0  # no call before this: the pause after one that failed

    def signed_in(self, id_token: str, now: float) -> None:
        """A sign-in has succeeded."""
        self._tries.done()
        self._credentials.grant_token(id_token, now, self._random)

    def room_created(self, room: http_api.Room, now: float) -> None:
        """There is a new room."""
        self._tries.done()
        self._credentials.offer_room(room, now)

    def failed(self, now: float, hint: float | None, *, token_refused: bool = False) -> None:
        """The call has brought nothing. `hint`: seconds that the server asks to wait."""
        self._tries.ended()
        pause = self._credentials.id_token.refuse(now) if token_refused else None
        if pause is None:
            pause = self._tries.failed(missing=not self._credentials.complete)
        self._not_before = now + max(self._random.uniform(0.5, 1.0) * pause, asked_for(hint, self._random))

    def leased(self, what: v.Lease) -> Leased[Any]:
        """The lease of this kind."""
        return self._credentials.id_token if what is v.Lease.IDENTITY else self._credentials.room

    def refused(self, what: v.Lease, now: float) -> float | None:
        """The server has refused this in a `register`: seconds until a new one is fetched; None: waiting has to do."""
        pause = self.leased(what).refuse(now)
        if pause is None:
            return None
        self._not_before = now + self._random.uniform(0.5, 1.0) * pause
        return self._not_before - now

    def due(self, *, idle: bool) -> float:
        """When the next call is to be made."""
        if self._tries.under_way:
            return math.inf
        due = self._credentials.due(idle=idle)
        return max(due, self._not_before) if due < math.inf else math.inf

    def next_call(self, now: float) -> m.RequestIdentity | m.RequestRoom:
        """The call that is due; it is under way from now on."""
        self._tries.begin()
        id_token = self._credentials.id_token.value
        if id_token is None or self._credentials.token_is_due(now):
            return m.RequestIdentity()
        return m.RequestRoom(id_token)
