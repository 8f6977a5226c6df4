"""Watches a room: a client that searches for its workers, again and again, and has itself deleted at the end."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from worker_state.config import Config
from worker_state.errors import ConfigError
from worker_state.logs import Logger, event
from worker_state.protocol import error_policy, frames
from worker_state.protocol.error_policy import Cause, Closed, GiveUp, Renew
from worker_state.protocol.reconnect import ReconnectPolicy
from worker_state.redact import Secrets
from worker_state.tools import roster
from worker_state.tools.room_client import GracefulCancel, RoomClient, Trouble, delete_all, open_visit
from worker_state.tools.roster import Roster
from worker_state.watched import Watched
from worker_state.world import World

log: Logger = Logger(__name__)

LEAST, MOST = 0.5, 300.0
"""Seconds between two searches: what a server can be asked for without being pressed, and what is still watching."""
ROOM_GONE = ". A worker whose room is gone makes another, with another session string"
RECORD: frames.Message = {"tags": ["sleap-rtc", "worker-state-watch"], "properties": {}}


@asynccontextmanager
async def open_roster(
    config: Config, *, every: float = 2.0, world: World | None = None
) -> AsyncIterator[Watched[Roster]]:
    """Watch the room of `config` (`room_id` and `room_token`, or `api_key`); search `every` so many seconds.

    Yields the newest roster, and each newer one by iteration, from the first answer on. Raises `ConfigError` for a
    configuration without a room, `ObservationFailed` when that first answer does not come; later trouble stands in
    `Roster.trouble`, and is tried again. At the end the server is asked to delete the identity, within
    `timing.exit + timing.close` seconds, or once more `timing.exit` in the middle of a sign-in.
    """
    if config.creates_room:
        raise ConfigError("room_id is missing: watch a room that exists, with room_id and room_token or an api_key")
    if isinstance(every, bool) or not isinstance(every, int | float) or not LEAST <= every <= MOST:
        raise ConfigError(f"every must be a number of seconds from {LEAST:g} to {MOST:g}")
    for url in config.exposed_urls:
        about = event("not_encrypted", url=url)
        log.warning("%s is not encrypted and leaves this machine: tokens can be read on the way", url, extra=about)
    observer = _Observer(config, every, world or World.around(config))
    try:
        async with open_visit(observer.follow, observer.cancel, observer.clients, config.timing):
            yield observer.rosters
    finally:
        observer.rosters.close()


def _ended(closed: Closed, client: RoomClient) -> Trouble:
    hint = error_policy.hint_of(closed, registered=client.registered)
    return Trouble(str(closed), closed.cause, closed.code, hint)


class _Observer:
    """The one task that keeps the roster."""

    def __init__(self, config: Config, every: float, world: World) -> None:
        self.rosters = Watched(Roster(config.room_id or ""))
        self.cancel = GracefulCancel(config.timing.exit)
        self.clients: list[RoomClient] = []  # the present one last, behind those that could not be deleted yet
        self._config = config
        self._every = every
        self._world = world
        self._secrets = Secrets(*config.secrets)
        self._reconnect = ReconnectPolicy(world.random)
        self._started: Callable[[], None] | None = None  # to be called when the first answer has come
        self._add_client()

    def _add_client(self) -> None:
        peer_id = f"watch-{self._world.nonce()[:8]}"
        self.clients.append(RoomClient(self._config, self._world, self._secrets, self.cancel, peer_id))

    async def follow(self, started: Callable[[], None]) -> str:
        """Keep the roster until cancelled. Returns why the first answer does not come."""
        self._started = started
        while True:
            client = self.clients[-1]
            trouble = await self._enter(client) or await self._watch(client)
            await client.abort()
            pause = self._reconnect.lost(trio.current_time(), trouble.cause, trouble.code, trouble.hint)
            if self._started is not None:
                return trouble.why
            self.rosters.set(roster.lost(self.rosters.value, trouble.why))
            await trio.sleep(pause)

    async def _enter(self, client: RoomClient) -> Trouble | None:
        """Register; None when the server has accepted that."""
        patience = self._config.timing.register
        deadlines = replace(self._reconnect.dialling(trio.current_time()), upgrade=patience, register=patience)
        answer = await client.enter(RECORD, deadlines)
        match answer:
            case Trouble(decision=GiveUp(reason)) if reason.startswith("room "):
                return replace(answer, why=answer.why + ROOM_GONE)
            case Trouble(decision=Renew()) if client.identity is not None:
                await client.abort()
                self._add_client()  # tokens live for an hour, and watching may take longer
                await delete_all(self.clients)
                return answer
            case Trouble():
                return answer
            case Closed(cause=Cause.SILENT):
                return Trouble(str(Cause.UNREGISTERED), Cause.UNREGISTERED)
            case Closed():
                return _ended(answer, client)
        self._reconnect.answered(trio.current_time())
        if not self._config.room_id and answer.room_id != self.rosters.value.room_id:
            self.rosters.set(Roster(answer.room_id))
        return None

    async def _watch(self, client: RoomClient) -> Trouble:
        """Search, and publish each roster, until the link ends."""
        while True:
            asked_at = trio.current_time()
            search = frames.discover_workers(client.peer_id)
            answer: tuple[roster.Entry, ...] | frames.NotInRoom | Closed
            answer = await client.ask(search, self._search_answer, self._config.timing.answer)
            match answer:
                case Closed(cause=Cause.SILENT, reason=why):
                    return Trouble(why, Cause.SILENT)
                case frames.NotInRoom():
                    return Trouble("the server does not know us any more", Cause.DROPPED)
                case Closed():
                    return _ended(answer, client)
            self.rosters.set(roster.answered(self.rosters.value, answer, trio.current_time()))
            if self._started is not None:
                self._started()
                self._started = None
            # Reading goes on meanwhile: an end is noticed at once, and unread frames would block the pongs.
            with trio.move_on_at(asked_at + self._every):
                return _ended(await client.receive(lambda _: None), client)

    def _search_answer(self, frame: frames.Frame) -> tuple[roster.Entry, ...] | frames.NotInRoom | None:
        if isinstance(frame, frames.NotInRoom):
            return frame
        return roster.read_answer(frame.message, self._secrets) if isinstance(frame, frames.OtherMessage) else None
