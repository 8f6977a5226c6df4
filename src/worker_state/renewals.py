"""Which HTTP call the registration actor makes next, and when: what is missing or runs out is fetched, one at a time.

The registration actor alone uses it. What a call brings stands in `core.credentials`; how the pauses
between calls that fail grow, in `core.holds`.
"""

import math
from random import Random
from typing import Any
from uuid import UUID

from worker_state import announce
from worker_state.core import messages as m
from worker_state.core import verdict as v
from worker_state.core.config import Config
from worker_state.core.credentials import Credentials
from worker_state.core.holds import Tries, asked_for
from worker_state.core.lease import Leased
from worker_state.errands import Errands

Outcome = m.IdentityCreated | m.IdentityRefused | m.RoomCreated | m.RoomRefused


def first_name(config: Config, random: Random) -> str | None:
    """The peer id before the first sign-in, which gives one. With an API key there is none: a random one, so that no
    two workers share it (FAULTS F06)."""
    return None if config.api_key is None else str(UUID(int=random.getrandbits(128), version=4))


class Renewals:
    """The credentials of one worker, and the HTTP calls that keep them good."""

    __slots__ = ("_errands", "_not_before", "_random", "_say", "_tries", "credentials")

    def __init__(self, credentials: Credentials, errands: Errands, random: Random, say: announce.Registrations) -> None:
        self.credentials = credentials
        self._errands = errands
        self._random = random
        self._say = say
        self._tries = Tries()
        """The call under way, and those in a row that failed."""
        self._not_before = 0.0
        """No call before this: the pause after one that failed."""

    def apply(self, outcome: Outcome, now: float) -> None:
        """A call has ended."""
        match outcome:
            case m.IdentityCreated(identity):
                self._tries.done()
                self._say.errand_done(announce.SIGN_IN)
                self.credentials.grant_token(identity.id_token, now, self._random)
            case m.RoomCreated(room):
                self._tries.done()
                self._say.errand_done(announce.ROOM_CREATION)
                self.credentials.offer_room(room, now)
            case m.IdentityRefused(why, hint):
                self._say.errand_failed(announce.SIGN_IN, why)
                self._failed(None, hint, now)
            case m.RoomRefused(why, token_refused, hint):
                self._say.errand_failed(announce.ROOM_CREATION, why)
                self._failed(self.credentials.id_token.refuse(now) if token_refused else None, hint, now)

    def _failed(self, pause: float | None, hint: float | None, now: float) -> None:
        self._tries.ended()
        if pause is None:
            pause = self._tries.failed(missing=not self.credentials.complete)
        self._not_before = now + max(self._random.uniform(0.5, 1.0) * pause, asked_for(hint, self._random))

    def leased(self, what: v.Lease) -> Leased[Any]:
        """The lease of this kind."""
        return self.credentials.id_token if what is v.Lease.IDENTITY else self.credentials.room

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
        due = self.credentials.due(idle=idle)
        return max(due, self._not_before) if due < math.inf else math.inf

    def start(self, now: float) -> None:
        """Make the call that is due."""
        self._tries.begin()
        starting, id_token = not self._say.started, self.credentials.id_token.value
        if id_token is None or self.credentials.token_is_due(now):
            self._errands.sign_in(starting=starting)
        else:
            self._errands.create_room(id_token, starting=starting)
