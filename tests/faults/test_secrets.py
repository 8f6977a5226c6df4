"""No token, API key or session string stands in a log record, a `repr` or an error, however noisy the life was."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.support.right import assert_right, name_of
from tests.support.worlds import World, scenario
from worker_state import Disconnected, Manager, StartupFailed, Timing
from worker_state.devserver.identities import ApiKey

KEY = "slp_kept_to_oneself"


class Said:
    """Everything that anybody could read, and what must not be in it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._texts: list[str] = []
        self._secrets: set[str] = set()

    async def watch(self, manager: Manager) -> None:
        """Every snapshot, as it is shown."""
        async for state in manager.states:
            self._texts += [repr(manager), repr(state), str(state), f"{manager.states!r}{manager.signals!r}"]
            if manager.session_string is not None:
                self._secrets.add(manager.session_string.removeprefix("sleap-session:"))

    @contextmanager
    def raised(self, *kinds: type[Exception]) -> Iterator[None]:
        """The error that is expected here, as it is shown."""
        with pytest.raises(kinds) as caught:
            yield
        self._texts += [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]

    def check(self) -> None:
        for frame in self._world.frames("register"):
            self._secrets |= {frame[name] for name in ("id_token", "token", "api_key") if name in frame}
        for record in self._world.log.records:
            self._texts += [record.getMessage(), repr(record.args), logging.Formatter().format(record)]
            self._texts.append(repr(record.__dict__))
        said = "\n".join(self._texts)
        assert len(said) > 1000
        assert self._secrets
        for secret in self._secrets:
            assert secret not in said
            for part in secret.split(".") if secret.count(".") == 2 else ():
                assert part not in said


@scenario(faster=10, token_life=6.0)
async def test_noisy_life(world: World) -> None:
    """A whole noisy life, at the most talkative level, says no secret, nor do its snapshots and its errors."""
    said = Said(world)
    timing = Timing(register=3.0, answer=2.0, exit=2.0)
    manager = await world.start(show_session_string=False, timing=timing)
    world.nursery.start_soon(said.watch, manager)
    await manager.synced()
    room = world.rooms.rooms[manager.state.room_id or ""]
    (register,) = world.sent("register")

    # The server repeats what it was told, in every shape and place.
    for text in (
        json.dumps({"type": "error", "code": "INTERNAL", "message": register["id_token"]}),
        json.dumps({"type": "error", "reason": [register["id_token"], room.token]}),
        json.dumps({**register, "type": "registered_auth", "peer_id": [], "token": room.token}),
        json.dumps({**register, "type": "metadata_updated", "metadata": room.token}),
        json.dumps({"type": "ping", "token": room.token}),
        json.dumps({"type": register["id_token"]}),
        register["id_token"],
        f"[{room.token!r}",
        room.token.encode() if room.token else b"",
    ):
        await world.deliver(manager, text)
    await assert_right(world, manager)

    with said.raised(ValueError):
        await manager.send_signal({"type": "register", "token": room.token, "id_token": register["id_token"]})
    with said.raised(ValueError):
        await manager.send_signal({"token": room.token})
    with said.raised(TypeError):
        await manager.send_signal({"type": "offer", "token": room.token, "not JSON": object()})
    world.go_down()
    await world.until(lambda: not manager.state.connected)
    with said.raised(Disconnected):
        await manager.send_signal({"type": "offer", "token": room.token})
    world.fail_http("/anonymous-signin", 500, b"out of tokens")
    await trio.sleep(7.0)  # the ID token is over: it is refused, renewed in vain, and renewed; then the room
    world.rooms._registry.rows.pop(room.room_id)
    world.come_back()
    await assert_right(world, manager, within=60)
    await world.stop(manager)
    said.check()


@scenario
async def test_refusal_that_repeats_our_secrets(world: World) -> None:
    """A refusal that repeats what was sent, asked for or not, is shown without that."""
    said = Said(world)
    manager = await world.start(show_session_string=False)
    world.nursery.start_soon(said.watch, manager)
    await manager.synced()
    (register,) = world.sent("register")
    words = f"no {register['id_token']} in {register['token']}"
    await world.deliver(manager, json.dumps({"error": words}))
    world.server.hold_registers(1)
    manager.reregister()
    await world.until(lambda: world.server.held_registers == 1)
    await world.deliver(manager, json.dumps({"type": "error", "reason": words}))
    await world.until(lambda: manager.state.trouble is not None)
    await world.stop(manager)
    said.check()


@scenario
async def test_failed_starts(world: World) -> None:
    """A start that fails, for whatever reason, says no secret."""
    said = Said(world)
    host = await world.start(show_session_string=False)
    (register,) = world.sent("register")
    for path in ("/anonymous-signin", "/create-room"):
        world.fail_http(path, 401, b'{"detail": "Token verification failed: Signature has expired."}')
        with said.raised(StartupFailed):
            await world.start()
    wrong = "-".join(("n0t", "the", "t0ken"))  # the source line stands in the traceback
    with said.raised(StartupFailed):
        await world.start(room_id=host.state.room_id, room_token=wrong)
    with said.raised(StartupFailed):
        await world.start(room_id="nowhere", room_token=register["token"])
    await world.stop(host)
    said.check()


@scenario(generation="v3", api_keys={KEY: ApiKey("0badcafe"), "slp_another_of_the_room": ApiKey("0badcafe")})
async def test_api_keys(world: World) -> None:
    """Neither our API key nor another worker's, which the server sends us, is said anywhere."""
    said = Said(world)
    other = await world.start(api_key="slp_another_of_the_room")
    manager = await world.start(api_key=KEY)
    world.nursery.start_soon(said.watch, manager)
    await manager.synced()
    manager.set_busy("job-1")
    await manager.synced()
    await assert_right_by_key(world, manager, other)
    keys = world.rooms._identities.api_keys
    assert isinstance(keys, dict)
    keys[KEY] = ApiKey("0badcafe", revoked=True)
    world.cut()
    await world.until(lambda: world.logged(logging.ERROR, "registration refused: Token revoked"))
    with said.raised(StartupFailed):
        await world.start(api_key=KEY)
    await world.stop(manager)
    await world.stop(other)
    said.check()


async def assert_right_by_key(world: World, manager: Manager, other: Manager) -> None:
    """What a session string does for others: here another worker of the room is the client."""
    await other.send_signal(
        {
            "type": "peer_message",
            "from_peer_id": name_of(other),
            "to_peer_id": name_of(manager),
            "payload": {"hello": 1},
        }
    )
    message = await manager.signals.receive()
    assert message["payload"] == {"hello": 1}
    assert manager.session_string is None


@scenario
async def test_session_string_only_where_it_is_wanted(world: World) -> None:
    """The session string stands in the one line at the start that may show it, and nowhere else."""
    manager = await world.start()
    await manager.synced()
    string = manager.session_string
    assert string is not None
    world.cut()
    await world.until(lambda: manager.state.epoch == 2)
    await manager.synced()
    await world.stop(manager)
    assert len([line for line in world.log.messages if string in line]) == 1
    assert string not in repr(manager) + repr(manager.state)


@scenario
async def test_every_frame_is_shown(world: World) -> None:
    """At DEBUG each frame that is sent or received is a line, without tokens and session descriptions in it."""
    manager = await world.start()
    async with world.client(manager) as client:
        ids = {"sender": client.peer_id, "target": manager.state.peer_id}
        await client.send({"type": "offer", **ids, "sdp": "a=ice-pwd:hidden", "status": "x"})
        await manager.signals.receive()
    (sent,) = world.logged(logging.DEBUG, "sent", '"register"')
    assert '"id_token": "[hidden]"' in sent
    assert '"status": "available"' in sent
    assert world.logged(logging.DEBUG, "received", '"registered_auth"', '"token": "[hidden]"')
    (offer,) = world.logged(logging.DEBUG, "received", '"offer"')
    assert f'"sender": "{client.peer_id}"' in offer
    assert "ice-pwd" not in offer
    await world.deliver(manager, "no JSON")
    await world.until(lambda: world.logged(logging.DEBUG, "received 7 characters that are no message"))
