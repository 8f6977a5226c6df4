"""Takes every step of a worker once, and has it all deleted again. What an answer means is in `checks`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from uuid import uuid4

import trio

from worker_state.config import Config
from worker_state.net import addresses, tcp
from worker_state.net.http_client import HttpxHttp
from worker_state.net.tls import secure
from worker_state.protocol import frames, http_api
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.http_api import HttpFailure
from worker_state.protocol.reconnect import Deadlines
from worker_state.protocol.record import build_record
from worker_state.redact import Secrets
from worker_state.tools import checks as c
from worker_state.tools.checks import Endpoint, Finding, Outcome, Result, Step
from worker_state.tools.room_client import IN_ALL, GracefulCancel, RoomClient
from worker_state.world import World

WITHIN = 10.0  # seconds for each step: a server that needs longer has a fault worth showing
LEAVING = 2.0  # seconds after a cancel for an answer that may create something
DELETING = 5.0  # seconds for all deletions
CLOSING = 1.0  # seconds for a server to answer a Close frame
LISTED = HttpFailure("left, for the server may still list it, and would delete a room that is somebody else's with it")
ANSWERED = (Step.REGISTRATION, Step.DISCOVERY)
"""By messages that may be long: `WITHIN` is without a byte there (G21), and all of it `IN_ALL` times as long."""
CLIENT: frames.Message = {"tags": ["worker-state-doctor"], "properties": {}}

Report = Callable[[Result], None]
Reach = Callable[[Endpoint, float], Awaitable[str | DialFailure]]
"""One stage of the way to an endpoint, within seconds; gives what was found, as a phrase, or why nothing was."""


async def examine(config: Config, report: Report, *, within: float = WITHIN, world: World | None = None) -> None:
    """Try every step from DNS to deletion; `report` gets each result as it is known, also of what was not tried.

    Network trouble is a finding, never an exception. Cancelled, it reports the rest as not tried, and first asks the
    server to delete what was created, for which it takes up to `LEAVING + DELETING` seconds.
    """
    world = world or replace(World.real(config), http=HttpxHttp(config.http_url, within=within))
    exam = _Exam(config, report, within, world)
    await exam.cancel.run(exam.all_steps, exam.leave)


async def look_up(endpoint: Endpoint, within: float) -> str | DialFailure:
    """DNS: the addresses behind the name. The caller sets the deadline."""
    try:
        found = await addresses.look_up(endpoint.host, endpoint.port)
    except Exception as error:  # noqa: BLE001 - whatever a resolver raises, it is a finding
        return tcp.why_not_connected(error)
    return f"{endpoint.host} is {found[0][4][0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")


async def connect(endpoint: Endpoint, within: float, *, tls: bool = False) -> str | DialFailure:
    """A TCP connection; with `tls` a handshake too, certificate and all, for which the caller sets the deadline."""
    stream = await tcp.connect(endpoint.host, endpoint.port, within)
    if isinstance(stream, DialFailure):
        return stream
    try:
        secured = await secure(stream, endpoint.host) if tls else stream
    finally:
        await tcp.abort(stream)
    if isinstance(secured, DialFailure):
        return secured
    return f"{endpoint.host} has a certificate that is trusted here" if tls else str(endpoint)


def _late(within: float) -> Finding:
    return c.failed(f"not done in {within:g} s", c.SLOW)


class _Exam:
    def __init__(self, config: Config, report: Report, within: float, world: World) -> None:
        self._config = config
        self._report = report
        self._within = within
        secrets = Secrets(*config.secrets)
        self._api = world.api(secrets)
        self.cancel = GracefulCancel(LEAVING)
        self._clients = [RoomClient(config, world, secrets, self.cancel, str(uuid4())) for _ in range(2)]
        self._worker, self._client = self._clients
        self._reached: dict[str, Endpoint] = {each.option: each for each in c.endpoints(config)}
        self._findings: dict[Step, Finding] = {}
        self._unanswered = 0  # failed sign-ins that may have created an identity all the same
        self._room_asked = False  # there may be a room of our own, known or not

    async def leave(self) -> None:
        """Have everything deleted, and report what was not tried."""
        began = trio.current_time()
        deletion = await self._delete()  # first of all: `report` may raise
        took = trio.current_time() - began
        for step in Step:
            if step not in self._findings and step not in (Step.CONFIGURATION, Step.DELETION):
                self._conclude(step, c.not_tried("interrupted"))
        self._conclude(Step.DELETION, deletion, took)

    def _conclude(self, step: Step, finding: Finding, seconds: float | None = None) -> None:
        self._findings[step] = finding
        self._report(Result(step, finding, seconds if finding.outcome in (Outcome.OK, Outcome.FAILED) else None))

    async def _try(self, step: Step, check: Callable[[], Awaitable[Finding]], needs: str) -> None:
        """Run one step, unless something that it needs is missing."""
        if needs:
            self._conclude(step, c.not_tried(f"needs {needs}"))
            return
        for _ in range(2):  # nothing may be created after a cancel: one pass to notice it, one to be cancelled
            await trio.lowlevel.checkpoint()
        began = trio.current_time()
        within = self._within * (IN_ALL if step in ANSWERED else 1)
        finding = _late(within)
        with trio.move_on_after(within):
            finding = await check()
        self._conclude(step, finding, trio.current_time() - began)

    def _missing(self, *steps: Step) -> str:
        return " and ".join(step for step in steps if not self._findings[step].is_well)

    def _unreached(self, option: str) -> str:
        return "" if option in self._reached else f"a way to the server ({option})"

    async def all_steps(self) -> None:
        await self._reach(Step.DNS, look_up, lambda each: not each.is_address, "addresses in place of names")
        await self._reach(Step.TCP, connect)
        await self._reach(Step.TLS, partial(connect, tls=True), lambda each: each.secure, "ws:// and http:// have none")
        await self._try(Step.HTTP, self._ask_http, self._unreached("--http"))
        if self._config.api_key is not None:
            self._conclude(Step.SIGN_IN, c.skipped("an API key is used"))
        else:
            await self._try(Step.SIGN_IN, partial(self._sign_in, self._worker), self._missing(Step.HTTP))
        await self._try(Step.UPGRADE, partial(self._connect, self._worker), self._unreached("--ws"))
        with self.cancel.creating():  # both steps: a room that nobody registers in cannot be deleted
            if self._config.creates_room:
                await self._try(Step.ROOM, self._create_room, self._missing(Step.SIGN_IN, Step.UPGRADE))
            else:
                why = "it is given" if self._config.room_id else "the API key has its own"
                self._conclude(Step.ROOM, c.skipped(why))
            needs = self._missing(Step.SIGN_IN, Step.UPGRADE, Step.ROOM)
            record = build_record(self._config.tags, self._config.capabilities, c.TRUTH)
            await self._try(Step.REGISTRATION, partial(self._register, self._worker, record, "worker"), needs)
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._try(Step.DISCOVERY, self._discover, self._missing(Step.REGISTRATION))

    async def _reach(
        self, step: Step, reach: Reach, wanted: Callable[[Endpoint], bool] = bool, otherwise: str = ""
    ) -> None:
        """DNS, TCP or TLS, for both endpoints at once; one that fails is not asked any further."""
        no_answer = DialFailure(Cause.NO_ANSWER, f"in {self._within:g} s")
        outcomes: dict[Endpoint, str | DialFailure] = dict.fromkeys(filter(wanted, self._reached.values()), no_answer)
        if not outcomes:
            self._conclude(step, c.skipped(otherwise) if self._reached else c.not_tried("needs a way to the server"))
            return
        began = trio.current_time()

        async def one(endpoint: Endpoint) -> None:
            with trio.move_on_after(self._within):
                outcomes[endpoint] = await reach(endpoint, self._within)

        async with trio.open_nursery() as nursery:
            for each in outcomes:
                nursery.start_soon(one, each)
        for each, outcome in outcomes.items():
            if isinstance(outcome, DialFailure):
                del self._reached[each.option]
        self._conclude(step, c.of_way(outcomes), trio.current_time() - began)

    async def _ask_http(self) -> Finding:
        return c.of_http(await self._api.post(http_api.create_room(None)))

    async def _sign_in(self, client: RoomClient) -> Finding:
        failure = await client.sign_in()
        if failure is None:
            return c.ok("one identity, for now")
        self._unanswered += failure.status is None
        return c.failed(failure.why, c.NO_IDENTITY)

    async def _connect(self, client: RoomClient) -> Finding:
        each = 0.8 * self._within  # shorter than the step, so that the dial itself can say how far it has come
        link = await client.connect(Deadlines(connect=each, acknowledge=each, upgrade=each, register=each))
        return c.of_dial(link) if isinstance(link, DialFailure) else c.ok()

    async def _create_room(self) -> Finding:
        assert self._worker.identity is not None
        self._room_asked = True
        room = await self._api.create_room(self._worker.identity.id_token)
        if isinstance(room, HttpFailure):
            self._room_asked = room.status is None
            return c.failed(room.why, c.NO_ROOM)
        self._worker.room = self._client.room = room
        return c.ok("one room, for now")

    async def _register(self, client: RoomClient, record: frames.Message, role: str) -> Finding:
        match await client.register(record, role, self._within):
            case Closed() as closed:
                return self._of_end(closed)
            case frames.RegisterError() as refusal:
                return c.of_register(refusal, self._config)
            case accepted:
                return c.ok(f"as {c.TRUTH_SHOWN}; {accepted.peers} others in the room")

    async def _discover(self) -> Finding:
        """Enter once more, as a client, and look for the worker."""
        client, worker = self._client, self._worker
        for enter in self._sign_in, self._connect, partial(self._register, record=CLIENT, role="client"):
            finding = await enter(client)
            if finding.outcome is not Outcome.OK:
                return c.of_second(finding)
        search = c.search(client.peer_id, self._config.tags)
        found = await client.ask(search, lambda answer: c.found(answer, worker.peer_id), self._within)
        return c.of_second(self._of_end(found)) if isinstance(found, Closed) else found

    def _of_end(self, closed: Closed) -> Finding:
        return _late(self._within) if closed.cause is Cause.SILENT else c.of_dial(closed)

    async def _delete(self) -> Finding:
        """Delete what was signed in; the last one that is registered in a room of our own takes the room along."""
        late = HttpFailure(f"not answered in {DELETING:g} s")
        identities = [client for client in self._clients if client.identity is not None]
        reports: dict[str, str | HttpFailure] = {client.peer_id: late for client in identities}
        room_left = self._room_asked and not self._worker.registered
        with trio.move_on_after(DELETING):
            if not self._config.creates_room:  # with the last one listed the server would delete it (G01)
                for client in self._clients:
                    await client.close(CLOSING)
            for client in identities:
                report = await client.delete()
                reports[client.peer_id] = LISTED if report is None else report
        for client in self._clients:
            await client.abort()
        unanswered = self._unanswered + sum(client.signing_in for client in self._clients)
        return c.of_deletion(reports, unanswered=unanswered, room_left=room_left)
