"""The live storms: their light client against a real server, and small storms from end to end."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import trio

from benchmarks.rules import RULES, Rule
from benchmarks.server import Seat
from benchmarks.storm.clients import seats_of
from benchmarks.storm.light import LightClient
from benchmarks.storm.run import Cores, Plan, storm
from benchmarks.storm.scenarios import SCENARIOS
from benchmarks.storm.seats import furnish, make_seats
from benchmarks.storm.tally import Tally, meant
from benchmarks.storm_live import free_ports, main, names
from tests.support.processes import environment
from worker_state.devserver import DevServer, Rooms, serve
from worker_state.protocol.error_policy import Cause
from worker_state.protocol.reconnect import Deadlines

ROOT = Path(__file__).parents[1]
DEADLINE = 120.0


# --- the light client -------------------------------------------------------------------------------------------------


class Script:
    """A rule that is asked, and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def dialling(self, now: float) -> Deadlines:
        self.told.append("dialling")
        return Deadlines(connect=5.0, acknowledge=5.0, upgrade=5.0, register=5.0)

    def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
        self.told.append(f"failed {cause.name} {hint}")
        return 0.01

    def answered(self, now: float) -> None:
        self.told.append("answered")

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        self.told.append(f"lost {cause.name} {code}")
        return 0.0

    def moved(self, now: float) -> float:
        raise AssertionError("nobody moves in a storm")


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def server(nursery: trio.Nursery) -> DevServer:
    started: DevServer = await nursery.start(serve)
    return started


@pytest.fixture
def seat(server: DevServer) -> Seat:
    return furnish(server.rooms, 1, server.clock())[0]


async def until_told(script: Script, words: str) -> None:
    with trio.fail_after(60):
        while words not in script.told:
            await trio.sleep(0.005)


@pytest.fixture
async def client(nursery: trio.Nursery, server: DevServer, seat: Seat, script: Script) -> LightClient:
    """Registered, and as the rule was told for an hour."""
    client = LightClient(seat, script, ("127.0.0.1", server.ws_port), Tally(), resets=True)
    nursery.start_soon(client.run, trio.CapacityLimiter(1))
    await until_told(script, "answered")
    assert script.told == ["dialling", "answered"]
    script.told.clear()
    return client


async def test_a_lost_link_is_told_and_followed_by_a_dial(
    nursery: trio.Nursery, client: LightClient, server: DevServer, seat: Seat, script: Script
) -> None:
    client.truth.job = "7"
    server.cut(seat.username)
    await until_told(script, "answered")
    assert script.told == ["lost CLOSED 1006", "dialling", "answered"]
    peer = server.rooms.peer(seat.username)
    assert peer is not None
    assert peer.metadata["properties"]["current_job_id"] == "7"
    nursery.cancel_scope.cancel()


async def test_a_goodbye_is_told_with_its_code(
    nursery: trio.Nursery, client: LightClient, server: DevServer, script: Script
) -> None:
    server.disconnect_all(1012)
    await until_told(script, "lost CLOSED 1012")
    nursery.cancel_scope.cancel()


async def test_a_503_is_told_with_its_hint(
    nursery: trio.Nursery, client: LightClient, server: DevServer, script: Script
) -> None:
    server.refuse_upgrades(503, {"Retry-After": "4"})
    server.refuse_upgrades(400)
    server.cut()
    await until_told(script, "answered")
    assert script.told[1:] == [
        "dialling", "failed SHED 4.0", "dialling", "failed REJECTED None", "dialling", "answered"
    ]  # fmt: skip
    nursery.cancel_scope.cancel()


async def test_a_status_is_updated_on_a_link_that_is_there(
    nursery: trio.Nursery, client: LightClient, server: DevServer, seat: Seat
) -> None:
    client.truth.job = "8"
    await client.update()
    with trio.fail_after(60):
        while server.rooms.peers(seat.room_id)[seat.username].metadata["properties"]["current_job_id"] != "8":
            await trio.sleep(0.005)
    nursery.cancel_scope.cancel()


async def test_a_refused_dial_is_told(script: Script) -> None:
    seat = Seat("nobody", "", "", "")
    port = free_ports()[0]
    client = LightClient(seat, script, ("127.0.0.1", port), Tally(), resets=False)
    assert await client.dial() == 0.01
    assert script.told == ["dialling", "failed REFUSED None"]


def test_the_same_seed_makes_the_same_seats() -> None:
    assert make_seats(2, seed=1, now=5.0) == make_seats(2, seed=1, now=5.0)
    rooms = Rooms(random=Random(1))
    assert furnish(rooms, 2, 5.0)[0].room_id in rooms.rooms


def test_the_processes_deal_the_seats_out_among_themselves() -> None:
    order = {"workers": 5, "processes": 2, "seed": 1, "now": 5.0}
    first, second = (seats_of({**order, "number": number}) for number in (0, 1))
    assert (list(first), list(second)) == ([0, 2, 4], [1, 3])
    assert [seat for _, seat in sorted({**first, **second}.items())] == make_seats(5, seed=1, now=5.0)
    assert meant(first, 2) == [first[2]]
    assert meant(second, 2) == []
    assert meant(second, None) == [second[1], second[3]]


def test_every_rule_can_be_asked_for() -> None:
    rules: list[Rule] = [make(Random(1)) for make in RULES.values()]
    assert len(rules) + 2 == len(names())


# --- from end to end --------------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "benchmarks.storm_live", *map(str, arguments)]


ENVIRONMENT = environment(PYTHONPATH=str(ROOT / "src"))
SMALL = ("--workers", 10, "--capacity", 20, "--down", 0.5)


@pytest.mark.slow
def test_a_small_storm_of_light_clients_brings_all_back(tmp_path: Path) -> None:
    file = tmp_path / "storm.json"
    asked = command(*SMALL, "--scenario", "roomy", "shed-ticket", "--rules", "worker_state/light", "--json", file)
    done = subprocess.run(asked, cwd=ROOT, env=ENVIRONMENT, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert "roomy: killed" in done.stdout.decode()
    runs = json.loads(file.read_text("utf-8"))["runs"]
    assert [(run["scenario"], run["back"]) for run in runs] == [("roomy", 10), ("shed-ticket", 10)]


@pytest.mark.slow
async def test_real_managers_in_two_processes_all_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    roomy = SCENARIOS["roomy"]
    asked = Plan(roomy, "managers", "worker_state", 4, 20.0, 4096, down=0.2, settle=0.1, processes=2)
    with trio.fail_after(DEADLINE):
        record = await storm(asked, Cores(None, None), free_ports(), lambda record: None)
    assert [lines[-1]["registered"] for lines in record.clients] == [2, 2]
    figures = record.summary()
    assert (figures["back"], figures["registered"]) == (4, 4)
    assert figures["client_resident_kib_each"] == round(figures["client_kib"] / 4, 1) > 1024


@pytest.mark.slow
def test_cold_starts_are_measured_with_the_real_thing(tmp_path: Path) -> None:
    asked = command("--workers", 5, "--scenario", "cold")
    done = subprocess.run(asked, cwd=ROOT, env=ENVIRONMENT, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert "5 workers started at once" in done.stdout.decode()


def children(pid: int) -> list[str]:
    """Of all threads: trio starts a process in one of its own."""
    return [child for of in Path(f"/proc/{pid}/task").glob("*/children") for child in of.read_text("ascii").split()]


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_of_a_storm(tmp_path: Path) -> None:
    asked = command("--workers", 10, "--capacity", 1, "--rules", "worker_state/light")
    with subprocess.Popen(asked, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True) as process:
        began = time.monotonic()
        while len(ours := children(process.pid)) < 3:
            assert time.monotonic() - began < DEADLINE
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert "all processes were ended" in said.decode()
    assert not [child for child in ours if Path(f"/proc/{child}").exists()]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--scenario", "rain"], "rain"),
        (["--rules", "luck"], "luck"),
        (["--workers", "0"], "--workers"),
        (["--processes", "0"], "--processes"),
        (["--processes", "3", "--workers", "2"], "--processes"),
        (["--ping-every", "0"], "--ping-every"),
        (["--workers", "10000000"], "open files"),
        (["--capacity", "0"], "--capacity"),
        (["--scenario", "cold", "--rules", "gRPC"], "cold"),
    ],
)
def test_a_storm_that_makes_no_sense_is_refused(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["storm_live", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert named in capsys.readouterr().err
