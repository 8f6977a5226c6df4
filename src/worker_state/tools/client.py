"""A client of one room: it sends an offer to a worker, and reads what comes back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from worker_state.background import open_background
from worker_state.config import Config
from worker_state.errors import ObservationFailed
from worker_state.protocol import frames
from worker_state.protocol.error_policy import Cause, Closed, DialFailure, after_refusal
from worker_state.protocol.frames import Message
from worker_state.protocol.reconnect import Deadlines
from worker_state.redact import Secrets
from worker_state.tools.room_client import GracefulCancel, RoomClient, leave
from worker_state.world import World

RECORD: Message = {"tags": ["sleap-rtc", "worker-state-offer"], "properties": {}}
STAGE = 10.0  # seconds for each stage of the way in: a person waits


class Client:
    """A registered client. Raises `ObservationFailed` when its link is gone."""

    def __init__(self, room: RoomClient, secrets: Secrets) -> None:
        self._room = room
        self.secrets: Secrets = secrets  # to show what is received, which is as it came
        self.peer_id: str = room.peer_id

    async def send(self, message: Message) -> None:
        """Send a frame; the answer comes out of `receive`."""
        await self._room.send(message)

    async def receive(self) -> Message:
        """The next message for this client, errors of the server included."""
        message: Message | Closed = await self._room.receive(lambda frame: getattr(frame, "message", None))
        if isinstance(message, Closed):
            raise ObservationFailed(f"the connection has ended: {message}")
        return message


@asynccontextmanager
async def open_client(config: Config) -> AsyncIterator[Client]:
    """Enter the room of `config` as a client. Raises `ObservationFailed` if the server does not let it in. At the end
    the server is asked to delete the identity."""
    visit = _Visit(config, World.around(config))
    async with open_background(visit.run) as client:
        yield client


class _Visit:
    def __init__(self, config: Config, world: World) -> None:
        self._config = config
        self._cancel = GracefulCancel(config.timing.exit)
        self._secrets = Secrets(*config.secrets)
        self._room = RoomClient(config, world, self._secrets, self._cancel, f"offer-{world.nonce()[:8]}")
        self._failure: str | None = None
        self._task_status: trio.TaskStatus[Client] = trio.TASK_STATUS_IGNORED

    async def run(self, *, task_status: "trio.TaskStatus[Client]") -> None:
        self._task_status = task_status
        await self._cancel.run(self._visit, self._leave)
        if self._failure is not None:
            raise ObservationFailed(self._failure)

    async def _visit(self) -> None:
        self._failure = await self._enter()
        if self._failure is None:
            self._task_status.started(Client(self._room, self._secrets))
            await trio.sleep_forever()

    async def _enter(self) -> str | None:
        failure = await self._room.sign_in()
        if failure is not None:
            return f"the server gave no identity: {failure.why}"
        socket = await self._room.connect(Deadlines(connect=STAGE, acknowledge=STAGE, upgrade=STAGE, register=STAGE))
        if isinstance(socket, DialFailure):
            return f"no connection to {self._config.websocket_url.partition('?')[0]}: {socket}"
        match await self._room.register(RECORD, "client", STAGE):
            case Closed(cause=Cause.SILENT):
                return "the server does not answer"
            case Closed() as closed:
                return f"the connection has ended: {closed}"
            case frames.RegisterError() as refusal:
                by_key = self._config.api_key is not None
                return f"the server refuses: {after_refusal(refusal, own_room=False, by_key=by_key).reason}"
            case _:
                return None

    async def _leave(self) -> None:
        await leave([self._room], self._config.timing)
