"""How tools enter a room and leave it again: sign in, dial, register, ask; close, delete."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

import trio

from worker_state.background import open_background
from worker_state.config import Config, Timing
from worker_state.errors import ObservationFailed
from worker_state.logs import Logger, event
from worker_state.net.websocket import MAX_MESSAGE, Socket, close
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed, Decision, DialFailure, after_refusal, hint
from worker_state.protocol.http_api import HttpFailure, Identity, Room
from worker_state.protocol.peer_listing import PeerListing
from worker_state.protocol.reconnect import Deadlines
from worker_state.redact import Secrets, shown
from worker_state.world import World

log: Logger = Logger(__name__)

T = TypeVar("T")

IN_ALL = 20.0  # times as long as without a byte, for an answer of which bytes come: 12 s and 240 s, say
Answer: TypeAlias = frames.RegistrationAccepted | frames.RegisterError  # to a `register`


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no link (any more): a phrase, and what the next dial depends on."""

    why: str
    cause: Cause
    code: int = 1006
    hint: float | None = None
    decision: Decision | None = None  # what a refused `register` calls for


class GracefulCancel:
    """Cancels work on a server so that everything it has created can be deleted again."""

    nursery: trio.Nursery  # for what the work spawns

    def __init__(self, grace: float) -> None:
        self._grace = grace  # seconds that an answer which may create something is waited for after the cancel
        self._work = trio.CancelScope()
        self._creating = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    async def run(self, work: Callable[[], Awaitable[T]], leave: Callable[[], Awaitable[None]]) -> T | None:
        """Do the work until a cancel comes, and then `leave`. No cancel reaches that or `nursery`. Returns what the
        work returns, None after a cancel."""
        result: T | None = None
        async with trio.open_nursery() as outside:
            outside.start_soon(self._notice_cancel)
            async with trio.open_nursery() as self.nursery:
                self.nursery.cancel_scope.shield = True
                try:
                    with self._work:
                        result = await work()
                finally:
                    await leave()
            outside.cancel_scope.cancel()
        return result

    @trio.lowlevel.enable_ki_protection
    async def _notice_cancel(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._work.cancel()
            self._creating.deadline = trio.current_time() + self._grace

    def creating(self) -> trio.CancelScope:
        """A scope for what may create something on the server. One at a time."""
        deadline = trio.current_time() + self._grace if self._work.cancel_called else math.inf
        self._creating = trio.CancelScope(shield=True, deadline=deadline)
        return self._creating


class RoomClient:
    """One peer: an identity or an API key, at most one link, and whether the server may list it in a room."""

    def __init__(self, config: Config, world: World, secrets: Secrets, cancel: GracefulCancel, peer_id: str) -> None:
        self.peer_id: str = peer_id  # of a peer with an API key; a sign-in gives another
        self.identity: Identity | None = None
        self.signing_in: bool = False  # a sign-in has had no answer, and may have created an identity
        self.registered: bool = False
        self._unanswered = False  # a `register` is
        # To enter, unless an API key stands for it.
        self.room: Room = Room(config.room_id or "", config.room_token or "")
        self._config = config
        self._dial = world.dial
        self._api = world.api(secrets)
        self._secrets = secrets
        self._cancel = cancel
        self._socket: Socket | None = None
        self._closed = Closed()  # how the link has ended, if it has
        self._listing = PeerListing()

    async def sign_in(self) -> HttpFailure | None:
        """Get an identity, where one is needed and there is none."""
        if self._config.api_key is not None or self.identity is not None:
            return None
        with self._cancel.creating():
            self.signing_in = True
            identity = await self._api.sign_in()
            self.signing_in = False
            if isinstance(identity, HttpFailure):
                return identity
            self.identity, self.peer_id = identity, identity.username
            return None
        return await trio.sleep_forever()  # only a cancel ends the scope; it is raised here

    async def connect(self, deadlines: Deadlines) -> Socket | DialFailure:
        """Open the link; `close` or `abort` must follow."""
        socket = await self._dial(deadlines, self._cancel.nursery)
        if not isinstance(socket, DialFailure):
            self._socket, self._closed = socket, Closed()
        return socket

    async def enter(
        self, record: frames.Message, deadlines: Deadlines
    ) -> frames.RegistrationAccepted | Closed | Trouble:
        """Sign in, open the link and register as a client; `close` or `abort` must follow."""
        failure = await self.sign_in()
        if failure is not None:
            cause = Cause.REFUSED if failure.status is None else Cause.REJECTED
            return Trouble(f"the server gave no identity: {failure.why}", cause, hint=hint(failure.retry_after))
        socket = await self.connect(deadlines)
        if isinstance(socket, DialFailure):
            where = self._config.websocket_url.partition("?")[0]
            return Trouble(f"no connection to {where}: {socket}", socket.cause, hint=hint(socket.retry_after))
        answer = await self.register(record, "client", deadlines.register)
        if isinstance(answer, frames.RegisterError):
            decision = after_refusal(answer, own_room=False, by_key=self._config.api_key is not None)
            return Trouble(f"the server refuses: {decision.reason}", Cause.REJECTED, decision=decision)
        return answer

    async def register(self, record: frames.Message, role: str, within: float) -> Answer | Closed:
        """Enter the room; `within` as for `receive`."""
        given = self._config.key_credentials
        if self.identity is not None:
            given = {"room_id": self.room.room_id, "token": self.room.token, "id_token": self.identity.id_token}
        frame = frames.register(self.peer_id, record, role, **given)
        self._unanswered = True
        answer: Answer | Closed = await self.ask(frame, lambda got: got if isinstance(got, Answer) else None, within)
        if not isinstance(answer, Closed):
            self._unanswered = False
            self.registered = isinstance(answer, frames.RegistrationAccepted)
        if isinstance(answer, frames.RegistrationAccepted):
            self._secrets.learn(answer.token)
        return answer

    async def send(self, frame: frames.Message) -> None:
        """Send a frame that has no answer of its own."""
        assert self._socket is not None
        await self._socket.send(frames.encode(frame))

    async def ask(self, frame: frames.Message, pick: Callable[[frames.Frame], T | None], within: float) -> T | Closed:
        """Send a frame, and wait for its answer; `within` as for `receive`."""
        with trio.move_on_after(within) as sending:
            await self.send(frame)
        return _silent(within) if sending.cancelled_caught else await self.receive(pick, within)

    async def receive(self, pick: Callable[[frames.Frame], T | None], within: float = math.inf) -> T | Closed:
        """Wait for what `pick` takes, past whatever else comes. `SILENT` when no byte has come for `within` seconds: a
        long answer over a slow line is not silence (faults.md, G21). Nor is it waited for longer than `IN_ALL` times.
        An end comes without secrets.
        """
        socket, began = self._socket, trio.current_time()
        assert socket is not None

        def deadline() -> float:
            return min(max(began, socket.heard_at) + within, began + IN_ALL * within)

        while trio.current_time() < deadline():
            with trio.move_on_at(deadline()):
                received = await socket.receive()
                if isinstance(received, Closed):
                    self._closed = received.without(self._secrets)
                    return self._closed
                if (answer := pick(frames.read(received, self._secrets, MAX_MESSAGE))) is not None:
                    return answer
        return _silent(within)

    async def close(self, within: float) -> None:
        """End the link, with a Close frame unless a `register` is unanswered: that would leave a ghost (F31)."""
        if self.registered and self._socket is not None and await close(self._socket, within):
            self._closed = Closed(1000)
        await self.abort()

    async def abort(self) -> None:
        """End the link at once, if there is one."""
        if self.registered or self._unanswered:
            closed = self._closed.by_server
            self._listing.lost(trio.current_time(), closed=closed, unanswered=self._unanswered)
        self.registered = self._unanswered = False
        if self._socket is not None:
            await self._socket.abort()
            self._socket = None

    async def delete(self) -> str | HttpFailure | None:
        """Ask for the deletion of the identity. None: not asked, since the server may still list a peer whose link has
        ended. With the last one in it the server deletes the room, and others may just reconnect (F11, G01)."""
        if not self._listing.ends_soon(trio.current_time()):
            return None
        await trio.sleep_until(self._listing.until)
        return await self._api.delete_peer(self.peer_id)


def _silent(within: float) -> Closed:
    return Closed(reason=f"no answer in {within:g} s", cause=Cause.SILENT)


@asynccontextmanager
async def open_visit(
    visit: Callable[[Callable[[], None]], Awaitable[str]],
    cancel: GracefulCancel,
    clients: list[RoomClient],
    timing: Timing,
) -> AsyncIterator[None]:
    """Run `visit` beside the block, from when it calls its argument to the block's end; then the `clients` leave.
    Raises `ObservationFailed` with what `visit` returns: why there is nothing to visit."""

    @trio.lowlevel.enable_ki_protection
    async def run(*, task_status: "trio.TaskStatus[None]") -> None:
        failure = await cancel.run(partial(visit, task_status.started), partial(leave, clients, timing))
        if failure is not None:
            raise ObservationFailed(failure)

    async with open_background(run):
        yield


async def leave(clients: list[RoomClient], timing: Timing) -> None:
    """Close every link, then ask for every deletion. What may be left on the server is logged."""
    began = trio.current_time()
    for client in clients:
        await client.close(timing.close + timing.exit / 2)
    with trio.move_on_at(min(began + timing.close, trio.current_time()) + timing.exit):
        await delete_all(clients)
    left = [shown(client.peer_id) for client in clients if client.identity is not None]
    left += ["its name is not known" for client in clients if client.signing_in]
    if left:
        about = event("identities_left", count=len(left))
        text = "our identity could not be deleted, and may be left on the server: %s"
        log.warning(text, ", ".join(left), extra=about)


async def delete_all(clients: list[RoomClient]) -> None:
    """Ask for every deletion that is due, and drop the clients whose identity is gone."""
    for client in tuple(clients):
        if client.identity is not None and isinstance(await client.delete(), str):
            clients.remove(client)
