"""The live screen of `worker-state watch` as it is drawn: old views, narrow and short terminals."""

from rich.console import Console

from worker_state.cli.watch_room import view
from worker_state.tools.roster import Entry, Roster, answered, lost


def drawn(roster: Roster, now: float, height: int = 24, width: int = 120) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(view(roster, now, 2.0, width, height))
    return captured.get().splitlines()


def test_an_old_view_says_so_and_stands_still() -> None:
    roster = lost(
        answered(Roster("r-1"), [Entry("one", "available", tags=("sleap-rtc",))], 100.0), "connection refused"
    )
    lines = drawn(roster, 160.0)
    assert "OLD: nothing new for 1 min (connection refused)" in lines[0]
    assert "≥ 0 s" in lines[-2]


def test_a_narrow_terminal_keeps_what_matters() -> None:
    """Worker, status, memory and time are whole; the change that does not fit stands below the table."""
    before = Entry("1a2b3c4d", "available", None, "NVIDIA GeForce RTX 4090", 24564, "gpu-08.lab.example.org", ("t",))
    after = Entry("1a2b3c4d", "busy", "train-2026", "NVIDIA GeForce RTX 4090", 24564, "gpu-08.lab.example.org", ("t",))
    roster = answered(answered(Roster("r-1"), [before], 0.0), [after], 100.0)
    lines = drawn(roster, 104.0, width=80)
    for text in ("1a2b3c4d", "busy", "24 GiB", "4 s"):
        assert text in lines[4]
    assert lines[-1].strip() == "last change, 4 s ago: 1a2b3c4d available → busy, job train-2026"
    assert "4 s ago: available → bu" in drawn(roster, 104.0, width=120)[4]


def test_a_very_narrow_terminal_goes_without_columns() -> None:
    """Below 70 columns who, what and for how long are readable; host and memory are left out."""
    entry = Entry("1a2b3c4d", "maintenance", "train-2026", "RTX 4090", 24564, "gpu-08.lab.example.org", ("t",))
    lines = drawn(answered(Roster("r-1"), [entry], 0.0), 1.0, width=60)
    assert lines[2].split() == ["worker", "status", "job", "gpu", "for"]
    assert lines[4].split() == ["1a2b3c4d", "maintenance", "train-2026", "RTX", "4090", "≥", "1", "s"]


def test_who_is_gone_keeps_a_row_and_nobody_at_all_a_headline() -> None:
    roster = answered(answered(Roster("r-1"), [Entry("one", "available", tags=("t",))], 0.0), [], 10.0)
    assert [word for word in drawn(roster, 11.0)[4].split() if word != "-"] == ["one", "gone", "1", "s", "ago:", "gone"]
    assert drawn(answered(Roster("r-1"), [], 0.0), 0.0) == ["Room r-1: 0 workers"]


def test_what_does_not_fit_is_counted() -> None:
    entries = [Entry(f"{number:08}", "available", hostname="gpu" if not number else None) for number in range(30)]
    lines = drawn(answered(Roster("r-1"), entries, 0.0), 0.0, height=15)
    assert lines[-1] == "… and 23 more (a taller window shows them)"
    assert len(lines) <= 15
    assert "host" in lines[2]
