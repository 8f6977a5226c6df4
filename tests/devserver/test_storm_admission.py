"""The storms' admission control: so many a second, on time, in order, and with every slot accounted for."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing

from benchmarks.storm.admission import Limits, Slots, SlottedAdmission, SlottedListener
from worker_state.devserver import DevServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.devserver.conftest import Join
    from worker_state.devserver.sockets import FaultyStream


@dataclass(eq=False)
class FakeStream:
    """A connection, as far as admission looks at it."""

    ended: trio.Event = field(default_factory=trio.Event)


def stream(*, gone: bool = False) -> FaultyStream:
    fake = FakeStream()
    if gone:
        fake.ended.set()
    return cast("FaultyStream", fake)


@dataclass
class FakeListening:
    """A listening socket in whose queue so many wait."""

    waiting: int
    accepted: list[socket.socket] = field(default_factory=list)
    closed: bool = False

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.waiting:
            raise BlockingIOError
        self.waiting -= 1
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.accepted.append(theirs)
        return ours, None

    def close(self) -> None:
        self.closed = True
        for each in self.accepted:
            each.close()


def opened(**limits: Any) -> SlottedAdmission:
    admission = SlottedAdmission(Limits(**limits))
    admission.change(admission.limits)  # the schedule begins now
    return admission


@pytest.fixture
def listening() -> Iterator[FakeListening]:
    fake = FakeListening(waiting=0)
    yield fake
    fake.close()


# --- the schedule -----------------------------------------------------------------------------------------------------


async def test_slots_come_at_the_opening_plus_k_over_the_capacity(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    admission = opened(capacity=4.0)
    times = []
    for _ in range(4):
        await admission.next_slot()
        times.append(trio.current_time() - began)
    assert times == pytest.approx([0.0, 0.25, 0.5, 0.75])
    assert admission.granted == 4


async def test_a_slot_that_is_taken_late_does_not_put_off_the_next_one(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    admission = opened(capacity=4.0)
    await trio.sleep(0.6)
    for _ in range(4):
        await admission.next_slot()
    assert trio.current_time() - began == pytest.approx(0.75)
    assert admission.latest == pytest.approx(0.6)
    assert admission.slots.missed == 0


async def test_slots_that_a_stopped_process_missed_are_not_made_up_for(autojump_clock: trio.testing.MockClock) -> None:
    admission = opened(capacity=4.0)
    await trio.sleep(10.0)
    await admission.next_slot()
    assert admission.slots.missed == 40
    assert admission.latest == 0.0
    now = trio.current_time()
    await admission.next_slot()
    assert trio.current_time() - now == pytest.approx(0.25)


async def test_a_changed_capacity_begins_a_new_schedule(autojump_clock: trio.testing.MockClock) -> None:
    admission = opened(capacity=100.0)
    await admission.next_slot()
    admission.change(Limits(capacity=0.5))
    began = trio.current_time()
    for _ in range(3):
        await admission.next_slot()
    assert trio.current_time() - began == pytest.approx(4.0)


# --- at the accept ----------------------------------------------------------------------------------------------------


async def test_a_client_that_waits_in_the_kernels_backlog_is_accepted_at_a_slot(
    listening: FakeListening, autojump_clock: trio.testing.MockClock
) -> None:
    admission = opened(capacity=2.0)
    listener = SlottedListener(cast("socket.socket", listening), admission)
    listening.waiting = 2
    began = trio.current_time()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(await listener.accept())
    assert trio.current_time() - began == pytest.approx(0.5)
    assert admission.slots == Slots()


async def test_a_slot_that_finds_nobody_is_idle(
    listening: FakeListening, autojump_clock: trio.testing.MockClock
) -> None:
    admission = opened(capacity=2.0)
    listener = SlottedListener(cast("socket.socket", listening), admission)
    with trio.move_on_after(1.75):
        await listener.accept()
    assert admission.slots == Slots(idle=4)
    await listener.aclose()
    assert listening.closed


async def test_a_slot_is_used_when_the_client_registers_and_dead_when_it_goes_before() -> None:
    admission = opened(capacity=100.0)
    await admission.serve(admission.admit, stream())
    assert admission.slots == Slots(used=1)

    async def goes(_: FaultyStream) -> None:
        await trio.lowlevel.checkpoint()

    await admission.serve(goes, stream())
    assert admission.slots == Slots(used=1, dead=1)


async def test_a_register_of_a_client_that_has_gone_is_a_dead_slot() -> None:
    admission = opened(capacity=100.0)
    await admission.serve(admission.admit, stream(gone=True))
    assert admission.slots == Slots(dead=1)


async def test_a_second_register_of_the_same_connection_costs_no_slot() -> None:
    admission = opened(capacity=100.0)

    async def registers_twice(connection: FaultyStream) -> None:
        await admission.admit(connection)
        await admission.admit(connection)

    await admission.serve(registers_twice, stream())
    assert admission.slots == Slots(used=1)


# --- at the registration ----------------------------------------------------------------------------------------------


async def test_registers_are_answered_in_order_one_at_each_slot(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    admission = opened(capacity=2.0, at="register")
    answered: list[tuple[int, float]] = []
    began = trio.current_time()

    async def register(number: int) -> None:
        await admission.admit(stream(gone=number == 1))
        answered.append((number, trio.current_time() - began))

    for number in range(3):
        nursery.start_soon(register, number)
        await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(admission.run)
    await trio.sleep(1.75)
    assert answered == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert admission.slots == Slots(used=2, dead=1, idle=1)
    nursery.cancel_scope.cancel()


async def test_who_finds_no_room_is_refused_until_somebody_has_been_answered_or_has_gone() -> None:
    admission = opened(capacity=2.0, at="register", room=1)
    first = stream()

    async def is_there(connection: FaultyStream) -> None:
        assert admission.refusal(connection) is None
        assert admission.refusal(stream()) is not None

    await admission.serve(is_there, first)
    assert admission.refusal(stream()) is None
    assert admission.refused == 1


@pytest.mark.parametrize(("hint", "said"), [(None, {}), (30.0, {"Retry-After": "30"})])
async def test_a_refusal_says_what_everybody_is_told(hint: float | None, said: dict[str, str]) -> None:
    admission = opened(capacity=2.0, at="register", room=1, retry_after=hint)
    admission.refusal(stream())
    refusal = admission.refusal(stream())
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (503, said)


async def test_a_ticket_names_to_each_a_slot_of_his_own(autojump_clock: trio.testing.MockClock) -> None:
    admission = opened(capacity=0.5, at="register", room=1, retry_after="ticket")
    admission.refusal(stream())
    refusals = [admission.refusal(stream()) for _ in range(3)]
    assert [refusal.headers["Retry-After"] for refusal in refusals if refusal is not None] == ["4", "6", "8"]


def test_admission_without_a_room_refuses_nobody() -> None:
    assert SlottedAdmission(Limits(capacity=1.0)).refusal(stream()) is None


@pytest.mark.parametrize(
    "limits",
    [
        {"capacity": 0.0},
        {"capacity": float("inf")},
        {"capacity": float("nan")},
        {"capacity": 1.0, "backlog": 0},
        {"capacity": 1.0, "room": 1},
        {"capacity": 1.0, "at": "register", "room": 0},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the (capacity|backlog) must|only registers"):
        Limits(**limits)


def test_where_clients_wait_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="cannot be changed"):
        SlottedAdmission(Limits(capacity=1.0)).change(Limits(capacity=1.0, at="register"))


# --- in the server ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(nursery: trio.Nursery, admission: SlottedAdmission) -> DevServer:
    """A server with that admission control, in place of the usual one."""
    started: DevServer = await nursery.start(partial(serve, admission=admission))
    nursery.start_soon(admission.run)
    return started


AT_ACCEPT: dict[str, Any] = {"capacity": 200.0}
AT_REGISTER: dict[str, Any] = {"capacity": 200.0, "at": "register"}
SHEDDING: dict[str, Any] = {"capacity": 200.0, "at": "register", "room": 3}


@pytest.fixture
def admission(request: pytest.FixtureRequest) -> SlottedAdmission:
    return SlottedAdmission(Limits(**request.param))


@pytest.mark.parametrize("admission", [AT_ACCEPT, AT_REGISTER, SHEDDING], indirect=True)
async def test_a_server_with_admission_control_registers_as_any_other(
    server: DevServer, admission: SlottedAdmission, join: Join
) -> None:
    members = [await join() for _ in range(3)]
    for member in members:
        await member.register()
        assert await member.echoes()
    assert admission.slots.used == 3
    assert admission.slots.dead == 0


@pytest.mark.parametrize("admission", [{"capacity": 200.0, "at": "register", "room": 1}], indirect=True)
async def test_a_server_that_is_full_answers_503(server: DevServer, admission: SlottedAdmission, join: Join) -> None:
    first = await join()
    stream = await trio.open_tcp_stream(server.host, server.ws_port)
    async with stream:
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 503")
    await first.register()
    assert admission.refused == 1


@pytest.mark.parametrize("admission", [AT_ACCEPT], indirect=True)
async def test_a_port_in_use_is_refused_with_admission_control_too(
    server: DevServer, admission: SlottedAdmission
) -> None:
    with pytest.raises(OSError, match="in use"):
        await serve(ws_port=server.ws_port, admission=SlottedAdmission(Limits(**AT_ACCEPT)))
