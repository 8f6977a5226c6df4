"""The pictures of the storms, drawn from what was measured: files in, files out. Nothing is measured here.

Needs matplotlib, which nothing else does; it is imported when something is drawn. Every rule keeps its colour and its
kind of line in all pictures, so that they can be told apart in print too.
"""

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

Run = dict[str, Any]
NEVER = 9.0
"""Where in the picture of the ratios "never" stands."""
LONGEST = 3.6
"""Shortest possible times that are shown."""
PERCENT = range(1, 101)


@dataclass(frozen=True)
class Style:
    """How one rule is drawn. The colours are those of Okabe and Ito, made for all eyes."""

    colour: str
    line: Any
    width: float = 1.4


STYLES = {
    "worker_state": Style("#000000", "-", 2.6),
    "worker_state/light": Style("#0072B2", (0, (6, 1)), 2.0),
    "websockets": Style("#E69F00", "-"),
    "websockets/library": Style("#D55E00", (0, (1, 1)), 2.0),
    "today's worker": Style("#CC79A7", "--"),
    "full jitter 20": Style("#009E73", "-."),
    "full jitter 60": Style("#009E73", (0, (1, 2))),
    "LiveKit Agents": Style("#56B4E9", "-"),
    "gRPC": Style("#56B4E9", "--"),
    "centrifuge": Style("#8A6D00", "-."),
    "phoenix.js": Style("#8A6D00", ":"),
    "socket.io": Style("#D55E00", "--"),
    "nats": Style("#0072B2", ":", 2.0),
    "decorrelated jitter": Style("#009E73", (0, (3, 1, 1, 1))),
}
OTHERS = Style("#999999", ":", 1.2)


def draw(files: Iterable[Path], directory: Path, kind: str) -> list[Path]:
    """All pictures for which the files have something; returns them."""
    live: list[Run] = []
    virtual: list[Run] = []
    cells: list[Run] = []
    for file in files:
        report = json.loads(file.read_text("utf-8"))
        {"storm_live": live, "storm_virtual": virtual}[report["benchmark"]].extend(report["runs"])
        cells += report.get("small", [])
    storms = [run for run in live if run.get("curve") and run["plan"]["kind"] != "cold" and not run["void"]]
    most = max((run["plan"]["workers"] for run in storms), default=0)
    largest = [run for run in storms if run["plan"]["workers"] == most]
    import_module("matplotlib").use("Agg")
    directory.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for name, figure in (
        ("storm-registrations", _by_scenario(largest, _registrations)),
        ("storm-dials", _by_scenario(largest, _dials)),
        ("storm-ratio", _ratio_over_workers(storms, virtual)),
        ("storm-cost", _cost_over_workers(storms)),
        ("small-fleets", _late_over_outage(cells)),
    ):
        if figure is not None:
            made.append(directory / f"{name}.{kind}")
            figure.savefig(made[-1], dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return made


def _ours(rule: str) -> bool:
    return rule.startswith("worker_state")


def style_of(rule: str) -> Style:
    return STYLES.get(rule, OTHERS)


def typical(runs: list[Run]) -> Run:
    """The run in the middle, by its ratio and then by how many came back."""
    order = sorted(runs, key=lambda run: (run["r99"] is None, run["r99"] or 0.0, -run["back"]))
    return order[(len(order) - 1) // 2]


def _plt() -> Any:
    plt: Any = import_module("matplotlib.pyplot")
    plt.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "svg.hashsalt": "storms"})
    return plt


def _by_scenario(runs: list[Run], draw_one: Callable[[Any, list[Run]], None]) -> Any:
    """One small picture for each scenario, with one legend for all of them."""
    scenarios = list(dict.fromkeys(run["scenario"] for run in runs))
    if not scenarios:
        return None
    columns = min(3, len(scenarios))
    rows = -(-len(scenarios) // columns)
    figure, axes = _plt().subplots(
        rows, columns, figsize=(1.0 + 3.6 * columns, 1.3 + 2.5 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(scenarios) :]:
        axis.set_axis_off()
    for axis, scenario in zip(axes.flat, scenarios, strict=False):
        mine = [run for run in runs if run["scenario"] == scenario]
        plan = mine[0]["plan"]
        axis.set_title(
            f"{scenario}: {plan['workers']:,} at {plan['capacity']:g}/s, {plan['down']:g} s down", fontsize=9
        )
        rules = dict.fromkeys(run["rule"] for run in mine)
        draw_one(axis, [typical([run for run in mine if run["rule"] == rule]) for rule in rules])
    for axis in axes[-1]:
        axis.set_xlabel("time since the return / shortest possible")
    _legend(figure, axes.flat, loc="outside lower center", ncols=6)
    return figure


def _legend(figure: Any, axes: Iterable[Any], **where: Any) -> None:
    """One for all axes; ours first."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: (label in STYLES, not _ours(label), label))
    figure.legend([handles[label] for label in labels], labels, fontsize=8, **where)


def _dotted(axis: Any, points: dict[float, float], rule: str) -> None:
    """One rule's line, with a dot at each point."""
    style = style_of(rule)
    axis.plot(
        list(points),
        list(points.values()),
        color=style.colour,
        linestyle=style.line,
        linewidth=style.width,
        marker="o",
        ms=4,
        label=rule,
    )


def _last(runs: list[Run]) -> float:
    """Where the pictures of one scenario end: with the last that came, or with the patience of the benchmark."""
    last = max(run["watched"] * run["plan"]["capacity"] / run["plan"]["workers"] for run in runs)
    return float(min(LONGEST, 0.1 + last))


def _registrations(axis: Any, runs: list[Run]) -> None:
    axis.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=5, label="the shortest possible")
    # Ours last, on top of the others.
    for run in sorted(runs, key=lambda run: _ours(run["rule"])):
        ideal = run["plan"]["workers"] / run["plan"]["capacity"]
        times = [0.0, *(at / ideal for at in run["curve"])]
        shares = [0.0, *(percent / 100 for percent, _ in zip(PERCENT, run["curve"], strict=False))]
        back = run["back"] / run["plan"]["workers"]
        end = run["watched"] / ideal
        if end > times[-1]:
            times.append(end)
            shares.append(min(back, shares[-1] + 0.01))
        style = style_of(run["rule"])
        axis.plot(times, shares, color=style.colour, linestyle=style.line, linewidth=style.width, label=run["rule"])
    axis.set_ylim(0, 1.03)
    axis.set_xlim(0, _last(runs))
    axis.set_ylabel("back and true")


def _dials(axis: Any, runs: list[Run]) -> None:
    axis.axhline(1, color="#BBBBBB", linewidth=5, label="the capacity")
    for run in sorted(runs, key=lambda run: _ours(run["rule"])):
        plan = run["plan"]
        ideal = plan["workers"] / plan["capacity"]
        dials = {int(second): count for second, count in run["by_second"].get("dials", {}).items()}
        seconds = range(-round(min(plan["down"], ideal)), round(run["watched"]))
        shown = [dials.get(second, 0) / plan["capacity"] for second in seconds]
        style = style_of(run["rule"])
        axis.plot(
            [(second + 0.5) / ideal for second in seconds],
            [each if each > 0 else float("nan") for each in shown],
            color=style.colour,
            linestyle=style.line,
            linewidth=style.width * 0.7,
            marker=".",
            markersize=3 + style.width,
            label=run["rule"],
        )
    axis.set_yscale("log")
    axis.set_xlim(None, _last(runs))
    axis.set_ylabel("dials a second / capacity")


def _ratio_over_workers(live: list[Run], virtual: list[Run]) -> Any:
    """Lines are simulated storms of all kinds, their median; rings are live ones."""
    points: dict[str, dict[int, list[float]]] = {}
    for run in virtual:
        if run.get("set") not in (None, "alone", "short"):
            ratio = NEVER if run["r99"] is None else min(run["r99"], NEVER)
            points.setdefault(run["rule"], {}).setdefault(_decade(run["storm"]["workers"]), []).append(ratio)
    if not points:
        return None
    plt = _plt()
    figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for rule, by_size in sorted(points.items(), key=lambda each: _ours(each[0])):
        if rule.startswith("ours"):
            continue
        _dotted(axis, {size: statistics.median(by_size[size]) for size in sorted(by_size)}, rule)
    for rule in dict.fromkeys(run["rule"] for run in live):
        if style_of(rule) is not OTHERS:
            mine = [run for run in live if run["rule"] == rule]
            axis.plot(
                [run["plan"]["workers"] for run in mine],
                [NEVER if run["r99"] is None else min(run["r99"], NEVER) for run in mine],
                linestyle="",
                marker="o",
                ms=9,
                fillstyle="none",
                color=style_of(rule).colour,
            )
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = [1, 1.5, 2, 3, 5, NEVER]
    axis.set_yticks(ticks, ["1", "1.5", "2", "3", "5", "never"])
    axis.set_ylim(0.95, NEVER * 1.1)
    axis.set_xlabel("workers (dots: median of simulated storms of about this size; rings: live storms)")
    axis.set_ylabel("r99: time until 99 % are back / shortest possible")
    shown = sorted({size for by_size in points.values() for size in by_size} | {run["plan"]["workers"] for run in live})
    axis.set_xticks(shown, [f"{size:,}" for size in shown], rotation=45)
    axis.minorticks_off()
    _legend(figure, [axis], loc="outside right upper")
    return figure


def _decade(workers: int) -> int:
    """The size that a storm is shown under: 1, 2, 5, 10, 20 … thousand."""
    step = 1000
    while step < workers:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return step


def _entry(name: str) -> Callable[[Run], float]:
    return lambda run: float(run[name])


def _cost_over_workers(runs: list[Run]) -> Any:
    """What a process of so many costs: CPU for each worker of one return, memory for each; and the server's share."""
    # One scenario only, that which ran in most sizes: what a return costs depends on it.
    sizes_of: dict[str, set[int]] = {}
    for run in runs:
        sizes_of.setdefault(run["scenario"], set()).add(run["plan"]["workers"])
    scenario = max(sizes_of, key=lambda name: len(sizes_of[name]), default="")
    if len(sizes_of.get(scenario, ())) < 2:
        return None
    runs = [run for run in runs if run["scenario"] == scenario]
    plt = _plt()
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    shown = (
        ("CPU ms each, from the return on", _entry("client_cpu_ms_each")),
        ("KiB that each adds to the process", _entry("client_kib_each")),
        ("server's CPU ms for each worker", _entry("server_cpu_ms_each")),
    )
    for axis, (title, figure_of) in zip(axes, shown, strict=True):
        for rule in dict.fromkeys(run["rule"] for run in runs):
            by_size: dict[int, list[float]] = {}
            for run in runs:
                if run["rule"] == rule and run["r100"] is not None:
                    by_size.setdefault(run["plan"]["workers"], []).append(figure_of(run))
            _dotted(axis, {size: statistics.median(by_size[size]) for size in sorted(by_size)}, rule)
        axis.set_title(f"{scenario}: {title}", fontsize=9)
        axis.set_xscale("log")
        axis.set_xticks(sorted(sizes_of[scenario]), [f"{size:,}" for size in sorted(sizes_of[scenario])])
        axis.minorticks_off()
        axis.set_ylim(0, None)
        axis.set_xlabel("workers in the process")
    _legend(figure, [axes[0]], loc="outside lower center", ncols=6)
    return figure


def _late_over_outage(cells: list[Run]) -> Any:
    """Small fleets: one panel for each way in which a dial fails; fleets of all sizes and both capacities together. A
    rule is left out where it hammers or loses somebody."""
    rules = [rule for rule in dict.fromkeys(cell["rule"] for cell in cells) if style_of(rule) is not OTHERS]
    fronts = list(dict.fromkeys(cell["front"] for cell in cells))
    if not fronts:
        return None
    outages = sorted({cell["down"] for cell in cells})
    figure, axes = _plt().subplots(
        -(-len(fronts) // 3), 3, figsize=(11.8, 6.3), squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for axis, front in zip(axes.flat, fronts, strict=False):
        for rule in sorted(rules, key=_ours):
            mine = [cell for cell in cells if (cell["rule"], cell["front"]) == (rule, front)]
            means: dict[float, float] = {}
            for outage in outages:
                at = [cell for cell in mine if cell["down"] == outage]
                if not any(cell["hammers"] or cell["loses"] for cell in at):
                    means[outage] = statistics.fmean(cell["mean"] for cell in at)
            _dotted(axis, means, rule)
        axis.set_title(f"a dial meets: {front}", fontsize=9)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(outages, [f"{outage:g}" if outage != 600 else "" for outage in outages])  # too near to 900
        axis.set_yticks([0.1, 0.3, 1, 3, 10, 30, 100], ["0.1", "0.3", "1", "3", "10", "30", "100"])
        axis.minorticks_off()
    for axis in axes[-1]:
        axis.set_xlabel("seconds that the server was away")
    for row in axes:
        row[0].set_ylabel("seconds late, mean")
    _legend(figure, axes.flat, loc="outside lower center", ncols=6)
    return figure
