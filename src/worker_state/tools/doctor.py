"""Goes the whole way of a worker once, step by step, and has it all deleted again: what `worker-state doctor` runs.

The shell only: who is asked, in which order, within what time. What an answer means stands in `tools.checks`.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar
from uuid import uuid4

import trio

from worker_state import reach
from worker_state.core import http_api, wire
from worker_state.core.config import Config
from worker_state.core.listing import NOTICE
from worker_state.core.pace import Deadlines
from worker_state.core.verdict import Cause, Closed, DialFailure
from worker_state.core.words import masked
from worker_state.net.websocket import Socket, WebSocketDial, close
from worker_state.web import HttpxHttp

WITHIN = 10.0
"""Seconds for each step: a person is waiting, and a server that needs longer has a fault worth showing."""
LEAVING = 2.0
"""Seconds for an answer that may create something, once the person wants to go."""
DELETING = 5.0
"""Seconds for everything that is owed at the end."""
LISTED = "left, for the server may still list it, and would delete a room that is somebody else's with it"
CLOSING = 1.0
"""Seconds for a server to answer a Close frame."""

T = TypeVar("T")
Tell = Callable[[Result], None]


async def examine(config: Config, tell: Tell, *, within: float = WITHIN) -> None:
    """Try every step from DNS to deletion; `tell` gets each result as it is known, also of what was not tried.

    Network trouble is a finding, never an exception. Cancelled, it tells the rest as not tried, and first asks the
    server to delete what was created, for which it takes up to `LEAVING + DELETING` seconds.
    """
    async with trio.open_nursery() as outside:
        # Sockets have to outlive the steps: the room goes only with a worker that is still registered.
        with trio.CancelScope(shield=True):
            async with AsyncExitStack() as stack:
                nursery = await stack.enter_async_context(trio.open_nursery())
                exam = _Exam(config, tell, within, stack, nursery)
                outside.start_soon(exam.hear_cancel)
                await exam.run()
        outside.cancel_scope.cancel()


class _Exam:
    def __init__(self, config: Config, tell: Tell, within: float, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self._config = config
        self._tell = tell
        self._within = within
        self._stack = stack
        self._nursery = nursery
        self._http = HttpxHttp(config.http_url, within=within)
        self._steps = trio.CancelScope()
        self._careful: trio.CancelScope | None = None
        self._alive: dict[str, Endpoint] = {each.option: each for each in c.endpoints(config)}
        self._done: set[Step] = set()
        self._told: set[Step] = set()
        self._identities: list[http_api.Identity] = []
        self._lost = 0
        self._links: list[Socket] = []
        self._listed: dict[str, Socket | None] = {}
        """By peer id: the socket over which it is registered; None while the answer to its `register` has not come."""
        self._room: http_api.Room | None = None
        if config.room_id is not None and config.room_token is not None:
            self._room = http_api.Room(config.room_id, config.room_token)
        self._room_asked = False
        """There may be a room of ours, known to us or not."""
        self._registered = False
        self._peer_id = ""
        self._secrets: list[str | None] = [config.room_token, config.api_key]

    async def hear_cancel(self) -> None:
        """Pass a cancel from outside on to the steps, not to the deletion."""
        try:
            await trio.sleep_forever()
        finally:
            self._steps.cancel()
            if self._careful is not None:
                self._careful.deadline = min(self._careful.deadline, trio.current_time() + LEAVING)

    async def run(self) -> None:
        try:
            with self._steps:
                await self._all_steps()
        finally:
            began = trio.current_time()
            deletion = await self._delete()  # first of all: telling may fail
            took = trio.current_time() - began
            for step in Step:
                if step not in self._told and step not in (Step.CONFIGURATION, Step.DELETION):
                    self._say(step, c.not_tried("interrupted"))
            self._say(Step.DELETION, deletion, took)

    def _say(self, step: Step, finding: Finding, seconds: float | None = None) -> None:
        self._told.add(step)
        if finding.outcome in (c.Outcome.OK, c.Outcome.SKIPPED):
            self._done.add(step)
        self._tell(Result(step, finding, seconds if finding.outcome in (c.Outcome.OK, c.Outcome.FAILED) else None))

    async def _try(self, step: Step, check: Callable[[], Awaitable[Finding]], *, needs: str | None = None) -> None:
        """Run one step, unless what it needs has failed."""
        if needs is not None:
            self._say(step, c.not_tried(f"needs {needs}"))
            return
        for _ in range(2):  # nothing shielded may begin after a cancel: one pass for `hear_cancel`, one to feel it
            await trio.lowlevel.checkpoint()
        began = trio.current_time()
        finding = c.failed(f"not done in {self._within:g} s", c.SLOW)
        with trio.move_on_after(self._within):
            finding = await check()
        self._say(step, finding, trio.current_time() - began)

    def _missing(self, *steps: Step) -> str | None:
        return " and ".join(step for step in steps if step not in self._done) or None

    def _unreached(self, option: str) -> str | None:
        return None if option in self._alive else f"a way to the server ({option})"

    async def _all_steps(self) -> None:
        await self._way(Step.DNS, reach.look_up)
        await self._way(Step.TCP, reach.connect)
        await self._way(Step.TLS, reach.secure)
        await self._try(Step.HTTP, self._ask_http, needs=self._unreached("--http"))
        if self._config.api_key is not None:
            self._say(Step.SIGN_IN, c.skipped("an API key is used"))
        else:
            await self._try(Step.SIGN_IN, self._sign_in_first, needs=self._missing(Step.HTTP))
        await self._try(Step.UPGRADE, self._upgrade, needs=self._unreached("--ws"))
        if not self._config.creates_room:
            self._say(Step.ROOM, c.skipped("it is given" if self._config.room_id else "the API key has its own"))
        await self._carefully(self._enter_room)
        await self._try(Step.DISCOVERY, self._discover, needs=self._missing(Step.REGISTRATION))

    # the way there

    async def _way(self, step: Step, check: reach.Check) -> None:
        """DNS, TCP or TLS, for both endpoints at once; one that fails is not asked any further."""
        if not self._alive:
            self._say(step, c.not_tried("needs a way to the server"))
            return
        concerned = [each for each in self._alive.values() if step is not Step.TLS or each.secure]
        if step is Step.DNS:
            concerned = [each for each in concerned if not each.is_address]
        if not concerned:
            self._say(
                step, c.skipped("addresses in place of names" if step is Step.DNS else "ws:// and http:// have none")
            )
            return
        outcomes: dict[Endpoint, str | DialFailure] = {}
        began = trio.current_time()

        async def one(endpoint: Endpoint) -> None:
            outcomes[endpoint] = DialFailure(Cause.NO_ANSWER, f"in {self._within:g} s")
            with trio.move_on_after(self._within):
                outcomes[endpoint] = await check(endpoint, self._within)

        async with trio.open_nursery() as nursery:
            for each in concerned:
                nursery.start_soon(one, each)
        outcomes = {each: outcomes[each] for each in concerned}
        for each, outcome in outcomes.items():
            if isinstance(outcome, DialFailure):
                del self._alive[each.option]
        self._say(step, c.of_way(outcomes), trio.current_time() - began)

    # at the server

    async def _ask_http(self) -> Finding:
        return c.of_http(await self._http.post("/create-room"))

    async def _carefully(self, create: Callable[[], Awaitable[T]]) -> T:
        """Wait for an answer that creates something also when the person wants to go; then not for long."""
        with trio.CancelScope(shield=True) as self._careful:
            return await create()
        return await trio.sleep_forever()  # only a cancel sets the deadline, and it is felt here

    async def _sign_in(self) -> http_api.Identity | http_api.HttpFailure:
        self._lost += 1
        answer = await self._carefully(lambda: self._http.post("/anonymous-signin"))
        if not isinstance(answer, http_api.HttpAnswer):
            return answer
        self._lost -= 1
        identity = http_api.read_identity(answer)
        if isinstance(identity, http_api.Identity):
            self._identities.append(identity)
            self._secrets.append(identity.id_token)
        return identity

    async def _sign_in_first(self) -> Finding:
        identity = await self._sign_in()
        return c.of_sign_in(identity) if isinstance(identity, http_api.HttpFailure) else c.ok("one identity, for now")

    async def _upgrade(self) -> Finding:
        link = await self._dial()
        return c.of_dial(link) if isinstance(link, DialFailure) else c.ok()

    async def _dial(self) -> Socket | DialFailure:
        """One more socket, which lasts as long as the examination."""
        dial = WebSocketDial(self._config.websocket_url)
        # Shorter than the step, so that the dial itself can say how far it has come.
        each = 0.8 * self._within
        deadlines = Deadlines(connect=each, acknowledge=each, register=each)
        link = await dial(deadlines, self._nursery)
        if not isinstance(link, DialFailure):
            self._stack.push_async_callback(link.abort)
            self._links.append(link)
        return link

    async def _enter_room(self) -> None:
        """Room and registration. Both belong together: a room that nobody registers in cannot be deleted."""
        if self._config.creates_room:
            await self._try(Step.ROOM, self._create_room, needs=self._missing(Step.SIGN_IN, Step.UPGRADE))
        needs = self._missing(Step.SIGN_IN, Step.UPGRADE, Step.ROOM)
        await self._try(Step.REGISTRATION, self._register_worker, needs=needs)

    async def _create_room(self) -> Finding:
        id_token = self._identities[0].id_token
        self._room_asked = True
        answer = await self._http.post("/create-room", bearer=id_token)
        self._room_asked = isinstance(answer, http_api.HttpFailure) or answer.status == 200
        room = http_api.read_room(answer, id_token)
        if isinstance(room, http_api.HttpFailure):
            return c.of_room(room)
        self._room = room
        self._secrets.append(room.token)
        return c.ok("one room, for now")

    async def _register_worker(self) -> Finding:
        config = self._config
        identity = self._identities[0] if self._identities else None
        record = wire.metadata(config.tags, config.capabilities, c.TRUTH)
        self._peer_id, frame = self._frame(identity, record, "worker")
        finding = await self._register(self._links[0], frame)
        self._registered = finding.outcome is c.Outcome.OK
        return finding

    async def _discover(self) -> Finding:
        """Come in once more, as somebody else, and look for the worker."""
        identity: http_api.Identity | None = None
        if self._config.api_key is None:
            signed_in = await self._sign_in()
            if isinstance(signed_in, http_api.HttpFailure):
                return c.of_second(c.of_sign_in(signed_in))
            identity = signed_in
        link = await self._dial()
        if isinstance(link, DialFailure):
            return c.of_second(c.of_dial(link))
        peer_id, frame = self._frame(identity, {"tags": ["worker-state-doctor"], "properties": {}}, "client")
        registered = await self._register(link, frame)
        if registered.outcome is not c.Outcome.OK:
            return c.of_second(registered)
        found = await _ask(link, c.search(peer_id, self._config.tags), lambda answer: c.found(answer, self._peer_id))
        return c.of_second(c.of_dial(found)) if isinstance(found, Closed) else found

    def _frame(self, identity: http_api.Identity | None, record: wire.Message, role: str) -> tuple[str, wire.Message]:
        if identity is None:
            assert self._config.api_key is not None
            peer_id = str(uuid4())
            frame = wire.register_by_key(peer_id, self._config.api_key, record)
        else:
            assert self._room is not None
            peer_id = identity.username
            frame = wire.register(peer_id, self._room.room_id, self._room.token, identity.id_token, record)
        return peer_id, frame | {"role": role}

    async def _register(self, link: Socket, frame: wire.Message) -> Finding:
        self._listed[frame["peer_id"]] = None
        answer: wire.RegistrationAccepted | wire.Refusal | Closed = await _ask(link, frame, _registration_answer)
        if isinstance(answer, Closed):
            return c.of_dial(answer)
        if isinstance(answer, wire.Refusal):
            del self._listed[frame["peer_id"]]
            return c.of_register(wire.Refusal(masked(answer.reason, self._secrets), answer.typed), self._config)
        self._listed[frame["peer_id"]] = link
        return c.ok(f"as {c.TRUTH_SHOWN}; {answer.peers} others in the room")

    # back again

    async def _delete(self) -> Finding:
        """Delete what was signed in; the last one that is registered in a room of our own takes the room along."""
        late = http_api.HttpFailure(f"not answered in {DELETING:g} s")
        reports: dict[str, str | http_api.HttpFailure] = {each.username: late for each in self._identities}
        with trio.move_on_after(DELETING):
            if not self._config.creates_room:
                # With the last one in it the server would delete a room that is somebody else's (FAULTS G01).
                for peer_id, link in tuple(self._listed.items()):
                    if link is not None and await close(link, CLOSING):
                        del self._listed[peer_id]
                await trio.sleep(NOTICE)
            for each in self._identities:
                if each.username in self._listed and not self._config.creates_room:
                    reports[each.username] = http_api.HttpFailure(LISTED)
                    continue
                answer = await self._http.post("/delete-peer", body={"peer_id": each.username})
                reports[each.username] = http_api.read_deletion(answer)
        return c.of_deletion(reports, lost=self._lost, room_left=self._room_asked and not self._registered)


def _registration_answer(frame: wire.Frame) -> wire.RegistrationAccepted | wire.Refusal | None:
    return frame if isinstance(frame, wire.RegistrationAccepted | wire.Refusal) else None


async def _ask(link: Socket, frame: wire.Message, pick: Callable[[wire.Frame], T | None]) -> T | Closed:
    """Send a frame and wait for its answer, past whatever else comes."""
    closed = await link.send(wire.encode(frame))
    while closed is None:
        received = await link.receive()
        if isinstance(received, Closed):
            return received
        answer = pick(wire.read(received))
        if answer is not None:
            return answer
    return closed
