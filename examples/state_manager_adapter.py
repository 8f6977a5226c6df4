"""The manager behind the method names of a `StateManager` that a worker for asyncio may have today, to be swapped in.

Such a worker signs in, creates a room, connects, registers, and then makes its state manager. All of that becomes

    async with StateManagerAdapter(Config(websocket_url, http_url, capabilities={…})) as state_manager:
        signed_in = state_manager.request_anonymous_signin()            # None: the server gave no identity
        room = state_manager.request_create_room(signed_in["id_token"])
        …                                                               # the rest of the worker, as it was

without the `register` of its own, and what its loop read from the WebSocket comes from `state_manager.manager.signals`.
A room that was given to the worker goes into the `Config`, or into `set_room_credentials` before the block.

What differs from a class that is written by hand:

- Entering the block makes every call, and raises `RoomCreationFailed` or another `StartupFailed`. Only a sign-in that
  fails is left to be told by `request_anonymous_signin`, which gives None, and by what follows, which raises it.
- The `request_…` methods ask no server. They give the identity and the room of the one manager, so nothing is created
  twice, and the last one ends the manager, which deletes what it has created and nothing else.
- A status is true at once and is told as soon as there is a link. An id that belongs to another status is cleared.
  `busy` always has one: the reserved job's, or "unnamed". Once the manager has ended, a change is logged as an error.
- A lost connection is dialled again and registered again. Nothing has to call `reregister_worker` for that.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Self

from worker_state import Config, ManagerEnded, SessionString, SignInFailed, WorkerStatus, aio

log = logging.getLogger(__name__)


class StateManagerAdapter:
    """One manager. What was a plain function stays one, and so does what was awaited."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._block = AsyncExitStack()
        self._manager: aio.Manager | None = None
        self._failure: Exception = RuntimeError("it has not started: async with StateManagerAdapter(config)")
        self._ending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            self._manager = await self._block.enter_async_context(aio.open_state_manager(self._config))
        except SignInFailed as error:
            self._failure = error
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._ending is not None:
                await self._ending
        finally:
            await self._block.aclose()  # does nothing the second time, and is shortened by no cancel

    @property
    def manager(self) -> aio.Manager:
        """Everything else: `signals`, `send_signal`, `synced` … Raises why there is none."""
        if self._manager is None:
            raise self._failure
        return self._manager

    def get_status(self) -> str:
        return self.manager.status.value

    async def update_status(self, status: str, **properties: Any) -> None:
        """`current_job_id` for busy, `pending_job_id` for reserved; any other property is a capability that changes.
        Raises nothing because of the network, and `ValueError` for what clients do not understand."""
        current, pending = properties.pop("current_job_id", None), properties.pop("pending_job_id", None)
        try:
            match WorkerStatus(status):
                case WorkerStatus.AVAILABLE:
                    self.manager.set_available()
                case WorkerStatus.RESERVED:
                    self.manager.set_reserved(pending)
                case WorkerStatus.BUSY:
                    self.manager.set_busy(current or self.manager.job_id or "unnamed")
                case WorkerStatus.MAINTENANCE:
                    self.manager.set_maintenance()
            self.manager.set_capabilities(properties)
        except ManagerEnded as error:
            log.error("status %s is told to nobody: %s", status, error)

    async def reregister_worker(self) -> None:
        try:
            self.manager.reregister()
        except ManagerEnded as error:
            log.error("the worker is not registered again: %s", error)

    @staticmethod
    def generate_session_string(room_id: str, token: str, peer_id: str) -> str:
        return str(SessionString(room_id, token, peer_id))

    def request_anonymous_signin(self) -> dict[str, str | None] | None:
        if isinstance(self._failure, SignInFailed):
            return None
        return {"id_token": self.manager.state.id_token, "username": self.manager.state.peer_id}

    def request_create_room(self, id_token: str | None) -> dict[str, str | None]:
        """The manager's room, created or given. Its token is None for a worker with an API key."""
        text = self.manager.session_string
        return {"room_id": self.manager.state.room_id, "token": SessionString.parse(text).token if text else None}

    def set_room_credentials(self, room_id: str, token: str, id_token: str | None = None) -> None:
        """Before the block: the room to join. Inside it the manager has its room; `ValueError` for another."""
        if self._manager is None:
            self._config = replace(self._config, room_id=room_id, room_token=token)
        elif self.request_create_room(id_token) != {"room_id": room_id, "token": token}:
            raise ValueError("the worker is in a room already: name another one before the block")

    def request_peer_room_deletion(self, peer_id: str | None) -> "asyncio.Task[None]":
        """End the manager, in the background; it may be awaited, and the end of the block waits for it, too."""
        if peer_id != self.manager.state.peer_id:
            raise ValueError("only this worker's own identity can be deleted")
        self._ending = self._ending or asyncio.create_task(self._block.aclose())
        return self._ending
