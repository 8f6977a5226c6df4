"""What follows from the record of a storm: figures, tables and pictures, from records made by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import percentile
from benchmarks.storm.machine import longest_queue, too_little
from benchmarks.storm.pictures import draw
from benchmarks.storm.record import PROVED, REGISTERED, TRUE, Record
from benchmarks.storm.scenarios import SCENARIOS, limits
from benchmarks.storm.tables import kept, sentence, spread, tables, write
from benchmarks.storm_live import LIBRARY, free_ports, parser, plan

# --- a record made by hand --------------------------------------------------------------------------------------------


def server_line(at: float, *, granted: int, changes: Any = (), **more: Any) -> dict[str, Any]:
    slots = {"used": granted, "dead": 0, "idle": 0, "missed": 0}
    usual = {"registrations": 0, "slots": slots, "refused": 0, "late": 0.0, "cpu": at / 10, "waited": 0.0, "kib": 1.0}
    return {"at": at, "granted": granted, "changes": list(changes), **usual, **more}


def client_line(at: float, dials: int, **more: Any) -> dict[str, Any]:
    usual = {"outcomes": {"REGISTERED": dials}, "registered": 0, "cpu": at, "waited": 0.0, "kib": 2.0, "lags": [0.001]}
    return {"at": at, "dials": dials, **usual, **more}


def record_of(*steps: tuple[float, str, int], capacity: float = 2.0, lags: tuple[float, ...] = (0.001,)) -> Record:
    """Two workers; the server went at 100 s and was back at 110 s, with two slots a second."""
    record = Record(workers=2, capacity=capacity)
    first = record.new_server()
    first(server_line(99.0, granted=0, changes=[(98.0, "a", PROVED), (98.0, "b", PROVED)]))
    record.goes(100.0)
    clients = record.new_clients()
    clients(client_line(109.9, 5))
    record.returns(110.0)
    second = record.new_server()
    second(server_line(110.5, granted=1))
    clients(client_line(112.0, 9, lags=list(lags)))
    second(server_line(114.0, granted=8, changes=steps))
    clients(client_line(114.0, 9))
    return record


def test_a_worker_is_back_when_it_is_registered_true_and_proved() -> None:
    record = record_of((111.0, "a", REGISTERED), (111.5, "a", PROVED), (112.0, "b", TRUE))
    assert [record.standing(step) for step in (REGISTERED, TRUE, PROVED)] == [2, 2, 1]
    assert record.reached(REGISTERED) == [1.0, 2.0]
    assert record.reached(PROVED) == [1.5]
    assert record.summary()["r99"] is None


def test_who_is_lost_again_counts_only_once() -> None:
    record = record_of((111.0, "a", PROVED), (111.5, "a", 0), (112.0, "a", PROVED), (113.0, "b", PROVED))
    assert record.reached(PROVED) == [1.0, 3.0]
    assert record.curve()[49:51] == [1.0, 3.0]


def test_the_ratio_is_taken_against_the_slots_that_there_were() -> None:
    summary = record_of((110.5, "a", PROVED), (111.0, "b", PROVED)).summary()
    assert summary["t100"] == 1.0
    # Eight slots in four seconds, two workers: one second is the shortest possible.
    assert summary["r100"] == 1.0
    assert summary["dials_each"] == 2.0
    assert summary["outcomes"] == {"REGISTERED": 4}
    assert summary["void"] == []


def test_a_run_on_a_slow_machine_does_not_count() -> None:
    ends = [(110.5, "a", PROVED), (111.0, "b", PROVED)]
    (late,) = record_of(*ends, lags=(0.2,)).summary()["void"]
    (few,) = record_of(*ends, capacity=4.0).summary()["void"]
    assert late == "the clients' loop was 200 ms late"
    assert few == "the server offered 2.0 slots a second"


def test_several_processes_of_workers_are_taken_together() -> None:
    record = record_of((110.5, "a", PROVED), (111.0, "b", PROVED))
    alone = record.summary()
    clients = record.new_clients()
    clients(client_line(109.9, 1))
    clients(client_line(112.0, 4, lags=[0.02, 0.2]))
    together = record.summary()
    assert (together["dials_each"], alone["dials_each"]) == (3.5, 2.0)
    assert (together["client_kib"], together["client_resident_kib_each"]) == (4.0, 2.0)
    assert together["client_cpu_ms_each"] == 2 * alone["client_cpu_ms_each"]
    assert record.by_second()["dials"] == {-1: 6, 2: 7}
    # The slowest loop decides, however many looks the others had.
    assert (together["lag_p99"], together["void"]) == (0.2, ["the clients' loop was 200 ms late"])


def test_cpu_is_told_for_each_registration() -> None:
    record = record_of((110.5, "a", PROVED))
    record.servers[-1][-1]["registrations"] = 4
    summary = record.summary()
    assert summary["client_cpu_ms_per_registration"] == summary["client_cpu_ms_each"] / 2
    assert record_of().summary()["client_cpu_ms_per_registration"] is None


def test_what_a_killed_server_had_still_to_say_changes_nobodys_standing() -> None:
    record = Record(workers=2, capacity=1.0)
    hear = record.new_server()
    record.goes(100.0)
    hear(server_line(99.9, granted=0, changes=[(99.9, "a", PROVED)]))
    assert record.standing(PROVED) == 0


def test_dials_and_slots_are_shown_by_the_second() -> None:
    by_second = record_of((111.0, "a", PROVED)).by_second()
    assert by_second["dials"] == {-1: 5, 2: 4}
    assert by_second["slot used"] == {0: 1, 4: 7}


def test_a_cut_is_over_when_that_worker_is_back() -> None:
    record = record_of((111.0, "a", 0), (111.25, "a", TRUE), (111.5, "a", PROVED), (112.0, "b", 0))
    record.cuts = {"a": 110.9, "b": 111.9}
    figures = record.summary_of_cuts()
    assert figures["true"] == {"back": 1, "median": 0.35, "p99": 0.35, "longest": 0.35}
    assert figures["proved"]["median"] == 0.6


@pytest.mark.parametrize(("part", "value"), [(0.5, 2.0), (0.99, 4.0), (0.25, 1.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(part: float, value: float) -> None:
    assert percentile([4.0, 2.0, 1.0, 3.0], part) == value
    assert percentile([], part) == 0.0


# --- plans, tables, pictures ------------------------------------------------------------------------------------------


def test_a_scenario_brings_its_own_limits() -> None:
    assert limits(SCENARIOS["narrow"], 50.0, 4096) == {"capacity": 50.0, "backlog": 128}
    assert limits(SCENARIOS["roomy"], 50.0, 4096)["backlog"] == 4096
    assert limits(SCENARIOS["shed-ticket"], 50.0, 4096)["retry_after"] == "ticket"


def test_the_real_managers_live_before_the_storm_and_light_clients_need_not() -> None:
    options = parser().parse_args(["--workers", "100", "--backlog", "7"])
    ours, light = plan("roomy", "worker_state", options), plan("roomy", "gRPC", options)
    assert (ours.kind, light.kind, plan("roomy", LIBRARY, options).kind) == ("managers", "light", "library")
    assert ours.settle > 30.0 > light.settle
    assert ours.ideal == 2.0
    assert limits(ours.scenario, ours.capacity, ours.backlog)["backlog"] == 7


@pytest.mark.parametrize(
    ("workers", "processes", "files", "ports", "named"),
    [
        (10_000, 4, 20_000, 28_232, []),
        (10_000, 1, 20_000, 28_232, ["20064 open files"]),
        (10_000, 4, 4_096, 28_232, ["10064 open files"]),
        (20_000, 4, math.inf, 28_232, ["40000 ports"]),
        (20_000, 4, math.inf, math.inf, []),
    ],
)
def test_a_machine_may_have_too_little(
    workers: int, processes: int, files: float, ports: float, named: list[str]
) -> None:
    missing = too_little(workers, processes, files=files, ports=ports)
    assert len(missing) == len(named)
    assert all(name in sentence for name, sentence in zip(named, missing, strict=True))


def test_the_kernel_cuts_the_longest_queue() -> None:
    options = parser().parse_args(["--workers", "10000000"])
    assert plan("roomy", "worker_state", options).backlog == longest_queue()


def test_ports_are_not_among_those_of_dialling_sockets() -> None:
    first, second = free_ports()
    assert first != second
    assert max(first, second) < 32_768


def test_never_is_larger_than_any_ratio() -> None:
    assert spread([1.0], 2) == "1.00"
    assert spread([1.0, None, 1.5], 2) == "1.50 (1.00 – X)"
    assert spread([None, None], 2) == "X (X – X)"


def test_runs_are_kept_shown_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = parser().parse_args(["--workers", "2", "--capacity", "2"])
    record = record_of((110.5, "a", PROVED), (111.0, "b", PROVED))
    run = {"scenario": "roomy", "rule": "gRPC", "repeat": 0, **kept(plan("roomy", "gRPC", options), record)}
    assert sentence(run).startswith("roomy, gRPC: 2 of 2 back, r99 1.010, 2.00 dials each, 0 slots for the dead")
    tables([run])
    assert "gRPC" in capsys.readouterr().out
    write(tmp_path / "storm.json", [run])
    report = json.loads((tmp_path / "storm.json").read_text("utf-8"))
    assert report["runs"][0]["r99"] == run["r99"]


def test_pictures_are_drawn_where_there_is_matplotlib(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    options = parser().parse_args(["--workers", "2", "--capacity", "2"])
    record = record_of((110.5, "a", PROVED), (111.0, "b", PROVED))
    run = {"scenario": "roomy", "rule": "gRPC", "repeat": 0, **kept(plan("roomy", "gRPC", options), record)}
    write(tmp_path / "storm.json", [run])
    assert len(draw([tmp_path / "storm.json"], tmp_path, "svg")) == 2
