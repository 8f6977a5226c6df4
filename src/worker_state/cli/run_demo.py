"""`worker-state run --demo`: a walk through a worker's life, by the public API and the server inside."""

import trio

from worker_state import Manager
from worker_state.cli.screen import Screen
from worker_state.devserver import DevServer
from worker_state.logs import About

PAUSE = 0.6  # seconds between two steps


async def walk(manager: Manager, server: DevServer, screen: Screen) -> None:
    """Reserved, busy, available, a lost connection, recovery."""

    def show_record() -> None:
        screen.line(_record(manager, server), "cyan", about=About("searched", {}))

    async def step(text: str) -> None:
        await manager.synced()
        await trio.sleep(PAUSE / 2)  # the line about the state comes first
        show_record()
        await trio.sleep(PAUSE / 2)
        screen.line(text, "bold", about=About("step", {}))

    await step("A client asks for the worker, and the worker reserves itself.")
    manager.set_reserved("demo-1")
    await step("The job begins.")
    with manager.busy("demo-1"):
        await step("The job is done: the worker is free again, and its job id is cleared.")
    await step("Now the connection is cut, and a second job begins before the worker is back.")
    epoch = manager.state.epoch
    server.cut(manager.state.peer_id)
    await manager.states.wait_for(lambda state: state.epoch != epoch or not state.registered)
    show_record()
    with manager.busy("demo-2"):  # nothing is replayed: the next registration carries the present status
        await step("It was found again, busy as it is. The second job is done.")
    await step("The worker leaves.")


def _record(manager: Manager, server: DevServer) -> str:
    peer = server.rooms.peer(manager.state.peer_id or "")
    if peer is None:
        return "A client that searches now finds nobody."
    properties = peer.metadata["properties"]
    job = properties.get("current_job_id") or properties.get("pending_job_id")
    return f"A client that searches now finds: {properties['status']}" + (f", job {job}" if job else "")
