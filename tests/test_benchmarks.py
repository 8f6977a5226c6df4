"""The benchmarks run to their end, print their tables and write what they have measured. How fast is not asked here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DEADLINE = 120.0


def run(name: str, *arguments: object) -> str:
    """What the benchmark prints; it must succeed and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)],
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT / "src")),
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return done.stdout.decode()


def results(path: Path, name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    assert report["benchmark"] == name
    assert "trio" in report["surroundings"]["packages"]
    return report


def test_cycle_sets_worker_state_beside_a_bare_client(tmp_path: Path) -> None:
    file = tmp_path / "cycle.json"
    printed = run("cycle", "--cycles", 1, "--repeat", 2, "--hold", 2, "--json", file)
    for text in ("same 3 frames", "Without HTTP", "With HTTP", "worker_state / this", "trio tasks"):
        assert text in printed
    report = results(file, "cycle")
    assert [variant["name"] for variant in report["sockets"]][:2] == ["worker_state", "bare trio-websocket"]
    assert len(report["secured"]) in (0, len(report["sockets"]))
    assert len(report["whole"]) == 4
    for variant in report["sockets"] + report["secured"] + report["whole"]:
        assert len(variant["cpu_ms"]["values"]) == 2
        assert variant["cpu_ms"]["min"] > 0
    assert {kind: len(samples) for kind, samples in report["memory"]["samples"].items()} == {
        "worker_state": 2,
        "bare": 2,
    }


def test_local_holds_its_bounds_in_every_state_of_the_link(tmp_path: Path) -> None:
    file = tmp_path / "local.json"
    printed = run("local", "--calls", 40, "--json", file)
    for text in ("One at a time: 40 calls", "In one burst", "The most that was waiting", "within their bounds"):
        assert text in printed
    report = results(file, "local")
    assert list(report["states"]) == ["up", "down", "stuck"]
    assert report["broken"] == []
    for state in report["states"].values():
        assert set(state["one_at_a_time"]["calls"]) == {"set_reserved", "set_busy", "set_available", "reregister"}
        # Whoever was already waiting for a note has got the first one without its lying in the inbox.
        assert 39 <= state["burst"]["depths"]["registration"] <= state["burst"]["bound"]
        assert state["burst"]["drained"]["passes"] >= 1


def test_importtime_shows_every_share_and_nothing_unwanted(tmp_path: Path) -> None:
    file = tmp_path / "importtime.json"
    printed = run("importtime", "--repeat", 1, "--json", file)
    assert "worker_state (ours)" in printed
    report = results(file, "importtime")
    assert {"worker_state", "trio", "trio_websocket", "httpx", "ssl"} <= set(report["packages"])
    assert not {"typer", "rich", "worker_state.devserver"} & set(report["unwanted"])


def test_one_sets_one_worker_beside_a_bare_client_and_an_older_checkout(tmp_path: Path) -> None:
    file, before = tmp_path / "one.json", tmp_path / "src"
    before.mkdir()
    (before / "worker_state").symlink_to(ROOT / "src" / "worker_state")
    sizes = ["--settle", 0, "--idle", 1, "--changes", 3, "--reconnects", 1, "--live", 0, "--repeat", 2]
    printed = run("one", *sizes, "--before", before, "--json", file)
    for text in ("against bare", "CPU s of an idle hour", "from a cut to true again", "at most 1.9 times: "):
        assert text in printed
    report = results(file, "one")
    assert list(report["clients"]) == ["worker_state", "before", "bare"]
    for figures in report["clients"].values():
        assert {"idle", "frames", "change", "reconnect", "back"} <= set(figures)
        assert all(len(figure["values"]) == len(figure["against_bare"]["values"]) == 2 for figure in figures.values())
        assert min(figures[name]["min"] for name in ("idle", "change", "reconnect", "back")) > 0


def test_g12_flood_lets_a_worker_leave_in_time_and_keeps_its_memory(tmp_path: Path) -> None:
    file = tmp_path / "flood.json"
    kinds = ["pongs", "long offers"]
    printed = run("flood", "--kinds", *kinds, "--seconds", 0.5, "--json", file)
    for text in ("frames/s", "lag ms", "MiB grown", "exit s", "deletion"):
        assert text in printed
    report = results(file, "flood")
    assert list(report["floods"]) == kinds
    for figures in report["floods"].values():
        assert figures["deleted"]
        assert figures["exit_seconds"] < 30  # a hang guard: the bound itself is for a quiet machine
        assert figures["lag_ms"]["max"] > 0
        assert figures["grown_mib"] is None or figures["grown_mib"] < 64  # unbounded it is some hundred


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cycle", ["--cycles", "0"]),
        ("importtime", ["--repeat", "0"]),
        ("one", ["--changes", "0"]),
        ("flood", ["--seconds", "0"]),
    ],
)
def test_a_size_that_measures_nothing_is_refused(name: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "must be at least" in done.stderr.decode()
