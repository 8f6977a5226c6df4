"""The simulated network's own promises about slow lines and late ends: the faults are what they say."""

import json
from random import Random

import trio
from trio.testing import MockClock

from tests.simulation.conns import FIN, PART, RST, Conn, Item
from tests.simulation.net import Net
from tests.simulation.wire import encoded


class Wire:
    """One connection, and what both of its ends have seen."""

    def __init__(self, clock: MockClock) -> None:
        self.at_client: list[tuple[int, Item]] = []
        self.at_server: list[Item] = []
        self.over = False
        self.conn = Conn(
            Net(clock),
            Random(1),
            1,
            "w",
            at_client=lambda item: self.at_client.append((round(trio.current_time()), item)),
            at_server=lambda conn, item: self.at_server.append(item),
            lost=self._lost,
        )

    def _lost(self, conn: Conn) -> None:
        self.over = True


async def test_a_slow_line_brings_parts_and_then_the_whole(autojump_clock: MockClock) -> None:
    """A message of 250 bytes at 100 bytes a second takes 2.5 s, and a part comes in each second."""
    wire = Wire(autojump_clock)
    wire.conn.trickle(100.0)
    wire.conn.down.push("x" * 250)
    await trio.sleep(60)
    assert wire.at_client == [(1, PART), (2, PART), (3, "x" * 250)]


async def test_bytes_over_a_slow_line(autojump_clock: MockClock) -> None:
    """Where bytes travel, these come in pieces, and none is lost when the line is fast again."""
    wire = Wire(autojump_clock)
    hurry = wire.conn.trickle(100.0)
    wire.conn.down.push(bytes(range(250)))
    await trio.sleep(1.5)
    assert [len(item) for _, item in wire.at_client if isinstance(item, bytes)] == [100]
    hurry()
    wire.conn.down.push(b"end")
    await trio.sleep(60)
    received = b"".join(item for _, item in wire.at_client if isinstance(item, bytes))
    assert received == bytes(range(250)) + b"end"
    assert [at for at, _ in wire.at_client] == [1, 2, 2, 2]


async def test_the_end_of_a_socket_that_a_child_holds(autojump_clock: MockClock) -> None:
    """The worker loses it at once, and the server believes in it until it is told otherwise."""
    wire = Wire(autojump_clock)
    wire.conn.leave_to_a_child()
    wire.conn.abandon(FIN)
    await trio.sleep(3600)
    assert wire.at_client == [(0, RST)]
    assert wire.at_server == []
    assert not wire.over
    wire.conn.server_notices()
    assert wire.over


def test_extremes_are_written_as_they_are() -> None:
    """What stands for a value of 5,000 digits or 90 levels is that value in the text."""
    assert json.loads(encoded({"note": "<90 levels>"}), parse_int=len)["note"][0][0][0]
    assert json.loads(encoded({"note": ["<digits>"]}), parse_int=len) == {"note": [5000]}
    assert encoded({"note": "digits"}) == '{"note": "digits"}'
