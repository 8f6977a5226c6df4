"""HTTP of the simulation: the real rules behind requests that can be refused, hang, be answered badly, or be lost.

A request that was sent takes effect even if nobody waits for its answer any more, as on the real server (F26).
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

import trio

from tests.simulation.conns import Conn
from tests.simulation.server import Server
from worker_state.devserver.model import Reply
from worker_state.protocol.http_api import HttpAnswer, HttpFailure, Sending

BAD_ANSWERS = {
    "500": HttpAnswer(500, "text/plain", b"Internal Server Error"),
    "500 json": HttpAnswer(500, "application/json", b'{"detail": "Anonymous sign-in failed: too many requests"}'),
    "422": HttpAnswer(
        422, "application/json", b'{"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required"}]}'
    ),
    "portal": HttpAnswer(200, "text/html", b"<html><body>Please log in to the guest network</body></html>"),
    "401": HttpAnswer(401, "application/json", b'{"detail": "Token verification failed: Signature has expired."}'),
    "list": HttpAnswer(200, "application/json", b"[[[1, 2], null]]"),
}
SILENT = ("hangs", "lost")
"""Moods in which there is no answer; "lost" is the one in which the request takes effect all the same."""
MOODS = (*BAD_ANSWERS, *SILENT, "refused")

REQUESTS_A_MINUTE = 20
"""One for each refusal is right, and the pauses of `core.lease` allow ten for a token and ten for a room."""

Answer = HttpAnswer | HttpFailure


class Web:
    """`Http` of one worker, and the record of what it was given."""

    def __init__(self, server: Server, owner: str, chance: Random, within: float, blame: Callable[[str], None]) -> None:
        self._server = server
        self._owner = owner
        self._chance = chance
        self._within = within
        self._blame = blame
        self._last: dict[str, tuple[float, int]] = {}
        """By path: when the server granted something last, and how often it had refused the worker before."""
        self._untold: set[str] = set()
        """The paths of grants whose answer the worker has not got."""
        self.grants: dict[str, int] = {}
        self._own_rooms: set[str] = set()  # a creation may be handled after the next one
        """The room that this worker has created last."""
        self.known: dict[str, float] = {}
        """The users whose names this worker was told, and when."""
        self._asked: deque[float] = deque()
        self._judged = True
        self.on_identity: Callable[[HttpAnswer], HttpAnswer] = lambda answer: answer

    def lasts(self, seconds: float) -> bool:
        """Whether what it was granted is good for so long from now; not, when there is nothing yet."""
        server = self._server
        lives = {"/anonymous-signin": server.rooms._identities.token_life, "/create-room": server.rooms._room_life}
        granted = {path: at for path, (at, _) in self._last.items() if path not in self._untold}
        return "/anonymous-signin" in granted and all(
            at + lives[path] > server.net.now + seconds for path, at in granted.items()
        )

    def mood(self, path: str) -> str | None:
        for mood, which in reversed(self._server.web):
            if which in ("", path):
                return mood
        return None

    async def post(
        self,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        bearer: str | None = None,
        sending: Sending | None = None,
    ) -> Answer:
        if sending is not None:
            sending()
        server, net = self._server, self._server.net
        self._judge_rate(path)
        mood = self.mood(path)
        answered, answers, abandoned = trio.Event(), list[Answer](), trio.Event()
        server.trace.note(net.now, self._owner, "POST %s%s", path, f" ({mood})" if mood else "")

        def answer(given: Answer) -> None:
            answers.append(given)
            answered.set()

        def handle() -> None:
            if not server.resumed.is_set():
                net.after(0.5, handle)
                return
            # What was asked by a request that the worker has given up meanwhile is nothing that it asks again.
            self._judged = not abandoned.is_set()
            given = BAD_ANSWERS.get(mood or "") or self._handle(path, body, bearer)
            if mood == "401" and path == "/create-room":
                server.refusals[self._owner] += 1
            if mood not in SILENT:
                net.after(self._chance.uniform(0.001, 0.04), partial(answer, given))

        if mood == "refused":
            net.after(self._chance.uniform(0.001, 0.04), lambda: answer(HttpFailure("ConnectError: refused")))
        elif mood != "hangs" or self._chance.random() < 0.3:
            net.after(self._chance.uniform(0.001, 0.04), handle)
        with trio.move_on_after(self._within):
            await answered.wait()
        if not answers:
            abandoned.set()
        given = answers[0] if answers else HttpFailure(f"no whole answer in {self._within:g} s")
        if isinstance(given, HttpAnswer) and given.status == 200 and mood is None:
            self._untold.discard(path)
            if path == "/anonymous-signin":
                given = self.on_identity(given)
                self.known[json.loads(given.body)["username"]] = trio.current_time()
        return given

    def _handle(self, path: str, body: Mapping[str, Any] | None, bearer: str | None) -> HttpAnswer:
        server = self._server
        match path:
            case "/anonymous-signin":
                server.on_sign_in.pop(self._owner, lambda: None)()
                self._granted(path, 0.78 * server.rooms._identities.token_life)
                reply = server.rooms.sign_in(server.wall)
            case "/create-room":
                reply = server.rooms.create_room(bearer and f"Bearer {bearer}", server.wall)
                if reply.status == 200:
                    assert isinstance(reply.body, dict)
                    self._own_rooms.add(str(reply.body["room_id"]))
                    self._granted(path, 0.88 * server.rooms._room_life)
                elif reply.status == 401:
                    server.refusals[self._owner] += 1
            case "/delete-peer":
                self._judge_deletion(str((body or {}).get("peer_id")))
                reply = server.rooms.delete_peer(None if body is None else dict(body), server.wall)
                server.on_deletion()
            case _:
                reply = Reply(404, {"detail": "Not Found"})
        return HttpAnswer(reply.status, "application/json", json.dumps(reply.body).encode())

    # what it may be blamed for

    def _judge_rate(self, path: str) -> None:
        if path == "/delete-peer":
            return
        now = trio.current_time()
        self._asked.append(now)
        while now - self._asked[0] > 60:
            self._asked.popleft()
        if len(self._asked) > REQUESTS_A_MINUTE:
            self._blame(f"{len(self._asked)} sign-ins and rooms asked for in a minute")

    def _judge_deletion(self, username: str) -> None:
        """A worker never deletes the last one in a room that is somebody else's (G01), unless an impostor is."""
        rooms = self._server.rooms
        peer, room_id = rooms.peer(username), rooms._registry.room_of(username)
        if peer is not None and isinstance(peer.connection, Conn) and room_id not in self._own_rooms:
            self._blame(f"it deletes {username} while it is listed in {room_id}, which is not its own")

    def _granted(self, path: str, not_within: float) -> None:
        """One for each life of what is granted, and one for each refusal or lost answer."""
        server = self._server
        now, refusals = server.net.now, server.refusals[self._owner]
        before = self._last.get(path)
        if not self._judged:
            return
        if before is not None and now - before[0] < not_within and refusals == before[1] and path not in self._untold:
            self._blame(f"{path} again after {now - before[0]:.0f} s, and nothing had been refused")
        self._last[path] = now, refusals
        self._untold.add(path)
        self.grants[path] = self.grants.get(path, 0) + 1
