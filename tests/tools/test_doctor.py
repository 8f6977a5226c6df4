"""The doctor over real sockets, at a server that is well and at servers that are not, and what it leaves behind."""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest
import trio

from tests.support.peers import TEXT, Peer, frame, nobody_listening, serving
from worker_state import Config
from worker_state.devserver import DevServer, Rooms, serve
from worker_state.devserver.identities import RECORDED_API_KEYS
from worker_state.tools.checks import Outcome, Result, Step
from worker_state.tools.doctor import examine

PATIENCE = 30.0
OK, FAILED, SKIPPED, NOT_TRIED = Outcome
AT_THE_SERVER = (Step.ROOM, Step.REGISTRATION, Step.DISCOVERY)


async def examined(ws: str, http: str, *, within: float = 10.0, **options: str) -> dict[Step, Result]:
    """What each step has shown; every step has shown something, once and in order."""
    results: list[Result] = []
    with trio.fail_after(PATIENCE):
        await examine(Config(ws, http, **options), results.append, within=within)  # type: ignore[arg-type]
    assert [result.step for result in results] == list(Step)[1:]
    return {result.step: result for result in results}


def outcomes(results: dict[Step, Result], *steps: Step) -> list[Outcome]:
    return [results[step].finding.outcome for step in steps]


def trouble(results: dict[Step, Result]) -> dict[Step, str]:
    """What failed, and why."""
    failed = [result for result in results.values() if result.finding.outcome is FAILED]
    assert all(result.finding.advice.endswith(".") for result in failed)
    return {result.step: result.finding.detail for result in failed}


def nothing_left(server: DevServer) -> bool:
    return not server.rooms.users and not server.rooms.rooms


async def test_all_well(nursery: trio.Nursery) -> None:
    """At a server that is well every step is, and nothing is left behind."""
    server: DevServer = await nursery.start(serve)
    results = await examined(server.ws_url, server.http_url)
    assert trouble(results) == {}
    assert outcomes(results, Step.DNS, Step.TLS) == [SKIPPED, SKIPPED]
    assert outcomes(results, *AT_THE_SERVER, Step.DELETION) == [OK] * 4
    assert all(result.seconds is not None for result in results.values() if result.finding.outcome is OK)
    assert nothing_left(server)


async def test_nobody_can_use_the_doctors_worker(nursery: trio.Nursery) -> None:
    """In a room with clients in it the doctor's worker is not to be taken for a free one."""
    server: DevServer = await nursery.start(serve)
    await examined(server.ws_url, server.http_url)
    (register,) = (sent for _, sent in server.frames if sent.get("role") == "worker")
    assert register["metadata"]["properties"]["status"] == "maintenance"


async def test_a_name(nursery: trio.Nursery) -> None:
    """A name is looked up, and what it stands for is said."""
    server: DevServer = await nursery.start(serve)
    results = await examined(server.ws_url.replace("127.0.0.1", "localhost"), server.http_url)
    assert results[Step.DNS].finding.detail.startswith("localhost is ")


async def test_no_name(nursery: trio.Nursery) -> None:
    """A name that nobody knows: what the other address leads to is checked all the same."""
    server: DevServer = await nursery.start(serve)
    results = await examined("ws://no-such-host.invalid:8080", server.http_url)
    assert trouble(results) == {
        Step.DNS: "no-such-host.invalid:8080 (--ws): host not reached (the host name cannot be resolved)"
    }
    assert outcomes(results, Step.TCP, Step.HTTP, Step.SIGN_IN) == [OK] * 3
    assert outcomes(results, Step.UPGRADE, *AT_THE_SERVER) == [NOT_TRIED] * 4
    assert nothing_left(server)


async def test_nobody_there() -> None:
    """Where nobody listens nothing more is tried, and nothing has to be deleted."""
    async with nobody_listening() as port:
        results = await examined(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    assert list(trouble(results)) == [Step.TCP]
    assert results[Step.TCP].finding.detail.count("connection refused") == 2
    assert outcomes(results, *list(Step)[3:-1]) == [NOT_TRIED] * 7
    assert outcomes(results, Step.DELETION) == [SKIPPED]


async def test_no_tls(nursery: trio.Nursery) -> None:
    """An address that asks for TLS where there is none fails there, and the other goes on."""
    server: DevServer = await nursery.start(serve)
    results = await examined(server.ws_url, server.http_url.replace("http", "https"))
    assert list(trouble(results)) == [Step.TLS]
    assert outcomes(results, Step.HTTP, Step.UPGRADE) == [NOT_TRIED, OK]


async def test_silence() -> None:
    """A server that takes connections and says nothing costs each step no more than its time."""

    async def silent(peer: Peer) -> None:
        await peer.end()

    async with serving(silent) as port:
        results = await examined(f"wss://127.0.0.1:{port}", f"http://127.0.0.1:{port}", within=0.2)
    assert list(trouble(results)) == [Step.TLS, Step.HTTP]
    assert all((result.seconds or 0.0) < 2.0 for result in results.values())


@pytest.mark.parametrize(
    ("status", "body", "kind", "advice"),
    [
        (500, "Internal Server Error", "text/plain", "The server has trouble"),
        (200, "<html>Please log in", "text/html", "Something else answers there"),
    ],
)
async def test_http(nursery: trio.Nursery, status: int, body: str, kind: str, advice: str) -> None:
    """A server in trouble and a portal are told apart; nothing is asked of them, and the upgrade is still tried."""
    server: DevServer = await nursery.start(serve)
    server.fail_http("/create-room", status, body, kind)
    results = await examined(server.ws_url, server.http_url)
    assert trouble(results) == {Step.HTTP: f"HTTP {status} ({kind})"}
    assert results[Step.HTTP].finding.advice.startswith(advice)
    assert outcomes(results, Step.SIGN_IN, Step.UPGRADE, *AT_THE_SERVER) == [NOT_TRIED, OK, *[NOT_TRIED] * 3]
    assert nothing_left(server)


async def test_sign_in(nursery: trio.Nursery) -> None:
    """A refused sign-in is told in the server's words."""
    server: DevServer = await nursery.start(serve)
    server.fail_http("/anonymous-signin", 500, {"detail": "Anonymous sign-in failed: no"})
    results = await examined(server.ws_url, server.http_url)
    assert "HTTP 500" in trouble(results)[Step.SIGN_IN]
    assert results[Step.SIGN_IN].finding.advice.endswith("or use --api-key (v3.0).")
    assert outcomes(results, *AT_THE_SERVER, Step.DELETION) == [*[NOT_TRIED] * 3, SKIPPED]


async def test_sign_in_that_gives_no_token(nursery: trio.Nursery) -> None:
    """A 200 without an identity in it may have left one, whose name is not known."""
    server: DevServer = await nursery.start(serve)
    server.fail_http("/anonymous-signin", 200, {"username": "u"})
    results = await examined(server.ws_url, server.http_url)
    assert trouble(results) == {
        Step.SIGN_IN: "HTTP 200, but no username and id_token in it",
        Step.DELETION: "1 sign-in without an answer may have left an identity",
    }


async def test_room(nursery: trio.Nursery) -> None:
    """A refused room: the identity that was signed in for it is deleted."""
    server: DevServer = await nursery.start(serve)
    server.fail_http("/create-room", 422, {"detail": "no token"})
    server.fail_http("/create-room", 500, "no", "text/plain")
    results = await examined(server.ws_url, server.http_url)
    assert trouble(results) == {Step.ROOM: "HTTP 500: no"}
    assert results[Step.ROOM].finding.advice.endswith("or join one with --room and --token.")
    assert outcomes(results, Step.DELETION) == [OK]
    assert nothing_left(server)


async def test_upgrade_is_garbage(nursery: trio.Nursery) -> None:
    """What is no WebSocket server is named, and the identity is deleted."""
    server: DevServer = await nursery.start(serve)

    async def garbage(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"\x15\x03\x03 no HTTP at all\r\n\r\n")
        await peer.end()

    async with serving(garbage) as port:
        results = await examined(f"ws://127.0.0.1:{port}", server.http_url)
    assert trouble(results) == {Step.UPGRADE: "no WebSocket server there (the answer is no WebSocket handshake)"}
    assert nothing_left(server)


async def test_registration_without_an_answer(nursery: trio.Nursery) -> None:
    """A register that nobody answers is given up in time; the room that is left behind is told, not hidden."""
    server: DevServer = await nursery.start(serve)
    server.mute()
    results = await examined(server.ws_url, server.http_url, within=0.5)
    assert trouble(results)[Step.REGISTRATION] == "not done in 0.5 s"
    assert "a room may stay until its time is over" in trouble(results)[Step.DELETION]
    assert server.rooms.users == {}


async def test_registration_whose_answer_is_lost(nursery: trio.Nursery) -> None:
    """A register that has taken effect all the same lets the room be deleted."""
    server: DevServer = await nursery.start(serve)
    server.mute(handling=True)
    results = await examined(server.ws_url, server.http_url, within=0.5)
    assert list(trouble(results)) == [Step.REGISTRATION]
    assert nothing_left(server)


async def test_room_whose_answer_is_lost(nursery: trio.Nursery) -> None:
    """A room that may have come into being is told."""
    server: DevServer = await nursery.start(serve)
    results: dict[Step, Result] = {}

    def tell(result: Result) -> None:
        results[result.step] = result
        if result.step is Step.UPGRADE:
            server.hang_http("/create-room")

    with trio.fail_after(PATIENCE):
        await examine(Config(server.ws_url, server.http_url), tell, within=1.0)
    assert list(trouble(results)) == [Step.ROOM, Step.DELETION]
    assert "a room may stay until its time is over" in trouble(results)[Step.DELETION]
    assert server.rooms.users == {}


async def test_socket_that_ends(nursery: trio.Nursery) -> None:
    """A socket that ends under the registration is a failure like others."""
    server: DevServer = await nursery.start(serve)

    async def closing(peer: Peer) -> None:
        await peer.upgrade()
        await peer.frame()
        await peer.reset()

    async with serving(closing) as port:
        results = await examined(f"ws://127.0.0.1:{port}", server.http_url)
    assert trouble(results)[Step.REGISTRATION].startswith("closed with 1006")
    assert server.rooms.users == {}


async def test_server_that_repeats_a_secret(nursery: trio.Nursery) -> None:
    """A refusal is told without the token that it repeats."""
    server: DevServer = await nursery.start(serve)

    async def indiscreet(peer: Peer) -> None:
        await peer.upgrade()
        await peer.frame()
        await peer.send(frame(TEXT, b'{"type": "error", "reason": "no room for s3cret"}'))
        await peer.end()

    async with serving(indiscreet) as port:
        results = await examined(f"ws://127.0.0.1:{port}", server.http_url, room_id="r", room_token="s3cret")
    assert trouble(results) == {Step.REGISTRATION: "refused: no room for [secret]"}


def someone_elses_room(server: DevServer) -> tuple[str, str]:
    """A room and its token; its owner is not in it just now."""
    signed_in = server.rooms.sign_in(server.clock()).body
    assert isinstance(signed_in, dict)
    room = server.rooms.create_room(f"Bearer {signed_in['id_token']}", server.clock()).body
    assert isinstance(room, dict)
    return str(room["room_id"]), str(room["token"])


async def test_wrong_room_token(nursery: trio.Nursery) -> None:
    """A wrong room token is named, without what it is."""
    server: DevServer = await nursery.start(serve)
    room_id, _ = someone_elses_room(server)
    results = await examined(server.ws_url, server.http_url, room_id=room_id, room_token="s3cret")
    assert trouble(results) == {Step.REGISTRATION: "refused: wrong room token"}
    assert results[Step.REGISTRATION].finding.advice.startswith("Check --room and --token")
    assert "s3cret" not in str(results)
    assert len(server.rooms.users) == 1


async def test_g01_a_server_that_does_not_close(nursery: trio.Nursery) -> None:
    """Whom the server may still list is not deleted in somebody else's room, and that is told."""
    server: DevServer = await nursery.start(serve)
    room_id, token = someone_elses_room(server)
    owner = set(server.rooms.users)

    async def freeze() -> None:
        await server.until(lambda: any(frame["type"] == "discover_peers" for _, frame in server.frames))
        for peer_id in set(server.rooms.users) - owner:
            server.freeze(peer_id)

    nursery.start_soon(freeze)
    results = await examined(server.ws_url, server.http_url, within=2.0, room_id=room_id, room_token=token)
    assert "the server may still list it" in trouble(results)[Step.DELETION]
    assert room_id in server.rooms.rooms
    assert len(server.rooms.users) == 3


async def test_a_given_room_stays(nursery: trio.Nursery) -> None:
    """Somebody else's room is there afterwards as it was before, also when nobody else was in it."""
    server: DevServer = await nursery.start(serve)
    room_id, token = someone_elses_room(server)
    results = await examined(server.ws_url, server.http_url, room_id=room_id, room_token=token)
    assert trouble(results) == {}
    assert outcomes(results, Step.ROOM, Step.DISCOVERY, Step.DELETION) == [SKIPPED, OK, OK]
    assert list(server.rooms.rooms) == [room_id]
    assert len(server.rooms.users) == 1
    assert not server.rooms.peers(room_id)


async def test_api_key(nursery: trio.Nursery) -> None:
    """With an API key nobody signs in, and discovery works all the same."""
    server: DevServer = await nursery.start(partial(serve, generation="v3"))
    key = next(key for key, about in RECORDED_API_KEYS.items() if about.refusal(server.clock()) is None)
    results = await examined(server.ws_url, server.http_url, api_key=key)
    assert trouble(results) == {}
    assert outcomes(results, Step.SIGN_IN, *AT_THE_SERVER, Step.DELETION) == [SKIPPED, SKIPPED, OK, OK, SKIPPED]
    assert server.rooms.users == {}


async def test_unknown_api_key(nursery: trio.Nursery) -> None:
    """An API key that the server does not know is named, and not repeated."""
    server: DevServer = await nursery.start(partial(serve, generation="v3"))
    results = await examined(server.ws_url, server.http_url, api_key="slp_s3cret")
    assert trouble(results) == {Step.REGISTRATION: "refused: Invalid API key"}
    assert "s3cret" not in str(results)


class Hiding(Rooms):
    """Accepts registrations and shows them to nobody."""

    def receive(self, connection, text, now):  # type: ignore[no-untyped-def]
        effects = super().receive(connection, text, now)
        for effect in effects:
            message = getattr(effect, "message", {})
            if message.get("type") == "peer_list":
                message.update(peers=[], count=0)
        return effects


async def test_not_discoverable(nursery: trio.Nursery) -> None:
    """A registration that no search shows is a failure, which the worker alone could not see."""
    server: DevServer = await nursery.start(partial(serve, rooms=Hiding(random=Random(1))))
    results = await examined(server.ws_url, server.http_url)
    assert trouble(results) == {Step.DISCOVERY: "the search found 0 workers, and not this one"}
    assert nothing_left(server)


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (lambda server: server.fail_http("/anonymous-signin", 500, "no", "text/plain"), "HTTP 500: no"),
        (lambda server: server.refuse_upgrades(503), "sent away for now (HTTP 503)"),
        (lambda server: server.rooms.fail_store(), "refused: DynamoDB error"),
    ],
)
async def test_second_identity(nursery: trio.Nursery, spoil: Callable[[DevServer], None], detail: str) -> None:
    """What the second identity meets is told as its trouble, and both are deleted."""
    server: DevServer = await nursery.start(serve)
    results: dict[Step, Result] = {}

    def tell(result: Result) -> None:
        results[result.step] = result
        if result.step is Step.REGISTRATION:
            spoil(server)

    with trio.fail_after(PATIENCE):
        await examine(Config(server.ws_url, server.http_url), tell)
    assert trouble(results) == {Step.DISCOVERY: f"the second identity: {detail}"}
    assert nothing_left(server)


async def test_deletion(nursery: trio.Nursery) -> None:
    """An identity that could not be deleted is named."""
    server: DevServer = await nursery.start(serve)
    server.fail_http("/delete-peer", 500, "no", "text/plain")
    results = await examined(server.ws_url, server.http_url)
    (left,) = server.rooms.users
    assert trouble(results) == {Step.DELETION: f"{left}: HTTP 500: no"}


@pytest.mark.parametrize("last", [Step.HTTP, Step.SIGN_IN, Step.UPGRADE, Step.ROOM, Step.REGISTRATION, Step.DISCOVERY])
async def test_interrupted(nursery: trio.Nursery, last: Step) -> None:
    """Whoever goes in the middle gets the rest told as not tried, and leaves nothing behind."""
    server: DevServer = await nursery.start(serve)
    leaving = trio.CancelScope()
    results: list[Result] = []

    def tell(result: Result) -> None:
        results.append(result)
        if result.step is last:
            leaving.cancel()

    with trio.fail_after(PATIENCE), leaving:
        await examine(Config(server.ws_url, server.http_url), tell)
    assert leaving.cancelled_caught
    assert [result.step for result in results] == list(Step)[1:]
    assert results[-1].finding.outcome is OK or last is Step.HTTP
    if last in (Step.SIGN_IN, Step.REGISTRATION):
        assert results[-1].finding.detail.startswith("1 identity; ")  # nobody else was signed in any more
    assert nothing_left(server)


@pytest.mark.parametrize("path", ["/anonymous-signin", "/create-room"])
@pytest.mark.parametrize("before", [Step.SIGN_IN, Step.DISCOVERY])
async def test_interrupted_while_something_comes_into_being(nursery: trio.Nursery, path: str, before: Step) -> None:
    """An identity or a room whose answer is under way when the person goes is waited for, and deleted."""
    server: DevServer = await nursery.start(serve)
    leaving = trio.CancelScope()
    at = list(Step)[list(Step).index(before) - 1]
    if path == "/create-room":
        at = Step.UPGRADE

    async def leave() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        leaving.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        server.release_http()

    def tell(result: Result) -> None:
        if result.step is at:
            server.hang_http(path)
            nursery.start_soon(leave)

    with trio.fail_after(PATIENCE), leaving:
        await examine(Config(server.ws_url, server.http_url), tell)
    assert leaving.cancelled_caught
    assert nothing_left(server)


async def test_listener_that_fails(nursery: trio.Nursery) -> None:
    """Whoever is told may fail: what was created is deleted all the same."""
    server: DevServer = await nursery.start(serve)

    def tell(result: Result) -> None:
        if result.step in (Step.REGISTRATION, Step.DELETION):
            raise RuntimeError("nobody listens")

    with trio.fail_after(PATIENCE), pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        await examine(Config(server.ws_url, server.http_url), tell)
    assert nothing_left(server)


async def test_interrupted_and_the_server_hangs(nursery: trio.Nursery) -> None:
    """A sign-in that is not answered even then is not waited for long; that it may have left something is told."""
    server: DevServer = await nursery.start(serve)
    leaving = trio.CancelScope()
    results: dict[Step, Result] = {}

    async def leave() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        leaving.cancel()

    def tell(result: Result) -> None:
        results[result.step] = result
        if result.step is Step.HTTP:
            server.hang_http("/anonymous-signin")
            nursery.start_soon(leave)

    began = trio.current_time()
    with trio.fail_after(PATIENCE), leaving:
        await examine(Config(server.ws_url, server.http_url), tell)
    assert trio.current_time() - began < 8.0  # without the shorter wait it would be ten
    assert trouble(results) == {Step.DELETION: "1 sign-in without an answer may have left an identity"}
