"""What the catalogue does not name, and a review found: each was seen to fail before it was mended."""

import json
import logging
import math
import signal
import subprocess
import time
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.support.fake import FakeSocket
from tests.support.processes import PROGRAM, Server, environment, spawning
from tests.support.right import name_of, stays
from tests.support.worlds import FakeWorld, World, scenario
from worker_state import Config, SignInFailed, Timing
from worker_state.actors.connection import ConnectionActor
from worker_state.actors.runner import Inbox
from worker_state.devserver.identities import ApiKey
from worker_state.net.dial import Dial
from worker_state.protocol import events as m
from worker_state.protocol.error_policy import Closed
from worker_state.protocol.reconnect import Deadlines, ReconnectPolicy
from worker_state.redact import Secrets

Frame = dict[str, Any]


@scenario
async def test_a_start_that_fails_with_a_limit_for_reservations(world: World) -> None:
    """What watches over reservations does not keep a worker that could not start."""
    world.fail_http("/anonymous-signin", 500, b"no")
    with trio.fail_after(10), pytest.raises(SignInFailed):
        await world.start(reservation_limit=60.0)


def test_an_api_key_that_is_answered_as_if_it_were_an_id_token(caplog: pytest.LogCaptureFixture) -> None:
    """There is no identity to renew: it is tried again slowly, however long that lasts, and found again afterwards."""

    @scenario(only="fake", generation="v3", api_keys={"slp_x": ApiKey("0badcafe")})  # minutes
    async def answered(world: World) -> None:
        assert isinstance(world, FakeWorld)
        manager = await world.start(api_key="slp_x")
        await manager.synced()

        def refuse(socket: FakeSocket, frame: Frame) -> Frame | None:
            return {"error": "Invalid token"} if frame["type"] == "register" else None

        world.server.answer_instead = refuse
        manager.reregister()
        await trio.sleep(300)
        assert 5 <= len(world.sent("register")) <= 30
        world.server.answer_instead = lambda socket, frame: None
        with trio.fail_after(60):
            await manager.synced()

    answered("fake", caplog)


@scenario(only="fake")  # minutes
async def test_a_new_status_does_not_wait_behind_the_repairs(world: World) -> None:
    """A server that does not keep one capability is met with pauses, and yet is told at once what is true."""
    assert isinstance(world, FakeWorld)
    receive = world.server.receive

    def receive_less(socket: FakeSocket, text: str) -> None:
        frame = json.loads(text)
        frame.get("metadata", {}).get("properties", {}).pop("gpu_model", None)
        receive(socket, json.dumps(frame))

    world.server.receive = receive_less  # type: ignore[method-assign]
    manager = await world.start()
    await trio.sleep(600)
    for number in range(20):
        manager.set_busy(f"job-{number}")
        await trio.sleep(1)
        assert f"job-{number}" in world.shown(manager)
        await trio.sleep(6)


@scenario(only="fake")  # minutes
async def test_echoes_that_were_refused_for_a_while(world: World) -> None:
    """A server in trouble is not taken for one without messages to oneself for ever: one in a while is tried."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    await trio.sleep(65)

    def limit(socket: FakeSocket, frame: Frame) -> Frame | None:
        slow_down = {"type": "error", "code": "RATE_LIMITED", "message": "slow down"}
        return slow_down if frame["type"] == "peer_message" else None

    world.server.answer_instead = limit
    await trio.sleep(90)
    assert world.logged(logging.WARNING, "refuses messages to oneself")
    world.server.answer_instead = lambda socket, frame: None
    await trio.sleep(180)
    assert len(world.logged(logging.INFO, "hands on messages to oneself again")) == 1
    before = len(world.sent("peer_message"))
    await trio.sleep(120)
    assert len(world.sent("peer_message")) >= before + 4
    # Somebody registers as us, which only an echo can tell (faults.md, F06).
    thief = FakeSocket(world.server)
    world.server.sockets.append(thief)
    world.server.receive(thief, json.dumps(world.sent("register")[-1]))
    await trio.sleep(60)
    mine = world.rooms.peer(name_of(manager))
    assert mine is not None
    assert mine.connection is not thief


@scenario(only="fake")  # hours
async def test_a_move_whose_register_is_swallowed(world: World) -> None:
    """Two hours after the start, a move whose `register` is swallowed costs seconds, not the patience of a storm."""
    assert isinstance(world, FakeWorld)
    world.refuse()

    async def come_back() -> None:
        await trio.sleep(3)
        world.come_back()

    world.nursery.start_soon(come_back)
    manager = await world.start(wait_for_server=True)
    await manager.synced()
    epoch = manager.state.epoch
    await trio.sleep(6000)
    swallowed: list[Frame] = []

    def swallow_one(socket: FakeSocket, frame: Frame) -> Frame | None:
        if frame["type"] == "register" and not swallowed:
            swallowed.append(frame)
            return {}
        return None

    world.server.answer_instead = swallow_one
    while not swallowed:
        await trio.sleep(1)
    with trio.fail_after(20):
        await manager.synced()
    assert manager.state.epoch > epoch


@scenario(only="fake")  # two hours
async def test_a_refused_register_does_not_make_the_move_impolite(world: World) -> None:
    """Refused is answered: the room is left with a closing handshake (faults.md, F30, F31)."""
    assert isinstance(world, FakeWorld)
    left = 1

    def refuse_once(socket: FakeSocket, frame: Frame) -> Frame | None:
        nonlocal left
        if frame["type"] == "register" and left:
            left -= 1
            return {"type": "error", "reason": "DynamoDB error"}
        return None

    world.server.answer_instead = refuse_once
    manager = await world.start()
    await manager.synced()
    assert len(world.sent("register")) == 2
    while manager.state.epoch == 1:
        await trio.sleep(60)
    assert len(world.server.closes) == 1


class Quiet:
    """A socket over which nothing comes but pongs, as long as somebody is there."""

    heard_at = 0.0
    in_message = False

    def __init__(self, dies_at: float) -> None:
        self._dies_at = dies_at
        self.pings: list[float] = []

    async def send(self, text: str) -> Closed | None:
        raise NotImplementedError

    async def receive(self) -> str:
        await trio.sleep_forever()
        raise AssertionError

    async def ping(self) -> None:
        self.pings.append(trio.current_time())
        await trio.sleep(0.1 if trio.current_time() < self._dies_at else math.inf)
        self.heard_at = trio.current_time()

    async def close(self) -> None:
        raise NotImplementedError

    async def abort(self) -> None:
        pass


async def run_connection(inbox: Inbox, dial: Dial, timing: Timing, publish: m.Publish) -> None:
    """The connection actor alone."""
    policy, config = ReconnectPolicy(Random(1)), Config("ws://fake", "http://fake", timing=timing, wait_for_server=True)
    actor = ConnectionActor(dial, policy, config, Secrets(), publish=publish, is_stale=lambda event: False)
    await actor.run(inbox)


async def test_a_link_that_dies_after_a_pong(autojump_clock: MockClock) -> None:
    """Pings come `ping_every` after each sign of life, and death is noticed `ping_every + silence` after the last."""
    timing, socket = Timing(), Quiet(dies_at=100.0)
    inbox, receive = trio.open_memory_channel[m.Event](math.inf)
    lost_at: list[float] = []

    async def dial(deadlines: Deadlines, nursery: trio.Nursery, kept_answered: object = None) -> Quiet:
        return socket

    def publish(event: m.Event) -> None:
        if isinstance(event, m.LinkLost):
            lost_at.append(trio.current_time())
            inbox.send_nowait(m.StartLeaving())
            inbox.send_nowait(m.CloseLink(0.5))

    inbox.send_nowait(m.StartDialing())
    with trio.fail_after(300):
        await run_connection(receive, dial, timing, publish)
    gaps = [after - before for before, after in zip(socket.pings[:-1], socket.pings[1:], strict=True)]
    assert gaps == pytest.approx([timing.ping_every + 0.1] * len(gaps))
    assert lost_at == [pytest.approx(socket.pings[-2] + 0.1 + timing.ping_every + timing.silence)]


class Stuck(Quiet):
    """A socket that takes nothing, and does not even notice that it is aborted."""

    async def send(self, text: str) -> Closed | None:
        await trio.sleep_forever()
        raise NotImplementedError

    async def close(self) -> None:
        raise AssertionError("the Close frame's turn is behind one that never goes out")


async def test_leaving_behind_a_frame_that_never_goes_out(autojump_clock: MockClock) -> None:
    """The exit waits for the closing handshake as long as it may, and for a writer that is stuck not at all."""
    timing = Timing()
    inbox, receive = trio.open_memory_channel[m.Event](math.inf)

    async def dial(deadlines: Deadlines, nursery: trio.Nursery, kept_answered: object = None) -> Stuck:
        return Stuck(dies_at=100.0)

    def publish(event: m.Event) -> None:
        if isinstance(event, m.LinkOpened):
            inbox.send_nowait(m.SendFrame(1, {"type": "update_metadata"}))
            inbox.send_nowait(m.StartLeaving())
            inbox.send_nowait(m.CloseLink(0.5))
            inbox.send_nowait(m.SendClose(1))

    inbox.send_nowait(m.StartDialing())
    await run_connection(receive, dial, timing, publish)
    assert trio.current_time() == pytest.approx(timing.close)


@scenario(only="fake")  # needs a server that says so
async def test_a_close_reason_that_repeats_secrets(world: World) -> None:
    """The server's last words come into log, snapshot and `repr` without the token that was sent, or anybody's key."""
    assert isinstance(world, FakeWorld)
    manager = await world.start(show_session_string=False)
    await manager.synced()
    token = world.sent("register")[0]["token"]
    world.refuse()
    peer = world.rooms.peer(name_of(manager))
    assert peer is not None
    assert isinstance(peer.connection, FakeSocket)
    peer.connection.end(Closed(1008, f"bad token {token} / slp_abc123"))
    await world.until(lambda: not manager.state.connected)
    assert "bad token [secret] / [secret]" in repr(manager.state)
    told = repr(manager) + repr(manager.state) + "".join(record.getMessage() for record in world.log.records)
    assert token not in told
    assert "slp_abc123" not in told


@scenario(only="fake")  # needs a socket that does not take frames
async def test_a_signal_that_changes_while_it_waits_for_its_turn(world: World) -> None:
    """What was handed over is sent, whatever its owner does with his dictionary afterwards."""
    assert isinstance(world, FakeWorld)
    manager = await world.start()
    await manager.synced()
    world.server.stuck = True
    payload: Frame = {"x": 1}

    async def send(payload: Frame) -> None:
        await manager.send_signal({"type": "offer", "target": "nobody", "payload": payload})

    world.nursery.start_soon(send, {})
    await trio.testing.wait_all_tasks_blocked()  # this one is on its way, and the next has to wait
    world.nursery.start_soon(send, payload)
    await trio.testing.wait_all_tasks_blocked()
    payload["x"] = {1, 2}
    world.server.stuck = False
    await world.until(lambda: len(world.sent("offer")) == 2)
    assert world.sent("offer")[1]["payload"] == {"x": 1}
    await stays(lambda: manager.state.registered, 5)


@scenario
async def test_bounds_that_no_kernel_knows(world: World) -> None:
    """A deadline of a year is a long one, and no reason to fail."""
    manager = await world.start(timing=Timing(unacknowledged=365 * 86400.0))
    await manager.synced()


def test_a_worker_under_nohup_outlives_its_terminal() -> None:
    with spawning() as spawn:
        running = spawn("serve", "--ws-port", "0", "--http-port", "0")
        server = Server(running, *running.addresses())
        command = ["sh", "-c", f"trap '' HUP; exec {PROGRAM} run {' '.join(server.options)} --log-format json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as worker:
            assert worker.stdout is not None
            lines = iter(worker.stdout.readline, b"")
            assert any(b"session string" in line for line in lines)
            worker.send_signal(signal.SIGHUP)
            time.sleep(0.5)  # to leave takes less, if it wants to
            running.process.kill()
            assert any(b"connection_lost" in line for line in lines)
            worker.kill()
