"""`worker-state offer` while it runs: one offer, and what the worker says about it until the job is over."""

import json
import math

import trio
import typer

from worker_state.cli.output import ExitCode, fail
from worker_state.cli.screen import Screen
from worker_state.cli.signals import ending_on_signal
from worker_state.config import Config
from worker_state.errors import ObservationFailed
from worker_state.protocol.frames import Message, discover_workers
from worker_state.tools.client import Client, open_client

ENDINGS = ("done", "failed", "cancelled", "refused")
CANCEL_WITHIN = 10.0  # seconds, at most, that a cancelled job has to end


async def offer(config: Config, worker: str | None, more: Message, wait: float) -> None:
    """Send the offer to this worker, or to any that is available, and print the payloads of the answers. Raises
    `typer.Exit` unless the job is done."""
    screen = Screen()
    screen.show_log()
    ending, unknown = "stopped before there was an answer", False
    missing = "there is no such worker in the room" if worker else "no worker of the room is available"
    target: str | None = None  # who may have the offer
    async with ending_on_signal(screen, "Cancelling the job") as scope, trio.open_nursery() as nursery:
        try:  # inside, for what leaves a nursery leaves in a group
            with scope:
                client: Client = await nursery.start(_be_client, config)
                target = await _find(client, worker, wait)
                if target is None:
                    ending = missing
                else:
                    await client.send({"type": "offer", **more, "sender": client.peer_id, "target": target})
                    ending = await _follow(client, target, wait, screen)
            if scope.cancelled_caught and target is not None:
                ids = {"from_peer_id": client.peer_id, "to_peer_id": target}
                await client.send({"type": "peer_message", **ids, "payload": {"type": "cancel"}})
                ending = await _follow(client, target, wait, screen, CANCEL_WITHIN)
                unknown = ending not in ENDINGS  # a handler that blocks hears of no cancel
        except ObservationFailed as error:
            ending, unknown = str(error), target is not None
        nursery.cancel_scope.cancel()
    if unknown:
        raise fail(f"How the job ends is not known: {ending}.")
    if ending != "done":
        raise fail(f"The job was not done: {ending}.")
    if screen.identities_left:
        raise typer.Exit(ExitCode.LEFT_SOMETHING)


async def _be_client(config: Config, *, task_status: trio.TaskStatus[Client]) -> None:
    """Be in the room until cancelled. A task, so that a signal cancels its start, and only the use of it afterwards."""
    async with open_client(config) as client:
        task_status.started(client)
        await trio.sleep_forever()


async def _find(client: Client, worker: str | None, wait: float) -> str | None:
    """Look for the worker first: the server says nothing of an offer that reaches nobody."""
    await client.send(discover_workers(client.peer_id))
    found: Message = {}
    with trio.move_on_after(wait):
        while found.get("type") != "peer_list":
            found = await client.receive()
    peers = found.get("peers")
    for peer in peers if isinstance(peers, list) else ():
        match peer:
            case {"peer_id": str(peer_id)} if peer_id == worker:
                return peer_id
            case {"peer_id": str(peer_id), "metadata": {"properties": {"status": "available"}}} if worker is None:
                return peer_id
    return None


async def _follow(client: Client, worker: str, wait: float, screen: Screen, in_all: float = math.inf) -> str:
    """Print payloads until one ends the job; returns how it has ended. `in_all`: seconds, whatever the worker says."""
    began = trio.current_time()
    over_at = began + in_all
    with trio.move_on_at(min(began + wait, over_at)) as limit:
        while True:
            message = await client.receive()
            match message:
                case {"type": "error"}:
                    why = message.get("message") or message.get("reason") or message.get("code")
                    return client.secrets.shown(str(why))
                case {"type": "peer_message", "from_peer_id": str(sender), "payload": payload} if sender == worker:
                    pass
                case {"type": "answer"}:
                    payload = {"type": "answer", "sdp": message.get("sdp")}
                case _:
                    continue  # from somebody else
            limit.deadline = min(trio.current_time() + wait, over_at)
            screen.plain(client.secrets.redacted(json.dumps(payload)))
            if isinstance(payload, dict) and payload.get("type") in ENDINGS:
                return str(payload["type"])
    if limit.deadline == over_at:
        return f"it has not ended in {in_all:g} s"
    return f"the worker has said nothing for {wait:g} s"
