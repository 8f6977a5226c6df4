"""The soak runs to its end, shows its figures and writes them. How much is held after many cycles is for a long run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.soak import Work, growth, main, server_process, soak
from tests.support.processes import environment

ROOT = Path(__file__).parents[2]


def test_a_short_soak_shows_what_the_process_holds(tmp_path: Path) -> None:
    """A few cycles end with a table, and with a file that has every figure in it."""
    file = tmp_path / "soak.json"
    sizes = {"--cycles": "12", "--changes": "100", "--shown": "2", "--minutes": "3", "--json": str(file)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *(word for each in sizes.items() for word in each)],
        cwd=ROOT,
        env=environment(PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT)])),
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    printed = done.stdout.decode()
    assert "12 reconnects and 100 status changes" in printed
    assert "growth per 1,000" in printed
    report = json.loads(file.read_text("utf-8"))
    assert (report["benchmark"], report["cycles"], report["changes"]) == ("soak", 12, 100)
    assert report["confirmed_one_by_one"] == 24
    assert [row["cycles"] for row in report["rows"]] == list(range(13))
    assert len({row["tasks"] for row in report["rows"]}) == 1


async def test_a_soak_ends_when_its_time_is_up() -> None:
    """However many cycles are asked for, the time that is given is kept."""
    with server_process() as server:
        done = await soak(server, Work(cycles=10**9, changes=10, shown=1, until=time.monotonic()))
    assert done.cycles == 0
    assert set(growth(done.rows).values()) == {None}


@pytest.mark.parametrize(
    ("option", "size"), [("--cycles", "0"), ("--changes", "-1"), ("--shown", "-1"), ("--minutes", "0")]
)
def test_a_soak_of_nothing_is_refused(
    option: str, size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A size that measures nothing is bad usage."""
    monkeypatch.setattr(sys, "argv", ["soak", option, size])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "must be at least" in capsys.readouterr().err
