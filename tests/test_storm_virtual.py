"""The virtual storms: the server's queue does what a queue does, and the table says what happened."""

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks import small_fleets, storm_virtual
from benchmarks.queues import Storm, run
from benchmarks.rules import ABLATIONS, OURS, PEERS, RESETS, RULES, Published
from benchmarks.virtual_storms import HELD_OUT, LARGE, SHORT, TUNED, UNSEEN, drawn
from worker_state.protocol.error_policy import Cause
from worker_state.protocol.reconnect import ReconnectPolicy


class Steady(Published):
    """Dials every second, waits five for the answer; knows nothing."""

    patience = 5.0

    def pause(self, now: float) -> float:
        return 1.0


class Patient(Steady):
    """The same, and waits for ever."""

    patience = 1e6


def test_ideal() -> None:
    """Patient workers at a server that accepts everybody are back in the shortest possible time, with one dial each."""
    storm = Storm(workers=500, capacity=50, down=0)
    outcome = run(storm, Patient)
    assert (outcome.back, outcome.never, outcome.dead) == (500, 0, 0)
    assert outcome.r99(storm) == pytest.approx(1.0, abs=0.15)  # the first dial comes a second late
    assert outcome.dials == 1
    assert outcome.curve[-1] == 500
    assert sum(outcome.dialled) == 500


def test_impatience() -> None:
    """When the queue is longer than the patience, the server spends its slots on the dead."""
    outcome = run(Storm(workers=2_000, capacity=50, down=0), Steady, horizon=300)
    assert outcome.back < 1_000
    assert outcome.dead > 5_000


def test_full_queue() -> None:
    """A full queue drops SYNs, and the kernels' own repetitions fill it again: nobody needs many dials or is dead."""
    outcome = run(Storm(workers=500, capacity=50, down=0, backlog=16), Steady)
    assert (outcome.never, outcome.dead) == (0, 0)
    assert 1 < outcome.dials < 5
    assert run(Storm(workers=10, capacity=50, down=0, backlog=16), Steady).dials == 1


@pytest.mark.parametrize(("resets", "dead"), [(True, False), (False, True)])
def test_fin_and_rst(resets: bool, dead: bool) -> None:
    """Whoever gives up an unaccepted connection with FIN leaves a dead entry behind, with RST none."""
    storm = Storm(workers=2_000, capacity=50, down=0, backlog=64, rtt=0.2)
    outcome = run(storm, Steady, resets=resets, horizon=60)
    assert (outcome.dead > 0) == dead


def test_shedding() -> None:
    """Whoever finds no room is sent away at once, and a ticket is the time of a slot."""
    hints: list[float | None] = []

    class Listening(Patient):
        def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
            if cause is Cause.SHED:
                hints.append(hint)
                return hint or 1.0
            return super().failed(now, cause, hint)

    storm = Storm(workers=300, capacity=50, down=0, room=100, retry_after="ticket")
    outcome = run(storm, Listening)
    assert outcome.shed >= 200
    assert {3.0, 4.0, 5.0, 6.0} <= set(hints)
    assert outcome.r99(storm) < 1.4  # a ticket counts whole seconds


@pytest.mark.parametrize("front", ["refuses", "silent", "closes", "502", "503", "holds", "stopped"])
def test_fronts(front: str) -> None:
    """Whatever a dial meets while the server is away, everybody is back afterwards, and knows why he failed."""
    causes = set()

    class Listening(Patient):
        patience = 10.0

        def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
            causes.add(cause)
            return super().failed(now, cause, hint)

    storm = Storm(workers=100, capacity=50, down=90, front=front, backlog=64)  # type: ignore[arg-type]
    assert run(storm, Listening).never == 0
    met = {
        "refuses": Cause.REFUSED,
        "silent": Cause.NO_ANSWER,
        "closes": Cause.CLOSED,
        "502": Cause.SHED,
        "503": Cause.SHED,
        "holds": Cause.UNANSWERED,
        "stopped": Cause.UNANSWERED,
    }
    assert met[front] in causes


def test_flaps() -> None:
    """Who was registered when the server died again has to come back once more."""
    storm = Storm(workers=100, capacity=50, down=1, flaps=((5, 1), (5, 1)))
    outcome = run(storm, Patient)
    assert outcome.never == 0
    assert outcome.knocks == pytest.approx(2 * 60 / 13)
    assert outcome.dials == 1


def test_clocks() -> None:
    """A slow clock makes a client's pauses longer, not the world's."""
    storm = Storm(workers=200, capacity=50, down=0, first_start=True, clocks=0.5, room=1)
    outcome = run(storm, Patient)
    assert outcome.never == 0
    assert max(outcome.dialled[1:4]) < 200


def test_same_seed() -> None:
    """The same seed gives the same storm, another one does not."""
    storm = Storm(workers=300, capacity=50, backlog=32)
    one, same, other = (run(storm, ReconnectPolicy, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_hammer() -> None:
    """A rule that dials without end is stopped, and said to be a hammer."""

    class Hammer(Patient):
        def pause(self, now: float) -> float:
            return 0.0

    outcome = run(Storm(workers=10, capacity=50, down=60, front="closes"), Hammer, most_dials=50)
    assert outcome.hammered
    assert outcome.never == 10
    assert outcome.seconds_99 == math.inf


@pytest.mark.parametrize("name", RULES)
def test_every_rule(name: str) -> None:
    """Every rule answers with pauses and deadlines that are times, whatever it is told."""
    rule, now = RULES[name](Random(1)), 1_000.0
    for cause in Cause:
        limits = rule.dialling(now)
        assert min(limits.connect, limits.acknowledge, limits.register) > 0
        assert rule.failed(now + 1, cause, 3.0) >= 0
        now += 10
        rule.dialling(now)
        rule.answered(now)
        assert rule.lost(now + 60, cause) >= 0
        assert rule.lost(now + 60, cause, 1012, 3.0) >= 0
        assert rule.moved(now + 60) >= 0
        now += 100


def test_names() -> None:
    """Ours, the peers and what is ours with something taken away are all there; those with RST are known."""
    assert set(RULES) == {OURS, *PEERS, *ABLATIONS}
    assert set(RULES) >= RESETS


def test_sets() -> None:
    """The storms held out are the same for ever, and no name stands for two."""
    assert (drawn(40, 2_026), drawn(40, 2_028)) == (HELD_OUT, UNSEEN)
    names = [*TUNED, *HELD_OUT, *SHORT, *LARGE]
    assert len(names) == len(set(names))
    assert all(storm.ideal() >= 15 for storm in [*TUNED.values(), *HELD_OUT.values()])


def test_ours_survives() -> None:
    """Nobody is lost in a small storm of each kind, and it takes hardly longer than it has to."""
    for storm in (
        Storm(workers=1_000, capacity=50),
        Storm(workers=2_000, capacity=50, backlog=128),
        Storm(workers=1_000, capacity=50, room=64, retry_after="ticket"),
        Storm(workers=1_000, capacity=50, down=60, front="closes"),
    ):
        outcome = run(storm, ReconnectPolicy, seed=3)
        assert (outcome.never, outcome.dead) == (0, 0)
        assert outcome.r99(storm) < 1.3


def test_a_full_queue_costs_few_dials() -> None:
    """Behind a short queue a worker knocks twice at most, and all are back soon after the last could be."""
    for workers, backlog in ((2_000, 128), (1_000, 64)):
        storm = Storm(workers=workers, capacity=50, backlog=backlog)
        outcome = run(storm, ReconnectPolicy, seed=3)
        assert outcome.dials <= 2.0
        assert outcome.r99(storm) <= 1.1


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints its tables and writes what it has found."""
    file = tmp_path / "storm.json"
    rules = [OURS, "today's worker v2.0"]
    chosen = ["--scenario", "503, 2,000 at 50", "--sets", "tuned", "--workers", "200"]
    storm_virtual.main(["--rules", *rules, *chosen, "--jobs", "1", "--alone", "2", "--curves", "--json", str(file)])
    printed = capsys.readouterr().out
    for text in ("storms tuned", "All rules in the same", "One worker alone", "in short"):
        assert text in printed
    report = json.loads(file.read_text("utf-8"))
    ours, theirs = (each for each in report["runs"] if each["set"] == "tuned")
    assert (ours["never"], theirs["never"], theirs["r99"]) == (0, 200, None)
    assert ours["curve"][-1] == 200


def small(workers: int = 1, **changes: Any) -> small_fleets.Job:
    """One of our rule's tries in a small fleet."""
    storm = Storm(workers=workers, capacity=50, backlog=128, **changes)
    return small_fleets.Job("a cell", storm, OURS, 3)


def test_small_fleets_are_the_same_for_all_rules() -> None:
    """Every cell's name says what it is, each try has an outage of its own, and all rules meet the same ones."""
    assert len(small_fleets.CELLS) == 4 * 2 * len(small_fleets.FRONTS) * len(small_fleets.OUTAGES)
    drawn = [small_fleets.outage("a cell", 10.0, number) for number in range(50)]
    assert drawn == [small_fleets.outage("a cell", 10.0, number) for number in range(50)]
    assert len(set(drawn)) == 50
    assert 7.0 <= min(drawn) < 7.5
    assert 12.5 < max(drawn) <= 13.0
    assert drawn != [small_fleets.outage("another", 10.0, number) for number in range(50)]


def test_small_fleet() -> None:
    """A try is late by what the rule took beyond the shortest time, and the same again with the same numbers."""
    figures = small_fleets.measure(small(10, down=5))
    assert figures == small_fleets.measure(small(10, down=5))
    assert len(figures.late) == 3
    assert 0.0 < figures.mean <= figures.most == max(figures.late) < 20
    assert 0 < figures.dials < small_fleets.HAMMER
    assert figures.compared


@pytest.mark.parametrize(
    ("rule", "hammers", "loses"),
    [("phoenix.js", True, True), ("today's worker v2.0", False, True), (OURS, False, False)],
)
def test_not_compared(rule: str, hammers: bool, loses: bool) -> None:
    """A rule that hammers, or leaves somebody out, is not compared, and costs no time."""
    figures = small_fleets.measure(replace(small(down=240, front="closes"), rule=rule))
    assert (figures.hammers, figures.loses, figures.compared) == (hammers, loses, not (hammers or loses))
    assert len(figures.late) == (1 if hammers else 3)


def test_small_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The small fleets have tables of their own, and name the cells in which somebody is ahead."""
    file = tmp_path / "small.json"
    rules = [OURS, "socket.io", "today's worker v2.0"]
    chosen = ["--sets", "small", "--workers", "1", "--scenario", "refuses, D 5", "503, D 240"]
    storm_virtual.main(["--rules", *rules, *chosen, "--jobs", "1", "--json", str(file)])
    printed = capsys.readouterr().out
    for text in ("Small fleets, 4 cells: means", "by what a dial meets", "by outage", "Cells where a rule is ahead"):
        assert text in printed
    assert "All rules in the same" not in printed
    report = json.loads(file.read_text("utf-8"))
    assert report["runs"] == []
    assert {each["rule"] for each in report["small"]} == set(rules)
    first, gone = report["small"][0], report["small"][2]
    assert (first["cell"], first["workers"], first["front"], first["down"]) == (
        "1 at 50, refuses, D 5",
        1,
        "refuses",
        5,
    )
    assert first["mean"] <= first["p95"]
    assert (gone["mean"], gone["loses"]) == (None, True)


@pytest.mark.parametrize(
    "arguments", [["--rules", "nobody's"], ["--sets", "none"], ["--scenario", "nowhere"], ["--seeds", "0"]]
)
def test_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be run is refused with a sentence."""
    with pytest.raises(SystemExit):
        storm_virtual.main(arguments)
    assert "error:" in capsys.readouterr().err
