"""Whatever a server repeats of what it was told, at whatever moment: no log, state, error or tool shows it (G13)."""

import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from trio.testing import MockClock

from tests.support.leaks import FORMS, PLACES, Heard, Leaky
from tests.support.peers import Peer, close_frame, serving, switching
from tests.support.worlds import given_room
from worker_state import Config, ConfigError, Manager, StartupFailed, Timing, load_config, open_state_manager
from worker_state.cli import doctor, run_worker, watch_room
from worker_state.errors import ObservationFailed
from worker_state.integrations import metrics, readiness
from worker_state.jobs import Job
from worker_state.manager import run_in_world
from worker_state.testing.memory import EPOCH
from worker_state.tools.checks import Result, Step
from worker_state.tools.client import open_client
from worker_state.tools.doctor import examine
from worker_state.tools.observer import open_roster
from worker_state.tools.roster import Roster
from worker_state.world import World, replaced

KEY, QUERIED = "slp_kept_to_oneself", "query-token-1"
LIFE = 80.0  # seconds: tokens live for 60 here, so they are renewed in it
TIMING = Timing(register=20.0, answer=4.0)

leaky_servers = given(place=st.sampled_from(PLACES), form=st.sampled_from(sorted(FORMS)), after=st.integers(0, 2))


def world_of(leaky: Leaky) -> World:
    return World(leaky.dial, leaky, Random(1), nonce=lambda: "0123456789abcdef")


def config(**more: Any) -> Config:
    return Config(f"ws://memory?token={QUERIED}", "http://memory", timing=TIMING, **more)


def run(leaky: Leaky, life: Callable[[Leaky, Heard], Awaitable[None]]) -> None:
    """One life in virtual time. Nothing that it leaves to read has a secret in it."""
    with Heard() as heard:
        trio.run(life, leaky, heard, clock=MockClock(autojump_threshold=0))
    assert heard.texts
    assert heard.leaks(leaky) == []


# --- a worker ---------------------------------------------------------------------------------------------------------


async def worker_life(leaky: Leaky, heard: Heard, **more: Any) -> None:
    async def look(manager: Manager) -> None:
        async for state in manager.states:
            now = trio.current_time()
            account = json.dumps(readiness.account(state, now))
            heard.texts += [f"{manager!r}{state!r}{state}", account, readiness.line(state, now)]
            heard.texts.append(run_worker.doing(state) + run_worker.visible(state))
            if state.session_string is not None:
                leaky.known[state.session_string] = None
        exposed = metrics.exposition(state, manager.counts, now=0.0, lag=0.0, wall_ahead=EPOCH)
        heard.texts.append(f"{exposed}")

    async def listen(manager: Manager) -> None:
        async for message in manager.signals:
            heard.texts.append(str(run_worker.received(message, manager.secrets)))
            if message.get("type") == "offer":
                heard.texts.append(repr(Job(manager, message)))

    def early(manager: Manager) -> None:
        nursery.start_soon(look, manager)
        nursery.start_soon(listen, manager)

    with trio.move_on_after(LIFE):
        async with trio.open_nursery() as nursery:
            try:
                await run_in_world(config(show_session_string=False, **more), world_of(leaky), early=early)
            except* StartupFailed as failed:
                heard.raised(failed)
            nursery.cancel_scope.cancel()


async def patient_worker_life(leaky: Leaky, heard: Heard) -> None:
    await worker_life(leaky, heard, wait_for_server=True)


@pytest.mark.parametrize("place", PLACES)
def test_the_server_is_as_bad_as_it_says(place: str) -> None:
    """Each place is reached in a worker's life, or in a watcher's."""
    leaky = Leaky(place, "plain", 0, QUERIED)
    run(leaky, watcher_life if place.startswith("peer_list") else patient_worker_life)
    assert leaky.said


# --- tools ------------------------------------------------------------------------------------------------------------


def room_of(leaky: Leaky) -> dict[str, str]:
    room = given_room(leaky.server.rooms, leaky.server.now())
    leaky.known[room["room_token"]] = None
    return room


async def watcher_life(leaky: Leaky, heard: Heard) -> None:
    watching = config(**room_of(leaky))
    screen, console = watch_room._Screen(), Console(file=io.StringIO(), width=200)

    def look(roster: Roster) -> None:
        heard.texts += [repr(roster), json.dumps(watch_room.document(roster)), watch_room.summary(roster)]
        with console.capture() as captured:
            console.print(watch_room.view(roster, trio.current_time(), 2.0, 200, 50))
        heard.texts.append(captured.get())

    try:
        with trio.move_on_after(LIFE):
            async with open_roster(watching, world=world_of(leaky)) as rosters:
                screen.line = lambda text, *_: heard.texts.append(text)  # type: ignore[method-assign]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watch_room.print_changes, rosters, screen)
                    async for roster in rosters:
                        look(roster)
    except* ObservationFailed as failed:
        heard.raised(failed)


async def client_life(leaky: Leaky, heard: Heard) -> None:
    room = room_of(leaky)
    try:
        with replaced(lambda _: world_of(leaky)), trio.move_on_after(100):
            async with open_client(config(**room)) as client:
                await client.send({"type": "discover_peers", "from_peer_id": client.peer_id, "filters": {}})
                while True:
                    message = await client.receive()
                    heard.texts.append(client.secrets.shown(str(message.get("message"))))
    except* ObservationFailed as failed:
        heard.raised(failed)


@pytest.mark.parametrize("life", [patient_worker_life, worker_life, watcher_life, client_life])
@leaky_servers
@settings(max_examples=8)
def test_g13_lives(life: Callable[[Leaky, Heard], Awaitable[None]], place: str, form: str, after: int) -> None:
    """A worker, one that fails to start, the watcher of a room and a client of it show nothing of that."""
    run(Leaky(place, form, after, QUERIED), life)


@leaky_servers
@settings(max_examples=8)
def test_g13_doctor(place: str, form: str, after: int) -> None:
    """Nor does the doctor, whichever of its steps meets such a server."""

    async def examination(leaky: Leaky, heard: Heard) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")  # for the steps before the first request
        async with listener:
            port = listener.socket.getsockname()[1]
            addresses = f"ws://127.0.0.1:{port}?token={QUERIED}", f"http://127.0.0.1:{port}"
            await examine(Config(*addresses), lambda result: show(result, heard), world=world_of(leaky))

    def show(result: Result, heard: Heard) -> None:
        heard.texts += [doctor._as_text(result), json.dumps(doctor._as_object(result)), repr(result)]

    leaky = Leaky(place, form, after % 2, QUERIED)
    with Heard() as heard:
        trio.run(examination, leaky, heard, clock=MockClock(rate=20))  # some steps wait in vain for an answer
    assert len(heard.texts) >= 3 * len(Step) - 3
    assert heard.leaks(leaky) == []


TOKENS = {"id_token": "an-id-token-of-somebody", "token": "5e6f70"}
WORDS = "no " + " and ".join([*TOKENS.values(), QUERIED])


async def rude(peer: Peer) -> None:
    """Gives out an identity and a room, and whatever else it says is what it was told."""
    head = (await peer.head()).decode()
    if head.startswith("GET"):
        await peer.send(switching(head.encode()) + close_frame(1008, WORDS))
    elif "/anonymous-signin" in head or ("/create-room" in head and "authorization" in head.lower()):
        body = json.dumps({"username": "u", "room_id": "r", **TOKENS}).encode()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    else:
        body, status = WORDS.encode(), b"500" if "/delete-peer" in head else b"422"
        await peer.send(b"HTTP/1.1 " + status + b" %s\r\nContent-Length: %d\r\n\r\n%s" % (body, len(body), body))
    await peer.end()


@pytest.mark.parametrize("tool", ["worker", "watch", "doctor"])
async def test_g13_over_real_sockets(tool: str) -> None:
    """A link that is closed before its `register`, and deletions that fail, show no secret."""
    with Heard() as heard:
        async with serving(rude) as port:
            addresses = f"ws://127.0.0.1:{port}?token={QUERIED}", f"http://127.0.0.1:{port}"
            try:
                if tool == "worker":
                    async with open_state_manager(Config(*addresses)):
                        raise AssertionError("it cannot start")
                elif tool == "watch":
                    async with open_roster(Config(*addresses, room_id="r", room_token=TOKENS["token"])):
                        raise AssertionError("there is nothing to see")
                else:
                    await examine(Config(*addresses), lambda result: heard.texts.append(repr(result)))
            except* (StartupFailed, ObservationFailed) as failed:
                heard.raised(failed)
    said = "\n".join(heard.texts)
    assert "no [secret] and [secret] and [secret]" in said
    assert not any(each in said for each in (*TOKENS.values(), QUERIED))


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"websocket_url": KEY},
        {"http_url": f"{KEY}://server"},
        {"websocket_url": "5e6f70"},
        {"http_url": "5e6f70:8080"},
        {"room_id": f"room-{KEY}", "api_key": KEY},
        {"peer_id": KEY, "api_key": KEY},
        {"room_id": "5e6f70", "room_token": "5e6f70"},
        {"room_id": "r", "room_token": "5e6f70", "peer_id": "worker-5e6f70"},
    ],
)
def test_g13_configuration(fields: dict[str, str]) -> None:
    """A secret in a wrong place of the configuration is refused in a sentence that does not repeat it."""
    with pytest.raises(ConfigError) as caught:
        Config(**{"websocket_url": "ws://h", "http_url": "http://h", **fields})  # type: ignore[arg-type]
    assert KEY not in str(caught.value)
    assert "5e6f70" not in str(caught.value)


def test_g13_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor does what is said of a variable or a file with a key in a wrong place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SLEAP_RTC_ENV", KEY)
    with pytest.raises(ConfigError, match=r"environment '\[secret\]'"):
        load_config()
    Path("sleap-rtc.toml").write_text(f"[worker_state]\n{KEY} = 1", "utf-8")
    with Heard() as heard:
        load_config(websocket_url="ws://h", http_url="http://h")
    assert "[secret]" in "".join(heard.texts)
    assert KEY not in "".join(heard.texts)
