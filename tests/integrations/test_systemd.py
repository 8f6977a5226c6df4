"""What systemd is told, read from a real datagram socket as systemd would."""

import logging
import math
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.protocol.test_state import ONLINE, OPENED, PROVED, after
from tests.support.showing import showing
from worker_state import Config, State, notify_systemd, open_state_manager
from worker_state.devserver import serve
from worker_state.integrations.systemd import LOOK_EVERY, watchdog_beat
from worker_state.protocol import events as m
from worker_state.protocol.status import Busy, Maintenance
from worker_state.watched import Watched

PID = os.getpid()


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, ear: socket.socket) -> None:
        self._ear = ear
        ear.setblocking(False)

    def heard(self) -> list[str]:
        """The lines of all messages since the last look."""
        lines: list[str] = []
        while True:
            try:
                lines += self._ear.recv(65536).decode().split("\n")
            except BlockingIOError:
                return lines

    async def until(self, line: str) -> list[str]:
        """Everything up to the message with this line."""
        lines: list[str] = []
        with trio.fail_after(30):
            while line not in lines:
                await trio.sleep(0.01)
                lines += self.heard()
        return lines


@contextmanager
def bound(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0" + name[1:] if name.startswith("@") else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield Systemd(ear)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    with bound(str(tmp_path / "notify"), monkeypatch) as ear:
        yield ear


@asynccontextmanager
async def notifying(states: Watched[State]) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notify_systemd, showing(states))
        await trio.testing.wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def changed(states: Watched[State], *notes: m.Event) -> None:
    states.set(after(*notes, state=states.value, now=trio.current_time()))
    await trio.testing.wait_all_tasks_blocked()


async def test_a_life(systemd: Systemd, autojump_clock: object) -> None:
    """Ready once, when the server has confirmed; a status line whenever it changes; stopping at the end."""
    states = Watched(State())
    async with notifying(states):
        assert systemd.heard() == ["STATUS=available, not registered: starting"]
        await changed(states, OPENED)
        assert systemd.heard() == ["STATUS=available, not registered: registering"]
        await changed(states, *ONLINE)
        assert systemd.heard() == ["READY=1", "STATUS=available, registered, and no echo has proved it yet"]
        await changed(states, m.PresenceProved(1, trio.current_time()), m.StatusConfirmed(0, trio.current_time()))
        assert systemd.heard() == ["STATUS=available, discoverable"]
        await changed(states, m.SignalDropped())
        assert systemd.heard() == []
        await changed(states, m.RegistrationLost(1, "it forgot\nREADY=0"))
        assert systemd.heard() == [r"STATUS=available, not registered: it forgot\nREADY=0"]
        await changed(states, m.ChangeStatus(1, Busy("j")), *ONLINE)
        assert systemd.heard() == ["STATUS=busy (job j), the server has not confirmed the status busy"]
    assert systemd.heard() == ["STOPPING=1"]


async def test_an_overdue_proof_is_seen(systemd: Systemd, autojump_clock: object) -> None:
    """Nothing happens when a proof stays away, and it is told all the same."""
    states = Watched(after(*PROVED))
    async with notifying(states):
        assert "STATUS=available, discoverable" in systemd.heard()
        await trio.sleep(60 + LOOK_EVERY)
        assert systemd.heard() == ["STATUS=available, registered, and the next proof of it is overdue"]


async def test_watchdog(systemd: Systemd, autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice in each period a sign of life, from the beginning, and not more often when there is other news."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", str(PID))
    states = Watched(after(*PROVED))
    async with notifying(states):
        lines = systemd.heard()
        for revision in range(1, 20):
            await changed(states, m.ChangeStatus(revision, Maintenance() if revision % 2 else Busy("j")))
            await trio.sleep(0.5)
            lines += systemd.heard()  # the kernel keeps ten of them
    assert lines.count("WATCHDOG=1") == 10  # in 9.5 s
    assert len([line for line in lines if line.startswith("STATUS=")]) == 20


@pytest.mark.parametrize(
    ("usec", "pid", "beat"),
    [
        ("30000000", None, 15.0),
        ("30000000", "", 15.0),
        ("30000000", "17", 15.0),
        ("30000000", "18", math.inf),
        (None, None, math.inf),
        ("0", None, math.inf),
        ("-1", None, math.inf),
        ("soon", None, math.inf),
        ("9" * 5000, None, math.inf),
    ],
)
def test_watchdog_beat(usec: str | None, pid: str | None, beat: float) -> None:
    """Half of what is waited for, and nothing when another process is meant or nobody understands it."""
    assert watchdog_beat(usec, pid, 17) == beat


async def test_abstract_socket(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    """A name that begins with "@" is an abstract socket's."""
    with bound(f"@worker-state-test-{PID}", monkeypatch) as systemd:
        async with notifying(Watched(after(*ONLINE))):
            assert "READY=1" in systemd.heard()


async def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody asks for it, it ends at once."""
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        else:
            monkeypatch.setenv("NOTIFY_SOCKET", value)
        with trio.fail_after(30):
            await notify_systemd(showing(Watched(State())))


@pytest.mark.parametrize("address", ["nothing-is-there", "vsock:2:1234", "x" * 500, "a\udcffb"])
async def test_nobody_listens(
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: object,
    tmp_path: Path,
) -> None:
    """A socket that is not there is logged once and never raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    states = Watched(State())
    async with notifying(states):
        await changed(states, *PROVED)
        await trio.sleep(100)
    assert [record.levelno for record in caplog.records if record.name == "worker_state.systemd"] == [logging.WARNING]


async def test_a_full_queue(systemd: Systemd, autojump_clock: object) -> None:
    """While systemd reads nothing, nothing is waited for; READY=1 is said again until it is taken."""
    states = Watched(State())
    async with notifying(states):
        for number in range(10_000):
            await changed(states, m.RegistrationRejected(f"reason {number}"))
            if number > 5 and _is_full(os.environ["NOTIFY_SOCKET"]):
                break
        await changed(states, *PROVED)
        assert "READY=1" not in systemd.heard()
        await trio.sleep(1)
        assert systemd.heard() == ["READY=1", "STATUS=available, discoverable"]


def _is_full(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.setblocking(False)
        try:
            mouth.sendto(b"NOISE=1", address)
        except BlockingIOError:
            return True
    return False


async def test_a_manager_that_has_ended(systemd: Systemd) -> None:
    """With the manager's end this ends too, and says so."""
    states = Watched(after(*PROVED))
    states.close()
    with trio.fail_after(30):
        await notify_systemd(showing(states))
    assert systemd.heard()[-1] == "STOPPING=1"


async def test_a_real_worker(systemd: Systemd, nursery: trio.Nursery) -> None:
    """A worker at a real server: ready, busy, gone."""
    server = await nursery.start(serve)
    async with open_state_manager(Config(server.ws_url, server.http_url)) as manager, trio.open_nursery() as own:
        own.start_soon(notify_systemd, manager)
        assert "READY=1" in await systemd.until("STATUS=available, discoverable")
        manager.set_busy("job-1")
        assert "READY=1" not in await systemd.until("STATUS=busy (job job-1), discoverable")
        own.cancel_scope.cancel()
    assert systemd.heard() == ["STOPPING=1"]


async def test_g34_what_systemd_has_missed_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    """A socket that is not there for some seconds, as when systemd starts anew: READY and STATUS come once it is."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    name = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    async with notifying(Watched(after(*PROVED))):
        await trio.sleep(3)
        with bound(name, monkeypatch) as systemd:
            await trio.sleep(1.5)
            assert systemd.heard() == ["READY=1", "STATUS=available, discoverable"]
            await trio.sleep(4 * LOOK_EVERY)
            assert systemd.heard() == []
    assert len([record for record in caplog.records if record.name == "worker_state.systemd"]) == 1


async def test_g34_a_late_socket_gets_the_watchdog_s_signs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    name = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    async with notifying(Watched(after(*PROVED))):
        await trio.sleep(3)
        with bound(name, monkeypatch) as systemd:
            await trio.sleep(1.5)
            assert "WATCHDOG=1" in systemd.heard()
