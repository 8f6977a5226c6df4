"""The development server in a thread of its own, for tests of programs that are not written for trio."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from worker_state import Config, Timing
from worker_state.bridge import RemoteManager
from worker_state.devserver import DevServer, serve

PATIENCE = 15.0
"""Seconds after which waiting has failed."""


class Served:
    """The development server, and calls into the thread in which it runs."""

    def __init__(self, portal: BlockingPortal, server: DevServer, scope: trio.CancelScope) -> None:
        self.server = server
        self._portal = portal
        self._scope = scope

    @property
    def config(self) -> Config:
        timing = Timing(exit=1.0, close=0.2)
        return Config(self.server.ws_url, self.server.http_url, timing=timing, show_session_string=False)

    def record(self, manager: RemoteManager) -> tuple[Any, Any]:
        """Status and current job as the server has them."""
        peer = self.server.rooms.peer(manager.state.peer_id or "")
        assert peer is not None
        properties = peer.metadata["properties"]
        return properties["status"], properties["current_job_id"]

    def offer(self, manager: RemoteManager, sdp: str = "v=0") -> None:
        """An offer is handed on to the worker."""
        self.say(manager.state.peer_id or "", {"type": "offer", "sdp": sdp})

    def say(self, worker: str, message: dict[str, Any]) -> None:
        """A signal is handed on to the worker (in its own name: the server wants the sender to be in the room)."""
        text = json.dumps({"sender": worker, "target": worker, **message})
        server = self.server
        self._portal.call(lambda: server.perform(server.rooms.receive("client", text, server.clock())))

    def answers(self) -> list[dict[str, Any]]:
        return [frame for _, frame in self.server.frames if frame.get("type") == "answer"]

    def fail_sign_in(self) -> None:
        self._portal.call(lambda: self.server.fail_http("/anonymous-signin", 500, "no", times=100))

    def mute(self) -> None:
        self._portal.call(self.server.mute)

    def kill(self) -> None:
        """Connections and listeners are gone."""
        self._portal.call(self._scope.cancel)


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


async def _serve(
    scope: trio.CancelScope, ws_port: int, http_port: int, *, task_status: "trio.TaskStatus[DevServer]"
) -> None:
    with scope:
        await serve(ws_port=ws_port, http_port=http_port, task_status=task_status)


@contextmanager
def serving(ws_port: int = 0, http_port: int = 0) -> Iterator[Served]:
    """The server while the block lasts; port 0 is a free one."""
    scope = trio.CancelScope()
    with start_blocking_portal("trio") as portal:
        _, server = portal.start_task(_serve, scope, ws_port, http_port)
        served = Served(portal, server, scope)
        yield served
        served.kill()
