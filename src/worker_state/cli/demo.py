"""`worker-state run --demo`: a short walk through a worker's life, told while it happens.

Every step is the public API and nothing else; only the cut cable and the view of the record are the server's.
"""

import trio

from worker_state import Manager
from worker_state.cli.screen import Screen
from worker_state.devserver import DevServer
from worker_state.logs import About

PAUSE = 0.6  # seconds between the steps
SEEN = About("searched", {})


async def walk(manager: Manager, server: DevServer, screen: Screen) -> None:
    """Reserved, busy, available, a cut connection, recovery."""

    async def step(text: str) -> None:
        # Time for the line of the state to come first, and for the reader.
        await trio.sleep(PAUSE / 2)
        screen.line(_record(manager, server), "cyan", about=SEEN)
        await trio.sleep(PAUSE / 2)
        screen.line(text, "bold", about=About("step", {}))

    await manager.synced()
    await step("A client asks for the worker, and the worker promises itself.")
    manager.set_reserved("demo-1")
    await manager.synced()
    await step("The job begins.")
    with manager.busy("demo-1"):
        await manager.synced()
        await step("The job is done: the worker is free again, and its job id is cleared.")
    await manager.synced()
    await step("Now the connection is cut, and a second job begins before the worker is back.")
    epoch = manager.state.epoch
    server.cut(manager.state.peer_id)
    await manager.states.wait_for(lambda state: state.epoch != epoch or not state.registered)
    screen.line(_record(manager, server), "cyan", about=SEEN)
    with manager.busy("demo-2"):
        # Nothing is queued and nothing is replayed: the next registration simply carries what is true by then.
        await manager.synced()
        await step("It was found again, busy as it is. The second job is done.")
    await manager.synced()
    await step("The worker leaves.")


def _record(manager: Manager, server: DevServer) -> str:
    """What the server would tell a client that searches for this worker."""
    peer = server.rooms.peer(manager.state.peer_id or "")
    if peer is None:
        return "A client that searches now finds nobody."
    properties = peer.metadata["properties"]
    job = properties.get("current_job_id") or properties.get("pending_job_id")
    return f"A client that searches now finds: {properties['status']}" + (f", job {job}" if job else "")
