"""What a server can do wrong on purpose, be its connections sockets (`faults`) or in memory (`testing.memory`).

Here is the state behind the faults that both have. Nothing in here knows what a connection is.
"""

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import trio

from worker_state.devserver.rules import Rooms

LOOK_SECONDS = 0.5  # between two looks whether what hangs goes on

Answer = TypeVar("Answer")


class FaultyServer(ABC, Generic[Answer]):
    """A server with faults that begin at once, and end by a call or a count. It says when something has changed.

    `Answer` is an HTTP answer.
    """

    def __init__(self, rooms: Rooms, clock: Callable[[], float]) -> None:
        self.rooms: Rooms = rooms
        """The server's memory, and its rules."""
        self.clock: Callable[[], float] = clock
        """What `now` shows."""
        self.up: bool = True
        """Takes new connections."""
        self.away: bool = False
        """Takes no connection and no HTTP call."""
        self.http_answers: dict[str, list[Answer]] = {}
        """Next answers by path, in place of the rules'."""
        self.http_hangs: set[str] = set()
        """Paths whose calls are not answered."""
        self._released: defaultdict[str, trio.Event] = defaultdict(trio.Event)  # by path, of the calls that hang
        self.held_registers: int = 0
        """How many registers are being held just now."""
        self._registers_to_hold = 0
        self._changes = trio.lowlevel.ParkingLot()

    def now(self) -> float:
        """The server's wall clock, in seconds since 1970."""
        return self.clock()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return as soon as the condition, which may look at anything of this server, is true."""
        while not condition():
            await self._changes.park()

    def notify(self) -> None:
        """Something has changed that `until` may wait for."""
        self._changes.unpark_all()

    # connections

    @abstractmethod
    def cut(self, peer_id: str | None = None) -> None:
        """Reset the connections of one peer, or all; the server notices at once."""

    def restart(self) -> None:
        """Cut everything and forget all registrations. Users and rooms stay."""
        self.cut()
        self.rooms.forget_peers()
        self.notify()

    def go_away(self) -> None:
        """The server is gone, HTTP included, until `come_back`; registrations are lost, users and rooms stay."""
        self.away = True
        self.restart()

    def refuse(self) -> None:
        """No WebSocket can be opened, until `come_back`. Those that are open stay, and HTTP calls are answered."""
        self.up = False

    def come_back(self) -> None:
        """Ends `go_away` and `refuse`."""
        self.up, self.away = True, False
        self.notify()

    # frames

    def hold_registers(self, times: int = 1) -> None:
        """The next `times` registers are not handled before `release_registers`, even if their socket dies first."""
        self._registers_to_hold = times

    def _is_to_be_held(self) -> bool:
        """Whether the `register` that has come is to be held; it then counts as held."""
        if not self._registers_to_hold:
            return False
        self._registers_to_hold -= 1
        self.held_registers += 1
        return True

    # HTTP

    def fail_http(
        self,
        path: str,
        status: int,
        body: Any = None,
        content_type: str = "application/json",
        times: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The next `times` calls of this path get this answer, in JSON unless it is text, and take no effect."""
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        answer = self._answer(status, body, content_type, headers or {})
        self.http_answers.setdefault(path, []).extend([answer] * times)

    @abstractmethod
    def _answer(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]) -> Answer: ...

    def hang_http(self, path: str) -> None:
        """Calls of this path are not handled before `release_http`."""
        self.http_hangs.add(path)

    def release_http(self, path: str | None = None) -> None:
        """Calls of this path, or all, are handled again, those that hang first."""
        for name in self.http_hangs.copy() if path is None else [path]:
            self.http_hangs.discard(name)
            self._released.pop(name, trio.Event()).set()

    async def while_it_hangs(self, path: str) -> None:
        """Return when a call of this path may be handled."""
        while path in self.http_hangs:
            with trio.move_on_after(LOOK_SECONDS):  # who takes it out of there by hand wakes nobody
                await self._released[path].wait()
                return

    def next_answer(self, path: str) -> Answer | None:
        """What a call of this path gets in place of the rules' answer."""
        return self.http_answers[path].pop(0) if self.http_answers.get(path) else None
