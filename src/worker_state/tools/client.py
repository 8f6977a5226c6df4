"""A client of one room: it sends an offer to a worker, and reads what comes back."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from worker_state.config import Config
from worker_state.errors import ObservationFailed
from worker_state.protocol.error_policy import Cause, Closed
from worker_state.protocol.frames import Message
from worker_state.protocol.reconnect import Deadlines
from worker_state.redact import Secrets
from worker_state.tools.room_client import GracefulCancel, RoomClient, Trouble, open_visit
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
    world, secrets, cancel = World.around(config), Secrets(*config.secrets), GracefulCancel(config.timing.exit)
    room = RoomClient(config, world, secrets, cancel, f"offer-{world.nonce()[:8]}")

    async def visit(started: Callable[[], None]) -> str:
        match await room.enter(RECORD, Deadlines(connect=STAGE, acknowledge=STAGE, upgrade=STAGE, register=STAGE)):
            case Trouble(why):
                return why
            case Closed(cause=Cause.SILENT):
                return "the server does not answer"
            case Closed() as closed:
                return f"the connection has ended: {closed}"
        started()
        return await trio.sleep_forever()

    async with open_visit(visit, cancel, [room], config.timing):
        yield Client(room, secrets)
