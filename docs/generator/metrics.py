"""The metrics, as `/metrics` gives them for a worker that has just started."""

from prometheus_client.parser import text_string_to_metric_families

from docs.generator import code, table
from worker_state.integrations.metrics import exposition
from worker_state.protocol.counters import BOUNDS, Counters
from worker_state.protocol.state import State


def blocks() -> dict[str, str]:
    """A row for each metric: its type, the values of its label, what it says."""
    _, text = exposition(State(), Counters(), now=0.0, lag=0.0, wall_ahead=0.0)
    rows = [("metric", "type", "labels", "meaning")]
    for family in text_string_to_metric_families(text.decode()):
        labels: dict[str, list[str]] = {}
        for sample in family.samples:
            for name, value in sample.labels.items():
                labels.setdefault(name, []).append(value)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append((code(name), family.type, _labels(family.type, labels), family.documentation))
    return {"metrics": table(*rows)}


def _labels(kind: str, labels: dict[str, list[str]]) -> str:
    if kind == "histogram":
        return "`le`: " + ", ".join(f"{bound:g}" for bound in BOUNDS) + ", +Inf (seconds)"
    shown = {
        name: "" if name in ("version", "python") else ": " + ", ".join(map(code, values))
        for name, values in labels.items()
    }
    return "; ".join(f"`{name}`{values}" for name, values in shown.items())
